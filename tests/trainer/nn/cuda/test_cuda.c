/* Laws, on a GPU: at the sizes of Stable Diffusion's layers a device gives what the CPU gives, forward and backward,
 * and the same bits in every run; AdamW moves weights as the CPU's does; a device that is full says how full.
 *
 *   test_cuda [cuda[:N]]    77, with a sentence, where there is none. */
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

static nn_backend *cpu, *gpu;

static void ok(int rc, const err *e)
{
    if (rc != 0)
        fail_msg("%s", e->text);
}

/* ---- layers ---- */

#define S(...) {sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), {__VA_ARGS__}}

static nn_tensor w_conv(nn_graph *g, const nn_tensor x[])
{
    return nn_conv2d(g, x[0], x[1], x[2], (nn_conv){1, {1, 1, 1, 1}});
}

static nn_tensor w_down(nn_graph *g, const nn_tensor x[])
{
    return nn_conv2d(g, x[0], x[1], x[2], (nn_conv){2, {1, 1, 1, 1}});
}

static nn_tensor w_down_vae(nn_graph *g, const nn_tensor x[])
{
    return nn_conv2d(g, x[0], x[1], x[2], (nn_conv){2, {0, 0, 1, 1}});
}

static nn_tensor w_conv1(nn_graph *g, const nn_tensor x[])
{
    return nn_conv2d(g, x[0], x[1], x[2], (nn_conv){1, {0}});
}

static nn_tensor w_linear(nn_graph *g, const nn_tensor x[]) { return nn_linear(g, x[0], x[1], x[2]); }
static nn_tensor w_batch(nn_graph *g, const nn_tensor x[]) { return nn_matmul(g, x[0], x[1], false, true); }
static nn_tensor w_heads8(nn_graph *g, const nn_tensor x[]) { return nn_attention(g, x[0], x[1], x[2], 8, false); }
static nn_tensor w_head1(nn_graph *g, const nn_tensor x[]) { return nn_attention(g, x[0], x[1], x[2], 1, false); }
static nn_tensor w_causal12(nn_graph *g, const nn_tensor x[]) { return nn_attention(g, x[0], x[1], x[2], 12, true); }
static nn_tensor w_group(nn_graph *g, const nn_tensor x[]) { return nn_group_norm(g, x[0], x[1], x[2], 32, 1e-5f); }
static nn_tensor w_layer(nn_graph *g, const nn_tensor x[]) { return nn_layer_norm(g, x[0], x[1], x[2], 1e-5f); }
static nn_tensor w_geglu(nn_graph *g, const nn_tensor x[]) { return nn_geglu(g, x[0]); }

/* tolerance: f32 sums of up to some thousand terms in another order. */
static const nn_row ROWS[] = {
    {NN_OP_conv2d, "conv 3x3, 320 to 320", {S(2, 32, 32, 320), S(320, 3, 3, 320), S(320)}, .write = w_conv},
    {NN_OP_conv2d, "conv 3x3, 4 to 320", {S(1, 64, 64, 4), S(320, 3, 3, 4), S(320)}, .write = w_conv},
    {NN_OP_conv2d, "conv 3x3, 320 to 4", {S(1, 64, 64, 320), S(4, 3, 3, 320), S(4)}, .write = w_conv},
    {NN_OP_conv2d, "conv 3x3, stride 2", {S(1, 32, 32, 320), S(320, 3, 3, 320), S(320)}, .write = w_down},
    {NN_OP_conv2d, "conv 3x3, stride 2, the VAE's padding", {S(1, 64, 64, 128), S(128, 3, 3, 128), S(128)},
     .write = w_down_vae},
    {NN_OP_conv2d, "conv 1x1, 640 to 320", {S(1, 32, 32, 640), S(320, 1, 1, 640), S(320)}, .write = w_conv1},
    {NN_OP_matmul, "linear 1024x320 to 2560", {S(1024, 320), S(2560, 320), S(2560)}, .write = w_linear},
    {NN_OP_matmul, "a pack's linear", {S(3, 77, 768), S(3, 320, 768)}, .write = w_batch},
    {NN_OP_attention, "self-attention, heads of 40", {S(1, 1024, 320), S(1, 1024, 320), S(1, 1024, 320)},
     .write = w_heads8},
    {NN_OP_attention, "cross-attention, heads of 160", {S(2, 64, 1280), S(2, 77, 1280), S(2, 77, 1280)},
     .write = w_heads8},
    {NN_OP_attention, "the VAE's attention", {S(1, 1024, 512), S(1, 1024, 512), S(1, 1024, 512)}, .write = w_head1},
    {NN_OP_attention, "the text encoder's attention", {S(2, 77, 768), S(2, 77, 768), S(2, 77, 768)},
     .write = w_causal12},
    {NN_OP_group_norm, "group norm of 320", {S(2, 64, 64, 320), S(320), S(320)}, .write = w_group},
    {NN_OP_layer_norm, "layer norm of 768", {S(2, 77, 768), S(768), S(768)}, .write = w_layer},
    {NN_OP_geglu, "geglu of 2560", {S(1024, 2560)}, .write = w_geglu},
    {0},
};
static const double TOLERANCE = 1e-4; /* of the largest value */

typedef struct {
    nn_graph *g;
    nn_params *w;
    nn_plan *p;
    nn_tensor result[ROW_INPUTS + 1]; /* y and the gradients */
    int n;
} trial;

static void begin(trial *t, const nn_row *r, nn_backend *on)
{
    nn_tensor x[ROW_INPUTS] = {NULL};
    char name[] = "x0";
    err e;

    *t = (trial){.g = nn_graph_new(), .w = nn_params_new(on), .n = row_inputs(r) + 1};
    for (int i = 0; i < row_inputs(r); i++, name[1]++)
        x[i] = nn_input(t->g, name, F32, r->in[i]);
    t->result[0] = r->write(t->g, x);
    nn_tensor seed = nn_input(t->g, "seed", F32, nn_shape_get(t->result[0]));
    ok(nn_backward(t->g, t->result[0], seed, x, t->result + 1, row_inputs(r), &e), &e);
    ok(nn_plan_new(&t->p, t->g, t->w, t->result, t->n, &e), &e);
    for (int id = 0; id < nn_node_count(t->g); id++) {
        nn_tensor in = nn_node_at(t->g, id);
        if (in->op != &nn_op_input)
            continue;
        void *host = mem_new((size_t)nn_bytes(in), 1);
        row_fill(host, in, (uint64_t)id + 1);
        ok(nn_write(t->p, in, host, (size_t)nn_bytes(in), &e), &e);
        free(host);
    }
}

static void end(trial *t)
{
    nn_plan_free(t->p);
    nn_params_free(t->w);
    nn_graph_free(t->g);
}

static float *run_and_read(trial *t, int i)
{
    float *host = mem_new((size_t)nn_bytes(t->result[i]), 1);
    err e;

    ok(nn_run(t->p, &e), &e);
    ok(nn_read(t->p, t->result[i], host, (size_t)nn_bytes(t->result[i]), &e), &e);
    return host;
}

/* The largest difference, of the largest value wanted; NaN where one is. */
static double worst(const float *want, const float *got, int64_t n)
{
    double most = 1e-30, off = 0.0;

    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)want[i] - (double)got[i]);
        most = fmax(most, fabs((double)want[i]));
        off = d > off || isnan(d) ? d : off;
    }
    return off / most;
}

static int try_layer(const nn_row *r)
{
    trial want, got;
    int wrong = 0;

    begin(&want, r, cpu);
    begin(&got, r, gpu);
    for (int i = 0; i < want.n; i++) {
        float *a = run_and_read(&want, i), *b = run_and_read(&got, i), *again = run_and_read(&got, i);
        double off = worst(a, b, nn_count(nn_shape_get(want.result[i])));
        bool same = memcmp(b, again, (size_t)nn_bytes(got.result[i])) == 0;
        if (!(off < TOLERANCE) || !same)
            print_error("%s: result %d is off by %g%s\n", r->name, i, off, same ? "" : " and changes from run to run");
        wrong += !(off < TOLERANCE) || !same;
        free(a);
        free(b);
        free(again);
    }
    if (wrong)
        nn_plan_show(got.p, stderr);
    end(&want);
    end(&got);
    return wrong;
}

static void layers_give_what_the_cpu_gives_and_the_same_bits_in_every_run(void **unused)
{
    int wrong = 0;

    (void)unused;
    for (const nn_row *r = ROWS; r->write; r++)
        wrong += try_layer(r);
    assert_int_equal(wrong, 0);
}

/* ---- AdamW ---- */

enum { CONCEPTS = 2, COUNT = 1003, ALL = CONCEPTS * COUNT, STEPS = 3 };

/* Three steps on this backend; out: w, m and v. */
static void move_weights(nn_backend *on, bool to_base, float out[3][ALL])
{
    static const char *const NAMES[] = {"w", "m", "v"};
    nn_graph *g = nn_graph_new();
    nn_params *p = nn_params_new(on);
    nn_shape s = NN_SHAPE(CONCEPTS, COUNT);
    nn_tensor st[3], d = nn_input(g, "d", F32, s), h = nn_input(g, "h", F32, NN_SHAPE(CONCEPTS, NN_ADAMW_HYPER));
    nn_plan *plan;
    float host[ALL];
    err e;

    for (int i = 0; i < 3; i++) {
        ok(nn_params_state(p, NAMES[i], s, &e), &e);
        st[i] = nn_state(g, NAMES[i], s);
    }
    for (int i = 0; i < ALL; i++)
        host[i] = row_number(1, (uint64_t)i);
    ok(nn_params_state_write(p, "w", host, ALL, &e), &e);
    nn_tensor w = nn_adamw(g, st[0], st[1], st[2], d, h, to_base ? nn_fill(g, s, 0.5f) : NULL);
    ok(nn_plan_new(&plan, g, p, &w, 1, &e), &e);
    for (int t = 1; t <= STEPS; t++) {
        float hyper[CONCEPTS][NN_ADAMW_HYPER];
        for (int k = 0; k < CONCEPTS; k++) {
            const float at[] = {1e-2f * (float)(k + 1), 0.9f, 0.999f, 1e-8f, 0.01f, 1 - powf(0.9f, (float)t),
                                1 - powf(0.999f, (float)t), 0.5f};
            memcpy(hyper[k], at, sizeof at);
        }
        for (int i = 0; i < ALL; i++)
            host[i] = row_number((uint64_t)t + 1, (uint64_t)i);
        ok(nn_write(plan, d, host, sizeof host, &e), &e);
        ok(nn_write(plan, h, hyper, sizeof hyper, &e), &e);
        ok(nn_run(plan, &e), &e);
    }
    for (int i = 0; i < 3; i++)
        ok(nn_params_state_read(p, NAMES[i], out[i], ALL, &e), &e);
    nn_plan_free(plan);
    nn_params_free(p);
    nn_graph_free(g);
}

static void adamw_moves_weights_as_the_cpus_does(void **unused)
{
    static float want[3][ALL], got[3][ALL];

    (void)unused;
    for (int to_base = 0; to_base < 2; to_base++) {
        move_weights(cpu, to_base, want);
        move_weights(gpu, to_base, got);
        for (int i = 0; i < 3; i++)
            assert_true(worst(want[i], got[i], ALL) < 1e-6);
    }
}

/* ---- memory ---- */

static void a_full_device_says_how_full(void **unused)
{
    void *mem;
    err e = {0};

    (void)unused;
    assert_int_equal(gpu->alloc(gpu, &mem, (size_t)1 << 50, &e), ERR_MEMORY);
    assert_non_null(strstr(e.text, "1073741824.0 MiB are wanted"));
    ok(gpu->alloc(gpu, &mem, 64, &e), &e); /* and goes on */
    assert_int_equal((uintptr_t)mem % 64, 0);
    gpu->release(gpu, mem);
    ok(gpu->wait(gpu, &e), &e);
}

static const char *device;

static int open_both(void **unused)
{
    err e;

    (void)unused;
    CHECK(nn_cpu_open(&cpu, 0, false, &e) == 0);
    CHECK(nn_open(&gpu, device, 1, &e) == 0);
    return 0;
}

static int close_both(void **unused)
{
    (void)unused;
    cpu->close(cpu);
    gpu->close(gpu);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_give_what_the_cpu_gives_and_the_same_bits_in_every_run),
        cmocka_unit_test(adamw_moves_weights_as_the_cpus_does),
        cmocka_unit_test(a_full_device_says_how_full),
    };

    device = argc > 1 ? argv[1] : "cuda";
    if (row_device_missing(device))
        return 77;
    return cmocka_run_group_tests(tests, open_both, close_both);
}
