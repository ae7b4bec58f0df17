/* A whole model, in a folder or in one file, as a concept: what in it differs from the base, number by number. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "merge/export.h"
#include "merge/names.h"
#include "merge/parts.h"

#define TABLE "text_model.embeddings.token_embedding.weight"

typedef struct {
    concept *out;
    const sd *base;
    parts theirs;        /* of a folder, */
    safetensors *single; /* or a file, */
    single_shape shape;
    bool *met[SD_PARTS]; /* [tensors of the part's file]; a single file has but the first */
    import_notes *notes;
} importer;

bool import_is_model(const char *path)
{
    char index[FS_PATH];
    safetensors *f;
    single_keys keys;
    bool is;
    if (fs_is_dir(path))
        return fs_join(index, path, "model_index.json", NULL) == 0 && fs_exists(index);
    if (!str_ends(path, ".safetensors") || st_open(&f, path, NULL) != 0)
        return false;
    is = single_is(&keys, f);
    st_close(f);
    return is;
}

/* ---- one tensor ---- */

static void mark(bool met[], const safetensors *f, const st_tensor *t)
{
    for (size_t i = 0; t && i < st_count(f); i++)
        met[i] |= st_at(f, i) == t;
}

static bool find_theirs(st_tensor *out, importer *m, sd_part k, const char *name)
{
    const st_tensor *whole;
    bool found;
    if (!m->single) {
        whole = st_find(m->theirs.file[k], name);
        mark(m->met[k], m->theirs.file[k], whole);
        if (whole)
            *out = *whole;
        return whole != NULL;
    }
    found = single_find(out, &whole, m->single, k, name, &m->shape);
    mark(m->met[0], m->single, whole);
    return found;
}

static float *floats_of(const st_tensor *t)
{
    float *x = NEW_N(float, t->count + 1);
    f32_from(x, t->data, t->type, (size_t)t->count);
    return x;
}

/* Rows behind the base's are of new words; those before must be the base's. */
static int take_table(importer *m, const st_tensor *ours, const st_tensor *theirs, const char *dir, err *e)
{
    char path[FS_PATH];
    float *a = floats_of(ours), *b = floats_of(theirs);
    size_t width = (size_t)ours->d[1];
    json_t *words = NULL, *id;
    const char *word;
    int rc = memcmp(a, b, (size_t)ours->count * sizeof *a) == 0
                 ? 0
                 : err_set(e, ERR_INPUT, "its token table differs from the base's in words the base knows");
    if (rc == 0 && theirs->d[0] > ours->d[0])
        rc = fs_join(path, dir, "tokenizer/added_tokens.json", e);
    if (rc == 0 && theirs->d[0] > ours->d[0])
        rc = json_read(&words, path, e);
    for (int64_t row = ours->d[0]; rc == 0 && row < theirs->d[0]; row++) {
        const char *found = NULL;
        json_object_foreach(words, word, id) if (json_integer_value(id) == row) found = word;
        if (!found)
            rc = err_set(e, ERR_INPUT, "%s names no word for row %lld of the token table", path, (long long)row);
        else
            concept_add_token(m->out, found, "", -1, b + (size_t)row * width);
    }
    json_decref(words);
    free(a);
    free(b);
    return rc;
}

static int take_tensor(importer *m, sd_part k, const st_tensor *ours, const char *dir, err *e)
{
    st_tensor found, *theirs = find_theirs(&found, m, k, ours->name) ? &found : NULL;
    char full[NAME_ROOM];
    float *a, *b;
    bool same;
    if (str_ends(ours->name, "position_ids"))
        return 0;
    if (!theirs)
        return err_set(e, ERR_INPUT, "has no %s%s, which the base model has", single_prefix(k), ours->name);
    if (k == SD_TEXT && strcmp(ours->name, TABLE) == 0 && !m->single && ours->n == 2 && theirs->n == 2 &&
        theirs->d[1] == ours->d[1] && theirs->d[0] >= ours->d[0])
        return take_table(m, ours, theirs, dir, e);
    if (theirs->count != ours->count)
        return err_set(e, ERR_SHAPE, "%s%s has another shape in the base model", single_prefix(k), ours->name);
    a = floats_of(ours);
    b = floats_of(theirs);
    same = memcmp(a, b, (size_t)ours->count * sizeof *a) == 0;
    snprintf(full, sizeof full, "%s%.400s", k == SD_TEXT ? single_prefix(k) : "", ours->name);
    if (!same && k != SD_VAE && ours->n <= 2)
        concept_add_tensor(m->out, full, ours->d[0], ours->n == 2 ? ours->d[1] : 0, b);
    else if (!same && k != SD_VAE) /* a convolution, as rows of all that makes one output */
        concept_add_tensor(m->out, full, ours->d[0], (int64_t)ours->count / ours->d[0], b);
    free(a);
    free(b);
    return same || k != SD_VAE ? 0 : err_set(e, ERR_INPUT, "its VAE differs from the base's (%s), which a concept cannot hold", ours->name);
}

/* ---- all of them ---- */

/* What training programs leave in a checkpoint beside the model. Of OpenCLIP's text encoder SD 2 runs all layers but the last. */
static bool is_leftover(const importer *m, const char *key)
{
    static const char *const fronts[] = {"model_ema.", "alphas_", "betas", "sqrt_", "log_", "posterior_", "lvlb_weights",
                                         "cond_stage_model.logit_scale", "cond_stage_model.model.logit_scale",
                                         "cond_stage_model.model.text_projection", "cond_stage_model.model.attn_mask",
                                         "first_stage_model.loss."};
    char last[80];
    for (size_t i = 0; i < sizeof fronts / sizeof *fronts; i++)
        if (str_starts(key, fronts[i]))
            return true;
    snprintf(last, sizeof last, "cond_stage_model.model.transformer.resblocks.%d.", sd_text_shape(m->base)->layers);
    return str_starts(key, last) || str_ends(key, "position_ids");
}

static const safetensors *file_of(const importer *m, sd_part k)
{
    return m->single ? (k == 0 ? m->single : NULL) : m->theirs.file[k];
}

static int refuse_unmet(const importer *m, err *e)
{
    enum { TOLD = 4 };
    str list = {0};
    size_t n = 0;
    for (sd_part k = 0; k < SD_PARTS; k++)
        for (size_t i = 0; file_of(m, k) && i < st_count(file_of(m, k)); i++) {
            const char *key = st_at(file_of(m, k), i)->name, *front = m->single ? "" : single_prefix(k);
            if (m->met[k][i])
                continue;
            if (m->notes)
                str_add(is_leftover(m, key) ? &m->notes->passed : &m->notes->unknown, "%s%s\n", front, key);
            if (!is_leftover(m, key) && n++ < TOLD)
                str_add(&list, "%s%s%s", list.n ? ", " : "", front, key);
        }
    if (n > 0)
        err_set(e, ERR_INPUT, "%zu keys mean nothing here: %s%s", n, list.at, n > TOLD ? ", ..." : "");
    str_free(&list);
    return n > 0 ? ERR_INPUT : 0;
}

static int take_all(importer *m, const char *dir, err *e)
{
    for (sd_part k = 0; k < SD_PARTS; k++)
        for (size_t i = 0; i < st_count(sd_file(m->base, k)); i++)
            TRY(take_tensor(m, k, st_at(sd_file(m->base, k), i), dir, e));
    return refuse_unmet(m, e);
}

static int open_theirs(importer *m, const char *path, err *e)
{
    single_keys keys;
    if (fs_is_dir(path)) {
        TRY(parts_open(&m->theirs, path, e));
    } else {
        TRY(st_open(&m->single, path, e));
        single_is(&keys, m->single);
        m->shape = single_shape_of(keys, sd_unet_shape(m->base), sd_vae_shape(m->base), sd_text_shape(m->base));
    }
    for (sd_part k = 0; k < SD_PARTS; k++)
        if (file_of(m, k))
            m->met[k] = NEW_N(bool, st_count(file_of(m, k)) + 1);
    return 0;
}

int import_model(concept *out, const char *path, const sd *base, import_notes *notes, err *e)
{
    importer m = {.out = out, .base = base, .notes = notes};
    int rc;
    if (out->width == 0)
        out->width = sd_text_shape(base)->width;
    rc = open_theirs(&m, path, e);
    if (rc == 0 && (rc = take_all(&m, path, e)) != 0)
        err_wrap(e, "%s", path);
    parts_close(&m.theirs);
    st_close(m.single);
    for (sd_part k = 0; k < SD_PARTS; k++)
        free(m.met[k]);
    return rc;
}
