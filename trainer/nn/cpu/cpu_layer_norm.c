/* Layer norm and its gradients (formulas: op/norm.c): every row stands alone, so rows are shared out as they come. Only
 * the sums over rows need an order of their own: pieces of a fixed number of rows, added up in double. */
#include <string.h>

#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_shapes.h"
#include "trainer/nn/cpu/cpu_simd.h"

enum { LAYER_ROWS = 32 };    /* rows of a piece */

typedef struct { norm_shape s; const nn_call *c; const cpu_simd *simd; } layer_job;

static layer_job layer(const nn_call *c)
{
    return (layer_job){norm_shape_of(c->y), c, cpu_simd_best()};
}

static void layer_part(const void *arg, int64_t from, int64_t to)
{
    const layer_job *j = arg;
    const float *x = j->c->in[0];
    float *y = j->c->out;

    j->simd->layer_norm(y + from * j->s.c, x + from * j->s.c, j->c->in[1], j->c->in[2], to - from, j->s.c, j->s.eps);
}

static int run_layer_norm(nn_backend *on, const nn_call *c)
{
    const layer_job j = layer(c);

    (void)on;
    cpu_for(j.s.samples, 3 * j.s.c, layer_part, &j);
    return 0;
}

static void layer_grad_part(const void *arg, int64_t from, int64_t to)
{
    const layer_job *j = arg;
    const float *x = j->c->in[0], *dy = j->c->in[2];
    int64_t at = from * j->s.c;

    j->simd->layer_norm_grad_x((float *)j->c->out + at, x + at, j->c->in[1], dy + at, to - from, j->s.c, j->s.eps);
}

static int run_layer_norm_grad_x(nn_backend *on, const nn_call *c)
{
    const layer_job j = layer(c);

    (void)on;
    cpu_for(j.s.samples, 4 * j.s.c, layer_grad_part, &j);
    return 0;
}

static int64_t layer_pieces(const norm_shape *s)
{
    return (s->samples + LAYER_ROWS - 1) / LAYER_ROWS;
}

/* Each piece of LAYER_ROWS rows sums into its own [2][c] of scratch. */
static void layer_grad_w_part(const void *arg, int64_t from, int64_t to)
{
    const layer_job *j = arg;
    const int64_t c = j->s.c;
    const float *x = j->c->in[0], *dy = j->c->in[1];

    for (int64_t k = from; k < to; k++) {
        int64_t first = k * LAYER_ROWS, rows = j->s.samples - first < LAYER_ROWS ? j->s.samples - first : LAYER_ROWS;
        float *dw = (float *)j->c->scratch + 2 * k * c;
        memset(dw, 0, 2 * (size_t)c * sizeof *dw);
        j->simd->layer_norm_grad_w(dw, dw + c, x + first * c, dy + first * c, rows, c, j->s.eps);
    }
}

static int run_layer_norm_grad_w(nn_backend *on, const nn_call *c)
{
    const layer_job j = layer(c);
    int64_t pieces = layer_pieces(&j.s), wide = 2 * j.s.c;
    const float *part = c->scratch;

    (void)on;
    cpu_for(pieces, 4 * LAYER_ROWS * j.s.c, layer_grad_w_part, &j);
    for (int64_t i = 0; i < wide; i++) {
        double sum = 0.0;
        for (int64_t k = 0; k < pieces; k++)
            sum += (double)part[k * wide + i];
        ((float *)c->out)[i] = (float)sum;
    }
    return 0;
}

static int prepare_layer_w(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    norm_shape s = norm_shape_of(c->y);

    (void)on, (void)frozen, (void)e;
    c->scratch_bytes = (size_t)(layer_pieces(&s) * 2 * s.c) * sizeof(float);
    return 0;
}

/* Results may lie over x, and dx over x or dy: every number of a row is read before what takes its place is written. */
#define KERNEL(NAME, OVER, PREPARE)                                                                          \
    static const nn_kernel NAME = {.name = "cpu." #NAME ".rows", .over = (OVER), .takes = cpu_needs_f32,     \
                                   .prepare = PREPARE, .run = run_##NAME};                                   \
    const nn_kernel *const cpu_##NAME[] = {&NAME, &cpu_ref_##NAME, NULL};

KERNEL(layer_norm, 1, NULL)
KERNEL(layer_norm_grad_x, 1 | 4, NULL)
KERNEL(layer_norm_grad_w, 0, prepare_layer_w)
