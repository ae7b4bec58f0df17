/* Laws of the choice among cuBLASLt's algorithms (trainer/nn/cuda/cuda_search.c), over the stand-in, whose list has a faster one
 * of other bits, one that refuses, one that wants too much scratch, one that is no answer, a fast and a slow one: the fastest of
 * the first one's bits is taken, once for each kind of product, and where nothing is tried the first, with the same bits. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/mem.h"
#include "tests/trainer/nn/cuda/standin/include/cublasLt.h"
#include "tests/trainer/nn/rows.h"
#include "trainer/nn/plan.h"

/* LARGE^3 multiplications are the fewest that are tried. */
enum { LARGE = 256, SMALL = 64 };

static nn_backend *on;
static int *calls; /* the stand-in's */

static void ok(int rc, const err *e)
{
    if (rc != 0)
        fail_msg("%s", e->text);
}

static void open_device(const char *search, nn_compute as)
{
    err e;

    if (search)
        setenv("CFARM_CUDA_SEARCH", search, 1);
    else
        unsetenv("CFARM_CUDA_SEARCH");
    ok(nn_open(&on, "cuda", 1, &e), &e);
    ok(on->compute(on, as, &e), &e);
    void *plugin = dlopen(getenv("CFARM_CUDA_PLUGIN"), RTLD_NOW | RTLD_NOLOAD);
    assert_non_null(plugin);
    calls = dlsym(plugin, "standin_lt_calls");
    assert_non_null(calls);
    dlclose(plugin); /* who opened it first still has it */
    memset(calls, 0, STANDIN_LT_ALGOS * sizeof *calls);
}

static int all_calls(void)
{
    int n = 0;

    for (int i = 0; i < STANDIN_LT_ALGOS; i++)
        n += calls[i];
    return n;
}

/* A product of n x n matrices made ready and run twice; tried: the calls while it was made ready; to: its result, or NULL. */
typedef struct { int tried, ran[STANDIN_LT_ALGOS]; } told;

static told multiply(int64_t n, bool turned, bool biased, float *to)
{
    nn_graph *g = nn_graph_new();
    nn_params *w = nn_params_new(on);
    nn_tensor in[] = {nn_input(g, "a", F32, NN_SHAPE(n, n)), nn_input(g, "b", F32, NN_SHAPE(n, n)), nn_input(g, "c", F32, NN_SHAPE(n))};
    nn_tensor y = biased ? nn_linear(g, in[0], in[1], in[2]) : nn_matmul(g, in[0], in[1], false, turned);
    nn_plan *p;
    told t = {0};
    err e;

    memset(calls, 0, STANDIN_LT_ALGOS * sizeof *calls);
    ok(nn_plan_new(&p, g, w, &y, 1, &e), &e);
    t.tried = all_calls();
    assert_int_equal(calls[STANDIN_LT_GREEDY] + calls[STANDIN_LT_VOID], 0);
    memset(calls, 0, STANDIN_LT_ALGOS * sizeof *calls);
    for (int i = 0; i < 3; i++) {
        float *host = mem_new((size_t)nn_bytes(in[i]), 1);
        row_fill(host, in[i], (uint64_t)i);
        if (i < 2 || biased)
            ok(nn_write(p, in[i], host, (size_t)nn_bytes(in[i]), &e), &e);
        free(host);
    }
    ok(nn_run(p, &e), &e);
    memcpy(t.ran, calls, sizeof t.ran);
    if (to)
        ok(nn_read(p, y, to, (size_t)nn_bytes(y), &e), &e);
    nn_plan_free(p);
    nn_params_free(w);
    nn_graph_free(g);
    return t;
}

static void close_device(void)
{
    on->close(on);
}

static void the_fastest_of_the_first_ones_bits_is_taken(void **unused)
{
    static float want[LARGE * LARGE], got[LARGE * LARGE];

    (void)unused;
    for (nn_compute as = NN_F32; as <= NN_BF16; as++) {
        open_device("0", as);
        told plain = multiply(LARGE, false, true, want);
        close_device();
        assert_int_equal(plain.tried, 0);
        assert_int_equal(plain.ran[STANDIN_LT_FIRST], 1);
        open_device(NULL, as);
        told tried = multiply(LARGE, false, true, got);
        close_device();
        assert_true(tried.tried > 0);
        assert_int_equal(tried.ran[STANDIN_LT_FAST], 1);
        assert_int_equal(tried.ran[STANDIN_LT_FIRST] + tried.ran[STANDIN_LT_SPLIT] + tried.ran[STANDIN_LT_SLOW], 0);
        assert_memory_equal(got, want, sizeof want);
    }
}

static void each_kind_is_tried_once(void **unused)
{
    (void)unused;
    open_device(NULL, NN_F32);
    assert_true(multiply(LARGE, false, false, NULL).tried > 0);
    told again = multiply(LARGE, false, false, NULL);
    assert_int_equal(again.tried, 0);
    assert_int_equal(again.ran[STANDIN_LT_FAST], 1);
    assert_true(multiply(LARGE, true, false, NULL).tried > 0); /* another layout */
    close_device();
}

static void small_products_are_not_tried(void **unused)
{
    (void)unused;
    open_device(NULL, NN_F32);
    told t = multiply(SMALL, false, false, NULL);
    assert_int_equal(t.tried, 0);
    assert_int_equal(t.ran[STANDIN_LT_FIRST], 1);
    close_device();
}

/* Room for the plan (three matrices of 256 KiB, cuBLASLt's scratch of 32 MiB) and not for a trial, as large, beside the matrices. */
static void without_room_the_first_is_taken(void **unused)
{
    const double room = 33.1 * 1048576;
    size_t left;
    err e;

    (void)unused;
    open_device(NULL, NN_F32);
    ok(on->left(on, &left, &e), &e);
    ok(on->limit(on, room / (double)left, &e), &e);
    told t = multiply(LARGE, false, false, NULL);
    assert_int_equal(t.tried, 0);
    assert_int_equal(t.ran[STANDIN_LT_FIRST], 1);
    ok(on->limit(on, 1.0, &e), &e);
    assert_true(multiply(LARGE, false, false, NULL).tried > 0); /* it was not held to be found */
    close_device();
}

static void nothing_is_tried_while_work_is_recorded(void **unused)
{
    const bool frozen[NN_MAX_SRC] = {false};
    nn_graph *g = nn_graph_new();
    nn_tensor x = nn_input(g, "x", F32, NN_SHAPE(LARGE, LARGE));
    nn_call c = {.y = nn_matmul(g, x, x, false, false)};
    void *mem, *out, *list;
    err e;

    (void)unused;
    open_device(NULL, NN_F32);
    const nn_kernel *k = on->kernels(NN_OP_matmul)[0];
    ok(on->alloc(on, &mem, (size_t)nn_bytes(x), &e), &e);
    ok(on->alloc(on, &out, (size_t)nn_bytes(x), &e), &e);
    c.in[0] = c.in[1] = mem;
    c.out = out;
    ok(on->record(on, &e), &e);
    ok(k->prepare(on, &c, frozen, &e), &e);
    assert_int_equal(all_calls(), 0);
    ok(on->recorded(on, &list, &e), &e); /* the recording is whole */
    on->forget(on, list);
    k->done(&c);
    on->release(on, mem);
    on->release(on, out);
    nn_graph_free(g);
    close_device();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fastest_of_the_first_ones_bits_is_taken),
        cmocka_unit_test(each_kind_is_tried_once),
        cmocka_unit_test(small_products_are_not_tried),
        cmocka_unit_test(without_room_the_first_is_taken),
        cmocka_unit_test(nothing_is_tried_while_work_is_recorded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
