/* The meaning of the pointwise operations. */
#include <math.h>

#include "trainer/nn/cpu/cpu.h"

#define BINARY(NAME, SIGN)                                                                                   \
    static int run_##NAME(nn_backend *b, const nn_call *c)                                                   \
    {                                                                                                        \
        const nn_shape whole = c->y->shape, part = c->y->src[1]->shape;                                      \
        const int64_t n = nn_count(whole);                                                                   \
        const float *p = c->in[0], *q = c->in[1];                                                            \
        float *out = c->out;                                                                                 \
                                                                                                             \
        (void)b;                                                                                             \
        for (int64_t i = 0; i < n; i++)                                                                      \
            out[i] = p[i] SIGN q[cpu_place(i, &whole, &part)];                                               \
        return 0;                                                                                            \
    }                                                                                                        \
    const nn_kernel cpu_ref_##NAME = {                                                                       \
        .name = "cpu." #NAME ".ref", .takes = cpu_needs_f32, .over = 3, .run = run_##NAME};

BINARY(add, +)
BINARY(sub, -)
BINARY(mul, *)

static int run_scale(nn_backend *b, const nn_call *c)
{
    const int64_t n = nn_count(c->y->shape);
    const float *x = c->in[0];
    float *out = c->out;

    (void)b;
    for (int64_t i = 0; i < n; i++)
        out[i] = x[i] * c->y->at.scale;
    return 0;
}

const nn_kernel cpu_ref_scale = {.name = "cpu.scale.ref", .takes = cpu_needs_f32, .over = 1, .run = run_scale};

/* ---- activations, in double so that they are good to the last bit ---- */

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

/* The normal distribution function and its density. */
static double phi_sum(double x)
{
    return 0.5 * (1.0 + erf(x * sqrt(0.5)));
}

static double phi(double x)
{
    return exp(-0.5 * x * x) * 0.3989422804014327; /* 1 / sqrt(2 pi) */
}

static double silu(double x)
{
    return x * sigmoid(x);
}

static double silu_slope(double x)
{
    double s = sigmoid(x);

    return s + x * s * (1.0 - s);
}

static double gelu(double x)
{
    return x * phi_sum(x);
}

static double gelu_slope(double x)
{
    return phi_sum(x) + x * phi(x);
}

static double quick_gelu(double x)
{
    return x * sigmoid(1.702 * x);
}

static double quick_gelu_slope(double x)
{
    double s = sigmoid(1.702 * x);

    return s + 1.702 * x * s * (1.0 - s);
}

static double relu(double x)
{
    return x > 0 ? x : 0;
}

static double relu_slope(double x)
{
    return x > 0 ? 1 : 0;
}

#define ACTIVATION(NAME)                                                                                     \
    static int run_##NAME(nn_backend *b, const nn_call *c)                                                   \
    {                                                                                                        \
        const int64_t n = nn_count(c->y->shape);                                                             \
        const float *x = c->in[0];                                                                           \
        float *out = c->out;                                                                                 \
                                                                                                             \
        (void)b;                                                                                             \
        for (int64_t i = 0; i < n; i++)                                                                      \
            out[i] = (float)NAME((double)x[i]);                                                              \
        return 0;                                                                                            \
    }                                                                                                        \
    static int run_##NAME##_grad(nn_backend *b, const nn_call *c)                                            \
    {                                                                                                        \
        const int64_t n = nn_count(c->y->shape);                                                             \
        const float *x = c->in[0], *dy = c->in[1];                                                           \
        float *out = c->out;                                                                                 \
                                                                                                             \
        (void)b;                                                                                             \
        for (int64_t i = 0; i < n; i++)                                                                      \
            out[i] = (float)((double)dy[i] * NAME##_slope((double)x[i]));                                    \
        return 0;                                                                                            \
    }                                                                                                        \
    const nn_kernel cpu_ref_##NAME = {                                                                       \
        .name = "cpu." #NAME ".ref", .takes = cpu_needs_f32, .over = 1, .run = run_##NAME};                  \
    const nn_kernel cpu_ref_##NAME##_grad = {                                                                \
        .name = "cpu." #NAME "_grad.ref", .takes = cpu_needs_f32, .over = 3, .run = run_##NAME##_grad};

ACTIVATION(silu)
ACTIVATION(gelu)
ACTIVATION(quick_gelu)
ACTIVATION(relu)

/* ---- geglu: rows [a | b] -> a gelu(b) ---- */

static int run_geglu(nn_backend *on, const nn_call *c)
{
    int64_t width = c->y->shape.d[c->y->shape.n - 1], rows = nn_count(c->y->shape) / width;
    float *out = c->out;

    (void)on;
    for (int64_t r = 0; r < rows; r++) {
        const float *a = (const float *)c->in[0] + r * 2 * width, *b = a + width;
        for (int64_t i = 0; i < width; i++)
            out[r * width + i] = (float)((double)a[i] * gelu((double)b[i]));
    }
    return 0;
}

/* da = dy gelu(b), db = dy a gelu'(b) */
static int run_geglu_grad(nn_backend *on, const nn_call *c)
{
    int64_t width = c->y->shape.d[c->y->shape.n - 1] / 2, rows = nn_count(c->y->shape) / (2 * width);

    (void)on;
    for (int64_t r = 0; r < rows; r++) {
        const float *a = (const float *)c->in[0] + r * 2 * width, *b = a + width;
        const float *dy = (const float *)c->in[1] + r * width;
        float *da = (float *)c->out + r * 2 * width, *db = da + width;
        for (int64_t i = 0; i < width; i++) {
            double ai = (double)a[i], bi = (double)b[i];
            da[i] = (float)((double)dy[i] * gelu(bi));
            db[i] = (float)((double)dy[i] * ai * gelu_slope(bi));
        }
    }
    return 0;
}

const nn_kernel cpu_ref_geglu = {.name = "cpu.geglu.ref", .takes = cpu_needs_f32, .run = run_geglu};
const nn_kernel cpu_ref_geglu_grad = {
    .name = "cpu.geglu_grad.ref", .takes = cpu_needs_f32, .over = 1, .run = run_geglu_grad};

/* ---- cast ---- */

static int run_cast(nn_backend *b, const nn_call *c)
{
    nn_tensor x = c->y->src[0];
    size_t from = dtype_bytes(x->type), to = dtype_bytes(c->y->type);

    (void)b;
    for (size_t i = 0; i < (size_t)nn_count(c->y->shape); i++) {
        float v;
        f32_from(&v, (const char *)c->in[0] + i * from, x->type, 1);
        f32_into((char *)c->out + i * to, c->y->type, &v, 1);
    }
    return 0;
}

const nn_kernel cpu_ref_cast = {.name = "cpu.cast.ref", .run = run_cast};
