/* Shifts of singular values in the form of svdiff-pytorch: spectral_shifts.safetensors for the UNet,
 * spectral_shifts_te.safetensors for the text encoder, MODULE.delta each. A norm's shift is kept in thousandths by us
 * (trainer/method/svdiff.c) and as it acts by them. They mean something over the same base weights only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/safetensors.h"
#include "merge/export.h"
#include "merge/names.h"
#include "trainer/method/method.h"
#include "trainer/method/shifts.h"

bool export_has_shifts(const concept *c)
{
    return c->n_tensors > 0 && str_ends(c->tensors[0].name, SHIFTS_TAIL);
}

int shifts_rescale(concept_tensor *t, sd *base, bool to_theirs, err *e)
{
    str name = {0};
    nn_shape shape;

    method_param(&name, t->name);
    str weight = {0};
    str_add(&weight, "%.*s.weight", (int)(name.n - strlen(SHIFTS_TAIL)), name.at);
    int rc = sd_file_shape(base, weight.at, &shape, e);
    for (int64_t i = 0; rc == 0 && shape.n == 1 && i < t->rows; i++)
        t->data[i] *= to_theirs ? SHIFTS_NORM_UNIT : 1 / SHIFTS_NORM_UNIT;
    str_free(&name);
    str_free(&weight);
    return rc;
}

typedef struct {
    st_tensor *at;
    char (*name)[NAME_ROOM];
    concept_tensor *copy;
    size_t n;
} list;

static int fill(list *l, const export_job *j, bool text, err *e)
{
    size_t front = text ? strlen("text_encoder.") : 0;

    for (int i = 0; i < j->c->n_tensors; i++) {
        const concept_tensor *t = &j->c->tensors[i];
        if (str_starts(t->name, "text_encoder.") != text)
            continue;
        concept_tensor *own = &l->copy[l->n];
        *own = *t;
        own->data = mem_copy(t->data, (size_t)t->rows * sizeof *t->data);
        l->n++;
        TRY(shifts_rescale(own, j->base, true, e));
        if (snprintf(l->name[l->n - 1], NAME_ROOM, "%.*s.delta", (int)(strlen(t->name) - front - strlen(SHIFTS_TAIL)),
                     t->name + front) >= NAME_ROOM)
            return err_set(e, ERR_INPUT, "%s is too long a name", t->name);
        l->at[l->n - 1] = (st_tensor){.name = l->name[l->n - 1], .type = F32, .n = 1, .d = {t->rows},
                                      .count = (uint64_t)t->rows, .data = own->data};
    }
    return 0;
}

static int write_part(const export_job *j, bool text, err *e)
{
    size_t room = (size_t)j->c->n_tensors + 1;
    list l = {NEW_N(st_tensor, room), mem_new(room, NAME_ROOM), NEW_N(concept_tensor, room), 0};
    const char *values[EXPORT_PROVENANCE + 1];
    char path[FS_PATH];
    int rc = fill(&l, j, text, e);

    if (rc == 0)
        rc = fs_join(path, j->out, text ? "spectral_shifts_te.safetensors" : "spectral_shifts.safetensors", e);
    export_provenance_of(j->c, values);
    if (rc == 0 && l.n > 0)
        rc = st_write(path, l.at, l.n, export_provenance, values, e);
    for (size_t i = 0; i < l.n; i++)
        free(l.copy[i].data);
    free(l.at);
    free(l.name);
    free(l.copy);
    return rc;
}

int export_shifts(const export_job *j, err *e)
{
    if (!export_has_shifts(j->c))
        return err_set(e, ERR_INPUT, "it has no shifts of singular values; --format model takes everything");
    TRY(fs_mkdirs(j->out, e));
    TRY(write_part(j, false, e));
    return write_part(j, true, e);
}
