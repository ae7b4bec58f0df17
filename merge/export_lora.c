/* LoRA files. A concept that was taught as factors hands in those. Of any other, W - W0 = up down by a truncated SVD,
 * each matrix for itself, with alpha = --rank, so that a reader's factor alpha/rank is 1; the square root of each
 * singular value goes to either side. In kohya's names, which every user interface reads
 * (lora_unet_..._attn2_to_k.lora_down.weight and .alpha), or in PEFT's (unet....attn2.to_k.lora_A.weight), which have
 * no alpha: there the factor goes into lora_B. */
#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "data/safetensors.h"
#include "merge/export.h"
#include "merge/names.h"
#include "merge/svd.h"
#include "trainer/method/factors.h"

enum { PARTS = 3 };

typedef struct {
    st_tensor *at;
    char **name;
    float **data;
    size_t n;
    const struct layout *as;
    float alpha;
    int rank, most;
    double lost, all; /* |.|^2 of what the rank leaves out, and of everything */
} lora;

typedef struct layout {
    const char *file, *down, *up;
    bool (*module)(char out[NAME_ROOM], const char *weight);
    bool has_alpha;
} layout;
static const layout KOHYA = {"lora.safetensors", "lora_down.weight", "lora_up.weight", names_to_kohya, true};
static const layout PEFT = {"pytorch_lora_weights.safetensors", "lora_A.weight", "lora_B.weight", names_to_peft, false};

static void free_lora(lora *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->name[i]);
        free(l->data[i]);
    }
    free(l->name);
    free(l->data);
    free(l->at);
}

/* Takes data over. dims 0: a scalar. */
static void push(lora *l, const char *module, const char *part, int dims, int64_t a, int64_t b, float *data)
{
    char name[NAME_ROOM + 32];
    snprintf(name, sizeof name, "%s.%s", module, part);
    l->at = mem_grow(l->at, l->n + 1, sizeof *l->at);
    l->name = mem_grow(l->name, l->n + 1, sizeof *l->name);
    l->data = mem_grow(l->data, l->n + 1, sizeof *l->data);
    l->name[l->n] = mem_text(name);
    l->data[l->n] = data;
    l->at[l->n] = (st_tensor){.name = l->name[l->n],
                              .type = F32,
                              .n = dims,
                              .d = {a, b},
                              .count = (uint64_t)(dims ? a * b : 1),
                              .data = data};
    l->n++;
}

int svd_make(svd *out, double *a, int rows, int cols, err *e)
{
    int m = rows < cols ? rows : cols;
    *out = (svd){rows,
                 cols,
                 m,
                 NEW_N(double, (size_t)rows *(size_t)m),
                 NEW_N(double, m),
                 NEW_N(double, (size_t)m *(size_t)cols)};
    if (LAPACKE_dgesdd(LAPACK_ROW_MAJOR, 'S', rows, cols, a, cols, out->sigma, out->u, m, out->vt, cols) == 0)
        return 0;
    svd_free(out);
    return err_set(e, ERR_INPUT, "its singular values do not converge; are there numbers that are not finite?");
}

void svd_free(svd *s)
{
    free(s->u);
    free(s->sigma);
    free(s->vt);
}

/* Takes down [rank, cols] and up [rows, rank]. */
static void push_pair(lora *l, const char *module, float *down, float *up, int64_t rows, int64_t rank, int64_t cols,
                      float alpha)
{
    if (!l->as->has_alpha)
        for (int64_t i = 0; i < rows * rank; i++)
            up[i] *= alpha / (float)rank;
    push(l, module, l->as->down, 2, rank, cols, down);
    push(l, module, l->as->up, 2, rows, rank, up);
    if (l->as->has_alpha)
        push(l, module, "alpha", 0, 0, 0, mem_copy(&alpha, sizeof alpha));
    l->rank = (int)rank;
    l->most = l->rank > l->most ? l->rank : l->most;
    l->alpha = alpha;
}

/* One alpha for all modules, even where ranks differ: diffusers reads one, whatever stands in the file for the others. So
 * lora_up makes up for alpha/rank. */
static void push_factors(lora *l, const char *module, const svd *s, int rank, float alpha)
{
    float *up = NEW_N(float, (size_t)s->rows *(size_t)rank), *down = NEW_N(float, (size_t)rank *(size_t)s->cols);
    for (int r = 0; r < rank; r++) {
        double root = sqrt(s->sigma[r]);
        for (int i = 0; i < s->rows; i++)
            up[(size_t)i * (size_t)rank + (size_t)r] = (float)(root * rank / (double)alpha * s->u[(size_t)i * (size_t)s->m + (size_t)r]);
        for (int j = 0; j < s->cols; j++)
            down[(size_t)r * (size_t)s->cols + (size_t)j] =
                (float)(root * s->vt[(size_t)r * (size_t)s->cols + (size_t)j]);
    }
    for (int r = 0; r < s->m; r++) {
        l->all += s->sigma[r] * s->sigma[r];
        l->lost += r < rank ? 0 : s->sigma[r] * s->sigma[r];
    }
    push_pair(l, module, down, up, s->rows, rank, s->cols, alpha);
}

/* The smallest rank whose rest is at most this share of the whole. */
static int rank_within(const svd *s, double share)
{
    double all = 0, rest = 0;
    int rank = s->m;
    for (int i = 0; i < s->m; i++)
        all += s->sigma[i] * s->sigma[i];
    while (rank > 1 && sqrt(rest + s->sigma[rank - 1] * s->sigma[rank - 1]) <= share * sqrt(all)) {
        rank--;
        rest += s->sigma[rank] * s->sigma[rank];
    }
    return rank;
}

static int add_matrix(lora *l, const concept_tensor *t, const export_job *j, err *e)
{
    const sd *base = j->base;
    size_t count = (size_t)t->rows * (size_t)t->cols;
    float *w0 = NEW_N(float, count);
    double *change = NEW_N(double, count);
    char name[NAME_ROOM], module[NAME_ROOM];
    svd s;
    int rank = j->rank, rc, most = (int)(t->rows < t->cols ? t->rows : t->cols);
    snprintf(name, sizeof name, "unet.%s", t->name);
    rc = sd_file_read(base, name, w0, count, e);
    for (size_t i = 0; rc == 0 && i < count; i++)
        change[i] = (double)t->data[i] - (double)w0[i];
    if (rc == 0)
        rc = svd_make(&s, change, (int)t->rows, (int)t->cols, e);
    if (rc == 0) {
        l->as->module(module, t->name);
        if (j->error > 0)
            rank = rank_within(&s, j->error);
        push_factors(l, module, &s, rank < most ? rank : most, j->error > 0 ? 1 : (float)j->rank);
        svd_free(&s);
    }
    free(w0);
    free(change);
    return rc == 0 ? 0 : err_wrap(e, "%s", t->name);
}

/* A bias has no place in a LoRA. */
static int add_all(lora *l, const export_job *j, err *e)
{
    char module[NAME_ROOM];
    for (int i = 0; i < j->c->n_tensors; i++) {
        const concept_tensor *t = &j->c->tensors[i];
        if (t->cols == 0 || !l->as->module(module, t->name))
            return err_set(e, ERR_INPUT, "%s has no place in a LoRA; --format model takes everything", t->name);
        TRY(add_matrix(l, t, j, e));
    }
    return 0;
}

bool export_has_factors(const concept *c)
{
    factors f;
    for (int i = 0; i < c->n_tensors; i++)
        if (factors_find(&f, c, i))
            return true;
    return false;
}

static int add_given(lora *l, const concept *c, err *e)
{
    factors f;
    for (int i = 0; i < c->n_tensors; i++) {
        char weight[FACTORS_NAME + 8], module[NAME_ROOM];
        if (!factors_find(&f, c, i))
            continue;
        snprintf(weight, sizeof weight, "%s.weight", f.layer);
        if (!l->as->module(module, weight))
            return err_set(e, ERR_INPUT, "%s is too long a name", weight);
        size_t down = (size_t)(f.down->rows * f.down->cols), up = (size_t)(f.up->rows * f.up->cols);
        push_pair(l, module, mem_copy(f.down->data, down * sizeof(float)), mem_copy(f.up->data, up * sizeof(float)),
                  f.up->rows, f.up->cols, f.down->cols, f.alpha);
    }
    return 0;
}

static int write_lora(const lora *l, const export_job *j, err *e)
{
    static const char *const keys[] = {"ss_network_module",
                                       "ss_network_dim",
                                       "ss_network_alpha",
                                       "ss_output_name",
                                       "share_left_out",
                                       "base_fingerprint",
                                       "method",
                                       "recipe",
                                       NULL};
    char path[FS_PATH], rank[16], alpha[32], left_out[32];
    const char *values[5 + EXPORT_PROVENANCE + 1] = {"networks.lora", rank, alpha, "concept", left_out};
    export_provenance_of(j->c, values + 5);
    snprintf(rank, sizeof rank, "%d", l->rank);
    snprintf(alpha, sizeof alpha, "%g", (double)l->alpha);
    snprintf(left_out, sizeof left_out, "%.3g", l->all > 0 ? sqrt(l->lost / l->all) : 0);
    TRY(fs_mkdirs(j->out, e));
    TRY(fs_join(path, j->out, l->as->file, e));
    TRY(st_write(path, l->at, l->n, keys, values, e));
    if (l->all > 0)
        printf(j->error > 0 ? "ranks up to %d leave out %s of the change of the weights\n"
                            : "rank %d leaves out %s of the change of the weights\n",
               j->error > 0 ? l->most : j->rank, left_out);
    return export_tokens(j->c, j->out, false, e);
}

static int export_as(const layout *as, const export_job *j, err *e)
{
    lora l = {.as = as};
    int rc = export_has_factors(j->c) ? add_given(&l, j->c, e) : add_all(&l, j, e);
    if (rc == 0)
        rc = write_lora(&l, j, e);
    free_lora(&l);
    return rc;
}

int export_lora(const export_job *j, err *e)
{
    return export_as(&KOHYA, j, e);
}

int export_peft(const export_job *j, err *e)
{
    return export_as(&PEFT, j, e);
}
