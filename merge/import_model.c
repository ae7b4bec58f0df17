/* A whole model, in a folder or in one file, as a concept: what in it differs from the base, number by number. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "merge/export.h"
#include "merge/parts.h"

#define TABLE "text_model.embeddings.token_embedding.weight"

typedef enum { A_FOLDER, COMPVIS_KEYS, DIFFUSERS_KEYS } layout;
typedef struct {
    concept *out;
    layout as;
    parts base, theirs; /* theirs: of a folder; of a single file it is theirs.file[0] throughout */
    parts_shape shape;
    bool *met; /* [tensors of a single file] */
} importer;

bool import_is_model(const char *path)
{
    char index[FS_PATH];
    safetensors *f;
    bool is;
    if (fs_is_dir(path))
        return fs_join(index, path, "model_index.json", NULL) == 0 && fs_exists(index);
    if (!str_ends(path, ".safetensors") || st_open(&f, path, NULL) != 0)
        return false;
    is = st_find(f, "model.diffusion_model.input_blocks.0.0.weight") || st_find(f, "unet.conv_in.weight");
    st_close(f);
    return is;
}

/* ---- one tensor ---- */

static const st_tensor *find_theirs(importer *m, part_kind k, const char *name)
{
    char key[NAME_ROOM];
    const st_tensor *t;
    if (m->as == A_FOLDER)
        return st_find(m->theirs.file[k], name);
    if (m->as == COMPVIS_KEYS && !parts_to_compvis(key, k, name, &m->shape))
        return NULL;
    if (m->as == DIFFUSERS_KEYS)
        snprintf(key, sizeof key, "%s%.400s", parts_prefix(k), name);
    t = st_find(m->theirs.file[0], key);
    for (size_t i = 0; t && i < st_count(m->theirs.file[0]); i++)
        m->met[i] |= st_at(m->theirs.file[0], i) == t;
    return t;
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

static int take_tensor(importer *m, part_kind k, const st_tensor *ours, const char *dir, err *e)
{
    const st_tensor *theirs = find_theirs(m, k, ours->name);
    char full[NAME_ROOM];
    float *a, *b;
    bool same;
    if (str_ends(ours->name, "position_ids"))
        return 0;
    if (!theirs)
        return err_set(e, ERR_INPUT, "has no %s%s, which the base model has", parts_prefix(k), ours->name);
    if (k == PART_TEXT && strcmp(ours->name, TABLE) == 0 && m->as == A_FOLDER && ours->n == 2 && theirs->n == 2 &&
        theirs->d[1] == ours->d[1] && theirs->d[0] >= ours->d[0])
        return take_table(m, ours, theirs, dir, e);
    if (theirs->count != ours->count)
        return err_set(e, ERR_SHAPE, "%s%s has another shape in the base model", parts_prefix(k), ours->name);
    a = floats_of(ours);
    b = floats_of(theirs);
    same = memcmp(a, b, (size_t)ours->count * sizeof *a) == 0;
    snprintf(full, sizeof full, "%s%.400s", k == PART_TEXT ? parts_prefix(k) : "", ours->name);
    if (!same && k != PART_VAE && ours->n <= 2)
        concept_add_tensor(m->out, full, ours->d[0], ours->n == 2 ? ours->d[1] : 0, b);
    else if (!same && k != PART_VAE) /* a convolution, as rows of all that makes one output */
        concept_add_tensor(m->out, full, ours->d[0], (int64_t)ours->count / ours->d[0], b);
    free(a);
    free(b);
    return same || k != PART_VAE ? 0 : err_set(e, ERR_INPUT, "its VAE differs from the base's (%s), which a concept cannot hold", ours->name);
}

/* ---- all of them ---- */

/* What training programs leave in a checkpoint beside the model. */
static bool is_leftover(const char *key)
{
    static const char *const fronts[] = {"model_ema.", "alphas_", "betas", "sqrt_", "log_", "posterior_", "lvlb_weights",
                                         "cond_stage_model.logit_scale", "first_stage_model.loss."};
    for (size_t i = 0; i < sizeof fronts / sizeof *fronts; i++)
        if (str_starts(key, fronts[i]))
            return true;
    return str_ends(key, "position_ids");
}

static int refuse_unmet(const importer *m, err *e)
{
    enum { TOLD = 4 };
    str list = {0};
    size_t n = 0;
    for (size_t i = 0; m->met && i < st_count(m->theirs.file[0]); i++)
        if (!m->met[i] && !is_leftover(st_at(m->theirs.file[0], i)->name) && n++ < TOLD)
            str_add(&list, "%s%s", list.n ? ", " : "", st_at(m->theirs.file[0], i)->name);
    if (n > 0)
        err_set(e, ERR_INPUT, "%zu keys mean nothing here: %s%s", n, list.at, n > TOLD ? ", ..." : "");
    str_free(&list);
    return n > 0 ? ERR_INPUT : 0;
}

static int take_all(importer *m, const char *dir, err *e)
{
    for (part_kind k = 0; k < PARTS; k++)
        for (size_t i = 0; i < st_count(m->base.file[k]); i++)
            TRY(take_tensor(m, k, st_at(m->base.file[k], i), dir, e));
    return refuse_unmet(m, e);
}

static int open_theirs(importer *m, const char *path, err *e)
{
    if (fs_is_dir(path))
        return parts_open(&m->theirs, path, e);
    TRY(st_open(&m->theirs.file[0], path, e));
    m->as = st_find(m->theirs.file[0], "unet.conv_in.weight") ? DIFFUSERS_KEYS : COMPVIS_KEYS;
    m->met = NEW_N(bool, st_count(m->theirs.file[0]) + 1);
    return 0;
}

int import_model(concept *out, const char *path, const sd *base, err *e)
{
    importer m = {.out = out, .as = A_FOLDER, .shape = parts_shape_of(base)};
    int rc = parts_open(&m.base, sd_dir(base), e);
    if (out->width == 0)
        out->width = sd_text_shape(base)->width;
    if (rc == 0)
        rc = open_theirs(&m, path, e);
    if (rc == 0 && (rc = take_all(&m, path, e)) != 0)
        err_wrap(e, "%s", path);
    parts_close(&m.base);
    parts_close(&m.theirs);
    free(m.met);
    return rc;
}
