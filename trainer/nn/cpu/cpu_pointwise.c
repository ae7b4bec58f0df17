/* Kernels of sums, products, activations and casts, in order of preference. The loops are cpu_simd_pointwise.h's; here
 * they are cut among threads, and a repeated second source is taken apart into rows. */
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_simd.h"

/* ---- add, sub, mul ----
 * The result is rows of `length` numbers; over one row the second source goes along (as many numbers) or stands still
 * (one number). Which of its rows stands beside row r is told by sizes and steps, the innermost first. */
typedef struct {
    const float *a, *b;
    float *out;
    simd_pair *loop;
    int64_t count, length;
    bool one;
    int outer;
    int64_t size[NN_MAX_DIM], step[NN_MAX_DIM];
} pairing;

static simd_pair *pair_loop(nn_op_id op)
{
    const cpu_simd *s = cpu_simd_best();

    return op == NN_OP_add ? s->add : op == NN_OP_sub ? s->sub : s->mul;
}

/* Dimensions that the second source has are joined with their neighbours, and so are those it lacks. */
static void take_apart(pairing *p, nn_shape whole, nn_shape part)
{
    bool last = false;
    int64_t stride = 1;

    p->length = 0;
    p->one = false;
    p->outer = 0;
    for (int w = whole.n - 1, k = part.n - 1; w >= 0; w--, k--) {
        int64_t d = whole.d[w], have = k >= 0 ? part.d[k] : 1;
        bool there = have == d;
        if (d == 1)
            continue;
        if (p->length == 0) {
            p->length = d;
            p->one = !there;
        } else if (there == last && p->outer == 0) {
            p->length *= d;
        } else if (there == last) {
            p->size[p->outer - 1] *= d;
        } else {
            p->size[p->outer] = d;
            p->step[p->outer++] = there ? stride : 0;
        }
        stride *= have;
        last = there;
    }
    if (p->length == 0)
        p->length = 1;
}

static int64_t row_of(const pairing *p, int64_t r)
{
    int64_t at = 0;

    for (int i = 0; i < p->outer; i++) {
        at += r % p->size[i] * p->step[i];
        r /= p->size[i];
    }
    return at;
}

static void pair_part(const void *arg, int64_t from, int64_t to)
{
    const pairing *p = arg;

    while (from < to) {
        int64_t row = from / p->length, off = from - row * p->length, n = p->length - off;
        const float *b = p->b + row_of(p, row);
        if (n > to - from)
            n = to - from;
        p->loop(p->out + from, p->a + from, p->one ? b : b + off, p->one, n);
        from += n;
    }
}

static int prepare_pair(nn_backend *on, nn_call *c, const bool frozen[], err *e)
{
    (void)on;
    (void)frozen;
    (void)e;
    if (c->sizing)
        return 0;
    pairing *p = NEW(pairing);
    *p = (pairing){.a = c->in[0], .b = c->in[1], .out = c->out, .loop = pair_loop(c->y->op->id),
                   .count = nn_count(c->y->shape)};
    take_apart(p, c->y->shape, c->y->src[1]->shape);
    c->state = p;
    return 0;
}

static int run_pair(nn_backend *on, const nn_call *c)
{
    const pairing *p = c->state;

    (void)on;
    cpu_for(p->count, 1, pair_part, p);
    return 0;
}

static void free_state(nn_call *c)
{
    free(c->state);
}

#define PAIR(NAME)                                                                                           \
    static const nn_kernel rows_##NAME = {.name = "cpu." #NAME ".rows", .takes = cpu_needs_f32, .over = 3,   \
                                          .prepare = prepare_pair, .run = run_pair, .done = free_state};     \
    const nn_kernel *const cpu_##NAME[] = {&rows_##NAME, &cpu_ref_##NAME, NULL};

PAIR(add)
PAIR(sub)
PAIR(mul)

/* ---- scale, activations ---- */

static int run_over(const nn_call *c, int64_t work, cpu_part *part)
{
    cpu_for(nn_count(c->y->shape), work, part, c);
    return 0;
}

static void scale_part(const void *arg, int64_t from, int64_t to)
{
    const nn_call *c = arg;

    cpu_simd_best()->scale((float *)c->out + from, (const float *)c->in[0] + from, c->y->at.scale, to - from);
}

static int run_scale(nn_backend *on, const nn_call *c)
{
    (void)on;
    return run_over(c, 1, scale_part);
}

static const nn_kernel simd_scale = {.name = "cpu.scale.simd", .takes = cpu_needs_f32, .over = 1, .run = run_scale};
const nn_kernel *const cpu_scale[] = {&simd_scale, &cpu_ref_scale, NULL};

enum { ACTIVATION_WORK = 8 }; /* an exponential and a division cost about that many additions */

#define ACTIVATION(NAME)                                                                                     \
    static void NAME##_part(const void *arg, int64_t from, int64_t to)                                       \
    {                                                                                                        \
        const nn_call *c = arg;                                                                              \
                                                                                                             \
        cpu_simd_best()->NAME((float *)c->out + from, (const float *)c->in[0] + from, to - from);            \
    }                                                                                                        \
    static void NAME##_grad_part(const void *arg, int64_t from, int64_t to)                                  \
    {                                                                                                        \
        const nn_call *c = arg;                                                                              \
                                                                                                             \
        cpu_simd_best()->NAME##_grad((float *)c->out + from, (const float *)c->in[0] + from,                 \
                                     (const float *)c->in[1] + from, to - from);                             \
    }                                                                                                        \
    static int run_##NAME(nn_backend *on, const nn_call *c)                                                  \
    {                                                                                                        \
        (void)on;                                                                                            \
        return run_over(c, ACTIVATION_WORK, NAME##_part);                                                    \
    }                                                                                                        \
    static int run_##NAME##_grad(nn_backend *on, const nn_call *c)                                           \
    {                                                                                                        \
        (void)on;                                                                                            \
        return run_over(c, ACTIVATION_WORK, NAME##_grad_part);                                               \
    }                                                                                                        \
    static const nn_kernel simd_##NAME = {                                                                   \
        .name = "cpu." #NAME ".simd", .takes = cpu_needs_f32, .over = 1, .run = run_##NAME};                 \
    static const nn_kernel simd_##NAME##_grad = {                                                            \
        .name = "cpu." #NAME "_grad.simd", .takes = cpu_needs_f32, .over = 3, .run = run_##NAME##_grad};     \
    const nn_kernel *const cpu_##NAME[] = {&simd_##NAME, &cpu_ref_##NAME, NULL};                             \
    const nn_kernel *const cpu_##NAME##_grad[] = {&simd_##NAME##_grad, &cpu_ref_##NAME##_grad, NULL};

ACTIVATION(silu)
ACTIVATION(gelu)
ACTIVATION(quick_gelu)

/* Of singular values only: a few numbers. */
const nn_kernel *const cpu_relu[] = {&cpu_ref_relu, NULL};
const nn_kernel *const cpu_relu_grad[] = {&cpu_ref_relu_grad, NULL};

/* ---- geglu: rows [a | b] -> a gelu(b) ---- */

static int64_t half_of(nn_tensor wide)
{
    return wide->shape.d[wide->shape.n - 1] / 2;
}

static void geglu_part(const void *arg, int64_t from, int64_t to)
{
    const nn_call *c = arg;
    int64_t width = half_of(c->y->src[0]);

    for (int64_t r = from; r < to; r++) {
        const float *a = (const float *)c->in[0] + r * 2 * width;
        cpu_simd_best()->geglu((float *)c->out + r * width, a, a + width, width);
    }
}

static void geglu_grad_part(const void *arg, int64_t from, int64_t to)
{
    const nn_call *c = arg;
    int64_t width = half_of(c->y);

    for (int64_t r = from; r < to; r++) {
        const float *a = (const float *)c->in[0] + r * 2 * width;
        float *da = (float *)c->out + r * 2 * width;
        cpu_simd_best()->geglu_grad(da, da + width, a, a + width, (const float *)c->in[1] + r * width, width);
    }
}

static int run_geglu(nn_backend *on, const nn_call *c)
{
    int64_t width = half_of(c->y->src[0]);

    (void)on;
    cpu_for(nn_count(c->y->shape) / width, ACTIVATION_WORK * width, geglu_part, c);
    return 0;
}

static int run_geglu_grad(nn_backend *on, const nn_call *c)
{
    int64_t width = half_of(c->y);

    (void)on;
    cpu_for(nn_count(c->y->shape) / (2 * width), ACTIVATION_WORK * width, geglu_grad_part, c);
    return 0;
}

static const nn_kernel simd_geglu = {.name = "cpu.geglu.simd", .takes = cpu_needs_f32, .run = run_geglu};
static const nn_kernel simd_geglu_grad = {
    .name = "cpu.geglu_grad.simd", .takes = cpu_needs_f32, .over = 1, .run = run_geglu_grad};
const nn_kernel *const cpu_geglu[] = {&simd_geglu, &cpu_ref_geglu, NULL};
const nn_kernel *const cpu_geglu_grad[] = {&simd_geglu_grad, &cpu_ref_geglu_grad, NULL};

/* ---- cast from or into f32 ---- */

static void cast_part(const void *arg, int64_t from, int64_t to)
{
    const nn_call *c = arg;
    dtype source = c->y->src[0]->type, type = c->y->type;
    const char *x = (const char *)c->in[0] + (size_t)from * dtype_bytes(source);
    char *out = (char *)c->out + (size_t)from * dtype_bytes(type);

    if (type == F32)
        f32_from((float *)(void *)out, x, source, (size_t)(to - from));
    else
        f32_into(out, type, (const float *)(const void *)x, (size_t)(to - from));
}

static const char *one_side_f32(const struct nn_node *y)
{
    return y->type == F32 || y->src[0]->type == F32 ? NULL : "needs f32 on one side";
}

static int run_cast(nn_backend *on, const nn_call *c)
{
    (void)on;
    return run_over(c, 1, cast_part);
}

static const nn_kernel split_cast = {.name = "cpu.cast.split", .takes = one_side_f32, .run = run_cast};
const nn_kernel *const cpu_cast[] = {&split_cast, &cpu_ref_cast, NULL};
