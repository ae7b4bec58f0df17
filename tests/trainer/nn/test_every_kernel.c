/* Laws: every kernel of every operation gives what the reference gives, also when its result is laid over a dying
 * source and when its weights are frozen; threads do not change a bit; a kernel that no row reaches fails by name; none
 * takes a type that it would misread.
 *
 * A row is run forward and backward with references only, then with each kernel of each of its operations put in place,
 * the preferred ones everywhere else.
 *
 *   test_every_kernel [cuda[:N] [bf16]]
 *                                   the kernels of that device against the CPU's references; the second opening of it
 *                                   must give the bits of the first. 77, with a sentence, where it cannot be opened. */
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
#include "trainer/nn/params_layout.h"
#include "trainer/nn/plan.h"

enum { KERNELS = 8 };           /* the most that one list may have */
static const char *device;      /* whose kernels are tried; NULL: the CPU's */
static bool bf16;               /* those it has for products in bf16 */
static nn_backend *plain, *best[3]; /* references; all kernels, with 1 and 2 threads (of a device: opened twice) */
static nn_op_id tried_op;       /* the operation whose kernel is put in place */
static const nn_kernel *tried[KERNELS + 2]; /* that kernel, then the usual list for nodes it declines */
static bool reached[NN_OP_COUNT][KERNELS];
static int wrong;               /* kernels found wanting: all are told, then the test fails */

static const nn_kernel *const *kernels_but_one(nn_op_id op)
{
    return op == tried_op ? tried : best[1]->kernels(op);
}

/* ---- one run of a row ---- */

typedef enum { AS_INPUTS, AS_WEIGHTS, AS_TEMPORARIES } how;

typedef struct {
    nn_graph *g;
    nn_params *w;
    nn_plan *p;
    nn_tensor result[ROW_INPUTS + 1]; /* y and the gradients */
    int n;
} trial;

/* Sources as frozen weights, as inputs, or as temporaries that die at their last use. */
static nn_tensor make_source(trial *t, how as, const char *name, nn_shape s)
{
    if (as == AS_WEIGHTS)
        return nn_param(t->g, name, s);
    nn_tensor x = nn_input(t->g, name, F32, s);
    return as == AS_TEMPORARIES ? nn_scale(t->g, x, 1.0f) : x;
}

static void set_weight(trial *t, const char *name, nn_shape s, uint64_t key)
{
    nn_shape file = s.n == 4 ? NN_SHAPE(s.d[0], s.d[3], s.d[1], s.d[2]) : s;
    float *graph = NEW_N(float, nn_count(s)), *turned = NEW_N(float, nn_count(s));
    err e;

    for (int64_t i = 0; i < nn_count(s); i++)
        graph[i] = row_number(key, (uint64_t)i);
    nn_layout_to_file(turned, graph, file);
    assert_int_equal(nn_params_set(t->w, name, file, turned, &e), 0);
    free(graph);
    free(turned);
}

/* A name's numbers are the same however the source is made. */
static uint64_t key_of(const char *name)
{
    uint64_t key = 0;

    for (; *name; name++)
        key = key * 31 + (unsigned char)*name;
    return key;
}

static void write_inputs(trial *t)
{
    err e;

    for (int id = 0; id < nn_node_count(t->g); id++) {
        nn_tensor in = nn_node_at(t->g, id);
        if (in->op != &nn_op_input)
            continue;
        void *host = mem_new((size_t)nn_bytes(in), 1);
        row_fill(host, in, key_of(in->name));
        assert_int_equal(nn_write(t->p, in, host, (size_t)nn_bytes(in), &e), 0);
        free(host);
    }
}

static void write_graph(trial *t, const nn_row *r, how as)
{
    nn_tensor x[ROW_INPUTS] = {NULL};
    char name[] = "x0";
    err e = {0};

    for (int i = 0; i < row_inputs(r); i++, name[1]++) {
        x[i] = make_source(t, as, name, r->in[i]);
        if (as == AS_WEIGHTS)
            set_weight(t, name, r->in[i], key_of(name));
    }
    t->result[0] = r->write(t->g, x);
    if (nn_check(t->g, &e) != 0)
        fail_msg("%s: %s", r->name, e.text);
    nn_tensor seed = make_source(t, as == AS_WEIGHTS ? AS_INPUTS : as, "seed", t->result[0]->shape);
    if (nn_backward(t->g, t->result[0], seed, x, t->result + 1, row_inputs(r), &e) != 0)
        fail_msg("%s: %s", r->name, e.text);
    t->n = row_inputs(r) + 1;
}

/* keep_all: every node has memory of its own, so that nothing can be overwritten. */
static void run_row(trial *t, const nn_row *r, nn_backend *on, how as, bool keep_all)
{
    err e = {0};

    *t = (trial){.g = nn_graph_new(), .w = nn_params_new(on)};
    write_graph(t, r, as);
    int nodes = nn_node_count(t->g), n = keep_all ? nodes : t->n;
    nn_tensor *keep = NEW_N(nn_tensor, n);
    for (int i = 0; i < n; i++)
        keep[i] = keep_all ? nn_node_at(t->g, i) : t->result[i];
    if (nn_plan_new(&t->p, t->g, t->w, keep, n, &e) != 0)
        fail_msg("%s: %s", r->name, e.text);
    free(keep);
    write_inputs(t);
    for (int runs = keep_all ? 1 : 2; runs > 0; runs--) /* a kernel must leave its sources and its state as they were */
        if (nn_run(t->p, &e) != 0)
            fail_msg("%s: %s", r->name, e.text);
}

static void end(trial *t)
{
    nn_plan_free(t->p);
    nn_params_free(t->w);
    nn_graph_free(t->g);
}

static float *read_result(trial *t, int i)
{
    float *host = NEW_N(float, nn_count(t->result[i]->shape));
    err e;

    assert_int_equal(nn_read(t->p, t->result[i], host, (size_t)nn_bytes(t->result[i]), &e), 0);
    return host;
}

/* ---- comparing ---- */

/* Of the largest value. bf16 keeps 8 bits: sums of products rounded twice are off by a few of 1/256 of it. */
static double tolerance_of(const nn_row *r)
{
    double t = r->tolerance > 0.0 ? r->tolerance : 1e-5;

    return best[1]->computes == NN_BF16 && t < 2e-2 ? 2e-2 : t;
}

static void compare(const nn_row *r, trial *want, trial *got, int i, const char *where)
{
    float *a = read_result(want, i), *b = read_result(got, i);
    double most = 1e-30, off = 0.0;

    for (int64_t k = 0; k < nn_count(want->result[i]->shape); k++) {
        double d = fabs((double)a[k] - (double)b[k]);
        most = fmax(most, fabs((double)a[k]));
        off = d > off || isnan(d) ? d : off;
    }
    free(a);
    free(b);
    if (off <= most * tolerance_of(r))
        return;
    wrong++;
    print_error("%s: %s is off by %g of %g in result %d, %s\n", r->name, tried[0]->name, off, most, i, where);
}

static void same_bits(const nn_row *r, trial *one, trial *two, int i)
{
    float *a = read_result(one, i), *b = read_result(two, i);

    if (memcmp(a, b, (size_t)nn_bytes(one->result[i])) != 0) {
        wrong++;
        print_error("%s: %s changes bits of %s in result %d\n", r->name,
                    device ? "opening the device anew" : "a second thread", tried[0]->name, i);
    }
    free(a);
    free(b);
}

static nn_backend with_kernel(const nn_backend *base)
{
    nn_backend b = *base;

    b.kernels = kernels_but_one;
    return b;
}

static void begin_1(nn_backend *b)
{
    (void)b;
    best[1]->begin(best[1]);
}

static void begin_2(nn_backend *b)
{
    (void)b;
    best[2]->begin(best[2]);
}

static void try_kernel(const nn_row *r, how as, trial *want)
{
    const char *const where[] = {"as inputs", "as weights", "as temporaries"};
    nn_backend one = with_kernel(best[1]), two = with_kernel(best[2]);
    trial a, b;

    one.begin = begin_1;
    two.begin = begin_2;
    run_row(&a, r, &one, as, false);
    run_row(&b, r, &two, as, false);
    for (int i = 0; i < a.n; i++) {
        compare(r, want, &a, i, where[as]);
        same_bits(r, &a, &b, i);
    }
    end(&a);
    end(&b);
}

static void put_in_place(nn_op_id op, const nn_kernel *kernel)
{
    const nn_kernel *const *list = best[1]->kernels(op);
    int n = 1;

    tried_op = op;
    tried[0] = kernel;
    for (int k = 0; list[k]; k++)
        tried[n++] = list[k];
    tried[n] = NULL;
}

/* Every kernel, the reference too, that takes this node. Other rows' operations are tried there. */
static void try_node(const nn_row *r, how as, trial *want, nn_tensor y, bool done[NN_OP_COUNT][KERNELS])
{
    const nn_kernel *const *list = best[1]->kernels(y->op->id);

    if (y->op->id != r->op && y->op->grad)
        return;
    best[1]->begin(best[1]); /* whose libraries takes() asks */
    for (int k = 0; list && list[k]; k++) {
        assert_true(k < KERNELS);
        reached[y->op->id][k] |= bf16 && !strstr(list[k]->name, "bf16"); /* tried without it */
        if (done[y->op->id][k] || (bf16 && !strstr(list[k]->name, "bf16")) || (list[k]->takes && list[k]->takes(y)))
            continue;
        done[y->op->id][k] = reached[y->op->id][k] = true;
        put_in_place(y->op->id, list[k]);
        try_kernel(r, as, want);
    }
}

static void try_row(const nn_row *r, how as)
{
    bool done[NN_OP_COUNT][KERNELS] = {{false}};
    trial want;

    run_row(&want, r, plain, as, true);
    for (int id = 0; id < nn_node_count(want.g); id++)
        try_node(r, as, &want, nn_node_at(want.g, id), done);
    end(&want);
}

static void every_kernel_gives_what_the_reference_gives(void **unused)
{
    (void)unused;
    for (const nn_row *const *f = nn_row_families; *f; f++)
        for (const nn_row *r = *f; r->write; r++)
            for (how as = AS_INPUTS; as <= AS_TEMPORARIES; as++)
                try_row(r, as);
    assert_int_equal(wrong, 0);
}

/* ---- types ---- */

/* y, of sources rounded to bf16 and then left so, or made f32 again. False: refused when it was written or planned. */
static bool run_rounded(trial *t, const nn_row *r, nn_backend *on, dtype as)
{
    nn_tensor x[ROW_INPUTS];
    char name[] = "x0";
    err e = {0};

    *t = (trial){.g = nn_graph_new(), .w = nn_params_new(on), .n = 1};
    for (int i = 0; i < row_inputs(r); i++, name[1]++)
        x[i] = nn_cast(t->g, nn_cast(t->g, nn_input(t->g, name, F32, r->in[i]), BF16), as);
    t->result[0] = nn_cast(t->g, r->write(t->g, x), F32);
    if (nn_plan_new(&t->p, t->g, t->w, t->result, 1, &e) != 0) {
        assert_true(nn_check(t->g, NULL) != 0 || strstr(e.text, "needs f32"));
        return false;
    }
    write_inputs(t);
    if (nn_run(t->p, &e) != 0)
        fail_msg("%s: %s", r->name, e.text);
    return true;
}

static void a_kernel_declines_types_it_cannot_read(void **unused)
{
    (void)unused;
    for (const nn_row *const *f = nn_row_families; *f; f++)
        for (const nn_row *r = *f; r->write; r++) {
            trial half, full;
            bool taken = !r->kernels_only && run_rounded(&half, r, best[1], BF16);
            if (taken) {
                assert_true(run_rounded(&full, r, plain, F32));
                float *a = read_result(&half, 0), *b = read_result(&full, 0);
                for (int64_t i = 0; i < nn_count(half.result[0]->shape); i++)
                    if (!(fabsf(a[i] - b[i]) <= 0.02f * (1.0f + fabsf(b[i]))))
                        fail_msg("%s: %g of bf16 and %g of f32", r->name, (double)a[i], (double)b[i]);
                free(a);
                free(b);
                end(&full);
            }
            if (!r->kernels_only)
                end(&half);
        }
}

/* The states that adamw changes are no row's to write: test_plan holds it against a plain double loop, and test_cuda
 * against the CPU's. */
static bool tested_elsewhere(int op)
{
    return op == NN_OP_adamw;
}

static void every_kernel_is_reached_by_a_row(void **unused)
{
    (void)unused;
    for (int op = 0; op < NN_OP_COUNT; op++) {
        const nn_kernel *const *list = best[1]->kernels((nn_op_id)op);
        for (int k = 0; list && list[k]; k++)
            if (!reached[op][k] && !tested_elsewhere(op))
                fail_msg("no row reaches %s", list[k]->name);
    }
}

static void a_list_ends_in_the_reference(void **unused)
{
    (void)unused;
    if (device) /* whose kernels have a reference on the CPU only */
        skip();
    for (int op = 0; op < NN_OP_COUNT; op++) {
        const nn_kernel *const *list = best[1]->kernels((nn_op_id)op), *const *only = plain->kernels((nn_op_id)op);
        int n = 0;
        while (list && list[n])
            n++;
        if (list)
            assert_ptr_equal(list[n - 1], only[0]);
        assert_true((list != NULL) == (only && only[0]));
    }
}

static int open_backends(void **unused)
{
    err e;

    (void)unused;
    CHECK(nn_cpu_open(&plain, 1, true, &e) == 0);
    CHECK(nn_open(&best[1], device ? device : "cpu", 1, &e) == 0);
    CHECK(nn_open(&best[2], device ? device : "cpu", 2, &e) == 0);
    for (int i = 1; i < 3 && bf16; i++)
        CHECK(best[i]->compute(best[i], NN_BF16, &e) == 0);
    return 0;
}

static int close_backends(void **unused)
{
    (void)unused;
    plain->close(plain);
    best[1]->close(best[1]);
    best[2]->close(best[2]);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_ends_in_the_reference),
        cmocka_unit_test(every_kernel_gives_what_the_reference_gives),
        cmocka_unit_test(every_kernel_is_reached_by_a_row),
        cmocka_unit_test(a_kernel_declines_types_it_cannot_read),
    };

    device = argc > 1 ? argv[1] : NULL;
    bf16 = argc > 2 && strcmp(argv[2], "bf16") == 0;
    if (row_device_missing(device))
        return 77;
    return cmocka_run_group_tests(tests, open_backends, close_backends);
}
