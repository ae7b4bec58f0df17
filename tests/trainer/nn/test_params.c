/* Laws: a weight comes out of its file as it went in, whatever the layout inside; what is trained is one block and
 * nobody else's memory; a reset brings the files' weights back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/base/mem.h"
#include "data/safetensors.h"
#include "tests/trainer/nn/rows.h"
#include "trainer/nn/params_layout.h"
#include "trainer/nn/plan.h"

static char path[] = "/tmp/test_params_XXXXXX";
static safetensors *file;
static nn_backend *cpu;

enum { LINEAR = 6, CONV = 2 * 3 * 2 * 2, NORM = 3 };
static float linear[LINEAR], conv[CONV], norm[NORM];

static void ok(int rc, const err *e)
{
    if (rc != 0)
        fail_msg("%s", e->text);
}

static void numbers(float *to, int n, uint64_t key)
{
    for (int i = 0; i < n; i++)
        to[i] = row_number(key, (uint64_t)i);
}

/* One tensor in f32, one convolution in f16 and one vector in bf16, values such that both hold them exactly. */
static int make_file(void **unused)
{
    static uint16_t half[CONV], brain[NORM];
    err e = {0};

    (void)unused;
    numbers(linear, LINEAR, 1);
    for (int i = 0; i < CONV; i++) {
        conv[i] = (float)(i - 9) / 8.0f;
        half[i] = f16_of_f32(conv[i]);
    }
    for (int i = 0; i < NORM; i++) {
        norm[i] = (float)(i + 1) / 4.0f;
        brain[i] = bf16_of_f32(norm[i]);
    }
    const st_tensor t[] = {
        {.name = "to_k.weight", .type = F32, .n = 2, .d = {2, 3}, .count = LINEAR, .data = linear},
        {.name = "conv.weight", .type = F16, .n = 4, .d = {2, 3, 2, 2}, .count = CONV, .data = half},
        {.name = "norm.weight", .type = BF16, .n = 1, .d = {3}, .count = NORM, .data = brain},
        {.name = "proj.weight", .type = F32, .n = 4, .d = {2, 3, 1, 1}, .count = LINEAR, .data = linear},
    };
    const char *const none[] = {NULL};
    int fd = mkstemp(path);
    if (fd < 0)
        return -1;
    close(fd);
    ok(st_write(path, t, 4, none, none, &e), &e);
    ok(st_open(&file, path, &e), &e);
    return nn_cpu_open(&cpu, 1, false, &e);
}

static int drop_file(void **unused)
{
    (void)unused;
    cpu->close(cpu);
    st_close(file);
    return unlink(path);
}

static nn_params *opened(void)
{
    nn_params *p = nn_params_new(cpu);
    err e = {0};

    ok(nn_params_add_file(p, file, "unet.", &e), &e);
    return p;
}

/* The value of a param as a graph sees it. */
static void graph_value(nn_params *p, const char *name, nn_shape s, float *to)
{
    nn_graph *g = nn_graph_new();
    nn_plan *plan;
    err e = {0};
    nn_tensor w = nn_param(g, name, s);

    ok(nn_plan_new(&plan, g, p, &w, 1, &e), &e);
    ok(nn_run(plan, &e), &e);
    ok(nn_read(plan, w, to, (size_t)nn_count(s) * sizeof *to, &e), &e);
    nn_plan_free(plan);
    nn_graph_free(g);
}

static void a_weight_is_read_converted_and_turned(void **unused)
{
    nn_params *p = opened();
    float got[CONV];
    err e = {0};

    (void)unused;
    graph_value(p, "unet.to_k.weight", NN_SHAPE(2, 3), got);
    assert_memory_equal(got, linear, sizeof linear);
    graph_value(p, "unet.norm.weight", NN_SHAPE(3), got);
    assert_memory_equal(got, norm, sizeof norm);
    graph_value(p, "unet.conv.weight", NN_SHAPE(2, 2, 2, 3), got);
    for (int o = 0; o < 2; o++)
        for (int i = 0; i < 3; i++)
            for (int k = 0; k < 4; k++) /* [o,h,w,i] from [o,i,h,w] */
                assert_true(got[(o * 4 + k) * 3 + i] == conv[(o * 3 + i) * 4 + k]);
    ok(nn_params_get(p, "unet.conv.weight", got, CONV, &e), &e);
    assert_memory_equal(got, conv, sizeof conv); /* and back */
    graph_value(p, "unet.proj.weight", NN_SHAPE(2, 3), got); /* a 1x1 convolution asked for as a linear layer */
    assert_memory_equal(got, linear, sizeof linear);
    nn_params_free(p);
}

static void turning_there_and_back_changes_nothing(void **unused)
{
    const nn_shape shapes[] = {NN_SHAPE(3, 5, 2, 4), NN_SHAPE(3, 5, 1, 1), NN_SHAPE(3, 1, 2, 4), NN_SHAPE(3, 40),
                               NN_SHAPE(120)};
    float file_order[120], graph[120], back[120];

    (void)unused;
    numbers(file_order, 120, 7);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        nn_layout_to_graph(graph, file_order, shapes[i]);
        nn_layout_to_file(back, graph, shapes[i]);
        assert_memory_equal(back, file_order, (size_t)nn_count(shapes[i]) * sizeof *back);
        assert_int_equal(nn_layout_turns(shapes[i]),
                         memcmp(graph, file_order, (size_t)nn_count(shapes[i]) * sizeof *graph) != 0);
    }
}

static void names_stand_in_the_order_of_adding(void **unused)
{
    nn_params *p = opened();
    size_t n = 0;
    nn_shape s;
    err e = {0};

    (void)unused;
    while (nn_params_name(p, n))
        n++;
    assert_int_equal(n, 4);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(nn_params_name(p, i) + 5, st_at(file, i)->name);
    ok(nn_params_set(p, "new.row", NN_SHAPE(1, 2), (const float[]){1, 2}, &e), &e);
    assert_string_equal(nn_params_name(p, 4), "new.row");
    assert_null(nn_params_name(p, 5));
    assert_true(nn_params_has(p, "unet.conv.weight") && !nn_params_has(p, "conv.weight"));
    ok(nn_params_shape(p, "unet.conv.weight", &s, &e), &e);
    assert_true(nn_same_shape(s, NN_SHAPE(2, 3, 2, 2)));
    nn_params_free(p);
}

static void a_wrong_name_or_shape_is_told(void **unused)
{
    nn_params *p = opened();
    nn_graph *g = nn_graph_new();
    float got[CONV];
    bool frozen;
    void *mem;
    err e = {0};

    (void)unused;
    assert_int_equal(nn_params_add_file(p, file, "unet.", &e), ERR_INPUT);
    assert_non_null(strstr(e.text, ".weight stands in a file added before"));
    assert_int_equal(nn_params_bind(p, nn_param(g, "unet.to_v.weight", NN_SHAPE(2, 3)), &mem, &frozen, &e), ERR_INPUT);
    assert_string_equal(e.text, "the model's files have no unet.to_v.weight; the nearest name is unet.to_k.weight");
    assert_int_equal(nn_params_bind(p, nn_param(g, "unet.to_k.weight", NN_SHAPE(3, 2)), &mem, &frozen, &e), ERR_SHAPE);
    assert_string_equal(e.text, "unet.to_k.weight is [2,3] in the file, the model asks for [3,2]");
    assert_int_equal(nn_params_bind(p, nn_state(g, "train.w", NN_SHAPE(1, 2)), &mem, &frozen, &e), ERR_INPUT);
    assert_int_equal(nn_params_get(p, "unet.to_k.weight", got, CONV, &e), ERR_SHAPE);
    assert_int_equal(nn_params_set(p, "unet.to_k.weight", NN_SHAPE(6), linear, &e), ERR_SHAPE);
    assert_int_equal(nn_params_train(p, NULL, 0, &e), ERR_INPUT);
    assert_string_equal(e.text, "there is nothing to train");
    nn_graph_free(g);
    nn_params_free(p);
}

static void what_is_trained_is_one_block(void **unused)
{
    nn_params *p = opened();
    const char *const names[] = {"unet.conv.weight", "new.row", "unet.to_k.weight"};
    size_t at, n;
    float block[64], got[CONV], moved[64];
    err e = {0};

    (void)unused;
    graph_value(p, "unet.to_k.weight", NN_SHAPE(2, 3), got); /* loaded before, moves all the same */
    ok(nn_params_set(p, "new.row", NN_SHAPE(1, 5), (const float[]){1, 2, 3, 4, 5}, &e), &e);
    ok(nn_params_train(p, names, 3, &e), &e);
    assert_int_equal(nn_params_trained_count(p), 32 + 16 + 16); /* pieces begin at multiples of 16 */
    ok(nn_params_trained_at(p, "new.row", &at, &n, &e), &e);
    assert_true(at == 32 && n == 5);
    ok(nn_params_state_read(p, "train.w", block, 64, &e), &e);
    for (int i = 0; i < 64; i++) /* what lies between is zero, and so are gradient and moments */
        assert_true(i < CONV || (i >= 32 && i < 37) || (i >= 48 && i < 54) || block[i] == 0.0f);
    assert_true(block[32] == 1.0f && block[36] == 5.0f);
    assert_memory_equal(block + 48, linear, sizeof linear);
    graph_value(p, "unet.conv.weight", NN_SHAPE(2, 2, 2, 3), got);
    assert_memory_equal(block, got, sizeof got); /* the graph's layout */
    ok(nn_params_get(p, "unet.conv.weight", got, CONV, &e), &e);
    assert_memory_equal(got, conv, sizeof conv); /* the file's */

    numbers(moved, 64, 3);
    ok(nn_params_state_write(p, "train.w", moved, 64, &e), &e);
    graph_value(p, "unet.to_k.weight", NN_SHAPE(2, 3), got);
    assert_memory_equal(got, moved + 48, sizeof linear); /* the same memory */
    assert_true(nn_params_is_trained(p, "new.row") && !nn_params_is_trained(p, "unet.norm.weight"));
    assert_int_equal(nn_params_trained_at(p, "unet.norm.weight", &at, &n, &e), ERR_INPUT);
    assert_int_equal(nn_params_train(p, names, 1, &e), ERR_INPUT);
    assert_string_equal(e.text, "there is a trained block already");
    nn_params_free(p);
}

/* Rounded once, on the way in; names and numbers of the block give the same floats, and graphs ask for bf16. */
static void a_narrow_block_holds_bf16(void **unused)
{
    nn_params *p = opened();
    const char *const names[] = {"unet.conv.weight", "new.row", "unet.to_k.weight"};
    float block[64], got[CONV], exact[2] = {0.5f, -3};
    bool frozen;
    void *mem;
    err e = {0};

    (void)unused;
    graph_value(p, "unet.to_k.weight", NN_SHAPE(2, 3), got); /* loaded before, moves all the same */
    ok(nn_params_set(p, "new.row", NN_SHAPE(1, 5), (const float[]){1, 2, 3, 4, 1.00390625f}, &e), &e);
    nn_params_narrow(p, true);
    assert_int_equal(nn_params_train_pack(p, names, 3, 2, &e), ERR_INPUT);
    nn_params_reset(p);
    ok(nn_params_set(p, "new.row", NN_SHAPE(1, 5), (const float[]){1, 2, 3, 4, 1.001f}, &e), &e);
    nn_params_narrow(p, true);
    ok(nn_params_train(p, names, 3, &e), &e);
    assert_true(nn_params_weights_count(p) == 32 && nn_params_trained_count(p) == 64);
    ok(nn_params_weights_read(p, 0, block, 64, &e), &e);
    assert_true(block[32] == 1 && block[36] == f32_of_bf16(bf16_of_f32(1.001f)));
    for (int i = 0; i < 6; i++)
        assert_true(block[48 + i] == f32_of_bf16(bf16_of_f32(linear[i])));
    ok(nn_params_get(p, "unet.conv.weight", got, CONV, &e), &e);
    for (int i = 0; i < CONV; i++)
        assert_true(got[i] == f32_of_bf16(bf16_of_f32(conv[i])));
    ok(nn_params_weights_write(p, 33, exact, 2, &e), &e);
    ok(nn_params_get(p, "new.row", got, 5, &e), &e);
    assert_true(got[0] == 1 && got[1] == 0.5f && got[2] == -3 && got[3] == 4);
    nn_graph *g = nn_graph_new();
    assert_int_equal(nn_params_bind(p, nn_param(g, "new.row", NN_SHAPE(1, 5)), &mem, &frozen, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "F32"));
    nn_graph_free(g);
    nn_params_free(p);
}

static void a_reset_brings_the_files_weights_back(void **unused)
{
    nn_params *p = opened();
    const char *const names[] = {"unet.conv.weight", "new.row"};
    float got[CONV], other[CONV], zeros[48] = {0}, moments[48];
    err e = {0};

    (void)unused;
    numbers(other, CONV, 9);
    for (int twice = 0; twice < 2; twice++) {
        ok(nn_params_set(p, "unet.to_k.weight", NN_SHAPE(2, 3), other, &e), &e);
        ok(nn_params_set(p, "unet.conv.weight", NN_SHAPE(2, 3, 2, 2), other, &e), &e);
        ok(nn_params_set(p, "new.row", NN_SHAPE(1, 2), other, &e), &e);
        ok(nn_params_train(p, names, 2, &e), &e);
        ok(nn_params_state(p, "mine", NN_SHAPE(4), &e), &e);
        assert_int_equal(nn_params_state(p, "mine", NN_SHAPE(4), &e), ERR_INPUT);
        ok(nn_params_state_read(p, "train.m", moments, 48, &e), &e);
        assert_memory_equal(moments, zeros, sizeof zeros);
        assert_int_equal(nn_params_state_write(p, "train.m", other, 24, &e), ERR_SHAPE);
        ok(nn_params_state_write(p, "train.w", zeros, 48, &e), &e);
        ok(nn_params_get(p, "unet.conv.weight", got, CONV, &e), &e);
        assert_true(got[3] == 0.0f);
        nn_params_reset(p);
        assert_false(nn_params_has(p, "new.row"));
        assert_int_equal(nn_params_trained_count(p), 0);
        assert_int_equal(nn_params_state_read(p, "train.w", got, 1, &e), ERR_INPUT);
        graph_value(p, "unet.to_k.weight", NN_SHAPE(2, 3), got);
        assert_memory_equal(got, linear, sizeof linear);
        ok(nn_params_get(p, "unet.conv.weight", got, CONV, &e), &e);
        assert_memory_equal(got, conv, sizeof conv);
    }
    nn_params_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_weight_is_read_converted_and_turned),
        cmocka_unit_test(turning_there_and_back_changes_nothing),
        cmocka_unit_test(names_stand_in_the_order_of_adding),
        cmocka_unit_test(a_wrong_name_or_shape_is_told),
        cmocka_unit_test(what_is_trained_is_one_block),
        cmocka_unit_test(a_narrow_block_holds_bf16),
        cmocka_unit_test(a_reset_brings_the_files_weights_back),
    };

    return cmocka_run_group_tests(tests, make_file, drop_file);
}
