/* The authors' compressed deltas: each K and V matrix as u v, by the singular vectors of W - W0 whose values come first and
 * together stay within a share of the sum of all (the value that crosses it is left out, as in their program). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "merge/export.h"
#include "merge/names.h"
#include "merge/svd.h"

typedef struct {
    st_tensor *at;
    char **name;
    float **data;
    size_t n;
} pieces;

/* Takes data. */
static void push(pieces *p, const char *name, int dims, int64_t a, int64_t b, float *data)
{
    p->at = mem_grow(p->at, p->n + 1, sizeof *p->at);
    p->name = mem_grow(p->name, p->n + 1, sizeof *p->name);
    p->data = mem_grow(p->data, p->n + 1, sizeof *p->data);
    p->name[p->n] = mem_text(name);
    p->data[p->n] = data;
    p->at[p->n] = (st_tensor){.name = p->name[p->n],
                              .type = F32,
                              .n = dims,
                              .d = {a, dims > 1 ? b : 0},
                              .count = (uint64_t)(a * (dims > 1 ? b : 1)),
                              .data = data};
    p->n++;
}

static void free_pieces(pieces *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->name[i]);
        free(p->data[i]);
    }
    free(p->at);
    free(p->name);
    free(p->data);
}

/* At least 1: a torch file of ours holds no empty tensors, and neither do most readers. */
static int rank_of(const svd *s, double share)
{
    double all = 0, sum = 0;
    for (int i = 0; i < s->m; i++)
        all += s->sigma[i];
    for (int i = 0; i < s->m; i++) {
        sum += s->sigma[i];
        if (sum > share * all)
            return i > 0 ? i : 1;
    }
    return s->m;
}

static void push_product(pieces *p, const char *name, const svd *s, int rank)
{
    float *u = NEW_N(float, (size_t)s->rows *(size_t)rank), *v = NEW_N(float, (size_t)rank *(size_t)s->cols);
    char key[NAME_ROOM + 32];
    for (int i = 0; i < s->rows; i++)
        for (int r = 0; r < rank; r++)
            u[i * rank + r] = (float)(s->u[i * s->m + r] * s->sigma[r]);
    for (int i = 0; i < rank * s->cols; i++)
        v[i] = (float)s->vt[i];
    snprintf(key, sizeof key, "%s/u", name);
    push(p, key, 2, s->rows, rank, u);
    snprintf(key, sizeof key, "%s/v", name);
    push(p, key, 2, rank, s->cols, v);
}

static int compress(pieces *p, const char *name, const concept_tensor *t, const export_job *j, err *e)
{
    size_t count = (size_t)t->rows * (size_t)t->cols;
    float *w0 = NEW_N(float, count);
    double *change = NEW_N(double, count);
    char full[NAME_ROOM];
    svd s;
    int rc;
    snprintf(full, sizeof full, "unet.%.400s", t->name);
    rc = sd_file_read(j->base, full, w0, count, e);
    for (size_t i = 0; rc == 0 && i < count; i++)
        change[i] = (double)t->data[i] - (double)w0[i];
    if (rc == 0)
        rc = svd_make(&s, change, (int)t->rows, (int)t->cols, e);
    if (rc == 0) {
        push_product(p, name, &s, rank_of(&s, j->share));
        svd_free(&s);
    }
    free(w0);
    free(change);
    return rc;
}

/* Only K and V are compressed; what else moved stands as it is. */
static int add_tensor(pieces *p, const char *name, const concept_tensor *t, const export_job *j, err *e)
{
    if (concept_is_kv(t->name))
        return compress(p, name, t, j, e);
    push(p, name, t->cols ? 2 : 1, t->rows, t->cols, mem_copy(t->data, (size_t)(t->rows * (t->cols ? t->cols : 1)) * sizeof(float)));
    return 0;
}

static int add_bin(pieces *p, const export_job *j, err *e)
{
    char name[NAME_ROOM];
    size_t row = (size_t)j->c->width * sizeof(float);
    for (int i = 0; i < j->c->n_tensors; i++) {
        snprintf(name, sizeof name, "unet/%.400s", j->c->tensors[i].name);
        TRY(add_tensor(p, name, &j->c->tensors[i], j, e));
    }
    for (int i = 0; i < j->c->n_tokens; i++) {
        snprintf(name, sizeof name, "modifier_token/%.300s", j->c->tokens[i].word);
        push(p, name, 1, j->c->width, 0, mem_copy(j->c->tokens[i].row, row));
    }
    return 0;
}

static int add_ckpt(pieces *p, const export_job *j, err *e)
{
    char name[NAME_ROOM + 16] = "state_dict/", *tail = name + strlen("state_dict/");
    size_t width = (size_t)j->c->width, n = (size_t)j->c->n_tokens;
    for (int i = 0; i < j->c->n_tensors; i++) {
        if (!single_attention(tail, j->c->tensors[i].name, sd_unet_shape(j->base)->level[0].layers))
            return err_set(e, ERR_INPUT, "%s has no place in a compressed delta; --format model takes everything",
                           j->c->tensors[i].name);
        TRY(add_tensor(p, name, &j->c->tensors[i], j, e));
    }
    if (n > 0) {
        float *embed = NEW_N(float, n *width);
        for (size_t i = 0; i < n; i++)
            memcpy(embed + i * width, j->c->tokens[i].row, width * sizeof *embed);
        push(p, "state_dict/embed", 2, (int64_t)n, (int64_t)width, embed);
    }
    return 0;
}

static int write_pieces(int (*add)(pieces *p, const export_job *j, err *e), const export_job *j, err *e)
{
    pieces p = {0};
    int rc = add(&p, j, e);
    if (rc == 0)
        rc = export_torch(j->out, p.at, p.n, NULL, 0, j->c, e);
    free_pieces(&p);
    return rc;
}

int export_compressed_bin(const export_job *j, err *e)
{
    return write_pieces(add_bin, j, e);
}

int export_compressed_ckpt(const export_job *j, err *e)
{
    return write_pieces(add_ckpt, j, e);
}
