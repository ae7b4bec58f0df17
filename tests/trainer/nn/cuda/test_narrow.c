/* Laws of results in bf16 (nn_kernel.narrows), over the stand-in: a norm's, a gate's or a product's result is in bf16 exactly where all who read
 * it would round it, and every number behind it has the same bits as where it is in f32. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/mem.h"
#include "tests/trainer/nn/rows.h"
#include "trainer/nn/plan.h"

enum { ROWS = 6, C = 16, SIDE = 4, KEEPS = 3 };

static nn_backend *gpu;

static void ok(int rc, const err *e)
{
    if (rc != 0)
        fail_msg("%s", e->text);
}

/* ---- graphs: what is kept of each goes into keep[], and how many that is comes back ---- */

static nn_tensor in(nn_graph *g, const char *name, int64_t rows, int64_t columns)
{
    return nn_input(g, name, F32, NN_SHAPE(rows, columns));
}

static nn_tensor normed(nn_graph *g)
{
    return nn_layer_norm(g, in(g, "x", ROWS, C), nn_input(g, "w", F32, NN_SHAPE(C)), nn_input(g, "b", F32, NN_SHAPE(C)), 1e-5f);
}

static int three_products(nn_graph *g, nn_tensor keep[])
{
    nn_tensor y = nn_reshape(g, nn_reshape(g, normed(g), NN_SHAPE(2, ROWS / 2, C)), NN_SHAPE(ROWS, C));

    for (int k = 0; k < 3; k++)
        keep[k] = nn_matmul(g, y, in(g, (const char *[]){"q", "k", "v"}[k], C, C), false, true);
    return 3;
}

static int second_factor(nn_graph *g, nn_tensor keep[])
{
    keep[0] = nn_matmul(g, in(g, "a", ROWS, ROWS), normed(g), false, false);
    return 1;
}

static int product_and_sum(nn_graph *g, nn_tensor keep[])
{
    nn_tensor y = normed(g);

    keep[0] = nn_add(g, nn_matmul(g, y, in(g, "q", C, C), false, true), y);
    return 1;
}

static int a_piece(nn_graph *g, nn_tensor keep[])
{
    keep[0] = nn_matmul(g, nn_view(g, normed(g), C, NN_SHAPE(2, C)), in(g, "q", C, C), false, true);
    return 1;
}

static int an_odd_piece(nn_graph *g, nn_tensor keep[])
{
    keep[0] = nn_matmul(g, nn_view(g, normed(g), 1, NN_SHAPE(2, C)), in(g, "q", C, C), false, true);
    return 1;
}

static int convolution(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = nn_input(g, "x", F32, NN_SHAPE(2, SIDE, SIDE, C));
    nn_tensor y = nn_group_norm_silu(g, x, nn_input(g, "w", F32, NN_SHAPE(C)), nn_input(g, "b", F32, NN_SHAPE(C)), 4, 1e-5f);

    keep[0] = nn_conv2d(g, y, nn_input(g, "k", F32, NN_SHAPE(8, 3, 3, C)), NULL, (nn_conv){1, {1, 1, 1, 1}});
    return 1;
}

static int gated(nn_graph *g, nn_tensor keep[])
{
    keep[0] = nn_matmul(g, nn_geglu(g, in(g, "x", ROWS, 2 * C)), in(g, "q", C, C), false, true);
    return 1;
}

/* The gradient of a gate's sources goes into two products. */
static int gated_backward(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = in(g, "x", ROWS, C), w = in(g, "w", 2 * C, C), before = nn_matmul(g, x, w, false, true);
    nn_tensor y = nn_matmul(g, nn_geglu(g, before), in(g, "q", C, C), false, true);
    err e;

    ok(nn_backward(g, y, in(g, "seed", ROWS, C), (nn_tensor[]){x, w}, keep, 2, &e), &e);
    return 2;
}

/* Its pass and its gradient round the queries; bias: of the product that makes them. */
static int queries(nn_graph *g, nn_tensor keep[], nn_tensor bias)
{
    const nn_shape s = NN_SHAPE(1, ROWS, C);
    nn_tensor x = in(g, "x", ROWS, C), q = nn_linear(g, x, in(g, "q", C, C), bias);
    nn_tensor y = nn_attention(g, nn_reshape(g, q, s), nn_input(g, "k", F32, s), nn_input(g, "v", F32, s), 2, false);
    err e;

    keep[0] = y;
    ok(nn_backward(g, y, nn_input(g, "seed", F32, s), &x, keep + 1, 1, &e), &e);
    return 2;
}

/* What is a piece of a gradient goes into products, each where it lies. */
static int slopes(nn_graph *g, nn_tensor keep[])
{
    const nn_shape s = NN_SHAPE(1, ROWS, C);
    nn_tensor x[] = {in(g, "x", ROWS, C), in(g, "y", ROWS, C), in(g, "z", ROWS, C)}, of[3];
    err e;

    for (int k = 0; k < 3; k++)
        of[k] = nn_reshape(g, nn_linear(g, x[k], in(g, (const char *[]){"q", "k", "v"}[k], C, C), NULL), s);
    ok(nn_backward(g, nn_attention(g, of[0], of[1], of[2], 2, false), nn_input(g, "seed", F32, s), x, keep, 3, &e), &e);
    return 3;
}

/* One piece is kept, so that all of it is in f32. */
static int slopes_kept(nn_graph *g, nn_tensor keep[])
{
    const nn_shape s = NN_SHAPE(1, ROWS, C);
    nn_tensor x = in(g, "x", ROWS, C), k = nn_input(g, "k", F32, s), v = nn_input(g, "v", F32, s);
    nn_tensor q = nn_reshape(g, nn_linear(g, x, in(g, "q", C, C), nn_input(g, "b", F32, NN_SHAPE(C))), s);
    err e;

    ok(nn_backward(g, nn_attention(g, q, k, v, 2, false), nn_input(g, "seed", F32, s), (nn_tensor[]){x, k}, keep, 2, &e), &e);
    return 2;
}

static int attention(nn_graph *g, nn_tensor keep[])
{
    return queries(g, keep, NULL);
}

static int attention_of_biased(nn_graph *g, nn_tensor keep[])
{
    return queries(g, keep, nn_input(g, "b", F32, NN_SHAPE(C)));
}

/* What is cut out of a wider one, and read by products alone; and by others, too. */
static int cut(nn_graph *g, nn_tensor keep[])
{
    keep[0] = nn_matmul(g, nn_slice(g, in(g, "x", ROWS, 3 * C), 1, C, C), in(g, "q", C, C), false, true);
    return 1;
}

static int cut_for_two(nn_graph *g, nn_tensor keep[])
{
    nn_tensor y = nn_slice(g, in(g, "x", ROWS, 3 * C), 1, 1, C);

    keep[0] = nn_matmul(g, y, in(g, "q", C, C), false, true);
    keep[1] = nn_mul(g, y, y);
    return 2;
}

/* Two residuals behind each other: what comes back through a norm is added up in f32 and goes into a product. */
static int residuals(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = in(g, "x", ROWS, C), y = x;
    err e;

    for (int k = 0; k < 3; k++) {
        nn_tensor n = nn_layer_norm(g, y, nn_input(g, (const char *[]){"w", "v", "u"}[k], F32, NN_SHAPE(C)), nn_input(g, (const char *[]){"b", "c", "d"}[k], F32, NN_SHAPE(C)), 1e-5f);
        y = nn_add(g, y, nn_matmul(g, n, in(g, (const char *[]){"q", "r", "s"}[k], C, C), false, true));
    }
    ok(nn_backward(g, y, in(g, "e", ROWS, C), &x, keep, 1, &e), &e);
    return 1;
}

static int map_residuals(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = nn_input(g, "x", F32, NN_SHAPE(2, SIDE, SIDE, C)), y = x;
    err e;

    for (int k = 0; k < 3; k++) {
        nn_tensor n = nn_group_norm_silu(g, y, nn_input(g, (const char *[]){"w", "v", "u"}[k], F32, NN_SHAPE(C)), nn_input(g, (const char *[]){"b", "c", "d"}[k], F32, NN_SHAPE(C)), 4, 1e-5f);
        y = nn_add(g, y, nn_conv2d(g, n, nn_input(g, (const char *[]){"q", "r", "s"}[k], F32, NN_SHAPE(C, 1, 1, C)), NULL, (nn_conv){1, {0, 0, 0, 0}}));
    }
    ok(nn_backward(g, y, nn_input(g, "e", F32, NN_SHAPE(2, SIDE, SIDE, C)), &x, keep, 1, &e), &e);
    return 1;
}

static const struct {
    const char *name;
    int (*write)(nn_graph *g, nn_tensor keep[]);
    nn_op_id op; /* whose result is looked at */
    bool narrow;
} CASES[] = {
    {"three products", three_products, NN_OP_layer_norm, true},
    {"a second factor", second_factor, NN_OP_layer_norm, true},
    {"a product and a sum", product_and_sum, NN_OP_layer_norm, false},
    {"a piece", a_piece, NN_OP_layer_norm, true},
    {"an odd piece", an_odd_piece, NN_OP_layer_norm, false},
    {"a convolution", convolution, NN_OP_group_norm_silu, true},
    {"a gate", gated, NN_OP_geglu, true},
    {"an attention's queries", attention, NN_OP_matmul, true},
    {"an attention's gradients", slopes, NN_OP_attention_grad, true},
    {"one of them kept", slopes_kept, NN_OP_attention_grad, false},
    {"with a bias", attention_of_biased, NN_OP_matmul, false},
    {"a gate, backward", gated_backward, NN_OP_geglu_grad, true},
    {"what is cut out", cut, NN_OP_slice, true},
    {"cut out for two", cut_for_two, NN_OP_slice, false},
    {"residuals", residuals, NN_OP_layer_norm_grad_x, false},
    {"residuals of maps", map_residuals, NN_OP_group_norm_silu_grad_x, false},
};

/* ---- running them ---- */

static nn_tensor made_by(const nn_graph *g, nn_op_id op)
{
    for (int id = 0; id < nn_node_count(g); id++)
        if (nn_node_at(g, id)->op->id == op)
            return nn_node_at(g, id);
    fail_msg("there is no such operation");
    return NULL;
}

/* Whether a result of this operation is shown so. */
static bool is_shown(const nn_plan *p, const char *op, const char *how)
{
    char *text, *line, *rest, kernel[64];
    size_t n;
    FILE *to = open_memstream(&text, &n);
    bool is = false;

    nn_plan_show(p, to);
    fclose(to);
    snprintf(kernel, sizeof kernel, " cuda.%s.", op);
    for (rest = text; (line = strsep(&rest, "\n"));)
        is = is || (strstr(line, kernel) && strstr(line, how));
    free(text);
    return is;
}

/* Two runs, so that the second is recorded. with: keeps the operation's result, too, which is in f32 then. */
static bool run(size_t i, bool with, float *to[KEEPS], size_t bytes[KEEPS], int *n, bool *twinned)
{
    nn_graph *g = nn_graph_new();
    nn_params *w = nn_params_new(gpu);
    nn_tensor keep[KEEPS + 1];
    nn_plan_size size;
    nn_plan *p;
    err e;

    *n = CASES[i].write(g, keep);
    keep[*n] = made_by(g, CASES[i].op);
    ok(nn_plan_predict(&size, g, w, keep, *n + with, &e), &e);
    ok(nn_plan_new(&p, g, w, keep, *n + with, &e), &e);
    assert_int_equal(size.plan, nn_plan_bytes(p));
    for (int id = 0; id < nn_node_count(g); id++) {
        nn_tensor t = nn_node_at(g, id);
        float host[8 * 9 * C];
        if (t->op != &nn_op_input)
            continue;
        row_fill(host, t, (uint64_t)t->name[0]);
        ok(nn_write(p, t, host, (size_t)nn_bytes(t), &e), &e);
    }
    for (int k = 0; k < 2; k++)
        ok(nn_run(p, &e), &e);
    for (int k = 0; k < *n; k++) {
        bytes[k] = (size_t)nn_bytes(keep[k]);
        to[k] = NEW_N(float, bytes[k] / sizeof(float));
        ok(nn_read(p, keep[k], to[k], bytes[k], &e), &e);
    }
    const bool narrow = is_shown(p, keep[*n]->op->name, " in bf16");
    *twinned = is_shown(p, keep[*n]->op->name, " and rounded, too");
    nn_plan_free(p);
    nn_params_free(w);
    nn_graph_free(g);
    return narrow;
}

static void a_result_that_all_round_is_in_bf16_with_the_same_bits(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        float *got[KEEPS], *want[KEEPS];
        size_t bytes[KEEPS];
        int n;
        bool twinned;
        if (run(i, false, got, bytes, &n, &twinned) != CASES[i].narrow)
            fail_msg("%s: %s", CASES[i].name, CASES[i].narrow ? "in f32" : "in bf16");
        assert_false(run(i, true, want, bytes, &n, &twinned));
        for (int k = 0; k < n; k++) {
            if (memcmp(got[k], want[k], bytes[k]) != 0)
                fail_msg("%s: other bits", CASES[i].name);
            free(got[k]);
            free(want[k]);
        }
    }
}

/* Where nothing else is in bf16 either, so that all numbers are the same. */
static void what_some_round_is_there_twice_with_the_same_bits(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        const bool both = CASES[i].write == residuals || CASES[i].write == map_residuals || CASES[i].write == cut_for_two;
        float *got[KEEPS], *want[KEEPS];
        size_t bytes[KEEPS];
        bool twinned, without;
        int n;
        setenv("CFARM_WITHOUT", "half", 1);
        run(i, false, got, bytes, &n, &twinned);
        setenv("CFARM_WITHOUT", "narrow", 1);
        run(i, false, want, bytes, &n, &without);
        unsetenv("CFARM_WITHOUT");
        if (twinned != both || without)
            fail_msg("%s: %s", CASES[i].name, twinned ? "twice" : "once");
        for (int k = 0; k < n; k++) {
            if (memcmp(got[k], want[k], bytes[k]) != 0)
                fail_msg("%s: other bits", CASES[i].name);
            free(got[k]);
            free(want[k]);
        }
    }
}

static void in_f32_nothing_is(void **unused)
{
    float *got[KEEPS];
    size_t bytes[KEEPS];
    int n;
    bool twinned;
    err e;

    (void)unused;
    ok(gpu->compute(gpu, NN_F32, &e), &e);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        assert_false(run(i, false, got, bytes, &n, &twinned));
        assert_false(twinned);
        for (int k = 0; k < n; k++)
            free(got[k]);
    }
}

static int open_gpu(void **unused)
{
    err e;

    (void)unused;
    ok(nn_open(&gpu, "cuda", 1, &e), &e);
    ok(gpu->compute(gpu, NN_BF16, &e), &e);
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
        cmocka_unit_test(a_result_that_all_round_is_in_bf16_with_the_same_bits),
        cmocka_unit_test(what_some_round_is_there_twice_with_the_same_bits),
        cmocka_unit_test(in_f32_nothing_is),
    };

    return cmocka_run_group_tests(tests, open_gpu, close_gpu);
}
