/* Laws of what a plan's calls move (nn_plan_traffic), over the stand-in: each call of a few small graphs moves the bytes and makes the
 * launches that were counted by hand, and nothing is taken for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "trainer/nn/plan.h"

enum { M = 6, K = 16, N = 8, SIDE = 4, CALLS = 4 };

static nn_backend *gpu;

static void ok(int rc, const err *e)
{
    if (rc != 0)
        fail_msg("%s", e->text);
}

static nn_tensor in(nn_graph *g, const char *name, int64_t rows, int64_t columns)
{
    return nn_input(g, name, F32, NN_SHAPE(rows, columns));
}

static nn_tensor product(nn_graph *g)
{
    return nn_matmul(g, in(g, "a", M, K), in(g, "b", K, N), false, false);
}

static nn_tensor product_and_sum(nn_graph *g)
{
    return nn_add(g, product(g), in(g, "c", M, N));
}

static nn_tensor normed_product(nn_graph *g)
{
    nn_tensor x = nn_layer_norm(g, in(g, "x", M, K), nn_input(g, "w", F32, NN_SHAPE(K)), nn_input(g, "bias", F32, NN_SHAPE(K)), 1e-5f);

    return nn_matmul(g, x, in(g, "b", K, N), false, false);
}

static nn_tensor convolution(nn_graph *g)
{
    return nn_conv2d(g, nn_input(g, "x", F32, NN_SHAPE(1, SIDE, SIDE, K)), nn_input(g, "w", F32, NN_SHAPE(N, 3, 3, K)),
                     nn_input(g, "bias", F32, NN_SHAPE(N)), (nn_conv){1, {1, 1, 1, 1}});
}

/* Of all pixels, by cuBLASLt, which makes f32 of bf16 and adds on the way. */
static nn_tensor by_one(nn_graph *g)
{
    nn_tensor y = nn_conv2d(g, nn_input(g, "x", F32, NN_SHAPE(1, SIDE, SIDE, K)), nn_input(g, "w", F32, NN_SHAPE(N, 1, 1, K)),
                            nn_input(g, "bias", F32, NN_SHAPE(N)), (nn_conv){1, {0, 0, 0, 0}});

    return nn_add(g, y, nn_input(g, "more", F32, NN_SHAPE(1, SIDE, SIDE, N)));
}

static nn_tensor words(nn_graph *g)
{
    return nn_embedding(g, in(g, "table", 1000, K), nn_input(g, "ids", I32, NN_SHAPE(M)), 0);
}

enum { A = M * K, B = K * N, Y = M * N, MAP = SIDE * SIDE, W = 9 * K * N };

/* Bytes and launches of each call. What is rounded is read in f32, written and read again in bf16; cuDNN's result in bf16, too. */
static const struct {
    const char *name;
    nn_tensor (*write)(nn_graph *g);
    nn_compute compute;
    int calls;
    struct { double bytes; int launches; } each[CALLS];
} CASES[] = {
    {"a product", product, NN_F32, 1, {{4 * A + 4 * B + 4 * Y, 1}}},
    {"a product", product, NN_BF16, 1, {{8 * A + 8 * B + 4 * Y, 3}}},
    {"with a sum", product_and_sum, NN_BF16, 1, {{8 * A + 8 * B + 4 * Y + 4 * Y, 3}}},
    {"behind a norm", normed_product, NN_BF16, 2, {{4 * A + 2 * 4 * K + 2 * A, 1}, {2 * A + 8 * B + 4 * Y, 2}}},
    {"a convolution", convolution, NN_BF16, 1, {{8 * MAP * K + 8 * W + 4 * N + 8 * MAP * N, 4}}},
    {"by 1x1, and a sum", by_one, NN_BF16, 1, {{8 * MAP * K + 8 * B + 4 * N + 4 * MAP * N + 4 * MAP * N, 3}}},
    {"words", words, NN_F32, 1, {{4 * A + 4 * M + 4 * A, 1}}},
};

static void a_call_moves_what_was_counted_by_hand(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        nn_graph *g = nn_graph_new();
        nn_params *w = nn_params_new(gpu);
        nn_tensor y = CASES[i].write(g);
        nn_traffic *each;
        nn_plan_size size;
        size_t before, after;
        int n;
        err e;
        ok(gpu->compute(gpu, CASES[i].compute, &e), &e);
        ok(gpu->left(gpu, &before, &e), &e);
        ok(nn_plan_traffic(&each, &n, &size, g, w, &y, 1, &e), &e);
        ok(gpu->left(gpu, &after, &e), &e);
        assert_int_equal(before, after);
        assert_int_equal(n, CASES[i].calls);
        for (int k = 0; k < n; k++)
            if (each[k].bytes != CASES[i].each[k].bytes || each[k].launches != CASES[i].each[k].launches)
                fail_msg("%s: call %d moves %g bytes in %d launches, not %g in %d", CASES[i].name, k, each[k].bytes, each[k].launches,
                         CASES[i].each[k].bytes, CASES[i].each[k].launches);
        free(each);
        nn_params_free(w);
        nn_graph_free(g);
    }
}

static int open_gpu(void **unused)
{
    err e;

    (void)unused;
    ok(nn_open(&gpu, "cuda", 1, &e), &e);
    return 0;
}

static int close_gpu(void **unused)
{
    (void)unused;
    gpu->close(gpu);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_moves_what_was_counted_by_hand),
    };

    return cmocka_run_group_tests(tests, open_gpu, close_gpu);
}
