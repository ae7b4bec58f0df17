/* What was measured, for programs: a row a figure, a row a picture, and both as JSON. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/str.h"
#include "trainer/eval/eval.h"

/* A field in quotes, for names and prompts. */
static void quoted(str *to, const char *text)
{
    str_add(to, "\"");
    for (; *text; text++) {
        if (*text == '"')
            str_add(to, "\"");
        str_put(to, text, 1);
    }
    str_add(to, "\"");
}

static int write_in(const char *dir, const char *name, const str *text, err *e)
{
    char path[FS_PATH];

    TRY(fs_join(path, dir, name, e));
    return fs_write(path, text->at, text->n, e);
}

static int write_scores(const evaluation *ev, const char *dir, err *e)
{
    str t = {0};

    str_add(&t, "measure,scaling,value,deviation,pictures,against,model\n");
    for (int i = 0; i < ev->figures; i++) {
        const eval_figure *f = &ev->figure[i];
        str_add(&t, "%s,", f->measure);
        quoted(&t, f->scaling);
        str_add(&t, ",%.6f,%.6f,%lld,", f->value, f->deviation, (long long)f->count);
        quoted(&t, f->against);
        str_add(&t, ",");
        quoted(&t, f->what);
        str_add(&t, "\n");
    }
    int rc = write_in(dir, "scores.csv", &t, e);
    str_free(&t);
    return rc;
}

static void cosine(str *to, double v)
{
    if (isnan(v))
        str_add(to, ",");
    else
        str_add(to, ",%.6f", v);
}

static int write_pictures(const evaluation *ev, const char *dir, err *e)
{
    str t = {0};

    str_add(&t, "picture,prompt,read,clip-text cosine,clip-image cosine,dino cosine\n");
    for (int i = 0; i < ev->n; i++) {
        const eval_picture *p = &ev->at[i];
        quoted(&t, fs_base(p->path));
        str_add(&t, ",");
        quoted(&t, p->said ? p->said : "");
        str_add(&t, ",");
        quoted(&t, p->meant ? p->meant : "");
        cosine(&t, p->text);
        cosine(&t, p->image);
        cosine(&t, p->dino);
        str_add(&t, "\n");
    }
    int rc = write_in(dir, "pictures.csv", &t, e);
    str_free(&t);
    return rc;
}

static json_t *number(double v)
{
    return isnan(v) ? json_null() : json_real(v);
}

static json_t *as_json(const evaluation *ev, const char *settings)
{
    json_t *figures = json_array(), *pictures = json_array();

    for (int i = 0; i < ev->figures; i++) {
        const eval_figure *f = &ev->figure[i];
        json_array_append_new(figures, json_pack("{s:s s:s s:f s:f s:I s:s s:s}", "measure", f->measure, "scaling",
                                                 f->scaling, "value", f->value, "deviation", f->deviation, "pictures",
                                                 (json_int_t)f->count, "against", f->against, "model", f->what));
    }
    for (int i = 0; i < ev->n; i++) {
        const eval_picture *p = &ev->at[i];
        json_array_append_new(pictures,
                              json_pack("{s:s s:s? s:s? s:o s:o s:o}", "picture", fs_base(p->path), "prompt", p->said,
                                        "read", p->meant, "clip-text cosine", number(p->text), "clip-image cosine",
                                        number(p->image), "dino cosine", number(p->dino)));
    }
    return json_pack("{s:o? s:o s:o}", "settings", json_loads(settings, 0, NULL), "scores", figures, "pictures",
                     pictures);
}

static int write_json(const evaluation *ev, const char *dir, const char *settings, err *e)
{
    json_t *o = as_json(ev, settings);
    char *text = o ? json_dumps(o, JSON_INDENT(1)) : NULL;
    str t = {0};
    int rc;

    if (!text)
        rc = err_set(e, ERR_INPUT, "%s/scores.json: a prompt or a path is not UTF-8", dir);
    else {
        str_add(&t, "%s\n", text);
        rc = write_in(dir, "scores.json", &t, e);
    }
    str_free(&t);
    free(text);
    json_decref(o);
    return rc;
}

int eval_tell(const evaluation *ev, const eval_cfg *set, const char *settings, err *e)
{
    TRY(write_scores(ev, set->out, e));
    TRY(write_pictures(ev, set->out, e));
    return write_json(ev, set->out, settings, e);
}
