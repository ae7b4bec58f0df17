/* Every preferred CPU kernel of products, convolutions, norms and attention against its reference, forward and
 * gradient, at shapes with tails, and against itself with another number of threads: "a kernel means what its
 * reference means" and "threads do not change a bit". */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "trainer/nn/cpu/cpu_simd.h"
#include "trainer/nn/plan.h"

enum {
    MOST = 4,            /* sources of an operation */
    REFERENCE = 100,     /* passes over all others */
};

typedef struct {
    const char *name;
    nn_tensor (*write)(nn_graph *g, nn_tensor const s[], const int at[]);
    int at[8];           /* the operation's own numbers */
    nn_shape s[MOST];    /* its sources; n 0 ends them */
} row;

#define S(...) {(int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)), {__VA_ARGS__}}

static nn_tensor do_matmul(nn_graph *g, nn_tensor const s[], const int at[])
{
    return nn_matmul(g, s[0], s[1], at[0], at[1]);
}

static nn_tensor do_linear(nn_graph *g, nn_tensor const s[], const int at[])
{
    (void)at;
    return nn_linear(g, s[0], s[1], s[2]);
}

static nn_tensor do_conv(nn_graph *g, nn_tensor const s[], const int at[])
{
    return nn_conv2d(g, s[0], s[1], s[2], (nn_conv){at[0], {at[1], at[2], at[3], at[4]}});
}

static nn_tensor do_group(nn_graph *g, nn_tensor const s[], const int at[])
{
    return nn_group_norm(g, s[0], s[1], s[2], at[0], 1e-5f);
}

static nn_tensor do_layer(nn_graph *g, nn_tensor const s[], const int at[])
{
    (void)at;
    return nn_layer_norm(g, s[0], s[1], s[2], 1e-5f);
}

static nn_tensor do_attention(nn_graph *g, nn_tensor const s[], const int at[])
{
    return nn_attention(g, s[0], s[1], s[2], at[0], at[1]);
}

static const row table[] = {
    {"matmul", do_matmul, {0, 0}, {S(5, 7), S(7, 3)}},
    {"matmul, left turned", do_matmul, {1, 0}, {S(7, 5), S(7, 33)}},
    {"matmul, right turned", do_matmul, {0, 1}, {S(130, 70), S(47, 70)}},
    {"matmul, both turned", do_matmul, {1, 1}, {S(19, 65), S(48, 19)}},
    {"matmul, one row, one column", do_matmul, {0, 0}, {S(1, 300), S(300, 1)}},
    {"matmul, one term", do_matmul, {0, 0}, {S(17, 1), S(1, 40)}},
    {"matmul, batch of 3", do_matmul, {0, 1}, {S(3, 9, 20), S(3, 31, 20)}},
    {"matmul, batch of 2, left turned", do_matmul, {1, 0}, {S(2, 20, 9), S(2, 20, 129)}},
    {"matmul, wide", do_matmul, {0, 0}, {S(70, 320), S(320, 320)}},
    {"linear on words", do_linear, {0}, {S(2, 11, 48), S(100, 48), S(100)}},
    {"linear, two rows", do_linear, {0}, {S(2, 30), S(120, 30), S(120)}},
    {"linear, wide", do_linear, {0}, {S(2, 33, 320), S(160, 320), S(160)}},
    {"matmul, one tall sum", do_matmul, {1, 0}, {S(4096, 20), S(4096, 17)}},
    {"conv 3x3", do_conv, {1, 1, 1, 1, 1}, {S(2, 8, 8, 8), S(8, 3, 3, 8), S(8)}},
    {"conv 3x3, odd channels and sizes", do_conv, {1, 1, 1, 1, 1}, {S(3, 5, 7, 10), S(20, 3, 3, 10), S(20)}},
    {"conv 3x3, from 4 to 30", do_conv, {1, 1, 1, 1, 1}, {S(1, 9, 6, 4), S(30, 3, 3, 4), S(30)}},
    {"conv 3x3, to 3", do_conv, {1, 1, 1, 1, 1}, {S(1, 16, 16, 8), S(3, 3, 3, 8), S(3)}},
    {"conv 1x1", do_conv, {1, 0, 0, 0, 0}, {S(2, 6, 5, 24), S(17, 1, 1, 24), S(17)}},
    {"conv 1x1, stride 2", do_conv, {2, 0, 0, 0, 0}, {S(2, 7, 6, 9), S(16, 1, 1, 9), S(16)}},
    {"conv 3x3, stride 2, odd", do_conv, {2, 1, 1, 1, 1}, {S(2, 7, 9, 10), S(10, 3, 3, 10), S(10)}},
    {"conv 3x3, stride 2, even", do_conv, {2, 1, 1, 1, 1}, {S(2, 8, 8, 16), S(16, 3, 3, 16), S(16)}},
    {"conv 3x3, stride 2, padded right and bottom", do_conv, {2, 0, 0, 1, 1}, {S(1, 8, 12, 8), S(12, 3, 3, 8), S(12)}},
    {"conv 3x3, stride 2, no padding", do_conv, {2, 0, 0, 0, 0}, {S(1, 9, 12, 8), S(12, 3, 3, 8), S(12)}},
    {"conv 3x3, one pixel", do_conv, {1, 1, 1, 1, 1}, {S(2, 1, 1, 30), S(10, 3, 3, 30), S(10)}},
    {"conv 2x5, uneven padding", do_conv, {1, 0, 3, 1, 1}, {S(1, 6, 4, 3), S(5, 2, 5, 3), S(5)}},
    {"conv 5x5, stride 3", do_conv, {3, 2, 2, 2, 2}, {S(1, 11, 10, 6), S(18, 5, 5, 6), S(18)}},
    {"conv 1x1, padded past the kernel", do_conv, {1, 1, 1, 1, 1}, {S(1, 3, 3, 4), S(6, 1, 1, 4), S(6)}},
    {"conv 3x3, no bias", do_conv, {1, 1, 1, 1, 1}, {S(1, 4, 4, 16), S(16, 3, 3, 16)}},
    {"conv 3x3, wide", do_conv, {1, 1, 1, 1, 1}, {S(1, 16, 16, 64), S(96, 3, 3, 64), S(96)}},
    {"conv 3x3, wide, stride 2", do_conv, {2, 1, 1, 1, 1}, {S(2, 15, 16, 64), S(64, 3, 3, 64), S(64)}},
    {"conv 1x1, wide", do_conv, {1, 0, 0, 0, 0}, {S(1, 16, 16, 160), S(64, 1, 1, 160), S(64)}},
    {"group norm, 2 channels a group", do_group, {4}, {S(2, 8, 8, 8), S(8), S(8)}},
    {"group norm, odd", do_group, {5}, {S(3, 5, 7, 30), S(30), S(30)}},
    {"group norm, one pixel", do_group, {4}, {S(2, 1, 1, 24), S(24), S(24)}},
    {"group norm, one group", do_group, {1}, {S(1, 3, 3, 7), S(7), S(7)}},
    {"group norm, several chunks", do_group, {5}, {S(2, 37, 41, 20), S(20), S(20)}},
    {"group norm, wide", do_group, {32}, {S(1, 16, 16, 320), S(320), S(320)}},
    {"layer norm, narrow", do_layer, {0}, {S(2, 9, 10), S(10), S(10)}},
    {"layer norm, words", do_layer, {0}, {S(2, 77, 48), S(48), S(48)}},
    {"layer norm, wide", do_layer, {0}, {S(33, 323), S(323), S(323)}},
    {"attention, head 2", do_attention, {4, 0}, {S(2, 16, 8), S(2, 16, 8), S(2, 16, 8)}},
    {"attention, head 3, 11 keys", do_attention, {10, 0}, {S(2, 35, 30), S(2, 11, 30), S(2, 11, 30)}},
    {"attention, head 5, 77 keys", do_attention, {4, 0}, {S(1, 130, 20), S(1, 77, 20), S(1, 77, 20)}},
    {"attention, one query, one key", do_attention, {2, 0}, {S(1, 1, 8), S(1, 1, 8), S(1, 1, 8)}},
    {"attention, one head", do_attention, {1, 0}, {S(1, 200, 24), S(1, 200, 24), S(1, 200, 24)}},
    {"attention, causal", do_attention, {6, 1}, {S(2, 77, 48), S(2, 77, 48), S(2, 77, 48)}},
    {"attention, causal, short", do_attention, {2, 1}, {S(1, 5, 12), S(1, 5, 12), S(1, 5, 12)}},
    {"attention, head 40", do_attention, {2, 0}, {S(1, 300, 80), S(1, 300, 80), S(1, 300, 80)}},
    {"attention, head 160", do_attention, {2, 0}, {S(1, 64, 320), S(1, 77, 320), S(1, 77, 320)}},
    {"attention, several blocks of keys", do_attention, {2, 0}, {S(1, 70, 22), S(1, 600, 22), S(1, 600, 22)}},
    {"attention, causal, several blocks", do_attention, {2, 1}, {S(1, 601, 14), S(1, 601, 14), S(1, 601, 14)}},
    {"attention, head 512", do_attention, {1, 0}, {S(1, 30, 512), S(1, 40, 512), S(1, 40, 512)}},
    {"attention, many queries", do_attention, {1, 0}, {S(1, 4096, 40), S(1, 77, 40), S(1, 77, 40)}},
    {"attention, many keys", do_attention, {1, 0}, {S(1, 19, 8), S(1, 4096, 8), S(1, 4096, 8)}},
    {"attention, more keys than are kept", do_attention, {1, 0}, {S(1, 75, 8), S(1, 4360, 8), S(1, 4360, 8)}},
    {"attention, causal, more than are kept", do_attention, {1, 1}, {S(1, 4200, 2), S(1, 4200, 2), S(1, 4200, 2)}},
};

/* Sizes at which libraries begin to cut sums; only compared with themselves. */
static const row large[] = {
    {"linear, 1024 x 320 to 1280", do_linear, {0}, {S(1, 1024, 320), S(1280, 320), S(1280)}},
    {"linear, words to keys", do_linear, {0}, {S(1, 77, 768), S(320, 768)}},
    {"linear, one long row", do_linear, {0}, {S(1, 2560), S(640, 2560), S(640)}},
    {"conv 3x3, 32 x 32", do_conv, {1, 1, 1, 1, 1}, {S(1, 32, 32, 128), S(192, 3, 3, 128), S(192)}},
    {"conv 3x3, 8 x 8, deep", do_conv, {1, 1, 1, 1, 1}, {S(1, 8, 8, 640), S(320, 3, 3, 640), S(320)}},
    {"conv 3x3, from 4", do_conv, {1, 1, 1, 1, 1}, {S(1, 64, 64, 4), S(320, 3, 3, 4), S(320)}},
    {"conv 3x3, to 4", do_conv, {1, 1, 1, 1, 1}, {S(1, 64, 64, 320), S(4, 3, 3, 320), S(4)}},
    {"conv 3x3, stride 2, 32 x 32", do_conv, {2, 1, 1, 1, 1}, {S(1, 32, 32, 128), S(128, 3, 3, 128), S(128)}},
    {"conv 1x1, 32 x 32", do_conv, {1, 0, 0, 0, 0}, {S(1, 32, 32, 320), S(320, 1, 1, 320), S(320)}},
};

typedef struct { int n; nn_shape shape[1 + MOST]; float *at[1 + MOST]; } answer;   /* y, then the gradients */

static void answer_free(answer *a)
{
    for (int i = 0; i < a->n; i++)
        free(a->at[i]);
}

static float *noise(uint32_t stream, int64_t n)
{
    float *x = NEW_N(float, n);

    rng_normal_fill(rng_open(1, "kernels", stream, 0), x, (uint64_t)n);
    return x;
}

/* Kernels [o,kh,kw,c] as files hold them, [o,c,kh,kw]. */
static float *as_in_file(const float *x, nn_shape s)
{
    int64_t taps = s.d[1] * s.d[2], c = s.d[3];
    float *y = NEW_N(float, nn_count(s));

    for (int64_t i = 0; i < nn_count(s); i++)
        y[i / (taps * c) * taps * c + i % c * taps + i / c % taps] = x[i];
    return y;
}

static void set_weight(nn_params *p, const char *name, nn_shape s, uint32_t stream, err *e)
{
    float *x = noise(stream, nn_count(s)), *file = s.n == 4 ? as_in_file(x, s) : mem_copy(x, (size_t)nn_count(s) * 4);
    nn_shape fs = s.n == 4 ? NN_SHAPE(s.d[0], s.d[3], s.d[1], s.d[2]) : s;

    assert_int_equal(nn_params_set(p, name, fs, file, e), 0);
    free(x);
    free(file);
}

/* Sources 1.. are frozen weights when `frozen`, else inputs; the first source and dy are always inputs. */
static nn_tensor source(nn_graph *g, nn_params *p, const row *r, int i, bool frozen, err *e)
{
    char name[] = {'s', (char)('0' + i), 0};
    nn_shape s = r->s[i];

    if (!frozen || i == 0)
        return nn_input(g, name, F32, s);
    set_weight(p, name, s, (uint32_t)i, e);
    return nn_param(g, name, s);
}

static void fill(nn_plan *p, nn_tensor t, uint32_t stream, err *e)
{
    int64_t n = nn_count(nn_shape_get(t));
    float *x = noise(stream, n);

    assert_int_equal(nn_write(p, t, x, (size_t)n * sizeof *x, e), 0);
    free(x);
}

static void read_all(nn_plan *p, const nn_tensor kept[], int n, answer *a, err *e)
{
    a->n = n;
    for (int i = 0; i < n; i++) {
        a->shape[i] = nn_shape_get(kept[i]);
        a->at[i] = NEW_N(float, nn_count(a->shape[i]));
        assert_int_equal(nn_read(p, kept[i], a->at[i], (size_t)nn_count(a->shape[i]) * sizeof(float), e), 0);
    }
}

/* How many kernels the operations of a row have before their reference. */
static int preferred(const row *r)
{
    return r->write == do_matmul || r->write == do_linear ? 3 : r->write == do_conv ? 2 : 1;
}

/* A backend that passes over the first `passed` kernels of every operation, its last one excepted. */
static int passed;
static const nn_kernel *const *(*whole_list)(nn_op_id op);
static nn_compute computed; /* what backends are opened for */
static double allowed = 3e-6;  /* what may be off */

static const nn_kernel *const *later_kernels(nn_op_id op)
{
    const nn_kernel *const *list = whole_list(op);

    for (int i = 0; i < passed && list[1]; i++)
        list++;
    return list;
}

static nn_backend *open_cpu(int threads, int pass)
{
    err e = {0};
    nn_backend *on;

    if (nn_cpu_open(&on, threads, false, &e) != 0)
        fail_msg("%s", e.text);
    assert_int_equal(on->compute(on, computed, &e), 0);
    passed = pass;
    whole_list = on->kernels;
    on->kernels = later_kernels;
    return on;
}

/* Of how many of n sources a gradient is asked for. For weights of convolutions there are fewer kernels than for the rest; behind
 * them comes the reference, slow and not what is judged. */
static int gradients(const row *r, int pass, int n)
{
    const int of_weights = computed == NN_BF16 ? 2 : 1;

    return r->write == do_conv && pass != REFERENCE && pass >= of_weights ? 1 : n;
}

/* y and the gradients of the sources, on a fresh backend; a kernel runs twice, so that what a run leaves behind would
 * show. */
static answer compute(const row *r, int pass, bool frozen, int threads)
{
    err e = {0};
    nn_backend *on = open_cpu(threads, pass);
    nn_plan *p = NULL;
    nn_tensor s[MOST] = {0}, kept[1 + MOST];
    int n = 0;
    answer a = {0};

    nn_params *w = nn_params_new(on);
    nn_graph *g = nn_graph_new();
    for (; n < MOST && r->s[n].n > 0; n++)
        s[n] = source(g, w, r, n, frozen, &e);
    kept[0] = r->write(g, s, r->at);
    nn_tensor dy = nn_input(g, "dy", F32, nn_shape_get(kept[0]));
    const int asked = gradients(r, pass, n);
    if (nn_backward(g, kept[0], dy, s, kept + 1, asked, &e) != 0 || nn_check(g, &e) != 0
        || nn_plan_new(&p, g, w, kept, asked + 1, &e) != 0)
        fail_msg("%s: %s", r->name, e.text);
    for (int i = 0; i < n; i++)
        if (!frozen || i == 0)
            fill(p, s[i], (uint32_t)i, &e);
    fill(p, dy, 9, &e);
    for (int runs = pass == REFERENCE ? 1 : 2; runs > 0; runs--)
        assert_int_equal(nn_run(p, &e), 0);
    read_all(p, kept, asked + 1, &a, &e);
    nn_plan_free(p);
    nn_graph_free(g);
    nn_params_free(w);
    on->close(on);
    return a;
}

/* |x - want| / |want|; a value that is not finite is infinitely far. */
static double apart(const float *x, const float *want, int64_t n)
{
    double d = 0.0, s = 0.0;

    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            return INFINITY;
        d += ((double)x[i] - (double)want[i]) * ((double)x[i] - (double)want[i]);
        s += (double)want[i] * (double)want[i];
    }
    return s > 0.0 ? sqrt(d / s) : sqrt(d);
}

/* Sums of f32 over the longest of these rows leave some 1e-7 each; what vanishes in exact arithmetic (the keys'
 * gradient of a single key, dx of a group norm of one number) is not judged by its size. */
static void judge(const row *r, int pass, bool frozen, const answer *want)
{
    answer got = compute(r, pass, frozen, 1);

    for (int k = 0; k < got.n; k++) {
        double off = apart(got.at[k], want->at[k], nn_count(want->shape[k]));
        if (!(off < allowed))
            fail_msg("%s, kernel %d, %s %d: off by %.2e", r->name, pass, k ? "gradient of" : "result", k, off);
    }
    answer_free(&got);
}

/* By the references, in f32. They are the same for every build of the loops, and slow: each row is computed once. */
static answer wanted[sizeof table / sizeof *table];

static const answer *reference_of(size_t i)
{
    nn_compute was = computed;

    computed = NN_F32;
    if (wanted[i].n == 0)
        wanted[i] = compute(&table[i], REFERENCE, false, 1);
    computed = was;
    return &wanted[i];
}

static int forget_references(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        answer_free(&wanted[i]);
    return 0;
}

static void judge_table(void)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        for (int pass = 0; pass < preferred(&table[i]); pass++) {
            judge(&table[i], pass, false, reference_of(i));
            judge(&table[i], pass, true, reference_of(i));
        }
}

static void a_kernel_means_what_its_reference_means(void **state)
{
    (void)state;
    judge_table();
}

/* The loops of lesser processors than this one, too. */
static void every_build_of_the_loops_means_the_same(void **state)
{
    const cpu_simd *builds[] = {&cpu_simd_plain, &cpu_simd_avx2};

    (void)state;
    for (size_t i = 0; i < sizeof builds / sizeof *builds; i++)
        if (cpu_simd_runs(builds[i])) {
            cpu_simd_use(builds[i]);
            judge_table();
        }
    cpu_simd_use(NULL);
}

static void same_bits(const row *r, int pass, int threads, const answer *one)
{
    answer more = compute(r, pass, true, threads);

    for (int k = 0; k < one->n; k++)
        if (memcmp(one->at[k], more.at[k], (size_t)nn_count(one->shape[k]) * sizeof(float)) != 0)
            fail_msg("%s, kernel %d, %s %d: %d threads give other bits", r->name, pass, k ? "gradient of" : "result",
                     k, threads);
    answer_free(&more);
}

static void compare_threads(const row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (int pass = 0; pass < preferred(&rows[i]); pass++) {
            answer one = compute(&rows[i], pass, true, 1);
            same_bits(&rows[i], pass, 2, &one);
            same_bits(&rows[i], pass, 3, &one);
            answer_free(&one);
        }
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    compare_threads(table, sizeof table / sizeof *table);
    compare_threads(large, sizeof large / sizeof *large);
}

/* ---- bf16: sources and weights have 8 bits, so a sum of n is off by some 2^-9 of its size whatever n is ---- */

static bool bf16_is_there(void)
{
    err e = {0};
    nn_backend *on;

    assert_int_equal(nn_cpu_open(&on, 1, false, &e), 0);
    bool there = on->compute(on, NN_BF16, &e) == 0;
    on->close(on);
    if (!there)
        print_message("%s\n", e.text);
    return there;
}

static bool has_bf16(const row *r)
{
    return r->write == do_matmul || r->write == do_linear || r->write == do_conv || r->write == do_attention;
}

static void bf16_means_the_reference_to_its_rounding(void **state)
{
    (void)state;
    if (!bf16_is_there())
        skip();
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const int passes = table[i].write == do_attention ? 1 : 2; /* of gradients of weights the first counts, else the second */
        if (!has_bf16(&table[i]))
            continue;
        computed = NN_BF16;
        allowed = table[i].write == do_attention ? 2e-2 : 6e-3; /* two products after each other, and differences */
        for (int pass = 0; pass < passes; pass++) {
            judge(&table[i], pass, false, reference_of(i));
            judge(&table[i], pass, true, reference_of(i));
        }
    }
    computed = NN_F32;
    allowed = 3e-6;
}

static void threads_do_not_change_a_bit_of_bf16(void **state)
{
    (void)state;
    if (!bf16_is_there())
        skip();
    computed = NN_BF16;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (has_bf16(&table[i]))
            compare_threads(&table[i], 1);
    compare_threads(large, sizeof large / sizeof *large);
    computed = NN_F32;
}

/* Scores whose greatest comes late and lies above what the first keys have by more than f32 has room for: weights are made
 * anew below it, and what was summed before is brought there. Rounding a score of 200 takes 1e-5 of its weight. */
static nn_tensor do_sharp(nn_graph *g, nn_tensor const s[], const int at[])
{
    return nn_attention(g, nn_scale(g, s[0], 64.0f), s[1], s[2], at[0], at[1]);
}

static void a_greatest_score_may_come_late(void **state)
{
    static const row sharp[] = {
        {"sharp attention", do_sharp, {2, 0}, {S(1, 70, 22), S(1, 600, 22), S(1, 600, 22)}},
        {"sharp attention, causal", do_sharp, {2, 1}, {S(1, 601, 14), S(1, 601, 14), S(1, 601, 14)}},
        {"sharp attention, more than are kept", do_sharp, {1, 0}, {S(1, 75, 8), S(1, 4360, 8), S(1, 4360, 8)}},
    };
    const cpu_simd *builds[] = {NULL, &cpu_simd_plain, &cpu_simd_avx2};

    (void)state;
    for (size_t i = 0; i < sizeof sharp / sizeof *sharp; i++) {
        allowed = 2e-4;
        answer want = compute(&sharp[i], REFERENCE, false, 1);
        for (size_t b = 0; b < sizeof builds / sizeof *builds; b++)
            if (!builds[b] || cpu_simd_runs(builds[b])) {
                cpu_simd_use(builds[b]);
                judge(&sharp[i], 0, false, &want);
            }
        cpu_simd_use(NULL);
        computed = bf16_is_there() ? NN_BF16 : NN_F32;
        allowed = 1; /* such a score is off by some tenths: what counts is that there are numbers */
        judge(&sharp[i], 0, false, &want);
        computed = NN_F32;
        answer_free(&want);
    }
    allowed = 3e-6;
}

/* A NaN says that training went wrong; a kernel that lost it would hide that. */
static void not_a_number_reaches_the_result(void **state)
{
    const cpu_simd *builds[] = {&cpu_simd_plain, &cpu_simd_avx2, &cpu_simd_avx512};

    (void)state;
    for (size_t b = 0; b < sizeof builds / sizeof *builds; b++) {
        float keys[3] = {1, 2, 3}, columns[SIMD_LANES] = {0}, start[SIMD_LANES] = {0}, sum[SIMD_LANES], p[3 * SIMD_LANES];
        const simd_scores s = {.rows = keys, .keys = 3, .words = 1, .columns = columns, .panels = 1, .start = start, .first = 3,
                               .sum = sum, .p = p};
        columns[5] = NAN;
        if (!cpu_simd_runs(builds[b]))
            continue;
        builds[b]->score_weights(&s);
        for (int i = 0; i < SIMD_LANES; i++)
            assert_int_equal(isnan(sum[i]), i == 5);
    }
}

/* An argument chooses tests by their names. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kernel_means_what_its_reference_means),
        cmocka_unit_test(every_build_of_the_loops_means_the_same),
        cmocka_unit_test(a_greatest_score_may_come_late),
        cmocka_unit_test(not_a_number_reaches_the_result),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(bf16_means_the_reference_to_its_rounding),
        cmocka_unit_test(threads_do_not_change_a_bit_of_bf16),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("kernels", tests, NULL, forget_references);
}
