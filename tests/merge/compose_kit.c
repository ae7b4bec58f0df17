/* Cards and captions' features of a world of a few numbers. */
#include "tests/merge/compose_kit.h"

#include <math.h>
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"

const char *const names[MATRICES] = {"a.attn2.to_k.weight", "a.attn2.to_v.weight", "b.attn2.to_k.weight"};
const char *const files[MOST] = {"/x/1.h5", "/x/2.h5", "/x/3.h5", "/x/4.h5", "/x/5.h5",
                                        "/x/6.h5", "/x/7.h5", "/x/8.h5", "/x/9.h5"};

float *normals(const char *purpose, uint32_t which, size_t n, float scale)
{
    float *x = NEW_N(float, n);
    rng_normal_fill(rng_open(11, purpose, which, 0), x, n);
    for (size_t i = 0; i < n; i++)
        x[i] *= scale;
    return x;
}

static concept_matrix *matrices(void)
{
    concept_matrix *m = NEW_N(concept_matrix, MATRICES);
    for (int i = 0; i < MATRICES; i++)
        m[i] = (concept_matrix){mem_text(names[i]), OUT};
    return m;
}

/* A base whose captions are n random rows and whose matrices have rows of length about 1. */
features make_base(int n)
{
    features f = {.base = "base",
                  .captions = "captions",
                  .width = D,
                  .n_keep = n,
                  .matrices = MATRICES,
                  .bos = normals("bos", 0, D, 1),
                  .keep_norm = NEW_N(double, MATRICES),
                  .held_norm = NEW_N(double, MATRICES)};
    float *rows = normals("captions", 0, (size_t)n * D, 1);
    f.matrix = matrices();
    for (int i = 0; i < MATRICES; i++)
        f.keep_norm[i] = sqrt((double)n * OUT);
    assert_int_equal(lsq_factor_new(&f.keep, D, NULL), 0);
    assert_int_equal(lsq_factor_add(&f.keep, rows, n, NULL), 0);
    assert_int_equal(lsq_factor_judge(&f.keep, NULL), 0);
    free(rows);
    return f;
}

/* A concept whose word `id` has ROWS random features and whose matrices moved by `scale`. */
concept make_concept(const features *f, uint32_t id, const char *word, float scale)
{
    concept c = {.base = mem_text("base"), .method = mem_text("custom-diffusion"), .width = D};
    float *row = normals("token", id, D, 1);
    concept_add_token(&c, word, "cat", 42170, row);
    free(row);
    c.card = (concept_card){.n = ROWS,
                            .width = D,
                            .matrices = MATRICES,
                            .outs = MATRICES * OUT,
                            .matrix = matrices(),
                            .row = NEW_N(concept_row, ROWS),
                            .bos = mem_copy(f->bos, D * sizeof(float)),
                            .k = normals("k", id, ROWS * D, 1),
                            .image = normals("image", id, ROWS * MATRICES * OUT, scale)};
    for (int i = 0; i < ROWS; i++) {
        char text[64];
        snprintf(text, sizeof text, "49406 %s%.*s", word, 2 * i, " 1 2 3");
        c.card.row[i] = (concept_row){mem_text(text), mem_text(text), sqrt((double)D * MATRICES * OUT)};
    }
    return c;
}

void free_all(concept *c, int n)
{
    for (int i = 0; i < n; i++)
        concept_free(&c[i]);
}

/* What the merged update makes of a row: left' (right k)  [MATRICES OUT] */
void say(double *out, const concept *merged, const float *k)
{
    const concept_factors *f = &merged->factors;
    for (int o = 0; o < MATRICES * OUT; o++)
        out[o] = 0;
    for (int r = 0; r < f->rank; r++) {
        double at = 0;
        for (int j = 0; j < D; j++)
            at += f->right[r * D + j] * (double)k[j];
        for (int o = 0; o < MATRICES * OUT; o++)
            out[o] += at * (double)f->left[r * f->outs + o];
    }
}

double distance_to(const concept *merged, const concept *c, int row)
{
    double out[MATRICES * OUT], sum = 0;
    say(out, merged, c->card.k + row * D);
    for (int o = 0; o < MATRICES * OUT; o++) {
        double d = out[o] - (double)c->card.image[row * MATRICES * OUT + o];
        sum += d * d;
    }
    return sqrt(sum);
}
