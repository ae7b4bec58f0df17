/* Laws of packs: concepts that go through one graph get, each, the bytes that each gets alone, forward and backward, with
 * our own kernels and with the library's, whatever the number of threads; a slot is nobody else's; a cleared one is as new. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/mem.h"
#include "tests/trainer/nn/rows.h"
#include "trainer/nn/plan.h"

enum { SLOTS = 5, ROWS = 2, TRAINED = 2 };
static const char *const NAMES[TRAINED] = {"w", "rows"};

/* A map of side * side pixels of c channels, `each` samples a concept. */
typedef struct { int64_t side, c, each; } size;
static const size SIZES[] = {{3, 5, 1}, {4, 24, 2}, {16, 64, 1}, {16, 80, 3}};
enum { SIZES_N = sizeof SIZES / sizeof *SIZES };

static void ok(int rc, const err *e)
{
    if (rc != 0)
        fail_msg("%s", e->text);
}

static float *numbers(size_t n, uint64_t key, float by)
{
    float *x = NEW_N(float, n);

    for (size_t i = 0; i < n; i++)
        x[i] = by * row_number(key, i);
    return x;
}

static void set(nn_params *p, const char *name, nn_shape s, uint64_t key)
{
    float *x = numbers((size_t)nn_count(s), key, 0.2f);
    err e = {0};

    ok(nn_params_set(p, name, s, x, &e), &e);
    free(x);
}

/* Shared weights, and in every slot trained ones of its own. */
static nn_params *weights(nn_backend *on, const size *z)
{
    nn_params *p = nn_params_new(on);
    err e = {0};

    set(p, "conv", NN_SHAPE(z->c, z->c, 3, 3), 1);
    set(p, "bias", NN_SHAPE(z->c), 2);
    set(p, "norm", NN_SHAPE(z->c), 3);
    set(p, "out", NN_SHAPE(2 * z->c, z->c), 4);
    set(p, "w", NN_SHAPE(z->c, z->c), 5);
    set(p, "rows", NN_SHAPE(ROWS, z->c), 6);
    ok(nn_params_train_pack(p, NAMES, TRAINED, SLOTS, &e), &e);
    for (int s = 0; s < SLOTS; s++) {
        nn_params_slot(p, s);
        set(p, "w", NN_SHAPE(z->c, z->c), 100 + (uint64_t)s);
        set(p, "rows", NN_SHAPE(ROWS, z->c), 200 + (uint64_t)s);
    }
    return p;
}

typedef struct { nn_tensor x, ids, loss, grad[TRAINED]; } written;

/* A little of everything that a model has between its trained tensors and its loss. */
static written write(nn_graph *g, const size *z, int64_t n)
{
    written y = {.x = nn_input(g, "x", F32, NN_SHAPE(n, z->side, z->side, z->c)),
                 .ids = nn_input(g, "ids", I32, NN_SHAPE(n, z->side))};
    int64_t pixels = z->side * z->side;
    nn_tensor w = nn_param(g, "w", NN_SHAPE(z->c, z->c)), rows = nn_param(g, "rows", NN_SHAPE(ROWS, z->c));
    nn_tensor text = nn_embedding(g, nn_reshape(g, rows, NN_SHAPE(nn_count(nn_shape_get(rows)) / z->c, z->c)), y.ids, 0);
    nn_tensor key = nn_detach_rows(g, nn_linear(g, text, w, NULL), 1);
    nn_tensor bias = nn_param(g, "bias", NN_SHAPE(z->c)), norm = nn_param(g, "norm", NN_SHAPE(z->c));
    nn_tensor h = nn_conv2d(g, nn_silu(g, y.x), nn_param(g, "conv", NN_SHAPE(z->c, 3, 3, z->c)), bias,
                            (nn_conv){.stride = 1, .pad = {1, 1, 1, 1}});

    h = nn_linear(g, nn_reshape(g, h, NN_SHAPE(n, pixels, z->c)), w, NULL);
    h = nn_attention(g, h, key, key, 1, false);
    h = nn_reshape(g, nn_layer_norm(g, h, norm, bias, 1e-5f), NN_SHAPE(n, z->side, z->side, z->c));
    h = nn_group_norm(g, h, norm, bias, 1, 1e-5f);
    h = nn_conv2d(g, h, nn_param(g, "conv", NN_SHAPE(z->c, 3, 3, z->c)), bias, (nn_conv){.stride = 1, .pad = {1, 1, 1, 1}});
    h = nn_geglu(g, nn_linear(g, h, nn_param(g, "out", NN_SHAPE(2 * z->c, z->c)), NULL));
    y.loss = nn_squared_error(g, h, y.x, NULL);
    return y;
}

/* Slots first .. first + width - 1 in one graph: their losses, and their gradients in train.g. */
static void run(nn_params *p, const size *z, int first, int width, float *loss)
{
    int64_t n = width * z->each, pixels = z->side * z->side;
    nn_pack of = nn_params_pack(p, first, width);
    nn_graph *g = nn_graph_new();
    nn_plan *plan;
    err e = {0};

    nn_pack_set(g, &of);
    written y = write(g, z, n);
    nn_tensor keep[TRAINED + 1] = {[TRAINED] = y.loss}, wrt[TRAINED];
    for (int i = 0; i < TRAINED; i++)
        wrt[i] = nn_param_find(g, NAMES[i]);
    ok(nn_backward(g, nn_sum_to(g, y.loss, NN_SHAPE(1)), NULL, wrt, keep, TRAINED, &e), &e);
    ok(nn_plan_new(&plan, g, p, keep, TRAINED + 1, &e), &e);
    for (int i = 0; i < TRAINED; i++) {
        size_t at, count, all = nn_params_trained_count(p);
        ok(nn_params_trained_at(p, NAMES[i], &at, &count, &e), &e);
        ok(nn_keep_rows_in(plan, keep[i], width, "train.g", (size_t)first * all + at, all, &e), &e);
    }
    float *x = NEW_N(float, n * pixels * z->c);
    int32_t *ids = NEW_N(int32_t, n * z->side);
    for (int64_t i = 0; i < n; i++) {
        uint64_t sample = (uint64_t)first * (uint64_t)z->each + (uint64_t)i;
        for (int64_t k = 0; k < pixels * z->c; k++)
            x[i * pixels * z->c + k] = row_number(1000 + sample, (uint64_t)k);
        for (int64_t k = 0; k < z->side; k++)
            ids[i * z->side + k] = (int32_t)(i / z->each * ROWS + k % ROWS);
    }
    ok(nn_write(plan, y.x, x, (size_t)(n * pixels * z->c) * sizeof *x, &e), &e);
    ok(nn_write(plan, y.ids, ids, (size_t)(n * z->side) * sizeof *ids, &e), &e);
    ok(nn_run(plan, &e), &e);
    ok(nn_read(plan, y.loss, loss, (size_t)n * sizeof *loss, &e), &e);
    nn_plan_free(plan);
    nn_graph_free(g);
    free(x);
    free(ids);
}

static void check(const size *z, int threads, bool reference)
{
    float alone[SLOTS * 3], packed[SLOTS * 3];
    nn_backend *one, *many;
    err e = {0};

    ok(nn_cpu_open(&one, 1, reference, &e), &e);
    ok(nn_cpu_open(&many, threads, reference, &e), &e);
    nn_params *p = weights(one, z), *q = weights(many, z);
    size_t count = nn_params_trained_count(p) * SLOTS;
    float *g = NEW_N(float, count), *h = NEW_N(float, count);
    for (int s = 0; s < SLOTS; s++)
        run(p, z, s, 1, alone + s * z->each);
    run(q, z, 0, 2, packed);
    run(q, z, 2, 3, packed + 2 * z->each);
    ok(nn_params_state_read(p, "train.g", g, count, &e), &e);
    ok(nn_params_state_read(q, "train.g", h, count, &e), &e);
    assert_memory_equal(alone, packed, (size_t)(SLOTS * z->each) * sizeof *alone);
    assert_memory_equal(g, h, count * sizeof *g);
    assert_memory_not_equal(g, g + count / SLOTS, count / SLOTS * sizeof *g);
    run(q, z, 0, SLOTS, packed);
    ok(nn_params_state_read(q, "train.g", h, count, &e), &e);
    assert_memory_equal(g, h, count * sizeof *g);
    free(g);
    free(h);
    nn_params_free(p);
    nn_params_free(q);
    one->close(one);
    many->close(many);
}

static void a_concept_gets_the_bytes_it_gets_alone(void **unused)
{
    (void)unused;
    for (int i = 0; i < SIZES_N; i++)
        for (int threads = 1; threads <= 3; threads++)
            check(&SIZES[i], threads, false);
    check(&SIZES[0], 1, true);
    check(&SIZES[1], 1, true);
}

static void a_slot_is_nobody_elses(void **unused)
{
    nn_backend *on;
    err e = {0};
    float got[25], next[25];

    (void)unused;
    ok(nn_cpu_open(&on, 1, false, &e), &e);
    nn_params *p = weights(on, &SIZES[0]);
    size_t count = nn_params_trained_count(p);
    float *mark = numbers(count, 9, 1);
    ok(nn_params_state_write_at(p, "train.w", 2 * count, mark, count, &e), &e);
    nn_params_slot(p, 2);
    ok(nn_params_get(p, "w", got, 25, &e), &e);
    assert_memory_equal(got, mark, sizeof got);
    for (int s = 1; s <= 3; s += 2) {
        float *mine = numbers(25, 100 + (uint64_t)s, 0.2f);
        nn_params_slot(p, s);
        ok(nn_params_get(p, "w", next, 25, &e), &e);
        assert_memory_equal(next, mine, sizeof next);
        free(mine);
    }
    assert_int_equal(nn_params_state_write_at(p, "train.w", SLOTS * count - 1, mark, 2, &e), ERR_SHAPE);
    free(mark);
    nn_params_free(p);
    on->close(on);
}

static void a_cleared_slot_is_as_new(void **unused)
{
    static const char *const blocks[] = {"train.w", "train.g", "train.m", "train.v"};
    nn_backend *on;
    err e = {0};

    (void)unused;
    ok(nn_cpu_open(&on, 1, false, &e), &e);
    nn_params *p = weights(on, &SIZES[0]);
    size_t count = nn_params_trained_count(p);
    float *mark = numbers(SLOTS * count, 9, 1), *now = NEW_N(float, SLOTS * count);
    for (int i = 0; i < 4; i++)
        ok(nn_params_state_write(p, blocks[i], mark, SLOTS * count, &e), &e);
    nn_params_slot(p, 3);
    ok(nn_params_slot_clear(p, &e), &e);
    for (int i = 0; i < 4; i++) {
        ok(nn_params_state_read(p, blocks[i], now, SLOTS * count, &e), &e);
        for (size_t k = 0; k < SLOTS * count; k++)
            assert_true(now[k] == (k / count == 3 ? 0.0f : mark[k]));
    }
    free(mark);
    free(now);
    nn_params_free(p);
    on->close(on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_concept_gets_the_bytes_it_gets_alone),
        cmocka_unit_test(a_slot_is_nobody_elses),
        cmocka_unit_test(a_cleared_slot_is_as_new),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
