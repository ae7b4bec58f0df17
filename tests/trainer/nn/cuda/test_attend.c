/* Laws of whose attention is taken (CFARM_CUDA_ATTENTION), over the stand-in: by itself ours, and cuDNN is not asked; `cudnn` asks it
 * once for a shape, and what runs keeps its bits; what adds by atomics runs where `atomics` asks for it, and else never; a gradient
 * that cuDNN does not have, or that wants more than a GiB, is ours and is told what cuDNN's pass has kept; another word is refused.
 * What comes out is test_flash's to say, with each of them. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/mem.h"
#include "tests/trainer/nn/cuda/standin/include/cudnn.h"
#include "trainer/nn/plan.h"

static int *count(const char *name)
{
    void *plugin = dlopen(getenv("CFARM_CUDA_PLUGIN"), RTLD_NOW | RTLD_NOLOAD);
    int *at = dlsym(plugin, name);

    assert_non_null(at);
    dlclose(plugin);
    return at;
}

static void ok(int rc, const err *e)
{
    if (rc != 0)
        fail_msg("%s", e->text);
}

static nn_backend *open_with(const char *whose)
{
    nn_backend *on;
    err e;

    CHECK((whose ? setenv("CFARM_CUDA_ATTENTION", whose, 1) : unsetenv("CFARM_CUDA_ATTENTION")) == 0);
    ok(nn_open(&on, "cuda", 1, &e), &e);
    ok(on->compute(on, NN_BF16, &e), &e);
    return on;
}

typedef struct { int64_t n, heads, d, tokens; } shape;

/* y and its gradients for all three. */
static void describe(nn_graph *g, const shape *s, nn_tensor in[4], nn_tensor out[4])
{
    static const char *const NAMES[] = {"q", "k", "v", "dy"};
    err e;

    for (int i = 0; i < 4; i++)
        in[i] = nn_input(g, NAMES[i], F32, NN_SHAPE(s->n, s->tokens, s->heads * s->d));
    out[0] = nn_attention(g, in[0], in[1], in[2], (int)s->heads, false);
    ok(nn_backward(g, out[0], in[3], in, out + 1, 3, &e), &e);
}

/* Two plans of the same, each run once. */
static void run_twice(nn_backend *on, const shape *s)
{
    float *zeros = NEW_N(float, s->n * s->tokens * s->heads * s->d);
    err e;

    for (int i = 0; i < 2; i++) {
        nn_graph *g = nn_graph_new();
        nn_params *w = nn_params_new(on);
        nn_tensor in[4], out[4];
        nn_plan *p;
        describe(g, s, in, out);
        ok(nn_plan_new(&p, g, w, out, 4, &e), &e);
        for (int k = 0; k < 4; k++)
            ok(nn_write(p, in[k], zeros, (size_t)nn_bytes(in[k]), &e), &e);
        ok(nn_run(p, &e), &e);
        nn_plan_free(p);
        nn_params_free(w);
        nn_graph_free(g);
    }
    free(zeros);
}

/* What a shape makes of cuDNN: plans, and calls of each kind. */
static void makes(const char *whose, shape s, int plans, int passes, int gradients, int atomics)
{
    nn_backend *on = open_with(whose);
    int *calls = count("standin_dnn_calls"), *made = count("standin_dnn_plans");

    *made = calls[STANDIN_DNN_PASS] = calls[STANDIN_DNN_GRADIENT] = calls[STANDIN_DNN_ATOMICS] = 0;
    run_twice(on, &s);
    assert_int_equal(*made, plans);
    assert_int_equal(calls[STANDIN_DNN_PASS], passes);
    assert_int_equal(calls[STANDIN_DNN_GRADIENT], gradients);
    assert_int_equal(calls[STANDIN_DNN_ATOMICS], atomics);
    on->close(on);
}

static const shape SMALL = {1, 2, 40, 9}, WIDE = {1, 1, 160, 9};

static void ours_is_taken_and_cudnn_not_asked_unless_it_is_to_be(void **unused)
{
    (void)unused;
    makes(NULL, SMALL, 0, 0, 0, 0);
    makes("own", SMALL, 0, 0, 0, 0);
}

static void cudnns_is_asked_for_once_and_adds_in_one_order(void **unused)
{
    (void)unused;
    makes("cudnn", SMALL, 2, 2, 2, 0);
}

static void atomics_run_where_they_are_asked_for(void **unused)
{
    (void)unused;
    makes("atomics", SMALL, 2, 2, 0, 2);
}

static void a_gradient_that_cudnn_does_not_have_is_ours(void **unused)
{
    (void)unused;
    makes("cudnn", WIDE, 1, 2, 0, 0);
}

/* Of a gradient of 4096 tokens and 8 samples of 8 heads: the scores in bf16 are 2 GiB. */
static void nor_is_one_that_wants_more_than_a_gib_taken(void **unused)
{
    static const struct { const char *whose; shape s; bool taken; } ROWS[] = {
        {"cudnn", {8, 8, 40, 4096}, false}, {"cudnn", {8, 8, 40, 1024}, true}, {"atomics", {8, 8, 40, 4096}, true}};

    (void)unused;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        nn_backend *on = open_with(ROWS[i].whose);
        nn_graph *g = nn_graph_new();
        nn_tensor in[4], out[4];
        describe(g, &ROWS[i].s, in, out);
        on->begin(on);
        for (int id = 0; id < nn_node_count(g); id++) {
            nn_tensor y = nn_node_at(g, id);
            if (y->op->id != NN_OP_attention_grad)
                continue;
            const nn_kernel *first = on->kernels(NN_OP_attention_grad)[0];
            assert_non_null(strstr(first->name, "cudnn"));
            assert_true(!first->takes(y) == ROWS[i].taken);
        }
        nn_graph_free(g);
        on->close(on);
    }
}

static void another_word_is_refused(void **unused)
{
    nn_backend *on;
    err e;

    (void)unused;
    CHECK(setenv("CFARM_CUDA_ATTENTION", "fastest", 1) == 0);
    assert_int_equal(nn_open(&on, "cuda", 1, &e), ERR_INPUT);
    assert_string_equal(e.text, "CFARM_CUDA_ATTENTION is own, cudnn, atomics or wgmma, not fastest");
}

/* Two devices whose attention differs are of two kinds: what one has made is not continued on the other as if it were the same. */
static void the_kind_of_a_device_names_it(void **unused)
{
    nn_backend *own = open_with("own"), *theirs = open_with("cudnn");

    (void)unused;
    assert_string_not_equal(own->kind, theirs->kind);
    assert_memory_equal(own->kind, theirs->kind, strlen(own->kind));
    own->close(own);
    theirs->close(theirs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ours_is_taken_and_cudnn_not_asked_unless_it_is_to_be),
        cmocka_unit_test(cudnns_is_asked_for_once_and_adds_in_one_order),
        cmocka_unit_test(atomics_run_where_they_are_asked_for),
        cmocka_unit_test(a_gradient_that_cudnn_does_not_have_is_ours),
        cmocka_unit_test(nor_is_one_that_wants_more_than_a_gib_taken),
        cmocka_unit_test(another_word_is_refused),
        cmocka_unit_test(the_kind_of_a_device_names_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
