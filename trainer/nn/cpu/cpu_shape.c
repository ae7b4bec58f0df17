/* Kernels of copies, in order of preference: those of the reference, cut among threads by rows. */
#include <string.h>

#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_simd.h"

/* A source's part of each row of a result. */
typedef struct {
    char *to;
    const char *from;
    size_t to_step, from_step, bytes;
} rows;

static void rows_part(const void *arg, int64_t from, int64_t to)
{
    const rows *r = arg;

    for (int64_t i = from; i < to; i++)
        memcpy(r->to + (size_t)i * r->to_step, r->from + (size_t)i * r->from_step, r->bytes);
}

static void copy_rows(const rows *r, int64_t n)
{
    cpu_for(n, (int64_t)(r->bytes / sizeof(float)), rows_part, r);
}

static int64_t before(nn_shape s, int dim)
{
    int64_t n = 1;

    for (int i = 0; i < dim; i++)
        n *= s.d[i];
    return n;
}

static int run_slice(nn_backend *on, const nn_call *c)
{
    nn_tensor x = c->y->src[0];
    int64_t n = before(x->shape, c->y->at.part.dim);
    size_t whole = (size_t)(nn_bytes(x) / n), part = (size_t)(nn_bytes(c->y) / n);
    size_t from = whole / (size_t)x->shape.d[c->y->at.part.dim] * (size_t)c->y->at.part.from;

    (void)on;
    copy_rows(&(rows){c->out, (const char *)c->in[0] + from, part, whole, part}, n);
    return 0;
}

static int run_concat(nn_backend *on, const nn_call *c)
{
    int64_t n = before(c->y->shape, c->y->shape.n - 1);
    size_t whole = (size_t)(nn_bytes(c->y) / n), a = (size_t)(nn_bytes(c->y->src[0]) / n);

    (void)on;
    copy_rows(&(rows){c->out, c->in[0], whole, a, a}, n);
    copy_rows(&(rows){(char *)c->out + a, c->in[1], whole, whole - a, whole - a}, n);
    return 0;
}

/* ---- upsample, a row of pixels at a time ---- */

static void upsample_part(const void *arg, int64_t from, int64_t to)
{
    const nn_call *c = arg;
    nn_shape x = c->y->src[0]->shape, y = c->y->shape;
    size_t pixel = (size_t)x.d[3] * dtype_bytes(c->y->type);

    for (int64_t r = from; r < to; r++) {
        int64_t source = r / y.d[1] * x.d[1] + r % y.d[1] * x.d[1] / y.d[1];
        const char *in = (const char *)c->in[0] + (size_t)(source * x.d[2]) * pixel;
        char *out = (char *)c->out + (size_t)(r * y.d[2]) * pixel;
        for (int64_t j = 0; j < y.d[2]; j++)
            memcpy(out + (size_t)j * pixel, in + (size_t)(j * x.d[2] / y.d[2]) * pixel, pixel);
    }
}

static int run_upsample(nn_backend *on, const nn_call *c)
{
    nn_shape y = c->y->shape;

    (void)on;
    cpu_for(y.d[0] * y.d[1], y.d[2] * y.d[3], upsample_part, c);
    return 0;
}

/* The first row or column of y that is copied from i, of `small` become `large`: ceil(i large / small). */
static int64_t first_of(int64_t i, int64_t small, int64_t large)
{
    return (i * large + small - 1) / small;
}

/* Row i of dx gathers the rows of dy that were copied from it. */
static void gather_row(const nn_call *c, int64_t row)
{
    nn_shape x = c->y->shape, y = c->y->src[0]->shape;
    int64_t n = row / x.d[1], i = row % x.d[1], channels = x.d[3];
    float *dx = (float *)c->out + row * x.d[2] * channels;

    memset(dx, 0, (size_t)(x.d[2] * channels) * sizeof *dx);
    for (int64_t r = first_of(i, x.d[1], y.d[1]); r < first_of(i + 1, x.d[1], y.d[1]); r++)
        for (int64_t j = 0; j < y.d[2]; j++) {
            float *to = dx + j * x.d[2] / y.d[2] * channels;
            const float *dy = (const float *)c->in[0] + ((n * y.d[1] + r) * y.d[2] + j) * channels;
            cpu_simd_best()->add(to, to, dy, false, channels);
        }
}

static void gather_part(const void *arg, int64_t from, int64_t to)
{
    for (int64_t row = from; row < to; row++)
        gather_row(arg, row);
}

static int run_upsample_grad(nn_backend *on, const nn_call *c)
{
    nn_shape x = c->y->shape;
    int64_t rows_of_x = x.d[0] * x.d[1];

    (void)on;
    cpu_for(rows_of_x, nn_count(c->y->src[0]->shape) / rows_of_x + 1, gather_part, c);
    return 0;
}

static const nn_kernel rows_slice = {.name = "cpu.slice.rows", .run = run_slice};
static const nn_kernel rows_concat = {.name = "cpu.concat.rows", .run = run_concat};
static const nn_kernel rows_upsample = {.name = "cpu.upsample.rows", .run = run_upsample};
static const nn_kernel rows_upsample_grad = {
    .name = "cpu.upsample_grad.rows", .takes = cpu_needs_f32, .run = run_upsample_grad};

const nn_kernel *const cpu_zero_rows[] = {&cpu_ref_zero_rows, NULL};
const nn_kernel *const cpu_slice[] = {&rows_slice, &cpu_ref_slice, NULL};
const nn_kernel *const cpu_pad[] = {&cpu_ref_pad, NULL};
const nn_kernel *const cpu_concat[] = {&rows_concat, &cpu_ref_concat, NULL};
const nn_kernel *const cpu_upsample[] = {&rows_upsample, &cpu_ref_upsample, NULL};
const nn_kernel *const cpu_upsample_grad[] = {&rows_upsample_grad, &cpu_ref_upsample_grad, NULL};
