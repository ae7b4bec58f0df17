/* Picture grids: a section for each merge (base, its concepts, a joint training of the same subjects where the farm has one, the
 * merged model) and for each subject that no merge shows (base, and every concept trained on the same pictures). All columns of a
 * section are asked the same prompts under the same seed; a column that was not taught a subject is asked its class. The blind
 * test's pairs are made of these pictures.
 *
 * Pictures are kept under a name that is a digest of all that decides them, so a second report makes none. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/hash.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "data/image_list.h"
#include "merge/command.h"
#include "merge/pictures.h"
#include "merge/report.h"
#include "trainer/eval/page.h"

enum { SIDE = 256, OWN_SIDE = 96, OWN_SHOWN = 6, PROMPTS_FILE_MOST = 1 << 20 };

typedef struct {
    const report_result *x; /* NULL: the base */
    const char *label;
    int first;              /* its subject k is the section's subject first + k */
    char **prompt;          /* [prompts], in its own words */
    char dir[FS_PATH];
} column;

typedef struct {
    const char *title;
    const eval_words *words;           /* of its subjects */
    const report_result **taught;      /* [words->n] the concept whose own pictures show subject k; NULL: none is there */
    int *as;                           /* [words->n] which of that concept's subjects it is */
    column *at;                        /* [columns] */
    int columns;
    char **prompt;                     /* [prompts], with {0}, {1} for the subjects */
    int prompts;
    int *own;                          /* [words->n] own pictures shown */
} section;

typedef struct {
    const report *r;
    section *at;
    int n;
    char base[FS_PATH], base_digest[HASH_HEX];
    bool *shown; /* [r->n] */
} album;

/* ---- who is shown where ---- */

static const json_t *settings_of(const report_result *x)
{
    return json_object_get(x->job, "settings");
}

static const report_result *find_result(const report *r, const char *name)
{
    for (int i = 0; i < r->n; i++)
        if (name && strcmp(r->at[i].name, name) == 0)
            return &r->at[i];
    return NULL;
}

static section *add_section(album *a, const char *title, const eval_words *words)
{
    a->at = mem_grow(a->at, (size_t)a->n + 1, sizeof *a->at);
    a->at[a->n] = (section){.title = title, .words = words, .taught = NEW_N(const report_result *, words->n + 1),
                            .as = NEW_N(int, words->n + 1), .own = NEW_N(int, words->n + 1)};
    return &a->at[a->n++];
}

static void add_column(section *s, const report_result *x, const char *label, int first)
{
    s->at = mem_grow(s->at, (size_t)s->columns + 1, sizeof *s->at);
    s->at[s->columns++] = (column){.x = x, .label = label, .first = first};
}

static void teach(section *s, const report_result *x, int first)
{
    for (int k = 0; k < x->words.n && first + k < s->words->n; k++) {
        s->taught[first + k] = x;
        s->as[first + k] = k;
    }
}

/* The same classes in the same order, learned together. */
static bool is_joint(const report_result *x, const report_result *merged)
{
    bool same = x->c.kind == CONCEPT_SINGLE && x->words.n > 1 && x->words.n == merged->words.n;

    for (int k = 0; same && k < x->words.n; k++)
        same = strcmp(x->words.meant[k], merged->words.meant[k]) == 0;
    return same;
}

static void add_merge(album *a, const report_result *merged)
{
    const json_t *of = json_object_get(settings_of(merged), "of");
    section *s = add_section(a, merged->name, &merged->words);
    int first = 0;

    add_column(s, NULL, "base", 0);
    for (size_t i = 0; i < json_array_size(of); i++) {
        const report_result *x = find_result(a->r, json_string_value(json_array_get(of, i)));
        if (!x)
            continue;
        add_column(s, x, x->name, first);
        teach(s, x, first);
        first += x->words.n;
        a->shown[x - a->r->at] = true;
    }
    for (int i = 0; i < a->r->n; i++)
        if (is_joint(&a->r->at[i], merged)) {
            add_column(s, &a->r->at[i], "joint", 0);
            a->shown[i] = true;
        }
    add_column(s, merged, "merged", 0);
}

/* What two concepts have alike that are two ways to teach the same. */
static char *subject_key(const report_result *x)
{
    const json_t *set = settings_of(x), *subjects = json_object_get(set, "subjects");
    json_t *key = json_array();

    for (size_t i = 0; i < (subjects ? json_array_size(subjects) : 1); i++) {
        const json_t *one = subjects ? json_array_get(subjects, i) : set;
        json_array_append(key, json_object_get(one, "class") ? json_object_get(one, "class") : json_null());
        json_array_append(key, json_object_get(one, "images") ? json_object_get(one, "images") : json_null());
    }
    char *text = json_dumps(key, JSON_COMPACT);
    json_decref(key);
    return text;
}

/* x, and those behind it that learned the same. */
static void add_subject(album *a, int i)
{
    char *key = subject_key(&a->r->at[i]);
    section *s = add_section(a, a->r->at[i].name, &a->r->at[i].words);

    add_column(s, NULL, "base", 0);
    for (int k = i; k < a->r->n; k++) {
        const report_result *x = &a->r->at[k];
        char *other = subject_key(x);
        if (!a->shown[k] && x->c.kind == CONCEPT_SINGLE && x->words.n == s->words->n && strcmp(key, other) == 0) {
            add_column(s, x, x->name, 0);
            a->shown[k] = true;
        }
        free(other);
    }
    teach(s, &a->r->at[i], 0);
    free(key);
}

static void arrange(album *a)
{
    a->shown = NEW_N(bool, a->r->n + 1);
    for (int i = 0; i < a->r->n; i++)
        if (a->r->at[i].c.kind == CONCEPT_MERGED && a->r->at[i].words.n > 0)
            add_merge(a, &a->r->at[i]);
    for (int i = 0; i < a->r->n; i++)
        if (!a->shown[i] && a->r->at[i].c.kind == CONCEPT_SINGLE && a->r->at[i].words.n > 0)
            add_subject(a, i);
}

/* ---- prompts ---- */

static void add_prompt(section *s, const char *text, size_t n)
{
    char *copy = NEW_N(char, n + 1);

    memcpy(copy, text, n);
    s->prompt = mem_grow(s->prompt, (size_t)s->prompts + 1, sizeof *s->prompt);
    s->prompt[s->prompts++] = copy;
}

/* Which subjects of the section the prompt names. */
static bool names(const char *prompt, int k)
{
    char place[24];

    snprintf(place, sizeof place, "{%d}", k);
    return strstr(prompt, place) || (k == 0 && strstr(prompt, "{}"));
}

/* It names subjects, and none that the section has not. */
static bool fits(const section *s, const char *prompt)
{
    bool any = false;
    char *end;

    for (const char *at = prompt; (at = strchr(at, '{')) != NULL; at++) {
        long k = strtol(at + 1, &end, 10);
        if (*end == '}' && k >= s->words->n)
            return false;
        any = any || *end == '}';
    }
    return any;
}

/* "<rex> dog" becomes {0} where that is what the section's first subject is said as. */
static void put_places(str *to, const section *s, const char *text)
{
    str_put(to, "", 0);
    while (*text) {
        size_t longest = 0;
        int which = 0;
        for (int k = 0; k < s->words->n; k++) {
            size_t n = strlen(s->words->said[k]);
            if (n > longest && strncmp(text, s->words->said[k], n) == 0) {
                longest = n;
                which = k;
            }
        }
        if (longest)
            str_add(to, "{%d}", which);
        else
            str_put(to, text, 1);
        text += longest ? longest : 1;
    }
}

static void usual_prompts(section *s)
{
    char text[64];

    for (int k = 0; k < s->words->n; k++)
        add_prompt(s, text, (size_t)snprintf(text, sizeof text, "photo of a {%d}", k));
    if (s->words->n > 1)
        add_prompt(s, "a {0} beside a {1}", strlen("a {0} beside a {1}"));
}

/* Of those given, the ones that are for the section. */
static void take_prompts(section *s, const report_cfg *set, const char *file)
{
    for (size_t i = 0; i < set->prompt.n; i++) {
        str places = {0};
        put_places(&places, s, set->prompt.at[i]);
        if (fits(s, places.at))
            add_prompt(s, places.at, places.n);
        str_free(&places);
    }
    while (file && *file) {
        size_t n = strcspn(file, "\r\n");
        char *one = NEW_N(char, n + 1);
        str places = {0};
        memcpy(one, file, n);
        put_places(&places, s, one);
        if (n > 0 && fits(s, places.at))
            add_prompt(s, places.at, places.n);
        str_free(&places);
        free(one);
        file += n + (file[n] != '\0');
    }
    if (set->prompt.n == 0 && !set->prompts[0])
        usual_prompts(s);
}

/* In the column's words: what it was taught by its token, the rest by their classes. meant: without any token. */
static int fill_prompt(char **said, char **meant, const section *s, const column *c, const char *prompt, err *e)
{
    const eval_words *own = c->x ? &c->x->words : NULL;
    eval_words w = *s->words;

    w.said = NEW_N(char *, w.n + 1);
    for (int k = 0; k < w.n; k++) {
        int at = k - c->first;
        w.said[k] = own && at >= 0 && at < own->n ? own->said[at] : s->words->meant[k];
    }
    int rc = eval_words_fill(said, meant, &w, prompt, e);
    free(w.said);
    return rc;
}

static int fill_prompts(section *s, err *e)
{
    char *meant;

    for (int c = 0; c < s->columns; c++) {
        s->at[c].prompt = NEW_N(char *, s->prompts + 1);
        for (int p = 0; p < s->prompts; p++) {
            TRY(fill_prompt(&s->at[c].prompt[p], &meant, s, &s->at[c], s->prompt[p], e));
            free(meant);
        }
    }
    return 0;
}

static int read_prompts(album *a, err *e)
{
    char *file = NULL;
    size_t n;
    int rc = 0;

    if (a->r->set->prompts[0])
        TRY(fs_read(a->r->set->prompts, &file, &n, PROMPTS_FILE_MOST, e));
    for (int i = 0; i < a->n && rc == 0; i++) {
        take_prompts(&a->at[i], a->r->set, file);
        rc = fill_prompts(&a->at[i], e);
    }
    free(file);
    return rc;
}

/* ---- making them ---- */

/* One digest of the model's files: what its pictures depend on. */
static int look_at_base(album *a, err *e)
{
    static const char *const parts[] = {"unet", "vae", "text_encoder"};
    const char *hint = "";
    char part[HASH_HEX];
    base_model b;
    hash *h = hash_new();

    for (int i = 0; i < a->r->n && !*hint; i++)
        hint = a->r->at[i].c.base_path;
    int rc = base_open(&b, a->r->set->model, hint, NULL, e);
    if (rc == 0)
        str_copy(a->base, sizeof a->base, sd_dir(b.model));
    for (size_t i = 0; i < sizeof parts / sizeof *parts && rc == 0; i++) {
        rc = sd_digest(b.model, parts[i], part, e);
        hash_add(h, part, rc == 0 ? sizeof part : 0);
    }
    hash_end(h, a->base_digest);
    base_close(&b);
    return rc == 0 ? 0 : err_wrap(e, "pictures need the base model (--model DIR, or --pictures=false)");
}

static void digest_of(char hex[HASH_HEX], const album *a, const column *c, int prompts)
{
    const report_cfg *set = a->r->set;
    str all = {0};

    str_add(&all, "%s %s %s %d %d %.17g %lld\n", CFARM_VERSION, a->base_digest, c->x ? c->x->c.digest : "", set->steps,
            set->count, set->guidance, (long long)set->seed);
    for (int p = 0; p < prompts; p++)
        str_add(&all, "%s\n", c->prompt[p]);
    hash_bytes(all.at, all.n, hex);
    str_free(&all);
}

static int make_column(const album *a, const section *s, column *c, err *e)
{
    const report_cfg *set = a->r->set;
    char hex[HASH_HEX], cache[FS_PATH], aside[FS_PATH];

    digest_of(hex, a, c, s->prompts);
    TRY(fs_join(cache, report_text(a->r->story, "dir"), set->cache[0] ? set->cache : "report", e));
    TRY(fs_join(c->dir, cache, hex, e));
    if (fs_is_dir(c->dir))
        return 0;
    TRY(fs_mkdirs(cache, e));
    TRY(fs_aside(aside, c->dir, e));
    int rc = pictures_make(&(pictures_job){.model = a->base,
                                           .from = c->x ? c->x->path : NULL,
                                           .prompt = (const char *const *)c->prompt,
                                           .prompts = s->prompts,
                                           .count = set->count,
                                           .steps = set->steps,
                                           .guidance = set->guidance,
                                           .seed = set->seed,
                                           .out = aside},
                           e);
    if (rc == 0 && rename(aside, c->dir) != 0)
        rc = err_set(e, ERR_IO, "%s: it cannot be given its name", aside);
    if (rc != 0)
        fs_remove_tree(aside, NULL);
    return rc == 0 ? 0 : err_wrap(e, "%s", c->label);
}

static int make_all(album *a, err *e)
{
    for (int i = 0; i < a->n; i++)
        for (int c = 0; c < a->at[i].columns && a->at[i].prompts > 0; c++)
            TRY(make_column(a, &a->at[i], &a->at[i].at[c], e));
    return 0;
}

/* ---- as a page ---- */

static int put_image(str *to, const char *path, int side, const char *id, const char *alt, err *e)
{
    image m;
    str data = {0};
    int h, w;

    TRY(image_load(&m, path, e));
    int rc = page_data(&data, &h, &w, &m, side, e);
    image_free(&m);
    if (rc == 0) {
        str_add(to, "<img id=\"%s\" width=\"%d\" height=\"%d\" alt=\"", id, w, h);
        report_add(to, alt);
        str_add(to, "\" src=\"");
        str_put(to, data.at, data.n);
        str_add(to, "\">");
    }
    str_free(&data);
    return rc;
}

/* The settings' folder, list or picture, or several of them, of one subject. */
static int list_own(image_list *out, const report_result *x, int subject, err *e)
{
    const json_t *set = settings_of(x), *several = json_object_get(set, "subjects");
    const json_t *images = json_object_get(several ? json_array_get(several, (size_t)subject) : set, "images");

    if (json_is_string(images))
        return image_list_add(out, report_text(set, "root"), json_string_value(images), e);
    for (size_t i = 0; i < json_array_size(images); i++)
        TRY(image_list_add(out, report_text(set, "root"), json_string_value(json_array_get(images, i)), e));
    return 0;
}

/* Pictures that have gone since are no reason to show nothing: it is said where they were. */
static int own_pictures(str *to, section *s, int number, int k, err *e)
{
    image_list l = {0};
    char id[48];
    err gone = {0};
    int rc = list_own(&l, s->taught[k], s->as[k], &gone);

    str_add(to, "<p class=\"own\"><span>%s</span> ", rc == 0 ? "taught from" : "taught from pictures that cannot be read now:");
    if (rc != 0)
        report_add(to, gone.text);
    rc = 0;
    for (size_t i = 0; i < l.n && i < OWN_SHOWN && rc == 0; i++) {
        snprintf(id, sizeof id, "o%d-%d-%zu", number, k, i);
        rc = put_image(to, l.at[i].path, OWN_SIDE, id, s->words->meant[k], e);
        s->own[k]++;
    }
    str_add(to, "</p>\n");
    image_list_free(&l);
    return rc;
}

static int put_row(str *to, const album *a, const section *s, int number, int p, int i, err *e)
{
    int n = p * a->r->set->count + i;
    char id[48], name[24], path[FS_PATH];

    str_add(to, "<tr>");
    for (int c = 0; c < s->columns; c++) {
        str alt = {0};
        snprintf(name, sizeof name, "%05d.png", n);
        snprintf(id, sizeof id, "p%d-%d-%d", number, c, n);
        TRY(fs_join(path, s->at[c].dir, name, e));
        str_add(&alt, "%s: %s", s->at[c].label, s->at[c].prompt[p]);
        str_add(to, "<td>");
        int rc = put_image(to, path, SIDE, id, alt.at, e);
        str_free(&alt);
        TRY(rc);
        str_add(to, "</td>");
    }
    str_add(to, "</tr>\n");
    return 0;
}

/* The prompt in the words of the section's last column, which knows most. */
static int put_grid(str *to, const album *a, const section *s, int number, err *e)
{
    str_add(to, "<div class=\"scroll\" tabindex=\"0\"><table class=\"grid\"><tr>");
    for (int c = 0; c < s->columns; c++) {
        str_add(to, "<th scope=\"col\">");
        report_add(to, s->at[c].label);
        str_add(to, "</th>");
    }
    str_add(to, "</tr>\n");
    for (int p = 0; p < s->prompts; p++) {
        str_add(to, "<tr><th class=\"prompt\" colspan=\"%d\">", s->columns);
        report_add(to, s->at[s->columns - 1].prompt[p]);
        str_add(to, "</th></tr>\n");
        for (int i = 0; i < a->r->set->count; i++)
            TRY(put_row(to, a, s, number, p, i, e));
    }
    str_add(to, "</table></div>\n");
    return 0;
}

static int put_section(str *to, album *a, int number, err *e)
{
    section *s = &a->at[number];

    str_add(to, "<h3>");
    report_add(to, s->title);
    str_add(to, "</h3>\n");
    for (int k = 0; k < s->words->n; k++)
        if (s->taught[k])
            TRY(own_pictures(to, s, number, k, e));
    return put_grid(to, a, s, number, e);
}

/* ---- pairs for the blind test ---- */

typedef struct {
    json_t *item;
    uint32_t key; /* its place in the order */
} question;

typedef struct {
    const album *a;
    question *at;
    size_t n;
} questions;

static bool knows_all(const section *s, const column *c, const char *prompt)
{
    for (int k = 0; k < s->words->n; k++)
        if (names(prompt, k) && (!c->x || k < c->first || k - c->first >= c->x->words.n))
            return false;
    return true;
}

static json_t *own_ids(const section *s, int number, int k)
{
    json_t *list = json_array();
    char id[48];

    for (int i = 0; i < s->own[k]; i++) {
        snprintf(id, sizeof id, "o%d-%d-%d", number, k, i);
        json_array_append_new(list, json_string(id));
    }
    return list;
}

/* asks: which shows the text better; or, of subject k >= 0, which shows the subject better. */
static void ask(questions *q, int number, int p, int n, int one, int other, int k, const char *meant)
{
    const section *s = &q->a->at[number];
    const rng_stream by = rng_open((uint64_t)q->a->r->set->seed, "blind", 0, (uint32_t)q->n);
    int left = rng_below(by, 0, 2) ? one : other, right = left == one ? other : one;
    char ids[2][48];

    snprintf(ids[0], sizeof ids[0], "p%d-%d-%d", number, left, n);
    snprintf(ids[1], sizeof ids[1], "p%d-%d-%d", number, right, n);
    json_t *o = json_pack("{s:s s:s s:s s:i s:s s:s s:s s:s}", "asks", k < 0 ? "text" : "image", "say",
                          k < 0 ? meant : s->words->meant[k], "prompt", s->at[s->columns - 1].prompt[p], "picture", n, "left",
                          ids[0], "right", ids[1], "a", s->at[left].label, "b", s->at[right].label);
    if (!o) /* a prompt that is not UTF-8: no browser could show it */
        return;
    if (k >= 0)
        json_object_set_new(o, "own", own_ids(s, number, k));
    q->at = mem_grow(q->at, q->n + 1, sizeof *q->at);
    q->at[q->n++] = (question){o, rng_u32(by, 1)};
}

static int ask_pairs(questions *q, int number, int p, int i, err *e)
{
    const section *s = &q->a->at[number];
    int n = p * q->a->r->set->count + i;
    char *said, *meant;

    TRY(fill_prompt(&said, &meant, s, &s->at[0], s->prompt[p], e));
    for (int one = 0; one < s->columns; one++)
        for (int other = one + 1; other < s->columns; other++) {
            if ((one > 0 && !knows_all(s, &s->at[one], s->prompt[p])) || !knows_all(s, &s->at[other], s->prompt[p]))
                continue;
            ask(q, number, p, n, one, other, -1, meant);
            for (int k = 0; k < s->words->n; k++)
                if (names(s->prompt[p], k) && s->own[k] > 0)
                    ask(q, number, p, n, one, other, k, meant);
        }
    free(said);
    free(meant);
    return 0;
}

static int by_key(const void *a, const void *b)
{
    const question *x = a, *y = b;

    return x->key < y->key ? -1 : x->key > y->key;
}

/* "<" is written so that no text can end the script it stands in. */
static void put_json(str *to, const json_t *o)
{
    char *text = json_dumps(o, JSON_COMPACT);

    for (const char *c = text; *c; c++)
        if (*c == '<')
            str_add(to, "\\u003c");
        else
            str_put(to, c, 1);
    free(text);
}

static int put_pairs(str *to, const album *a, err *e)
{
    questions q = {.a = a};
    json_t *list = json_array();
    int rc = 0;

    for (int s = 0; s < a->n; s++)
        for (int p = 0; p < a->at[s].prompts; p++)
            for (int i = 0; i < a->r->set->count && rc == 0; i++)
                rc = ask_pairs(&q, s, p, i, e);
    if (q.n > 0)
        qsort(q.at, q.n, sizeof *q.at, by_key);
    for (size_t i = 0; i < q.n; i++) {
        if (i < (size_t)a->r->set->pairs)
            json_array_append(list, q.at[i].item);
        json_decref(q.at[i].item);
    }
    put_json(to, list);
    json_decref(list);
    free(q.at);
    return rc;
}

/* ---- all of it ---- */

static void free_album(album *a)
{
    for (int i = 0; i < a->n; i++) {
        section *s = &a->at[i];
        for (int c = 0; c < s->columns; c++) {
            for (int p = 0; s->at[c].prompt && p < s->prompts; p++)
                free(s->at[c].prompt[p]);
            free(s->at[c].prompt);
        }
        for (int p = 0; p < s->prompts; p++)
            free(s->prompt[p]);
        free(s->prompt);
        free(s->at);
        free(s->taught);
        free(s->as);
        free(s->own);
    }
    free(a->at);
    free(a->shown);
}

static int fill_album(str *to, str *pairs, album *a, err *e)
{
    arrange(a);
    TRY(read_prompts(a, e));
    if (a->n > 0) {
        TRY(look_at_base(a, e));
        TRY(make_all(a, e));
    }
    for (int i = 0; i < a->n; i++)
        if (a->at[i].prompts > 0)
            TRY(put_section(to, a, i, e));
    return put_pairs(pairs, a, e);
}

int report_pictures(str *to, str *pairs, const report *r, err *e)
{
    album a = {.r = r};
    size_t before = to->n;

    if (!r->set->pictures) {
        str_add(to, "<p>None were asked for.</p>\n");
        str_add(pairs, "[]");
        return 0;
    }
    int rc = fill_album(to, pairs, &a, e);
    if (rc == 0 && to->n == before)
        str_add(to, "<p>%s</p>\n",
                a.n ? "No prompt names a subject of this farm." : "Nothing that pictures could be made of is done yet.");
    free_album(&a);
    return rc;
}
