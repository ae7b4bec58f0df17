/* Laws of results in bf16 that not all who read them would round (nn_kernel.halves), over the stand-in: such a result is in bf16 where
 * all who read it take it so, without its bias and what repeats over pixels where they all add these, and in f32 where one of them
 * does not, where it is kept, in f32 and where CFARM_WITHOUT=half says so; what comes of it is what comes of f32 to bf16's rounding. */
#include <dlfcn.h>
#include <math.h>
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

enum { ROWS = 6, C = 16, SIDE = 4, KEEPS = 4, MOST = 9 * C * C };

static nn_backend *gpu;

static void ok(int rc, const err *e)
{
    if (rc != 0)
        fail_msg("%s", e->text);
}

/* ---- graphs: what is kept of each goes into keep[], and how many that is comes back ---- */

static nn_tensor in(nn_graph *g, const char *name, nn_shape s)
{
    return nn_input(g, name, F32, s);
}

/* A frozen number a channel. */
static nn_tensor numbers(nn_graph *g, const char *name, int64_t n)
{
    return nn_param(g, name, NN_SHAPE(n));
}

static int with_slope(nn_graph *g, nn_tensor y, nn_tensor x, nn_tensor keep[])
{
    err e;

    keep[0] = y;
    ok(nn_backward(g, y, in(g, "seed", nn_shape_get(y)), &x, keep + 1, 1, &e), &e);
    return 2;
}

static nn_tensor convolved(nn_graph *g, nn_tensor x, const char *w, nn_tensor bias)
{
    return nn_conv2d(g, x, in(g, w, NN_SHAPE(C, 3, 3, C)), bias, (nn_conv){1, {1, 1, 1, 1}});
}

static nn_tensor map(nn_graph *g)
{
    return in(g, "x", NN_SHAPE(2, SIDE, SIDE, C));
}

static nn_tensor normed(nn_graph *g, nn_tensor x)
{
    return nn_group_norm_silu(g, x, in(g, "gain", NN_SHAPE(C)), in(g, "offset", NN_SHAPE(C)), 4, 1e-5f);
}

/* As a resnet's: a norm between two convolutions, with its bias and the time's number of each sample a channel. */
static int resnet(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = map(g), time = nn_reshape(g, in(g, "time", NN_SHAPE(2, C)), NN_SHAPE(2, 1, 1, C));
    nn_tensor y = nn_add(g, convolved(g, x, "k", numbers(g, "bias", C)), time);

    return with_slope(g, convolved(g, normed(g, y), "l", NULL), x, keep);
}

static int one_time(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = map(g), y = nn_add(g, convolved(g, x, "k", NULL), in(g, "time", NN_SHAPE(1, 1, 1, C)));

    return with_slope(g, convolved(g, normed(g, y), "l", NULL), x, keep);
}

static int convolution_alone(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = map(g), y = nn_group_norm(g, convolved(g, x, "k", numbers(g, "bias", C)), in(g, "gain", NN_SHAPE(C)), in(g, "offset", NN_SHAPE(C)), 4, 1e-5f);

    return with_slope(g, convolved(g, y, "l", NULL), x, keep);
}

/* Somebody reads the sum in f32. */
static int residual(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = map(g), y = convolved(g, x, "k", numbers(g, "bias", C));

    return with_slope(g, nn_add(g, nn_mul(g, y, y), convolved(g, normed(g, y), "l", NULL)), x, keep);
}

static nn_tensor product(nn_graph *g, nn_tensor x, const char *w, int64_t columns, nn_tensor bias)
{
    return nn_linear(g, x, in(g, w, NN_SHAPE(columns, nn_shape_get(x).d[nn_shape_get(x).n - 1])), bias);
}

static int gate(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = in(g, "x", NN_SHAPE(2, ROWS, C)), y = nn_geglu(g, product(g, x, "k", 8 * C, numbers(g, "bias", 8 * C)));

    return with_slope(g, product(g, y, "l", C, NULL), x, keep);
}

/* Rows of odd numbers, which are no vectors. */
static int odd_gate(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = in(g, "x", NN_SHAPE(ROWS, C)), y = nn_geglu(g, product(g, x, "k", 10, numbers(g, "bias", 10)));

    return with_slope(g, product(g, y, "l", C, NULL), x, keep);
}

static int activation(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = in(g, "x", NN_SHAPE(ROWS, C)), y = nn_quick_gelu(g, product(g, x, "k", 4 * C, numbers(g, "bias", 4 * C)));

    return with_slope(g, product(g, y, "l", C, NULL), x, keep);
}

/* A bias that is no weight is added at once. */
static int made_bias(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = in(g, "x", NN_SHAPE(ROWS, C)), y = nn_quick_gelu(g, product(g, x, "k", C, nn_scale(g, in(g, "bias", NN_SHAPE(C)), 2.0f)));

    return with_slope(g, product(g, y, "l", C, NULL), x, keep);
}

static nn_tensor attended(nn_graph *g, nn_tensor x, nn_tensor *y)
{
    *y = nn_attention(g, product(g, x, "q", C, NULL), product(g, x, "k", C, NULL), product(g, x, "v", C, NULL), 2, false);
    return product(g, *y, "l", C, numbers(g, "bias", C));
}

static int attention(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = in(g, "x", NN_SHAPE(2, ROWS, C)), y;

    return with_slope(g, attended(g, x, &y), x, keep);
}

static int attention_kept(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = in(g, "x", NN_SHAPE(2, ROWS, C)), y;
    int n = with_slope(g, attended(g, x, &y), x, keep);

    keep[n] = y;
    return n + 1;
}

/* What goes back through a product into a layer norm, whose slope a residual's is added to. */
static int layer_norm(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = in(g, "x", NN_SHAPE(2, ROWS, C));
    nn_tensor y = nn_layer_norm(g, x, in(g, "gain", NN_SHAPE(C)), in(g, "offset", NN_SHAPE(C)), 1e-5f);

    return with_slope(g, nn_add(g, x, product(g, y, "l", C, NULL)), x, keep);
}

static int larger(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = map(g);

    return with_slope(g, convolved(g, nn_upsample(g, x, 2 * SIDE, 2 * SIDE), "k", NULL), x, keep);
}

/* Two maps side by side, as on the way up. */
static int side_by_side(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = map(g), y = nn_concat(g, x, in(g, "y", NN_SHAPE(2, SIDE, SIDE, C)));
    nn_tensor z = nn_group_norm_silu(g, y, in(g, "gain", NN_SHAPE(2 * C)), in(g, "offset", NN_SHAPE(2 * C)), 4, 1e-5f);

    z = nn_conv2d(g, z, in(g, "k", NN_SHAPE(8, 3, 3, 2 * C)), NULL, (nn_conv){1, {1, 1, 1, 1}});
    return with_slope(g, nn_add(g, z, nn_conv2d(g, y, in(g, "l", NN_SHAPE(8, 1, 1, 2 * C)), NULL, (nn_conv){1, {0, 0, 0, 0}})), x, keep);
}

/* Widths of odd numbers. */
static int odd_side_by_side(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = in(g, "x", NN_SHAPE(2, 3, 3, 3)), y = nn_concat(g, x, in(g, "y", NN_SHAPE(2, 3, 3, 2)));

    return with_slope(g, nn_conv2d(g, y, in(g, "k", NN_SHAPE(8, 3, 3, 5)), NULL, (nn_conv){1, {1, 1, 1, 1}}), x, keep);
}

/* What comes back from queries, keys and values is added up before a layer norm. */
static int attention_to_itself(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = in(g, "x", NN_SHAPE(2, ROWS, C)), y;
    nn_tensor h = nn_layer_norm(g, x, in(g, "gain", NN_SHAPE(C)), in(g, "offset", NN_SHAPE(C)), 1e-5f);

    return with_slope(g, nn_add(g, x, attended(g, h, &y)), x, keep);
}

/* Two of them go on alone, too. */
static int sum_in_f32(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = in(g, "x", NN_SHAPE(ROWS, C)), y = nn_add(g, product(g, x, "k", C, NULL), product(g, x, "l", C, NULL));

    return with_slope(g, nn_add(g, nn_mul(g, y, y), product(g, y, "q", C, NULL)), x, keep);
}

/* Keys of which the first learns nothing. */
static int detached_keys(nn_graph *g, nn_tensor keep[])
{
    nn_tensor q = in(g, "q", NN_SHAPE(2, ROWS, C)), x = in(g, "x", NN_SHAPE(2, ROWS, C)), k = nn_detach_rows(g, product(g, x, "k", C, NULL), 1);

    return with_slope(g, nn_attention(g, q, k, nn_detach_rows(g, product(g, x, "v", C, NULL), 1), 2, false), x, keep);
}

typedef enum { WIDE, HALF, SUM, BARE } how;

static const struct {
    const char *name;
    int (*write)(nn_graph *g, nn_tensor keep[]);
    const char *op; /* one of whose results is looked at, or all where they are in f32 */
    how is;
} CASES[] = {
    {"a resnet", resnet, "conv2d", BARE},
    {"its slope", resnet, "conv2d_grad_x", HALF},
    {"one time for all samples", one_time, "conv2d", WIDE},
    {"a convolution's bias", convolution_alone, "conv2d", BARE},
    {"a residual", residual, "conv2d", WIDE},
    {"a gate", gate, "matmul", BARE},
    {"an odd gate", odd_gate, "matmul", BARE},
    {"an activation", activation, "matmul", BARE},
    {"a made bias", made_bias, "attention", WIDE},
    {"attention", attention, "attention", HALF},
    {"attention that is kept", attention_kept, "attention", WIDE},
    {"a layer norm", layer_norm, "matmul", HALF},
    {"a larger map's slope", larger, "conv2d_grad_x", HALF},
    {"a larger map", larger, "upsample", HALF},
    {"side by side", side_by_side, "concat", WIDE},
    {"odd ones side by side", odd_side_by_side, "concat", HALF},
    {"attention to itself", attention_to_itself, "matmul", SUM},
    {"a sum in f32", sum_in_f32, "matmul", WIDE},
    {"detached keys", detached_keys, "zero_rows", HALF},
};

/* ---- running them ---- */

/* How the results of this operation are made, as the plan is shown: the narrowest. */
static how seen(const nn_plan *p, const char *op)
{
    char *text, *line, *rest, kernel[64];
    size_t n;
    FILE *to = open_memstream(&text, &n);
    how is = WIDE;

    nn_plan_show(p, to);
    fclose(to);
    snprintf(kernel, sizeof kernel, " cuda.%s.", op);
    for (rest = text; (line = strsep(&rest, "\n"));) {
        const how narrow = strstr(line, "readers add the rest") ? BARE : strstr(line, ", and an add") ? SUM : HALF, one = strstr(line, " in bf16") ? narrow : WIDE;
        is = strstr(line, kernel) && one > is ? one : is;
    }
    free(text);
    return is;
}

static void draw_weights(nn_params *w, const nn_graph *g)
{
    err e;

    for (int id = 0; id < nn_node_count(g); id++)
        if (nn_node_at(g, id)->op == &nn_op_param)
            ok(nn_params_add_drawn(w, nn_node_at(g, id)->name, nn_node_at(g, id)->shape, &e), &e);
}

/* Two runs, so that the second is recorded. */
static how run(size_t i, float *to[KEEPS], int64_t n[KEEPS], int *kept)
{
    nn_graph *g = nn_graph_new();
    nn_params *w = nn_params_new(gpu);
    nn_tensor keep[KEEPS];
    nn_plan_size size;
    nn_plan *p;
    err e;

    *kept = CASES[i].write(g, keep);
    draw_weights(w, g);
    ok(nn_plan_predict(&size, g, w, keep, *kept, &e), &e);
    ok(nn_plan_new(&p, g, w, keep, *kept, &e), &e);
    assert_int_equal(size.plan, nn_plan_bytes(p));
    for (int id = 0; id < nn_node_count(g); id++) {
        nn_tensor t = nn_node_at(g, id);
        static float host[MOST];
        if (t->op != &nn_op_input)
            continue;
        assert_true(nn_count(t->shape) <= MOST);
        row_fill(host, t, (uint64_t)t->name[0]);
        ok(nn_write(p, t, host, (size_t)nn_bytes(t), &e), &e);
    }
    for (int k = 0; k < 2; k++)
        ok(nn_run(p, &e), &e);
    for (int k = 0; k < *kept; k++) {
        n[k] = nn_count(keep[k]->shape);
        to[k] = NEW_N(float, n[k]);
        ok(nn_read(p, keep[k], to[k], (size_t)nn_bytes(keep[k]), &e), &e);
    }
    const how is = seen(p, CASES[i].op);
    nn_plan_free(p);
    nn_params_free(w);
    nn_graph_free(g);
    return is;
}

static double distance(const float *a, const float *b, int64_t n)
{
    double apart = 0, all = 0;

    for (int64_t i = 0; i < n; i++) {
        apart += (double)(a[i] - b[i]) * (double)(a[i] - b[i]);
        all += (double)b[i] * (double)b[i];
    }
    return sqrt(apart / all);
}

/* bf16 keeps 8 bits: a rounding is 2^-9 at most, and there are a few behind each other. */
static const double CLOSE = 1e-2;

static void a_result_is_in_bf16_where_all_take_it_so(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        float *got[KEEPS], *want[KEEPS];
        int64_t n[KEEPS];
        int kept;
        const how is = run(i, got, n, &kept);
        if (is != CASES[i].is)
            fail_msg("%s: %d", CASES[i].name, (int)is);
        setenv("CFARM_WITHOUT", "half", 1);
        const how without = run(i, want, n, &kept);
        unsetenv("CFARM_WITHOUT");
        assert_true(without < SUM);
        for (int k = 0; k < kept; k++) {
            if (!(distance(got[k], want[k], n[k]) < CLOSE))
                fail_msg("%s: result %d is %g off", CASES[i].name, k, distance(got[k], want[k], n[k]));
            free(got[k]);
            free(want[k]);
        }
    }
}

static void in_f32_nothing_is(void **unused)
{
    float *got[KEEPS];
    int64_t n[KEEPS];
    int kept;
    err e;

    (void)unused;
    ok(gpu->compute(gpu, NN_F32, &e), &e);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        assert_int_equal(run(i, got, n, &kept), WIDE);
        for (int k = 0; k < kept; k++)
            free(got[k]);
    }
}

/* ---- what cuBLASLt says it has ---- */

/* A number that the stand-in counts in, or that tells it what to do. */
static int *number(const char *name)
{
    void *plugin = dlopen(getenv("CFARM_CUDA_PLUGIN"), RTLD_NOW | RTLD_NOLOAD);
    int *at = dlsym(plugin, name);

    assert_non_null(at);
    dlclose(plugin);
    return at;
}

static int open_gpu(void **unused);
static int close_gpu(void **unused);

static how looked_at(int (*of)(nn_graph *g, nn_tensor keep[]))
{
    float *got[KEEPS];
    int64_t n[KEEPS];
    size_t i = 0;
    int kept;

    while (CASES[i].write != of)
        i++;
    const how is = run(i, got, n, &kept);
    for (int k = 0; k < kept; k++)
        free(got[k]);
    return is;
}

static void what_cublaslt_cannot_is_in_f32(void **unused)
{
    int *wide = number("standin_lt_wide");

    close_gpu(unused);
    open_gpu(unused);
    *wide = 1;
    assert_int_equal(looked_at(gate), WIDE);
    assert_int_equal(looked_at(layer_norm), WIDE);
    *wide = 0;
    close_gpu(unused);
    open_gpu(unused);
    assert_int_equal(looked_at(gate), BARE);
}

/* But for the lists of calls that are prepared. */
static void a_kind_of_product_is_asked_for_once(void **unused)
{
    int *lists = number("standin_lt_lists");

    (void)unused;
    looked_at(layer_norm);
    *lists = 0;
    looked_at(layer_norm);
    const int calls = *lists;
    looked_at(layer_norm);
    assert_int_equal(*lists, 2 * calls);
    assert_int_equal(calls, 2); /* a pass and a gradient */
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
        cmocka_unit_test(a_result_is_in_bf16_where_all_take_it_so),
        cmocka_unit_test(what_cublaslt_cannot_is_in_f32),
        cmocka_unit_test(a_kind_of_product_is_asked_for_once),
        cmocka_unit_test(in_f32_nothing_is),
    };

    return cmocka_run_group_tests(tests, open_gpu, close_gpu);
}
