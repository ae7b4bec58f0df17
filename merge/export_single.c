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
#include "merge/parts.h"

typedef struct {
    const export_job *j;
    bool compvis;
    parts_shape shape;
    st_tensor *at;
    size_t n;
    int changed; /* tensors of the concept that were met */
} single;

static int refuse_name(const char *name, err *e)
{
    return err_set(e, ERR_INPUT, "%s has no name in CompVis' keys; --format single-diffusers takes everything", name);
}

/* What the concept has for it, in the base's place. */
static int take_changed(single *x, st_tensor *t, part_kind k, const char *name, err *e)
{
    char full[NAME_ROOM];
    const concept_tensor *c;
    snprintf(full, sizeof full, "%s%s", k == PART_TEXT ? parts_prefix(k) : "", name);
    c = k == PART_VAE ? NULL : concept_find(x->j->c, full);
    if (!c)
        return 0;
    if (t->count != (uint64_t)c->rows * (uint64_t)(c->cols ? c->cols : 1))
        return err_set(e, ERR_SHAPE, "%s has another shape in the base model", full);
    t->type = F32;
    t->data = c->data;
    x->changed++;
    return 0;
}

static int add_tensor(single *x, part_kind k, const st_tensor *from, err *e)
{
    char name[NAME_ROOM];
    st_tensor *t = &x->at[x->n];
    *t = *from;
    if (x->compvis && !parts_to_compvis(name, k, from->name, &x->shape))
        return refuse_name(from->name, e);
    if (!x->compvis)
        snprintf(name, sizeof name, "%s%.400s", parts_prefix(k), from->name);
    TRY(take_changed(x, t, k, from->name, e));
    if (x->compvis && parts_is_conv(k, from->name) && t->n == 2) {
        t->n = 4;
        t->d[2] = t->d[3] = 1;
    }
    t->name = mem_text(name);
    x->n++;
    return 0;
}

static int add_all(single *x, const parts *p, err *e)
{
    size_t n = 0;
    for (part_kind k = 0; k < PARTS; k++)
        n += st_count(p->file[k]);
    x->at = NEW_N(st_tensor, n);
    for (part_kind k = 0; k < PARTS; k++)
        for (size_t i = 0; i < st_count(p->file[k]); i++)
            TRY(add_tensor(x, k, st_at(p->file[k], i), e));
    if (x->changed != x->j->c->n_tensors)
        return err_set(e, ERR_INPUT, "%d of %d tensors are not in the base model", x->j->c->n_tensors - x->changed,
                       x->j->c->n_tensors);
    return 0;
}

static int write_file(const single *x, err *e)
{
    static const char *const keys[] = {"base_fingerprint", "method", "recipe", NULL};
    const concept *c = x->j->c;
    const char *values[] = {c->base, c->method, c->recipe, NULL};
    char path[FS_PATH];
    TRY(fs_mkdirs(x->j->out, e));
    TRY(fs_join(path, x->j->out, "model.safetensors", e));
    TRY(st_write(path, x->at, x->n, keys, values, e));
    return export_tokens(c, x->j->out, false, e);
}

static int export_as(const export_job *j, bool compvis, err *e)
{
    single x = {.j = j, .compvis = compvis, .shape = parts_shape_of(j->base)};
    parts p;
    int rc;
    if (compvis && sd_text_shape(j->base)->projection == 0 && !sd_text_shape(j->base)->quick)
        return err_set(e, ERR_INPUT, "the text encoder is OpenCLIP's (SD 2), whose tensors have other shapes in CompVis' "
                                     "keys; --format single-diffusers or model takes it");
    TRY(parts_open(&p, sd_dir(j->base), e));
    rc = add_all(&x, &p, e);
    if (rc == 0)
        rc = write_file(&x, e);
    for (size_t i = 0; i < x.n; i++)
        free((void *)(uintptr_t)x.at[i].name);
    free(x.at);
    parts_close(&p);
    return rc;
}

int export_single(const export_job *j, err *e)
{
    return export_as(j, true, e);
}

int export_single_diffusers(const export_job *j, err *e)
{
    return export_as(j, false, e);
}
