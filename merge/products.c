#include "merge/products.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "merge/names.h"

typedef enum { U, V, PIECES } piece;
typedef struct {
    char *name;
    float *at[PIECES];
    int64_t rows[PIECES], cols[PIECES];
} product;

struct products {
    const sd *base;
    product *list;
    size_t n;
};

products *products_new(const sd *base)
{
    products *p = NEW(products);
    p->base = base;
    return p;
}

void products_free(products *p)
{
    for (size_t i = 0; p && i < p->n; i++) {
        free(p->list[i].name);
        free(p->list[i].at[U]);
        free(p->list[i].at[V]);
    }
    if (p)
        free(p->list);
    free(p);
}

static product *product_of(products *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++)
        if (strcmp(p->list[i].name, name) == 0)
            return &p->list[i];
    p->list = mem_grow(p->list, p->n + 1, sizeof *p->list);
    p->list[p->n] = (product){.name = mem_text(name)};
    return &p->list[p->n++];
}

int products_put(products *p, const char *name, bool is_u, const st_tensor *t, err *e)
{
    product *x = product_of(p, name);
    piece k = is_u ? U : V;
    if (x->at[k])
        return err_set(e, ERR_INPUT, "%s is there twice", t->name);
    if (t->n != 2)
        return err_set(e, ERR_SHAPE, "%s is not a matrix", t->name);
    x->at[k] = NEW_N(float, t->count + 1);
    f32_from(x->at[k], t->data, t->type, (size_t)t->count);
    x->rows[k] = t->d[0];
    x->cols[k] = t->d[1];
    return 0;
}

static int check(const product *x, nn_shape s, err *e)
{
    if (!x->at[U] || !x->at[V])
        return err_set(e, ERR_INPUT, "%s has one of its two factors only", x->name);
    if (s.n != 2 || x->cols[U] != x->rows[V] || x->rows[U] != s.d[0] || x->cols[V] != s.d[1])
        return err_set(e, ERR_SHAPE, "%s: factors [%lld,%lld] and [%lld,%lld] do not make the base's matrix", x->name,
                       (long long)x->rows[U], (long long)x->cols[U], (long long)x->rows[V], (long long)x->cols[V]);
    return 0;
}

/* w += u v, summed in double */
static void multiply(float *w, const product *x)
{
    int64_t rank = x->rows[V], cols = x->cols[V];
    double *sum = NEW_N(double, cols);
    for (int64_t i = 0; i < x->rows[U]; i++) {
        memset(sum, 0, (size_t)cols * sizeof *sum);
        for (int64_t r = 0; r < rank; r++)
            for (int64_t j = 0; j < cols; j++)
                sum[j] += (double)x->at[U][i * rank + r] * (double)x->at[V][r * cols + j];
        for (int64_t j = 0; j < cols; j++)
            w[i * cols + j] = (float)((double)w[i * cols + j] + sum[j]);
    }
    free(sum);
}

static int finish_one(const products *p, const product *x, concept *out, err *e)
{
    char full[NAME_ROOM];
    nn_shape s;
    concept_tensor *t;
    snprintf(full, sizeof full, "unet.%.400s", x->name);
    TRY(sd_file_shape(p->base, full, &s, e));
    TRY(check(x, s, e));
    t = concept_add_tensor(out, x->name, s.d[0], s.d[1], NULL);
    TRY(sd_file_read(p->base, full, t->data, (size_t)nn_count(s), e));
    multiply(t->data, x);
    out->width = (int)s.d[1];
    return 0;
}

int products_finish(products *p, concept *out, err *e)
{
    for (size_t i = 0; i < p->n; i++)
        TRY(finish_one(p, &p->list[i], out, e));
    return 0;
}
