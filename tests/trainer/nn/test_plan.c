/* Laws: laying memory over each other changes nothing; what nobody asked for is not run; what is predicted is what is
 * used; a result kept in a state is there. */
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
#include "trainer/nn/plan_layout.h"

static nn_backend *cpu;

static void ok(int rc, const err *e)
{
    if (rc != 0)
        fail_msg("%s", e->text);
}

static nn_plan *plan_of(const nn_graph *g, nn_params *w, const nn_tensor keep[], int n)
{
    nn_plan *p = NULL;
    err e = {0};

    ok(nn_plan_new(&p, g, w, keep, n, &e), &e);
    return p;
}

static void write_numbers(nn_plan *p, nn_tensor in, uint64_t key)
{
    float *host = NEW_N(float, nn_count(in->shape));
    err e;

    row_fill(host, in, key);
    ok(nn_write(p, in, host, (size_t)nn_bytes(in), &e), &e);
    free(host);
}

static float *read_all(nn_plan *p, nn_tensor t)
{
    float *host = NEW_N(float, nn_count(t->shape));
    err e;

    ok(nn_read(p, t, host, (size_t)nn_bytes(t), &e), &e);
    return host;
}

static void run(nn_plan *p)
{
    err e;

    ok(nn_run(p, &e), &e);
}

/* ---- layout ---- */

static void assert_apart(const plan_buffer *b, int n)
{
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++)
            if (b[i].from <= b[k].to && b[k].from <= b[i].to)
                assert_true(b[i].at + b[i].bytes <= b[k].at || b[k].at + b[k].bytes <= b[i].at);
}

/* The most that is alive at one time: no layout can do with less. */
static size_t least(const plan_buffer *b, int n, int end)
{
    size_t most = 0;

    for (int t = 0; t < end; t++) {
        size_t sum = 0;
        for (int i = 0; i < n; i++)
            sum += b[i].from <= t && t <= b[i].to ? b[i].bytes : 0;
        most = sum > most ? sum : most;
    }
    return most;
}

static void buffers_alive_together_never_overlap(void **unused)
{
    enum { N = 300, END = 100 };
    plan_buffer b[N];

    (void)unused;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        for (int i = 0; i < N; i++) {
            int from = (int)(50.0f * (row_number(seed, (uint64_t)i) + 1.0f)) % END;
            int length = (int)(8.0f * (row_number(seed + 100, (uint64_t)i) + 1.0f));
            size_t bytes = (size_t)(1 + (int)(500.0f * (row_number(seed + 200, (uint64_t)i) + 1.0f)));
            b[i] = (plan_buffer){.bytes = bytes, .from = from, .to = from + length};
        }
        size_t size = plan_layout(b, N);
        assert_apart(b, N);
        for (int i = 0; i < N; i++)
            assert_true(b[i].at % PLAN_ALIGN == 0 && b[i].at + b[i].bytes <= size);
        assert_true(size < 2 * least(b, N, END + 20));
    }
}

static void a_chain_of_equal_buffers_needs_two(void **unused)
{
    plan_buffer b[100];

    (void)unused;
    for (int i = 0; i < 100; i++)
        b[i] = (plan_buffer){.bytes = 640, .from = i, .to = i + 1};
    assert_int_equal(plan_layout(b, 100), 2 * 640);
    assert_int_equal(plan_layout(b, 0), 0);
}

/* ---- sharing memory changes nothing ---- */

enum { OPS = 60 };

/* A graph of random operations over [6,8] tensors; each picks its sources among all before it, aliases among them. */
static nn_tensor random_op(nn_graph *g, uint64_t seed, int i, const nn_tensor made[])
{
    unsigned pick = (unsigned)(1e6f * (row_number(seed, (uint64_t)i) + 1.0f));
    nn_tensor a = made[pick / 16 % (unsigned)i], b = made[pick / 999 % (unsigned)i];
    nn_shape s = a->shape;

    switch (pick % 12) {
    case 0: return nn_add(g, a, b);
    case 1: return nn_sub(g, b, a);
    case 2: return nn_mul(g, a, nn_view(g, b, 3, NN_SHAPE(8)));
    case 3: return nn_scale(g, a, 0.7f);
    case 4: return nn_silu(g, a);
    case 5: return nn_reshape(g, nn_silu(g, nn_reshape(g, a, NN_SHAPE(2, 24))), s);
    case 6: return nn_geglu(g, nn_concat(g, a, b));
    case 7: return nn_concat(g, nn_slice(g, a, 1, 0, 3), nn_slice(g, b, 1, 2, 5));
    case 8: return nn_expand(g, nn_scale(g, nn_sum_to(g, a, NN_SHAPE(8)), 0.2f), s);
    case 9: return nn_add(g, nn_mul(g, a, a), nn_detach(g, a));
    case 10: return nn_view(g, nn_concat(g, nn_reshape(g, a, NN_SHAPE(48)), nn_reshape(g, b, NN_SHAPE(48))), 17, s);
    default: return nn_reshape(g, nn_detach_rows(g, nn_reshape(g, a, NN_SHAPE(2, 3, 8)), 1), s);
    }
}

static void try_random_graph(uint64_t seed)
{
    nn_graph *g = nn_graph_new();
    nn_params *w = nn_params_new(cpu);
    nn_tensor made[OPS + 2] = {nn_input(g, "x", F32, NN_SHAPE(6, 8)), nn_input(g, "y", F32, NN_SHAPE(6, 8))}, keep[4];
    err e = {0};

    for (int i = 2; i < OPS + 2; i++)
        made[i] = random_op(g, seed, i, made);
    keep[0] = made[OPS + 1];
    keep[1] = made[OPS / 2];
    ok(nn_backward(g, nn_sum_squares(g, keep[0]), NULL, made, keep + 2, 2, &e), &e);
    int nodes = nn_node_count(g);
    nn_tensor *all = NEW_N(nn_tensor, nodes);
    for (int i = 0; i < nodes; i++)
        all[i] = nn_node_at(g, i);
    nn_plan *shared = plan_of(g, w, keep, 4), *apart = plan_of(g, w, all, nodes);
    for (int k = 0; k < 2; k++) {
        write_numbers(shared, made[k], seed + (uint64_t)k);
        write_numbers(apart, made[k], seed + (uint64_t)k);
    }
    for (int twice = 0; twice < 2; twice++) {
        run(shared);
        run(apart);
        for (int k = 0; k < 4; k++) {
            float *a = read_all(shared, keep[k]), *b = read_all(apart, keep[k]);
            if (memcmp(a, b, (size_t)nn_bytes(keep[k])) != 0)
                fail_msg("graph %llu: kept %d differs", (unsigned long long)seed, k);
            free(a);
            free(b);
        }
    }
    assert_true(nn_plan_bytes(shared) < nn_plan_bytes(apart));
    free(all);
    nn_plan_free(shared);
    nn_plan_free(apart);
    nn_params_free(w);
    nn_graph_free(g);
}

static void sharing_memory_changes_nothing(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 150; seed++)
        try_random_graph(seed);
}

static void a_dying_source_is_written_over(void **unused)
{
    nn_graph *g = nn_graph_new();
    nn_params *w = nn_params_new(cpu);
    nn_tensor x = nn_input(g, "x", F32, NN_SHAPE(16, 16)), h = nn_scale(g, x, 2.0f);

    (void)unused;
    for (int i = 0; i < 10; i++)
        h = nn_silu(g, nn_add(g, h, x));
    nn_tensor y = nn_sum_squares(g, h);
    nn_plan *p = plan_of(g, w, &y, 1);
    assert_true(nn_plan_bytes(p) <= 2 * 1024 + 2 * 64); /* x, one temporary, the result, its scratch */
    nn_plan_free(p);
    nn_params_free(w);
    nn_graph_free(g);
}

/* ---- dead code, figures, refusals ---- */

static void what_nobody_asked_for_is_not_run(void **unused)
{
    nn_graph *g = nn_graph_new();
    nn_params *w = nn_params_new(cpu);
    nn_tensor x = nn_input(g, "x", F32, NN_SHAPE(4)), other = nn_input(g, "other", F32, NN_SHAPE(4)), y;
    err e = {0};

    (void)unused;
    nn_tensor dead = nn_silu(g, x);
    nn_add(g, dead, nn_param(g, "absent", NN_SHAPE(4))); /* its weight is not even looked for */
    y = nn_scale(g, nn_reshape(g, nn_detach(g, x), NN_SHAPE(2, 2)), 3.0f);
    nn_silu(g, other);
    nn_plan *p = plan_of(g, w, &y, 1);
    assert_int_equal(nn_plan_calls(p), 1);
    ok(nn_write(p, other, (float[4]){0}, 16, &e), &e); /* written and ignored */
    write_numbers(p, x, 1);
    run(p);
    assert_int_equal(nn_read(p, dead, (float[4]){0}, 16, &e), ERR_INPUT);
    assert_string_equal(e.text, "the tensor read is a silu that the plan was not told to keep");
    nn_plan_free(p);
    nn_params_free(w);
    nn_graph_free(g);
}

static void a_plan_says_what_does_not_fit(void **unused)
{
    nn_graph *g = nn_graph_new();
    nn_params *w = nn_params_new(cpu);
    nn_tensor x = nn_input(g, "pixels", F32, NN_SHAPE(4)), y = nn_scale(g, x, 2.0f), half;
    nn_plan *p = plan_of(g, w, &y, 1);
    err e = {0};

    (void)unused;
    assert_int_equal(nn_run(p, &e), ERR_INPUT);
    assert_string_equal(e.text, "input pixels was never written");
    assert_int_equal(nn_write(p, x, (float[4]){0}, 12, &e), ERR_SHAPE);
    assert_string_equal(e.text, "pixels is F32 [4], 16 bytes, and 12 were given");
    assert_int_equal(nn_read(p, y, (float[4]){0}, 20, &e), ERR_SHAPE);
    nn_plan_free(p);

    nn_enter(g, "unet");
    half = nn_add(g, nn_cast(g, x, BF16), nn_cast(g, x, BF16));
    assert_int_equal(nn_plan_new(&p, g, w, &half, 1, &e), ERR_DEVICE);
    assert_string_equal(e.text, "unet: add: cpu.add.ref needs f32");
    nn_tensor missing = nn_param(g, "conv.weight", NN_SHAPE(3));
    assert_int_equal(nn_plan_new(&p, g, w, &missing, 1, &e), ERR_INPUT);
    assert_string_equal(e.text, "the model's files have no unet.conv.weight");
    nn_mistake(g, "wrong");
    assert_int_equal(nn_plan_new(&p, g, w, &y, 1, &e), ERR_SHAPE);
    assert_string_equal(e.text, "unet: wrong");
    nn_params_free(w);
    nn_graph_free(g);
}

/* Convolution, attention and norms, so that kernels ask for scratch. */
static nn_tensor small_model(nn_graph *g, nn_params *w, nn_tensor x)
{
    const float weights[36 * 9] = {0};
    nn_shape s = x->shape;
    err e;

    ok(nn_params_set(w, "conv", NN_SHAPE(6, 6, 3, 3), weights, &e), &e);
    ok(nn_params_set(w, "norm", NN_SHAPE(6), weights, &e), &e);
    nn_tensor norm = nn_param(g, "norm", NN_SHAPE(6));
    nn_tensor h = nn_group_norm(g, x, norm, norm, 2, 1e-5f);
    h = nn_conv2d(g, h, nn_param(g, "conv", NN_SHAPE(6, 3, 3, 6)), norm, (nn_conv){1, {1, 1, 1, 1}});
    h = nn_reshape(g, h, NN_SHAPE(s.d[0], s.d[1] * s.d[2], 6)); /* [n, h*w, 6] */
    return nn_attention(g, h, h, h, 2, false);
}

static void what_is_predicted_is_what_is_used(void **unused)
{
    (void)unused;
    for (int n = 1; n <= 4; n++)
        for (int trained = 0; trained < 2; trained++) {
            nn_graph *g = nn_graph_new();
            nn_params *w = nn_params_new(cpu);
            nn_tensor x = nn_input(g, "x", F32, NN_SHAPE(n, 9, 7, 6)), keep[3];
            nn_plan_size said = {0};
            err e = {0};
            keep[0] = small_model(g, w, x);
            if (trained)
                ok(nn_params_train(w, (const char *[]){"conv", "norm"}, 2, &e), &e);
            nn_tensor wrt[] = {nn_param(g, "conv", NN_SHAPE(6, 3, 3, 6)), nn_param(g, "norm", NN_SHAPE(6))};
            ok(nn_backward(g, nn_sum_squares(g, keep[0]), NULL, wrt, keep + 1, 2, &e), &e);
            ok(nn_plan_predict(&said, g, w, keep, 3, &e), &e);
            nn_plan *p = plan_of(g, w, keep, 3);
            assert_int_equal(said.plan, nn_plan_bytes(p));
            nn_plan_free(p);
            nn_params_free(w);
            nn_graph_free(g);
        }
}

/* Large enough for layouts of oneDNN's own, in both directions; a plain bias, and a norm to be trained before it all. */
static nn_tensor large_model(nn_graph *g, nn_params *w)
{
    static const struct { const char *name; nn_shape s; } drawn[] = {
        {"norm", {1, {64}}}, {"conv", {4, {64, 3, 3, 64}}}, {"bias", {1, {64}}}, {"linear", {2, {128, 64}}}};
    nn_tensor p[4];
    err e;

    for (int i = 0; i < 4; i++) {
        ok(nn_params_add_drawn(w, drawn[i].name, drawn[i].s, &e), &e);
        p[i] = nn_param(g, drawn[i].name, drawn[i].s);
    }
    nn_tensor h = nn_group_norm(g, nn_input(g, "x", F32, NN_SHAPE(2, 16, 16, 64)), p[0], p[0], 8, 1e-5f);
    h = nn_conv2d(g, h, p[1], p[2], (nn_conv){1, {1, 1, 1, 1}});
    return nn_linear(g, nn_reshape(g, h, NN_SHAPE(512, 64)), p[3], NULL);
}

static void check_weights_predicted(void)
{
    nn_graph *g = nn_graph_new();
    nn_params *w = nn_params_new(cpu);
    nn_plan_size said, again;
    nn_tensor keep[2];
    err e = {0};

    keep[0] = large_model(g, w);
    ok(nn_params_train(w, (const char *[]){"norm"}, 1, &e), &e);
    nn_tensor norm = nn_param_find(g, "norm");
    ok(nn_backward(g, nn_sum_squares(g, keep[0]), NULL, &norm, keep + 1, 1, &e), &e);
    ok(nn_plan_predict(&said, g, w, keep, 2, &e), &e);
    size_t before = nn_params_bytes(w);
    nn_plan *p = plan_of(g, w, keep, 2);
    assert_int_equal(said.plan, nn_plan_bytes(p));
    assert_true(said.weights > 64 * sizeof(float));
    assert_int_equal(said.weights, nn_params_bytes(w) - before);
    ok(nn_plan_predict(&again, g, w, keep, 2, &e), &e); /* another plan of the same graph shares them all */
    assert_int_equal(again.plan, said.plan);
    assert_int_equal(again.weights, 0);
    nn_plan_free(p);
    nn_params_free(w);
    nn_graph_free(g);
}

static void what_weights_will_take_is_predicted_too(void **unused)
{
    err e;

    (void)unused;
    check_weights_predicted();
    if (cpu->compute(cpu, NN_BF16, &e) == 0)
        check_weights_predicted();
    ok(cpu->compute(cpu, NN_F32, &e), &e);
}

/* A chain with a constant in it, whose result is kept. */
static nn_tensor links(nn_graph *g, int n)
{
    nn_tensor x = nn_input(g, "x", F32, NN_SHAPE(1, 6, 5, 4)), h = x;

    for (int i = 0; i < n; i++)
        h = nn_add(g, nn_silu(g, nn_add(g, h, nn_fill(g, x->shape, 0.25f))), x);
    return h;
}

static float *result_of(nn_plan *p, nn_tensor kept)
{
    run(p);
    return read_all(p, kept);
}

static void a_plan_over_another_spoils_neither(void **unused)
{
    nn_graph *g[2] = {nn_graph_new(), nn_graph_new()};
    nn_params *w = nn_params_new(cpu);
    nn_tensor keep[2] = {links(g[0], 5), links(g[1], 3)};
    nn_plan *p[2] = {plan_of(g[0], w, &keep[0], 1)}, *alone = plan_of(g[1], w, &keep[1], 1);
    float *first[2];
    err e = {0};

    (void)unused;
    ok(nn_plan_over(&p[1], p[0], g[1], w, &keep[1], 1, &e), &e);
    assert_true(nn_plan_bytes(p[1]) < nn_plan_bytes(alone));
    for (int i = 0; i < 2; i++) {
        write_numbers(p[i], nn_node_at(g[i], 0), 7 + (uint64_t)i);
        first[i] = result_of(p[i], keep[i]);
    }
    for (int i = 0; i < 2; i++) { /* neither inputs nor constants nor what was kept have gone */
        float *said = read_all(p[i], keep[i]), *again = result_of(p[i], keep[i]);
        assert_memory_equal(first[i], said, (size_t)nn_bytes(keep[i]));
        assert_memory_equal(first[i], again, (size_t)nn_bytes(keep[i]));
        free(said);
        free(again);
        free(first[i]);
    }
    nn_plan_free(alone);
    nn_plan_free(p[1]);
    nn_plan_free(p[0]);
    nn_params_free(w);
    nn_graph_free(g[0]);
    nn_graph_free(g[1]);
}

/* Bytes of a plan over so many convolutions, one behind the other, whose weights move. */
static size_t chain_bytes(int n)
{
    nn_graph *g = nn_graph_new();
    nn_params *w = nn_params_new(cpu);
    const char *names[8];
    nn_tensor h = nn_input(g, "x", F32, NN_SHAPE(1, 16, 16, 64));
    err e = {0};

    for (int i = 0; i < n; i++) {
        nn_enter(g, "%d", i);
        nn_tensor k = nn_param(g, "conv", NN_SHAPE(64, 3, 3, 64));
        nn_leave(g);
        names[i] = k->name;
        ok(nn_params_add_drawn(w, k->name, k->shape, &e), &e);
        h = nn_conv2d(g, h, k, NULL, (nn_conv){1, {1, 1, 1, 1}});
    }
    ok(nn_params_train(w, names, n, &e), &e);
    nn_plan *p = plan_of(g, w, &h, 1);
    size_t bytes = nn_plan_bytes(p);
    nn_plan_free(p);
    nn_params_free(w);
    nn_graph_free(g);
    return bytes;
}

static void weights_that_move_are_laid_out_one_at_a_time(void **unused)
{
    err e;

    (void)unused;
    assert_int_equal(chain_bytes(8), chain_bytes(4));
    if (cpu->compute(cpu, NN_BF16, &e) == 0)
        assert_int_equal(chain_bytes(8), chain_bytes(4));
    ok(cpu->compute(cpu, NN_F32, &e), &e);
}

static void a_plan_shows_its_kernels_and_why_not_others(void **unused)
{
    nn_graph *g = nn_graph_new();
    nn_params *w = nn_params_new(cpu);
    nn_tensor x = nn_input(g, "x", F32, NN_SHAPE(4)), y[2];
    char *text = NULL;
    size_t n = 0;
    err e;

    (void)unused;
    nn_enter(g, "block");
    y[0] = nn_silu(g, x);
    y[1] = nn_cast(g, x, BF16);
    nn_plan *p = plan_of(g, w, y, 2);
    write_numbers(p, x, 1);
    FILE *to = open_memstream(&text, &n);
    nn_plan_show(p, to);
    ok(nn_plan_time(p, to, &e), &e);
    fclose(to);
    assert_non_null(strstr(text, "2 calls on cpu: "));
    assert_non_null(strstr(text, "\tcpu.cast."));
    assert_non_null(strstr(text, "[4]"));
    assert_non_null(strstr(text, "block\n"));
    free(text);
    nn_plan_free(p);
    nn_params_free(w);
    nn_graph_free(g);
}

/* What is shown of a square product, CFARM_WITHOUT being that; the result's bits to `sum`. */
static char *shown_without(const char *what, float sum[16])
{
    nn_graph *g = nn_graph_new();
    nn_params *w = nn_params_new(cpu);
    nn_tensor x = nn_input(g, "x", F32, NN_SHAPE(4, 4)), y = nn_linear(g, x, x, NULL);
    char *text = NULL;
    size_t n = 0;
    err e;

    if (what)
        setenv("CFARM_WITHOUT", what, 1);
    nn_plan *p = plan_of(g, w, &y, 1);
    FILE *to = open_memstream(&text, &n);
    nn_plan_show(p, to);
    fclose(to);
    unsetenv("CFARM_WITHOUT");
    write_numbers(p, x, 1);
    run(p);
    ok(nn_read(p, y, sum, 16 * sizeof *sum, &e), &e);
    nn_plan_free(p);
    nn_params_free(w);
    nn_graph_free(g);
    return text;
}

static void what_is_to_be_done_without_is_taken_only_where_nothing_else_is_left(void **unused)
{
    float sums[3][16];
    char *all = shown_without(NULL, sums[0]), *fewer = shown_without("nothing.such,matmul.tiles", sums[1]), *none = shown_without("cpu.", sums[2]);

    (void)unused;
    assert_null(strstr(all, "CFARM_WITHOUT"));
    assert_non_null(strstr(fewer, "not cpu.matmul.tiles: is to be done without (CFARM_WITHOUT)"));
    assert_non_null(strstr(none, " cpu.matmul.ref "));
    for (int i = 0; i < 16; i++)
        for (int k = 1; k < 3; k++)
            assert_true(fabsf(sums[0][i] - sums[k][i]) < 1e-5f);
    free(all);
    free(fewer);
    free(none);
}

/* ---- things that fail ---- */

static int allocations_left;

static int scarce_alloc(nn_backend *b, void **mem, size_t bytes, err *e)
{
    if (allocations_left-- > 0)
        return cpu->alloc(b, mem, bytes, e);
    return err_set(e, ERR_MEMORY, "none left");
}

static void begin_cpu(nn_backend *b)
{
    (void)b;
    cpu->begin(cpu);
}

/* Everything a step makes, with `left` allocations: what was made before the one refused is given back. */
static int make_with(int left, err *e)
{
    nn_backend scarce = *cpu;
    nn_graph *g = nn_graph_new();
    nn_params *w;
    nn_plan *p = NULL;
    nn_tensor x = nn_input(g, "x", F32, NN_SHAPE(1, 9, 7, 6)), wrt = nn_param(g, "conv", NN_SHAPE(6, 3, 3, 6)), keep[2];

    scarce.alloc = scarce_alloc;
    scarce.begin = begin_cpu;
    w = nn_params_new(&scarce);
    allocations_left = 100;
    keep[0] = small_model(g, w, x);
    ok(nn_backward(g, nn_sum_squares(g, keep[0]), NULL, &wrt, keep + 1, 1, e), e);
    allocations_left = left;
    int rc = nn_params_train(w, (const char *[]){"conv", "norm"}, 2, e);
    if (rc == 0)
        rc = nn_plan_new(&p, g, w, keep, 2, e);
    nn_plan_free(p);
    nn_params_free(w);
    nn_graph_free(g);
    return rc;
}

static void memory_refused_leaves_nothing_behind(void **unused)
{
    err e;
    int left = 0;

    (void)unused;
    for (; make_with(left, &e) != 0; left++)
        assert_int_equal(e.code, ERR_MEMORY);
    assert_true(left >= 7); /* four states, arena, two kept; scratch where a kernel asks for some */
}

static int give_up(nn_backend *b, const nn_call *c)
{
    (void)b;
    (void)c;
    return ERR_DEVICE;
}

static const nn_kernel broken = {.name = "cpu.silu.broken", .run = give_up};

static const nn_kernel *const *broken_kernels(nn_op_id op)
{
    static const nn_kernel *const list[] = {&broken, NULL};

    return op == NN_OP_silu ? list : cpu->kernels(op);
}

static void a_call_that_fails_says_where(void **unused)
{
    nn_backend b = *cpu;
    nn_graph *g = nn_graph_new();
    nn_params *w;
    nn_tensor x = nn_input(g, "x", F32, NN_SHAPE(4)), y;
    err e = {0};

    (void)unused;
    b.kernels = broken_kernels;
    b.begin = begin_cpu;
    w = nn_params_new(&b);
    nn_enter(g, "unet.mid_block");
    y = nn_scale(g, nn_silu(g, nn_scale(g, x, 2.0f)), 3.0f);
    nn_plan *p = plan_of(g, w, &y, 1);
    write_numbers(p, x, 1);
    assert_int_equal(nn_run(p, &e), ERR_DEVICE);
    assert_string_equal(e.text, "unet.mid_block: silu: cpu.silu.broken gave up");
    nn_plan_free(p);
    nn_params_free(w);
    nn_graph_free(g);
}

/* ---- keeping in a state ---- */

static void a_result_kept_in_a_state_is_there(void **unused)
{
    nn_graph *g = nn_graph_new();
    nn_params *w = nn_params_new(cpu);
    nn_tensor x = nn_input(g, "x", F32, NN_SHAPE(4, 4)), h = nn_scale(g, x, 2.0f);
    nn_tensor keep[] = {nn_silu(g, h), nn_view(g, nn_silu(g, nn_scale(g, h, 3.0f)), 4, NN_SHAPE(2, 4)), x,
                        nn_zeros(g, NN_SHAPE(3))};
    enum { N = 64 };
    float got[N], late[16];
    err e = {0};

    (void)unused;
    ok(nn_params_state(w, "train.g", NN_SHAPE(1, N), &e), &e);
    nn_plan *p = plan_of(g, w, keep, 4);
    size_t before = nn_plan_bytes(p);
    ok(nn_keep_in(p, keep[0], "train.g", 0, &e), &e);   /* straight from the kernel */
    assert_true(nn_plan_bytes(p) < before);
    ok(nn_keep_in(p, keep[0], "train.g", 40, &e), &e);  /* and once more */
    ok(nn_keep_in(p, keep[1], "train.g", 16, &e), &e);  /* a piece of something larger */
    ok(nn_keep_in(p, keep[2], "train.g", 24, &e), &e);  /* an input */
    ok(nn_keep_in(p, keep[3], "train.g", 60, &e), &e);  /* a constant */
    assert_int_equal(nn_keep_in(p, keep[0], "train.g", N - 15, &e), ERR_SHAPE);
    assert_string_equal(e.text, "state train.g is [1,64] and ends before element 65");
    assert_int_equal(nn_keep_in(p, keep[0], "train.x", 0, &e), ERR_INPUT);
    for (uint64_t key = 1; key < 3; key++) {
        write_numbers(p, x, key);
        run(p);
        ok(nn_params_state_read(w, "train.g", got, N, &e), &e);
        ok(nn_read(p, keep[0], late, sizeof late, &e), &e);
        float *piece = read_all(p, keep[1]), *in = read_all(p, x);
        assert_memory_equal(got, late, sizeof late);
        assert_memory_equal(got + 40, late, sizeof late);
        assert_memory_equal(got + 16, piece, 8 * sizeof *piece);
        assert_memory_equal(got + 24, in, 16 * sizeof *in);
        assert_true(fabsf(late[5] - 2 * in[5] / (1 + expf(-2 * in[5]))) < 1e-6f);
        assert_true(got[60] == 0.0f && got[63] == 0.0f);
        free(piece);
        free(in);
    }
    nn_plan_free(p);
    nn_params_free(w);
    nn_graph_free(g);
}

/* What adds to train.g reads it as well: the sum may not be laid over what is still to be read. */
static void a_state_can_be_added_to(void **unused)
{
    nn_graph *g = nn_graph_new();
    nn_params *w = nn_params_new(cpu);
    nn_tensor x = nn_input(g, "x", F32, NN_SHAPE(1, 5)), old = nn_state(g, "sum", NN_SHAPE(1, 5));
    nn_tensor keep[] = {nn_add(g, x, old), nn_sum_to(g, old, NN_SHAPE(1))};
    float got[5], before;
    err e;

    (void)unused;
    ok(nn_params_state(w, "sum", NN_SHAPE(1, 5), &e), &e);
    nn_plan *p = plan_of(g, w, keep, 2);
    ok(nn_keep_in(p, keep[0], "sum", 0, &e), &e);
    ok(nn_write(p, x, (const float[]){1, 2, 3, 4, 5}, 20, &e), &e);
    for (int i = 1; i <= 3; i++) {
        run(p);
        ok(nn_params_state_read(w, "sum", got, 5, &e), &e);
        ok(nn_read(p, keep[1], &before, 4, &e), &e);
        assert_true(got[0] == (float)i && got[4] == (float)(5 * i) && before == (float)(15 * (i - 1)));
    }
    nn_plan_free(p);
    nn_params_free(w);
    nn_graph_free(g);
}

static int open_cpu(void **unused)
{
    err e;

    (void)unused;
    return nn_cpu_open(&cpu, 1, false, &e);
}

static int close_cpu(void **unused)
{
    (void)unused;
    cpu->close(cpu);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffers_alive_together_never_overlap),
        cmocka_unit_test(a_chain_of_equal_buffers_needs_two),
        cmocka_unit_test(sharing_memory_changes_nothing),
        cmocka_unit_test(a_dying_source_is_written_over),
        cmocka_unit_test(what_nobody_asked_for_is_not_run),
        cmocka_unit_test(a_plan_says_what_does_not_fit),
        cmocka_unit_test(what_is_predicted_is_what_is_used),
        cmocka_unit_test(what_weights_will_take_is_predicted_too),
        cmocka_unit_test(weights_that_move_are_laid_out_one_at_a_time),
        cmocka_unit_test(a_plan_over_another_spoils_neither),
        cmocka_unit_test(a_plan_shows_its_kernels_and_why_not_others),
        cmocka_unit_test(what_is_to_be_done_without_is_taken_only_where_nothing_else_is_left),
        cmocka_unit_test(memory_refused_leaves_nothing_behind),
        cmocka_unit_test(a_call_that_fails_says_where),
        cmocka_unit_test(a_result_kept_in_a_state_is_there),
        cmocka_unit_test(a_state_can_be_added_to),
    };

    return cmocka_run_group_tests(tests, open_cpu, close_cpu);
}
