/* The meaning of conv2d and its two gradients: every pair (output pixel, tap) that meets inside the map, each adding
 * to sums in double. */
#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_shapes.h"

/* Row and column of x that output pixel (i, j) reads through tap (r, s); false outside the map. */
static bool meets(const conv_shape *v, int64_t i, int64_t j, int64_t r, int64_t s, int64_t at[2])
{
    at[0] = i * v->stride + r - v->top;
    at[1] = j * v->stride + s - v->left;
    return at[0] >= 0 && at[0] < v->h && at[1] >= 0 && at[1] < v->w;
}

static double dot(const float *a, int64_t step_a, const float *b, int64_t step_b, int64_t n)
{
    double sum = 0.0;

    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i * step_a] * (double)b[i * step_b];
    return sum;
}

static int run_forward(nn_backend *on, const nn_call *call)
{
    const conv_shape v = conv_shape_of(call->y);
    const float *x = call->in[0], *w = call->in[1], *bias = call->in[2];
    float *y = call->out;
    int64_t at[2];

    (void)on;
    for (int64_t n = 0; n < v.n; n++)
        for (int64_t i = 0; i < v.oh; i++)
            for (int64_t j = 0; j < v.ow; j++)
                for (int64_t o = 0; o < v.o; o++) {
                    double sum = bias ? (double)bias[o] : 0.0;
                    for (int64_t r = 0; r < v.kh; r++)
                        for (int64_t s = 0; s < v.kw; s++)
                            if (meets(&v, i, j, r, s, at))
                                sum += dot(x + ((n * v.h + at[0]) * v.w + at[1]) * v.c, 1,
                                           w + ((o * v.kh + r) * v.kw + s) * v.c, 1, v.c);
                    y[((n * v.oh + i) * v.ow + j) * v.o + o] = (float)sum;
                }
    return 0;
}

/* The output pixel along one axis that reads x position `at` through tap t, or -1. */
static int64_t reader(int64_t at, int64_t t, int64_t before, int64_t stride, int64_t out)
{
    int64_t far = at + before - t;

    return far < 0 || far % stride != 0 || far / stride >= out ? -1 : far / stride;
}

static int run_grad_x(nn_backend *on, const nn_call *call)
{
    const conv_shape v = conv_shape_of(call->y);
    const float *dy = call->in[0], *w = call->in[1];
    float *dx = call->out;

    (void)on;
    for (int64_t n = 0; n < v.n; n++)
        for (int64_t h = 0; h < v.h; h++)
            for (int64_t l = 0; l < v.w; l++)
                for (int64_t c = 0; c < v.c; c++) {
                    double sum = 0.0;
                    for (int64_t r = 0; r < v.kh; r++)
                        for (int64_t s = 0; s < v.kw; s++) {
                            int64_t i = reader(h, r, v.top, v.stride, v.oh), j = reader(l, s, v.left, v.stride, v.ow);
                            if (i >= 0 && j >= 0)
                                sum += dot(dy + ((n * v.oh + i) * v.ow + j) * v.o, 1, w + (r * v.kw + s) * v.c + c,
                                           v.kh * v.kw * v.c, v.o);
                        }
                    dx[((n * v.h + h) * v.w + l) * v.c + c] = (float)sum;
                }
    return 0;
}

static int run_grad_w(nn_backend *on, const nn_call *call)
{
    const conv_shape v = conv_shape_of(call->y);
    const float *x = call->in[0], *dy = call->in[1];
    float *dw = call->out;
    int64_t at[2];

    (void)on;
    for (int64_t o = 0; o < v.o; o++)
        for (int64_t r = 0; r < v.kh; r++)
            for (int64_t s = 0; s < v.kw; s++)
                for (int64_t c = 0; c < v.c; c++) {
                    double sum = 0.0;
                    for (int64_t n = 0; n < v.n; n++)
                        for (int64_t i = 0; i < v.oh; i++)
                            for (int64_t j = 0; j < v.ow; j++)
                                if (meets(&v, i, j, r, s, at))
                                    sum += (double)x[((n * v.h + at[0]) * v.w + at[1]) * v.c + c]
                                           * (double)dy[((n * v.oh + i) * v.ow + j) * v.o + o];
                    dw[((o * v.kh + r) * v.kw + s) * v.c + c] = (float)sum;
                }
    return 0;
}

const nn_kernel cpu_ref_conv2d = {.name = "cpu.conv2d.ref", .takes = cpu_needs_f32, .run = run_forward};
const nn_kernel cpu_ref_conv2d_grad_x = {.name = "cpu.conv2d_grad_x.ref", .takes = cpu_needs_f32, .run = run_grad_x};
const nn_kernel cpu_ref_conv2d_grad_w = {.name = "cpu.conv2d_grad_w.ref", .takes = cpu_needs_f32, .run = run_grad_w};
