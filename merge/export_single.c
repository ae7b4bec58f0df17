/* A whole model in one safetensors file, in CompVis' keys, which user interfaces load, or in diffusers' behind "unet.",
 * "vae." and "text_encoder.". Everything is the base's as it stands in its files but for what the concept changes, in f32.
 * Such a file has no place for new words: they lie beside it as embedding files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "merge/export.h"
#include "merge/names.h"

typedef struct {
    const export_job *j;
    single_shape shape;
    st_tensor *at;
    single_place *place; /* [n] */
    size_t n;
    int changed; /* tensors of the concept that were met */
} single;

static int refuse_name(const char *name, err *e)
{
    return err_set(e, ERR_INPUT, "%s has no name in CompVis' keys; --format single-diffusers takes everything", name);
}

/* What the concept has for it, in the base's place. */
static int take_changed(single *x, st_tensor *t, sd_part k, const char *name, err *e)
{
    char full[NAME_ROOM];
    const concept_tensor *c;
    snprintf(full, sizeof full, "%s%s", k == SD_TEXT ? single_prefix(k) : "", name);
    c = k == SD_VAE ? NULL : concept_find(x->j->c, full);
    if (!c)
        return 0;
    if (t->count != (uint64_t)c->rows * (uint64_t)(c->cols ? c->cols : 1))
        return err_set(e, ERR_SHAPE, "%s has another shape in the base model", full);
    t->type = F32;
    t->data = c->data;
    x->changed++;
    return 0;
}

static int add_tensor(single *x, sd_part k, const st_tensor *from, err *e)
{
    st_tensor *t = &x->at[x->n];
    single_place *place = &x->place[x->n];
    *t = *from;
    if (!single_place_of(place, k, from->name, &x->shape))
        return refuse_name(from->name, e);
    TRY(take_changed(x, t, k, from->name, e));
    if (place->is_conv && t->n == 2) {
        t->n = 4;
        t->d[2] = t->d[3] = 1;
    }
    t->name = place->key;
    x->n++;
    return 0;
}

static int add_all(single *x, err *e)
{
    size_t n = 0;
    for (sd_part k = 0; k < SD_PARTS; k++)
        n += st_count(sd_file(x->j->base, k));
    x->at = NEW_N(st_tensor, n);
    x->place = NEW_N(single_place, n);
    for (sd_part k = 0; k < SD_PARTS; k++)
        for (size_t i = 0; i < st_count(sd_file(x->j->base, k)); i++)
            if (!str_ends(st_at(sd_file(x->j->base, k), i)->name, "position_ids") || !x->shape.open_clip) /* no parameter there */
                TRY(add_tensor(x, k, st_at(sd_file(x->j->base, k), i), e));
    if (x->changed != x->j->c->n_tensors)
        return err_set(e, ERR_INPUT, "%d of %d tensors are not in the base model", x->j->c->n_tensors - x->changed,
                       x->j->c->n_tensors);
    return 0;
}

/* ---- keys that hold several ---- */

/* The pieces [of] behind each other, in f32 where they are not of one type. */
static void *join(st_tensor *out, const st_tensor *const piece[], int of)
{
    size_t each, at = 0;
    char *all;
    *out = *piece[0];
    for (int i = 1; i < of; i++)
        out->type = piece[i]->type == out->type ? out->type : F32;
    each = dtype_bytes(out->type);
    out->d[0] *= of;
    out->count *= (uint64_t)of;
    all = mem_new(out->count, each);
    for (int i = 0; i < of; at += piece[i++]->count * each)
        if (piece[i]->type == out->type)
            memcpy(all + at, piece[i]->data, piece[i]->count * each);
        else
            f32_from((float *)(void *)(all + at), piece[i]->data, piece[i]->type, piece[i]->count);
    out->data = all;
    return all;
}

/* The pieces of the key of tensor i; false: not all are there, or not alike. */
static bool find_pieces(const single *x, size_t i, const st_tensor *piece[])
{
    int found = 0, of = x->place[i].of;
    for (size_t k = 0; k < x->n; k++)
        if (strcmp(x->place[k].key, x->place[i].key) == 0 && x->at[k].count == x->at[i].count) {
            piece[x->place[k].at] = &x->at[k];
            found++;
        }
    return found == of;
}

enum { PIECES = 3 };

/* all [n] gets the file's tensors, owned [n] the data of those that were joined. */
static int join_all(const single *x, st_tensor *all, size_t *n, void **owned, err *e)
{
    for (size_t i = 0; i < x->n; i++) {
        const st_tensor *piece[PIECES];
        if (x->place[i].at > 0)
            continue;
        if (x->place[i].of == 1) {
            all[(*n)++] = x->at[i];
            continue;
        }
        if (!find_pieces(x, i, piece))
            return err_set(e, ERR_INPUT, "the base has not all parts of %s", x->place[i].key);
        owned[*n] = join(&all[*n], piece, x->place[i].of);
        ++*n;
    }
    return 0;
}

static int write_file(const single *x, const st_tensor *all, size_t n, err *e)
{
    const concept *c = x->j->c;
    const char *values[EXPORT_PROVENANCE + 1];
    char path[FS_PATH];
    export_provenance_of(c, values);
    TRY(fs_mkdirs(x->j->out, e));
    TRY(fs_join(path, x->j->out, "model.safetensors", e));
    TRY(st_write(path, all, n, export_provenance, values, e));
    return export_tokens(c, x->j->out, false, e);
}

static int export_as(const export_job *j, single_keys keys, err *e)
{
    single x = {.j = j, .shape = single_shape_of(keys, sd_unet_shape(j->base), sd_vae_shape(j->base), sd_text_shape(j->base))};
    st_tensor *all = NULL;
    void **owned = NULL;
    size_t n = 0;
    int rc = add_all(&x, e);
    if (rc == 0) {
        all = NEW_N(st_tensor, x.n);
        owned = NEW_N(void *, x.n);
        rc = join_all(&x, all, &n, owned, e);
    }
    if (rc == 0)
        rc = write_file(&x, all, n, e);
    for (size_t i = 0; i < n; i++)
        free(owned[i]);
    free(owned);
    free(all);
    free(x.at);
    free(x.place);
    return rc;
}

int export_single(const export_job *j, err *e)
{
    return export_as(j, SINGLE_COMPVIS, e);
}

int export_single_diffusers(const export_job *j, err *e)
{
    return export_as(j, SINGLE_DIFFUSERS, e);
}
