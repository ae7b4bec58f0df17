/* What was measured, for people: the figures, and pictures beside their prompts. */
#include <math.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "data/image_list.h"
#include "trainer/eval/eval.h"
#include "trainer/eval/page.h"

enum { THUMBNAIL = 144, OWN_SHOWN = 8 };

static void cell(str *t, const char *text)
{
    str_add(t, "<td>");
    page_text(t, text);
    str_add(t, "</td>");
}

/* The row of the scaling that the settings name stands out among text alignment's. */
static void figures(str *t, const evaluation *ev, const eval_cfg *set)
{
    str_add(t, "<table><tr><th>measure</th><th>scaling</th><th>value</th><th>deviation</th><th>pictures</"
               "th><th>against</th>"
               "<th>model</th></tr>\n");
    for (int i = 0; i < ev->figures; i++) {
        const eval_figure *f = &ev->figure[i];
        bool first =
            strcmp(f->measure, "clip-text") == 0 && strcmp(f->scaling, score_scale_name((score_scale)set->scale)) == 0;
        str_add(t, "<tr%s>", first ? " class=\"first\"" : "");
        cell(t, f->measure);
        cell(t, f->scaling);
        str_add(t, "<td class=\"n\">%.4f</td><td class=\"n\">%.4f</td><td class=\"n\">%lld</td>", f->value,
                f->deviation, (long long)f->count);
        cell(t, f->against);
        cell(t, f->what);
        str_add(t, "</tr>\n");
    }
    str_add(t, "</table>\n<p>Deviations are over pictures, KID's over subsets. Figures of different scalings cannot be "
               "compared.</p>\n");
}

static int own_pictures(str *t, const eval_cfg *set, err *e)
{
    for (size_t r = 0; r < set->real.n; r++) {
        image_list l = {0};
        int rc = image_list_add(&l, ".", set->real.at[r], e);
        str_add(t, "<h2>The subject: ");
        page_text(t, set->real.at[r]);
        str_add(t, "</h2>\n");
        for (size_t i = 0; i < l.n && i < OWN_SHOWN && rc == 0; i++)
            rc = page_picture(t, l.at[i].path, THUMBNAIL, fs_base(l.at[i].path), e);
        image_list_free(&l);
        TRY(rc);
    }
    return 0;
}

static void say(str *t, const char *name, double v)
{
    if (!isnan(v))
        str_add(t, "%s%s %.3f", t->n > 0 ? ", " : "", name, v);
}

static int picture(str *t, const eval_picture *p, err *e)
{
    str under = {0};

    str_put(&under, "", 0);
    say(&under, "text", p->text);
    say(&under, "image", p->image);
    say(&under, "dino", p->dino);
    int rc = page_picture(t, p->path, THUMBNAIL, under.n > 0 ? under.at : fs_base(p->path), e);
    str_free(&under);
    return rc;
}

static bool same_prompt(const eval_picture *a, const eval_picture *b)
{
    return a->said && b->said ? strcmp(a->said, b->said) == 0 : a->said == b->said;
}

/* Pictures that follow each other with one prompt. */
static int group(str *t, const evaluation *ev, const eval_cfg *set, int from, int to, err *e)
{
    double sum = 0;

    for (int i = from; i < to; i++)
        sum += ev->at[i].text;
    str_add(t, "<h2>");
    page_text(t, ev->at[from].said ? ev->at[from].said : "Pictures");
    str_add(t, "</h2>\n");
    if (!isnan(sum))
        str_add(t, "<p>text alignment %.4f (cosine) over %d</p>\n", sum / (to - from), to - from);
    for (int i = from; i < to && i < from + set->shown; i++)
        TRY(picture(t, &ev->at[i], e));
    return 0;
}

static int groups(str *t, const evaluation *ev, const eval_cfg *set, err *e)
{
    for (int from = 0, to; from < ev->n; from = to) {
        for (to = from + 1; to < ev->n && same_prompt(&ev->at[from], &ev->at[to]); to++)
            ;
        TRY(group(t, ev, set, from, to, e));
    }
    return 0;
}

int eval_page(const evaluation *ev, const eval_cfg *set, const char *settings, err *e)
{
    char path[FS_PATH];
    str t = {0};

    page_begin(&t, set->title);
    figures(&t, ev, set);
    int rc = own_pictures(&t, set, e);
    if (rc == 0)
        rc = groups(&t, ev, set, e);
    str_add(&t, "<h2>Settings</h2>\n<pre>");
    page_text(&t, settings);
    str_add(&t, "</pre>\n");
    page_end(&t);
    if (rc == 0)
        rc = fs_join(path, set->out, "index.html", e);
    if (rc == 0)
        rc = fs_write(path, t.at, t.n, e);
    str_free(&t);
    return rc;
}
