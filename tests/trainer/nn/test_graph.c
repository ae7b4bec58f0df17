/* Laws: the first mistake is told, with where it was made; what is written after it adds nothing; one name is one
 * node; a gradient is written only between what is trained and the loss. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "trainer/nn/node.h"

static nn_tensor in(nn_graph *g, const char *name, nn_shape s)
{
    return nn_input(g, name, F32, s);
}

/* ---- mistakes ---- */

static nn_tensor add_unlike(nn_graph *g) { return nn_add(g, in(g, "a", NN_SHAPE(3, 4)), in(g, "b", NN_SHAPE(3))); }
static nn_tensor mul_types(nn_graph *g)
{
    return nn_mul(g, in(g, "a", NN_SHAPE(2)), nn_input(g, "b", I32, NN_SHAPE(2)));
}
static nn_tensor widen(nn_graph *g) { return nn_add(g, in(g, "a", NN_SHAPE(4)), in(g, "b", NN_SHAPE(3, 4))); }
static nn_tensor reshape(nn_graph *g) { return nn_reshape(g, in(g, "a", NN_SHAPE(3, 4)), NN_SHAPE(5, 2)); }
static nn_tensor slice_past(nn_graph *g) { return nn_slice(g, in(g, "a", NN_SHAPE(3, 4)), 1, 2, 3); }
static nn_tensor slice_where(nn_graph *g) { return nn_slice(g, in(g, "a", NN_SHAPE(3, 4)), 2, 0, 1); }
static nn_tensor view_past(nn_graph *g) { return nn_view(g, in(g, "a", NN_SHAPE(3, 4)), 5, NN_SHAPE(8)); }
static nn_tensor concat(nn_graph *g)
{
    return nn_concat(g, in(g, "a", NN_SHAPE(2, 3)), in(g, "b", NN_SHAPE(3, 3)));
}
static nn_tensor halves(nn_graph *g) { return nn_geglu(g, in(g, "a", NN_SHAPE(2, 3))); }
static nn_tensor rows(nn_graph *g) { return nn_detach_rows(g, in(g, "a", NN_SHAPE(2, 3, 4)), 4); }
static nn_tensor up(nn_graph *g) { return nn_upsample(g, in(g, "a", NN_SHAPE(2, 3)), 4, 4); }
static nn_tensor sum(nn_graph *g) { return nn_sum_to(g, in(g, "a", NN_SHAPE(2, 3)), NN_SHAPE(2)); }
static nn_tensor expand(nn_graph *g) { return nn_expand(g, in(g, "a", NN_SHAPE(2)), NN_SHAPE(2, 3)); }
static nn_tensor ids(nn_graph *g)
{
    return nn_embedding(g, in(g, "t", NN_SHAPE(5, 3)), in(g, "ids", NN_SHAPE(2, 4)), 0);
}
static nn_tensor wave(nn_graph *g) { return nn_timestep_embedding(g, in(g, "t", NN_SHAPE(2, 1)), 8, true, 0.0f); }
static nn_tensor noise(nn_graph *g) { return nn_normal(g, nn_input(g, "at", I32, NN_SHAPE(2, 3)), NN_SHAPE(4)); }
static nn_tensor mask(nn_graph *g)
{
    nn_shape s = NN_SHAPE(2, 3, 3, 4);

    return nn_squared_error(g, in(g, "a", s), in(g, "b", s), in(g, "m", s));
}
static nn_tensor empty(nn_graph *g) { return in(g, "a", NN_SHAPE(2, 0)); }
static nn_tensor huge(nn_graph *g) { return in(g, "a", NN_SHAPE(1 << 30, 1 << 30)); }
static nn_tensor twice(nn_graph *g)
{
    in(g, "a", NN_SHAPE(2));
    return in(g, "a", NN_SHAPE(2));
}
static nn_tensor two_shapes(nn_graph *g)
{
    nn_param(g, "w", NN_SHAPE(2, 3));
    return nn_param(g, "w", NN_SHAPE(3, 2));
}
static nn_tensor own(nn_graph *g) { return nn_mistake(g, "block %d has no width", 3); }
static nn_tensor cast_words(nn_graph *g) { return nn_cast(g, nn_input(g, "ids", I32, NN_SHAPE(2)), F32); }
static nn_tensor train_input(nn_graph *g)
{
    nn_tensor w = in(g, "w", NN_SHAPE(1, 4)), h = in(g, "h", NN_SHAPE(1, NN_ADAMW_HYPER));

    return nn_adamw(g, w, w, w, w, h, NULL);
}

static const struct {
    nn_tensor (*write)(nn_graph *g);
    const char *says;
} mistakes[] = {
    {add_unlike, "add: [3,4] beside [3]"},
    {widen, "add: [4] beside [3,4]"},
    {mul_types, "mul: F32 beside I32"},
    {reshape, "reshape: [3,4] into [5,2]"},
    {slice_past, "slice: 3 from 2 of dimension 1 of [3,4]"},
    {slice_where, "slice: 1 from 0 of dimension 2 of [3,4]"},
    {view_past, "view: [8] from 5 of [3,4]"},
    {concat, "concat: [2,3] beside [3,3]"},
    {halves, "geglu: [2,3] has no two halves in its last dimension"},
    {rows, "detach_rows: [2,3,4] has no first 4 rows"},
    {up, "upsample: [2,3] is no map"},
    {sum, "sum_to: [2,3] does not sum to [2]"},
    {expand, "expand: [2] does not repeat into [2,3]"},
    {ids, "embedding: F32 [2,4] of table [5,3]"},
    {wave, "timestep_embedding: F32 of [2,1] into 8 sinusoids"},
    {noise, "normal: I32 [2,3] where addresses are I32 [n,4]"},
    {mask, "squared_error: mask [2,3,3,4] over [2,3,3,4]"},
    {empty, "input: [2,0] has an empty dimension"},
    {huge, "input: [1073741824,1073741824] is too large"},
    {twice, "two inputs are called a"},
    {two_shapes, "unet.mid_block.w is asked for as [2,3] and as [3,2]"},
    {own, "block 3 has no width"},
    {cast_words, "cast: I32 to F32"},
    {train_input, "adamw: w, m and v must be states of one shape [concepts, count]"},
};

static void the_first_mistake_is_told_with_its_scope(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        nn_graph *g = nn_graph_new();
        err e = {0};
        char want[200] = "unet.mid_block: ";
        nn_enter(g, "unet");
        nn_enter(g, "mid_block");
        nn_tensor bad = mistakes[i].write(g);
        nn_leave(g);
        reshape(g); /* a second one, elsewhere */
        assert_true(nn_is_mistake(g, bad));
        assert_int_equal(nn_check(g, &e), ERR_SHAPE);
        assert_string_equal(e.text, strncat(want, mistakes[i].says, 150));
        nn_graph_free(g);
    }
}

static void what_is_made_of_a_mistake_adds_nothing(void **unused)
{
    nn_graph *g = nn_graph_new();
    nn_tensor x = in(g, "x", NN_SHAPE(2, 3)), bad = nn_mistake(g, "first");
    int nodes = nn_node_count(g);
    nn_tensor made[] = {
        nn_add(g, x, bad),          nn_scale(g, bad, 2.0f),    nn_reshape(g, bad, NN_SHAPE(7)), nn_geglu(g, bad),
        nn_slice(g, bad, 0, 1, 2),  nn_sum_to(g, bad, x->shape), nn_expand(g, bad, x->shape),  nn_concat(g, bad, x),
        nn_upsample(g, bad, 2, 2),  nn_cast(g, bad, BF16),     nn_embedding(g, bad, x, 0),
        nn_linear(g, bad, x, NULL), nn_matmul(g, x, bad, false, false), nn_detach(g, bad),
        nn_conv2d(g, bad, x, NULL, (nn_conv){1, {0}}), nn_attention(g, bad, x, x, 1, false),
    };
    err e = {0};

    (void)unused;
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        assert_true(nn_is_mistake(g, made[i]));
    assert_int_equal(nn_node_count(g), nodes);
    nn_check(g, &e);
    assert_string_equal(e.text, "first");
    nn_graph_free(g);
}

/* ---- names ---- */

static void one_name_is_one_node(void **unused)
{
    nn_graph *g = nn_graph_new();

    (void)unused;
    nn_enter(g, "unet");
    nn_enter(g, "down_blocks.%d", 12);
    nn_tensor w = nn_param(g, "conv.weight", NN_SHAPE(4, 3));
    assert_string_equal(w->name, "unet.down_blocks.12.conv.weight");
    assert_ptr_equal(w, nn_param(g, "conv.weight", NN_SHAPE(4, 3)));
    nn_leave(g); /* leaves the whole of what was entered, dots and all */
    assert_ptr_equal(w, nn_param(g, "down_blocks.12.conv.weight", NN_SHAPE(4, 3)));
    nn_leave(g);
    assert_ptr_equal(w, nn_param_find(g, "unet.down_blocks.12.conv.weight"));
    assert_null(nn_param_find(g, "conv.weight"));
    nn_tensor s = nn_state(g, "unet.down_blocks.12.conv.weight", NN_SHAPE(1, 2));
    assert_ptr_not_equal(w, s); /* states have names of their own */
    nn_enter(g, "elsewhere");
    assert_ptr_equal(s, nn_state(g, "unet.down_blocks.12.conv.weight", NN_SHAPE(1, 2)));
    assert_int_equal(nn_check(g, NULL), 0);
    nn_graph_free(g);
}

static void a_thousand_names_are_told_apart(void **unused)
{
    enum { MANY = 1000 };
    nn_graph *g = nn_graph_new();
    nn_tensor w[MANY];
    char name[16];

    (void)unused;
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "w%d", i);
        w[i] = nn_param(g, name, NN_SHAPE(i + 1));
    }
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "w%d", i);
        assert_ptr_equal(nn_param_find(g, name), w[i]);
        assert_int_equal(w[i]->shape.d[0], i + 1);
    }
    nn_graph_free(g);
}

/* ---- gradients ---- */

static int count_of(const nn_graph *g, const nn_op *op)
{
    int n = 0;

    for (int id = 0; id < nn_node_count(g); id++)
        n += nn_node_at(g, id)->op == op;
    return n;
}

/* x -> first (frozen) -> second (trained) -> third (frozen) -> loss */
static void only_what_lies_between_gets_a_gradient(void **unused)
{
    nn_graph *g = nn_graph_new();
    nn_tensor x = in(g, "x", NN_SHAPE(5, 4)), wrt = nn_param(g, "second", NN_SHAPE(4, 4)), grad;
    err e;

    (void)unused;
    nn_tensor h = nn_silu(g, nn_linear(g, x, nn_param(g, "first", NN_SHAPE(4, 4)), NULL));
    h = nn_silu(g, nn_linear(g, h, wrt, NULL));
    h = nn_silu(g, nn_linear(g, h, nn_param(g, "third", NN_SHAPE(4, 4)), NULL));
    nn_tensor loss = nn_sum_to(g, h, NN_SHAPE(1));
    assert_int_equal(nn_backward(g, loss, NULL, &wrt, &grad, 1, &e), 0);
    assert_int_equal(count_of(g, &nn_op_silu_grad), 2);  /* behind the second and the third */
    assert_int_equal(count_of(g, &nn_op_matmul), 3 + 2); /* through the third's input, into the second's weight */
    assert_true(nn_same_shape(grad->shape, wrt->shape));
    nn_graph_free(g);
}

static void what_the_loss_does_not_depend_on_gets_zeros(void **unused)
{
    nn_graph *g = nn_graph_new();
    nn_tensor a = in(g, "a", NN_SHAPE(3)), b = in(g, "b", NN_SHAPE(2, 3)), c = in(g, "c", NN_SHAPE(3));
    nn_tensor loss = nn_sum_to(g, nn_add(g, a, nn_detach(g, nn_mul(g, c, c))), NN_SHAPE(1));
    nn_tensor wrt[] = {a, b, c}, grad[3];
    err e;

    (void)unused;
    assert_int_equal(nn_backward(g, loss, NULL, wrt, grad, 3, &e), 0);
    assert_ptr_equal(grad[1]->op, &nn_op_fill);
    assert_true(nn_same_shape(grad[1]->shape, b->shape));
    assert_ptr_equal(grad[2]->op, &nn_op_fill); /* detached */
    assert_true(grad[2]->at.scale == 0.0f && grad[0]->at.scale == 1.0f);
    assert_int_equal(count_of(g, &nn_op_mul), 1); /* nothing was written to find that out */
    nn_graph_free(g);
}

static void a_gradient_through_a_gradient_is_a_mistake(void **unused)
{
    nn_graph *g = nn_graph_new();
    nn_tensor x = in(g, "x", NN_SHAPE(3)), dx, ddx;
    err e = {0};

    (void)unused;
    nn_enter(g, "block");
    nn_tensor loss = nn_sum_to(g, nn_silu(g, x), NN_SHAPE(1));
    nn_leave(g);
    assert_int_equal(nn_backward(g, loss, NULL, &x, &dx, 1, &e), 0);
    assert_int_equal(nn_backward(g, nn_sum_squares(g, dx), NULL, &x, &ddx, 1, &e), ERR_SHAPE);
    assert_string_equal(e.text, "block: silu_grad: no gradient flows through it");
    nn_graph_free(g);
}

static void a_loss_is_one_number_or_has_a_seed(void **unused)
{
    nn_graph *g = nn_graph_new();
    nn_tensor x = in(g, "x", NN_SHAPE(3)), y = nn_scale(g, x, 2.0f), seed = in(g, "seed", NN_SHAPE(3)), dx;
    err e = {0};

    (void)unused;
    assert_int_equal(nn_backward(g, y, NULL, &x, &dx, 1, &e), ERR_SHAPE);
    assert_string_equal(e.text, "a loss is one number, this one is [3]");
    assert_int_equal(nn_backward(g, y, in(g, "other", NN_SHAPE(2)), &x, &dx, 1, &e), ERR_SHAPE);
    assert_int_equal(nn_backward(g, y, seed, &x, &dx, 1, &e), 0);
    assert_int_equal(nn_backward(g, x, seed, &x, &dx, 1, &e), 0); /* of itself: the seed */
    assert_ptr_equal(dx, seed);
    nn_graph_free(g);
}

static void a_shape_is_written_in_brackets_and_cut_when_long(void **unused)
{
    char text[64];

    (void)unused;
    assert_string_equal(nn_shape_text(NN_SHAPE(2, 77, 768), text), "[2,77,768]");
    assert_string_equal(nn_shape_text((nn_shape){0}, text), "[]");
    assert_int_equal(nn_count((nn_shape){0}), 1);
    nn_shape_text(NN_SHAPE(INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX), text);
    assert_int_equal(strlen(text), 63);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_mistake_is_told_with_its_scope),
        cmocka_unit_test(what_is_made_of_a_mistake_adds_nothing),
        cmocka_unit_test(one_name_is_one_node),
        cmocka_unit_test(a_thousand_names_are_told_apart),
        cmocka_unit_test(only_what_lies_between_gets_a_gradient),
        cmocka_unit_test(what_the_loss_does_not_depend_on_gets_zeros),
        cmocka_unit_test(a_gradient_through_a_gradient_is_a_mistake),
        cmocka_unit_test(a_loss_is_one_number_or_has_a_seed),
        cmocka_unit_test(a_shape_is_written_in_brackets_and_cut_when_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
