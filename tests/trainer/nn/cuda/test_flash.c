/* Laws: in bf16, attention of every head that there is a kernel for goes to tensor cores and gives what the reference gives,
 * forward and backward, at shapes that fall into no tiles, with and without a causal mask, and the same bits in every run; a
 * pass that is prepared anew, since its result is to lie elsewhere, still tells its gradient the sums of this run; what has no
 * kernel there is declined with a sentence and computed in f32. With CFARM_CUDA_ATTENTION=cudnn the same of cuDNN's, and what that
 * declines is ours; with =wgmma the pass is by that for the heads that it has.
 *
 *   test_flash [cuda[:N]]    77, with a sentence, where there is none. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/dtype.h"
#include "cluster/base/mem.h"
#include "tests/trainer/nn/rows.h"
#include "trainer/nn/plan.h"

typedef struct { int64_t n, heads, d, tq, tk; bool causal; } shape;
enum { SOURCES = 4, RESULTS = 4 }; /* q, k, v, dy; y, dq, dk, dv */

static nn_backend *cpu, *gpu;

static void ok(int rc, const err *e)
{
    if (rc != 0)
        fail_msg("%s", e->text);
}

typedef struct {
    nn_graph *g;
    nn_params *w;
    nn_plan *p;
    nn_tensor in[SOURCES], out[RESULTS];
    int n; /* results */
} trial;

/* Numbers that bf16 holds, so that what is off comes of the kernels' own rounding. */
static void write_source(trial *t, int i, uint64_t key)
{
    int64_t n = nn_count(t->in[i]->shape);
    float *x = NEW_N(float, n);
    err e;

    for (int64_t k = 0; k < n; k++)
        x[k] = f32_of_bf16(bf16_of_f32(row_number(key + (uint64_t)i, (uint64_t)k) * (i == 0 ? 4.0f : 1.0f)));
    ok(nn_write(t->p, t->in[i], x, (size_t)n * sizeof *x, &e), &e);
    free(x);
}

static void begin(trial *t, const shape *s, nn_backend *on, bool slopes)
{
    static const char *const NAMES[] = {"q", "k", "v", "dy"};
    const int64_t c = s->heads * s->d, rows[] = {s->tq, s->tk, s->tk, s->tq};
    err e;

    *t = (trial){.g = nn_graph_new(), .w = nn_params_new(on), .n = slopes ? RESULTS : 1};
    for (int i = 0; i < (slopes ? SOURCES : 3); i++)
        t->in[i] = nn_input(t->g, NAMES[i], F32, NN_SHAPE(s->n, rows[i], c));
    t->out[0] = nn_attention(t->g, t->in[0], t->in[1], t->in[2], (int)s->heads, s->causal);
    if (slopes)
        ok(nn_backward(t->g, t->out[0], t->in[3], t->in, t->out + 1, 3, &e), &e);
    ok(nn_plan_new(&t->p, t->g, t->w, t->out, t->n, &e), &e);
}

static void write_sources(trial *t, uint64_t key)
{
    for (int i = 0; i < SOURCES && t->in[i]; i++)
        write_source(t, i, key);
}

static void end(trial *t)
{
    nn_plan_free(t->p);
    nn_params_free(t->w);
    nn_graph_free(t->g);
}

static float *read_result(trial *t, int i)
{
    float *host = mem_new((size_t)nn_bytes(t->out[i]), 1);
    err e;

    ok(nn_read(t->p, t->out[i], host, (size_t)nn_bytes(t->out[i]), &e), &e);
    return host;
}

static void run(trial *t)
{
    err e;

    ok(nn_run(t->p, &e), &e);
}

/* The root of the squares of what is off, of the root of the squares of what is wanted; NaN where one is. */
static double off(const float *want, const float *got, int64_t n)
{
    double wrong = 0.0, all = 1e-30;

    for (int64_t i = 0; i < n; i++) {
        wrong += ((double)want[i] - (double)got[i]) * ((double)want[i] - (double)got[i]);
        all += (double)want[i] * (double)want[i];
    }
    return sqrt(wrong / all);
}

/* Shares and slopes are rounded to 8 bits before they are factors: a relative 2^-9 each, at most. */
static const double TOLERANCE = 4e-3;

static void compare(const shape *s, trial *want, trial *got)
{
    for (int i = 0; i < want->n; i++) {
        float *a = read_result(want, i), *b = read_result(got, i);
        double by = off(a, b, nn_count(want->out[i]->shape));
        if (!(by < TOLERANCE))
            fail_msg("heads of %lld, %lld queries, %lld keys%s: result %d is off by %g", (long long)s->d, (long long)s->tq,
                     (long long)s->tk, s->causal ? ", causal" : "", i, by);
        free(a);
        free(b);
    }
}

static void same_bits_again(trial *t)
{
    for (int i = 0; i < t->n; i++) {
        float *a = read_result(t, i);
        run(t);
        float *b = read_result(t, i);
        assert_memory_equal(a, b, (size_t)nn_bytes(t->out[i]));
        free(a);
        free(b);
    }
}

/* The kernel that takes the node of this operation. */
static const nn_kernel *taken_by(const trial *t, nn_op_id op)
{
    const nn_kernel *const *list = gpu->kernels(op);
    nn_tensor y = NULL;

    for (int id = 0; id < nn_node_count(t->g); id++)
        if (nn_node_at(t->g, id)->op->id == op)
            y = nn_node_at(t->g, id);
    assert_non_null(y);
    while ((*list)->takes(y))
        list++;
    return *list;
}

static bool by_cudnn(void)
{
    const char *whose = getenv("CFARM_CUDA_ATTENTION");

    return whose && (strcmp(whose, "cudnn") == 0 || strcmp(whose, "atomics") == 0);
}

/* Whether a pass of such heads is to be by wgmma, which no other is; and its gradient, but of 160. */
static bool by_wgmma(int64_t d)
{
    const char *whose = getenv("CFARM_CUDA_ATTENTION");

    return whose && strcmp(whose, "wgmma") == 0 && (d == 40 || d == 64 || d == 80 || d == 160);
}

static const nn_kernel *flash_of(nn_op_id op)
{
    const nn_kernel *const *k = gpu->kernels(op);

    while (!strstr((*k)->name, "flash_bf16"))
        k++;
    return *k;
}

static bool goes_to_tensor_cores(const trial *t, nn_op_id op)
{
    const char *name = taken_by(t, op)->name;

    return strstr(name, "flash") || (by_cudnn() && strstr(name, "cudnn"));
}

static const shape SHAPES[] = {
    {2, 2, 8, 70, 77, false}, {1, 3, 16, 33, 130, false}, {1, 2, 32, 129, 17, false}, {2, 2, 40, 70, 77, false},
    {1, 1, 40, 200, 150, false}, {1, 1, 40, 1, 1, false}, {1, 2, 40, 64, 64, false}, {1, 2, 64, 70, 77, false},
    {2, 2, 64, 77, 77, true}, {1, 2, 80, 70, 77, false}, {1, 2, 160, 70, 77, false}, {1, 1, 160, 16, 100, false},
    {1, 1, 8, 150, 150, true}, {1, 1, 40, 130, 130, true}, {1, 1, 80, 70, 70, true}, {1, 1, 160, 70, 70, true},
    {1, 1, 40, 70, 520, false}, {1, 2, 40, 300, 300, true}, {1, 1, 64, 200, 330, false}, {1, 1, 80, 65, 200, false},
    {1, 1, 160, 130, 150, false}, {1, 1, 64, 270, 130, false}, {1, 1, 80, 260, 140, false},
};

static void tensor_cores_give_what_the_reference_gives(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++) {
        trial want, got;
        begin(&want, &SHAPES[i], cpu, true);
        begin(&got, &SHAPES[i], gpu, true);
        assert_true(goes_to_tensor_cores(&got, NN_OP_attention) && goes_to_tensor_cores(&got, NN_OP_attention_grad));
        assert_true(!strstr(taken_by(&got, NN_OP_attention)->name, "wgmma") == !by_wgmma(SHAPES[i].d));
        assert_true(!strstr(taken_by(&got, NN_OP_attention_grad)->name, "wgmma") == !(by_wgmma(SHAPES[i].d) && SHAPES[i].d != 160));
        write_sources(&want, 1);
        write_sources(&got, 1);
        run(&want);
        run(&got);
        compare(&SHAPES[i], &want, &got);
        same_bits_again(&got);
        end(&want);
        end(&got);
    }
}

static void a_head_of_512_goes_there_without_its_gradient(void **unused)
{
    const shape vae = {1, 1, 512, 37, 20, false};
    trial want, got, whole;

    (void)unused;
    begin(&want, &vae, cpu, false);
    begin(&got, &vae, gpu, false);
    begin(&whole, &vae, gpu, true);
    assert_true(goes_to_tensor_cores(&got, NN_OP_attention));
    assert_false(goes_to_tensor_cores(&whole, NN_OP_attention_grad));
    write_sources(&want, 1);
    write_sources(&got, 1);
    run(&want);
    run(&got);
    compare(&vae, &want, &got);
    end(&want);
    end(&got);
    end(&whole);
}

/* Which engine there is is cuDNN's to say (test_engines), but for what is declined without asking. */
static void cudnn_is_asked_first_where_it_is_to_be_and_else_not_at_all(void **unused)
{
    static const shape whole = {1, 2, 40, 70, 77, false}, point = {1, 1, 40, 1, 1, false};
    trial t;

    (void)unused;
    begin(&t, &whole, gpu, true);
    assert_true(!strstr(taken_by(&t, NN_OP_attention)->name, "cudnn") == !by_cudnn());
    assert_true(!strstr(taken_by(&t, NN_OP_attention_grad)->name, "cudnn") == !by_cudnn());
    end(&t);
    begin(&t, &point, gpu, true); /* ours continues what cuDNN's pass has kept */
    assert_non_null(strstr(taken_by(&t, NN_OP_attention_grad)->name, "flash"));
    end(&t);
}

/* A product is all that reads it, so a pass makes it in bf16 itself. */
static void a_result_that_its_reader_rounds_is_the_same(void **unused)
{
    static const int64_t HEADS[] = {40, 64, 80, 160};

    (void)unused;
    for (size_t i = 0; i < sizeof HEADS / sizeof *HEADS; i++) {
        const shape s = {1, 2, HEADS[i], 70, 90, false};
        trial want, got, *const both[] = {&want, &got};
        err e;
        for (int k = 0; k < 2; k++) {
            trial *t = both[k];
            begin(t, &s, k ? gpu : cpu, false);
            nn_plan_free(t->p);
            t->out[0] = nn_matmul(t->g, t->out[0], t->in[1], false, true);
            ok(nn_plan_new(&t->p, t->g, t->w, t->out, 1, &e), &e);
            write_sources(t, 1);
            run(t);
        }
        compare(&s, &want, &got);
        end(&want);
        end(&got);
    }
}

/* y moves into a state after the plan was made, and then the numbers change. */
static void a_pass_that_is_prepared_anew_tells_its_gradient_this_runs_sums(void **unused)
{
    const shape s = {1, 2, 40, 20, 30, false};
    trial want, got;
    err e;

    (void)unused;
    begin(&want, &s, cpu, true);
    begin(&got, &s, gpu, true);
    write_sources(&got, 1);
    run(&got);
    ok(nn_params_state(got.w, "y", got.out[0]->shape, &e), &e);
    ok(nn_keep_in(got.p, got.out[0], "y", 0, &e), &e);
    write_sources(&want, 9);
    write_sources(&got, 9);
    run(&want);
    run(&got);
    for (int i = 1; i < RESULTS; i++) {
        float *a = read_result(&want, i), *b = read_result(&got, i);
        assert_true(off(a, b, nn_count(want.out[i]->shape)) < TOLERANCE);
        free(a);
        free(b);
    }
    end(&want);
    end(&got);
}

static void other_heads_are_declined_with_a_sentence_and_computed(void **unused)
{
    const shape odd = {1, 2, 12, 9, 10, false};
    trial want, got;

    (void)unused;
    begin(&want, &odd, cpu, true);
    begin(&got, &odd, gpu, true);
    assert_non_null(strstr(flash_of(NN_OP_attention)->takes(got.out[0]), "needs heads of 8, 16, 32, 40"));
    if (by_cudnn())
        assert_string_equal(gpu->kernels(NN_OP_attention)[0]->takes(got.out[0]), "needs heads of a multiple of 8");
    write_sources(&want, 1);
    write_sources(&got, 1);
    run(&want);
    run(&got);
    compare(&odd, &want, &got);
    end(&want);
    end(&got);
}

static const char *device;

static int open_both(void **unused)
{
    err e;

    (void)unused;
    CHECK(nn_cpu_open(&cpu, 1, true, &e) == 0);
    CHECK(nn_open(&gpu, device, 1, &e) == 0);
    CHECK(gpu->compute(gpu, NN_BF16, &e) == 0);
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
        cmocka_unit_test(tensor_cores_give_what_the_reference_gives),
        cmocka_unit_test(cudnn_is_asked_first_where_it_is_to_be_and_else_not_at_all),
        cmocka_unit_test(a_head_of_512_goes_there_without_its_gradient),
        cmocka_unit_test(a_result_that_its_reader_rounds_is_the_same),
        cmocka_unit_test(a_pass_that_is_prepared_anew_tells_its_gradient_this_runs_sums),
        cmocka_unit_test(other_heads_are_declined_with_a_sentence_and_computed),
    };

    device = argc > 1 ? argv[1] : "cuda";
    if (row_device_missing(device))
        return 77;
    return cmocka_run_group_tests(tests, open_both, close_both);
}
