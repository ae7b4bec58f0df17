#include "data/regset.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/hash.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "data/caption.h"

void regset_name(char out[32], int k)
{
    snprintf(out, 32, "%05d.png", k);
}

bool regset_asked(const regset_cfg *c)
{
    return c->images[0] || c->index[0] || c->generate > 0;
}

int regset_check(const regset_cfg *c, err *e)
{
    if (c->index[0] && (c->images[0] || c->generate > 0))
        return err_set(e, ERR_INPUT, "regularisation: index beside %s; give one of them",
                       c->images[0] ? "images" : "generate");
    if (c->captions[0] && c->generate > 0)
        return err_set(e, ERR_INPUT, "regularisation: captions beside generate; generated pictures have their prompt");
    if (c->count > 0 && c->generate > 0)
        return err_set(e, ERR_INPUT, "regularisation: count beside generate; generate is the count");
    if (!regset_asked(c) && (c->captions[0] || c->count > 0))
        return err_set(e, ERR_INPUT, "regularisation: %s without pictures; give images, generate or index",
                       c->captions[0] ? "captions" : "count");
    return 0;
}

/* ---- generated ---- */

static void write_recipe(regset_need *out, const regset_cfg *c, const char *model)
{
    json_t *o = json_pack("{s:i s:s s:s s:s s:I s:f s:f s:I}", "version", 1, "model", model, "prompt", out->prompt,
                          "sampler", c->sampler, "steps", (json_int_t)c->sampling_steps, "guidance", c->guidance, "eta",
                          c->eta, "seed", (json_int_t)c->seed);
    char *text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);

    CHECK((size_t)snprintf(out->recipe, sizeof out->recipe, "%s\n", text) < sizeof out->recipe);
    json_decref(o);
    free(text);
}

/* root/regularisation/photo_of_a_dog-KEY, KEY being of the recipe, or images where that is given. */
static int name_folder(regset_need *out, const regset_cfg *c, const char *root, err *e)
{
    enum { KEY = 12 };          /* digits: no two of a farm's recipes will meet */
    char name[FS_PATH], hex[HASH_HEX];

    if (c->images[0])
        return fs_join(out->folder, root, c->images, e);
    hash_bytes(out->recipe, strlen(out->recipe), hex);
    snprintf(name, sizeof name, "regularisation/%.200s-%.*s", out->prompt, KEY, hex);
    for (char *p = name + strlen("regularisation/"); *p; p++)
        if (strchr(" /\t\\", *p))
            *p = '_';
    return fs_join(out->folder, root, name, e);
}

/* Pictures by another recipe are never taken for these. */
static int check_made(const regset_need *need, err *e)
{
    enum { MOST = 64 << 10 };
    char path[FS_PATH], *text;
    size_t n;

    TRY(fs_join(path, need->folder, REGSET_MADE, e));
    if (!fs_exists(path))
        return 0;
    TRY(fs_read(path, &text, &n, MOST, e));
    bool same = strcmp(text, need->recipe) == 0;
    free(text);
    return same ? 0
                : err_set(e, ERR_INPUT,
                          "%s: the pictures there were made otherwise than these settings say (%s tells how); give "
                          "another folder, or none",
                          need->folder, REGSET_MADE);
}

int regset_missing(regset_need *out, const regset_cfg *c, const char *root, const char *own, const char *model, err *e)
{
    char name[32], path[FS_PATH];

    *out = (regset_need){.want = (int)c->generate};
    if (out->want == 0 || !model)
        return 0;
    if ((size_t)snprintf(out->prompt, sizeof out->prompt, "%s", own) >= sizeof out->prompt)
        return err_set(e, ERR_INPUT, "the prompt of class pictures is longer than %zu bytes", sizeof out->prompt - 1);
    write_recipe(out, c, model);
    TRY(name_folder(out, c, root, e));
    TRY(check_made(out, e));
    for (; out->have < out->want; out->have++) {
        regset_name(name, out->have);
        TRY(fs_join(path, out->folder, name, e));
        if (!fs_exists(path))
            break;
    }
    return 0;
}

static int open_generated(image_list *out, const regset_cfg *c, const char *root, const char *own, const char *model,
                          err *e)
{
    char name[32], path[FS_PATH];
    regset_need need;

    CHECK(model);
    TRY(regset_missing(&need, c, root, own, model, e));
    if (need.have < need.want)
        return err_set(e, ERR_INPUT, "%s: %d of %d generated regularisation pictures; the others are still to be made",
                       need.folder, need.have, need.want);
    for (int k = 0; k < need.want; k++) {
        regset_name(name, k);
        TRY(fs_join(path, need.folder, name, e));
        TRY(image_list_add(out, root, path, e));
        out->at[k].caption = mem_text(own);
    }
    return 0;
}

/* ---- given ---- */

static int read_captions(image_list *l, const regset_cfg *c, const char *root, err *e)
{
    char path[FS_PATH];
    caption_lines lines;

    if (!c->captions[0])
        return image_list_beside(l, e);
    TRY(fs_join(path, root, c->captions, e));
    TRY(caption_read(&lines, path, e));
    int rc = 0;
    if (lines.n != l->n)
        rc = err_set(e, ERR_INPUT, "%s: %zu captions for %zu pictures; there must be one for each, in their order",
                     path, lines.n, l->n);
    for (size_t i = 0; i < l->n && rc == 0; i++) {
        free(l->at[i].caption);
        l->at[i].caption = mem_text(lines.at[i]);
    }
    caption_free(&lines);
    return rc;
}

static void keep_first(image_list *l, size_t n)
{
    for (size_t i = n; i < l->n; i++) {
        free(l->at[i].path);
        free(l->at[i].caption);
    }
    l->n = n;
}

static int open_given(image_list *out, const regset_cfg *c, const char *root, const char *own, err *e)
{
    size_t want = (size_t)c->count;

    TRY(image_list_add(out, root, c->images, e));
    TRY(read_captions(out, c, root, e));
    if (out->n < want)
        return err_set(e, ERR_INPUT, "%s: %zu pictures, %zu are wanted; add some, set count: %zu, or use generate: %zu",
                       c->images, out->n, want, out->n, want);
    if (want > 0)
        keep_first(out, want);
    for (size_t i = 0; i < out->n; i++)
        if (!out->at[i].caption)
            out->at[i].caption = mem_text(own);
    return 0;
}

/* ---- chosen ---- */

static double norm(const float *v, int n)
{
    double s = 0;

    for (int i = 0; i < n; i++)
        s += (double)v[i] * v[i];
    return sqrt(s);
}

static double cosine(const float *a, const float *b, int n)
{
    double s = 0, lengths = norm(a, n) * norm(b, n);

    for (int i = 0; i < n; i++)
        s += (double)a[i] * b[i];
    return lengths > 0 ? s / lengths : 0;
}

/* near[i]: the cosine between `own` and the caption of entry i. */
static int compare_all(double near[], const image_list *pool, const char *own, const regset_embed *embed, err *e)
{
    float *mine = NEW_N(float, embed->dim), *theirs = NEW_N(float, embed->dim * REGSET_CHUNK);
    int rc = embed->run(embed->arg, &own, 1, mine, e);

    for (size_t at = 0; at < pool->n && rc == 0; at += REGSET_CHUNK) {
        const char *captions[REGSET_CHUNK];
        int n = pool->n - at < REGSET_CHUNK ? (int)(pool->n - at) : REGSET_CHUNK;
        for (int i = 0; i < n; i++)
            captions[i] = pool->at[at + (size_t)i].caption;
        rc = embed->run(embed->arg, captions, n, theirs, e);
        for (int i = 0; i < n && rc == 0; i++)
            near[at + (size_t)i] = cosine(mine, theirs + i * embed->dim, embed->dim);
    }
    free(mine);
    free(theirs);
    return rc;
}

typedef struct {
    double near;
    size_t i;
} ranked;

static int nearest_first(const void *a, const void *b)
{
    const ranked *x = a, *y = b;

    if (x->near != y->near)
        return x->near > y->near ? -1 : 1;
    return x->i < y->i ? -1 : x->i > y->i;
}

/* The `want` entries most like it, of those at least `least` alike; how many there were of these. */
static size_t choose(image_list *out, double *lowest, image_list *pool, const double near[], double least, size_t want)
{
    ranked *r = NEW_N(ranked, pool->n);
    size_t n = 0;

    for (size_t i = 0; i < pool->n; i++)
        if (near[i] >= least)
            r[n++] = (ranked){near[i], i};
    qsort(r, n, sizeof *r, nearest_first);
    out->n = n < want ? n : want;
    out->at = NEW_N(image_entry, out->n);
    for (size_t i = 0; i < out->n; i++) { /* moved, not copied */
        out->at[i] = pool->at[r[i].i];
        pool->at[r[i].i] = (image_entry){0};
    }
    *lowest = out->n > 0 ? r[out->n - 1].near : 0;
    free(r);
    return n;
}

static size_t wanted(const regset_cfg *c)
{
    return c->count > 0 ? (size_t)c->count : REGSET_COUNT;
}

static int too_few(const regset_cfg *c, size_t found, const char *which, bool near, err *e)
{
    char fewer[48] = "";

    if (found > 0)
        snprintf(fewer, sizeof fewer, "set count: %zu, ", found);
    return err_set(e, ERR_INPUT, "%s: %zu %s, %zu are wanted; %s%sadd pictures, or use generate: %zu", c->index, found,
                   which, wanted(c), near ? "lower similarity, " : "", fewer, wanted(c));
}

/* The captioned pictures of the index. */
static int open_pool(image_list *pool, const regset_cfg *c, const char *root, err *e)
{
    TRY(image_list_add(pool, root, c->index, e));
    TRY(read_captions(pool, c, root, e));
    if (!pool->at[0].caption)
        return err_set(e, ERR_INPUT, "%s: no captions to choose by; give regularisation.captions or .txt files",
                       c->index);
    return pool->n >= wanted(c) ? 0 : too_few(c, pool->n, "captioned pictures", false, e);
}

static int fewer_than_wanted(const regset_cfg *c, const regset_told *told, const char *own, err *e)
{
    char least[128];

    snprintf(least, sizeof least, "of %zu captions are as near as %.3g to \"%.60s\"", told->of, c->similarity, own);
    return too_few(c, told->found, least, true, e);
}

/* An index's path where it is a file that `cfarm reg index` made, else false. */
static bool is_file(char path[FS_PATH], const regset_cfg *c, const char *root)
{
    return fs_join(path, root, c->index, NULL) == 0 && reg_index_is(path);
}

static int captions_twice(const regset_cfg *c, err *e)
{
    return err_set(e, ERR_INPUT, "%s: captions beside an index that has its own; leave captions out", c->index);
}

static int open_indexed(image_list *out, regset_told *told, const regset_cfg *c, const char *path, const char *root,
                        const char *own, const regset_embed *embed, err *e)
{
    if (c->captions[0])
        return captions_twice(c, e);
    TRY(regset_from_index(out, told, path, root, own, c->similarity, wanted(c), embed, e));
    return told->found < wanted(c) ? fewer_than_wanted(c, told, own, e) : 0;
}

static int open_chosen(image_list *out, regset_told *told, const regset_cfg *c, const char *root, const char *own,
                       const regset_embed *embed, err *e)
{
    image_list pool = {0};
    double *near = NULL;
    char path[FS_PATH];

    CHECK(embed && embed->dim > 0);
    if (is_file(path, c, root))
        return open_indexed(out, told, c, path, root, own, embed, e);
    int rc = open_pool(&pool, c, root, e);
    if (rc == 0) {
        near = NEW_N(double, pool.n);
        rc = compare_all(near, &pool, own, embed, e);
    }
    if (rc == 0) {
        told->of = pool.n;
        told->found = choose(out, &told->lowest, &pool, near, c->similarity, wanted(c));
        if (told->found < wanted(c))
            rc = fewer_than_wanted(c, told, own, e);
    }
    image_list_free(&pool);
    free(near);
    return rc;
}

int regset_open(image_list *out, regset_told *told, const regset_cfg *c, const char *root, const char *own,
                const char *model, const regset_embed *embed, err *e)
{
    int rc = 0;

    *out = (image_list){0};
    *told = (regset_told){0};
    if (c->generate > 0)
        rc = open_generated(out, c, root, own, model, e);
    else if (c->index[0])
        rc = open_chosen(out, told, c, root, own, embed, e);
    else if (c->images[0])
        rc = open_given(out, c, root, own, e);
    if (rc != 0)
        image_list_free(out);
    return rc;
}

/* Enough captions there to choose from? */
static int look_at_index(const regset_cfg *c, const char *root, err *e)
{
    image_list pool = {0};
    char path[FS_PATH];
    reg_index *x;
    int rc;

    if (!is_file(path, c, root)) {
        rc = open_pool(&pool, c, root, e);
        image_list_free(&pool);
        return rc;
    }
    if (c->captions[0])
        return captions_twice(c, e);
    TRY(reg_index_open(&x, path, e));
    size_t n = (size_t)reg_index_count(x);
    reg_index_close(x);
    return n >= wanted(c) ? 0 : too_few(c, n, "captioned pictures", false, e);
}

int regset_look(image_list *out, uint32_t *later, const regset_cfg *c, const char *root, const char *own, err *e)
{
    regset_told told;
    regset_need need;

    *out = (image_list){0};
    *later = 0;
    if (c->generate == 0 && !c->index[0])
        return regset_open(out, &told, c, root, own, NULL, NULL, e);
    *later = (uint32_t)(c->generate > 0 ? (size_t)c->generate : wanted(c));
    if (c->generate > 0)
        return regset_missing(&need, c, root, own, NULL, e);
    return look_at_index(c, root, e);
}
