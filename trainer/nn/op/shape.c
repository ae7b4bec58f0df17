/* Operations that move elements and compute nothing: other names for the same memory (reshape, view, detach,
 * detach_rows) and copies (slice, pad, concat, upsample). */
#include "trainer/nn/node.h"

static int keep_shape(struct nn_node *y, err *e)
{
    (void)e;
    y->shape = y->src[0]->shape;
    y->type = y->src[0]->type;
    return 0;
}

/* ---- reshape ---- */

static int reshape_shape(struct nn_node *y, err *e)
{
    char a[64], b[64];
    nn_shape x = y->src[0]->shape;

    if (nn_count(x) != nn_count(y->shape))
        return nn_shape_fail(y, e, "%s into %s", nn_shape_text(x, a), nn_shape_text(y->shape, b));
    y->type = y->src[0]->type;
    return 0;
}

static void reshape_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[], nn_tensor dx[])
{
    (void)want;
    dx[0] = nn_reshape(g, dy, y->src[0]->shape);
}

const nn_op nn_op_reshape = {
    .id = NN_OP_reshape, .name = "reshape", .shape = reshape_shape, .grad = reshape_grad, .alias = true};

nn_tensor nn_reshape(nn_graph *g, nn_tensor x, nn_shape s)
{
    if (nn_same_shape(x->shape, s))
        return x;
    return nn_make(g, (struct nn_node){.op = &nn_op_reshape, .src = {x}, .shape = s});
}

/* ---- slice and pad: each the other's gradient ---- */

static int part_fits(const struct nn_node *y, nn_shape whole, err *e)
{
    int64_t from = y->at.part.from, count = y->at.part.count;
    int dim = y->at.part.dim;
    char text[64];

    if (dim < 0 || dim >= whole.n || from < 0 || count <= 0 || count > whole.d[dim] - from)
        return nn_shape_fail(y, e, "%lld from %lld of dimension %d of %s", (long long)count, (long long)from, dim,
                             nn_shape_text(whole, text));
    return 0;
}

static int slice_shape(struct nn_node *y, err *e)
{
    TRY(part_fits(y, y->src[0]->shape, e));
    TRY(keep_shape(y, e));
    y->shape.d[y->at.part.dim] = y->at.part.count;
    return 0;
}

/* y->shape is the whole that its source is put into. */
static int pad_shape(struct nn_node *y, err *e)
{
    nn_shape part = y->shape;
    char text[64];

    TRY(part_fits(y, y->shape, e));
    part.d[y->at.part.dim] = y->at.part.count;
    if (!nn_same_shape(part, y->src[0]->shape))
        return nn_shape_fail(y, e, "%s is no such part", nn_shape_text(y->src[0]->shape, text));
    y->type = y->src[0]->type;
    return 0;
}

static nn_tensor pad(nn_graph *g, nn_tensor x, nn_shape whole, int dim, int64_t from)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_pad,
                                       .src = {x},
                                       .shape = whole,
                                       .at.part = {.dim = dim, .from = from, .count = x->shape.d[dim]}});
}

static void slice_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[], nn_tensor dx[])
{
    (void)want;
    dx[0] = pad(g, dy, y->src[0]->shape, y->at.part.dim, y->at.part.from);
}

static void pad_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[], nn_tensor dx[])
{
    (void)want;
    dx[0] = nn_slice(g, dy, y->at.part.dim, y->at.part.from, y->at.part.count);
}

const nn_op nn_op_slice = {.id = NN_OP_slice, .name = "slice", .shape = slice_shape, .grad = slice_grad};
const nn_op nn_op_pad = {.id = NN_OP_pad, .name = "pad", .shape = pad_shape, .grad = pad_grad};

nn_tensor nn_slice(nn_graph *g, nn_tensor x, int dim, int64_t from, int64_t count)
{
    if (from == 0 && dim >= 0 && dim < x->shape.n && count == x->shape.d[dim])
        return x;
    return nn_make(
        g, (struct nn_node){.op = &nn_op_slice, .src = {x}, .at.part = {.dim = dim, .from = from, .count = count}});
}

/* ---- view: a piece that lies in one stretch ---- */

static int view_shape(struct nn_node *y, err *e)
{
    int64_t whole = nn_count(y->src[0]->shape), from = y->at.part.from;
    char a[64], b[64];

    if (from < 0 || from > whole - nn_count(y->shape))
        return nn_shape_fail(y, e, "%s from %lld of %s", nn_shape_text(y->shape, a), (long long)from,
                             nn_shape_text(y->src[0]->shape, b));
    y->type = y->src[0]->type;
    return 0;
}

static void view_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[], nn_tensor dx[])
{
    nn_shape x = y->src[0]->shape;

    (void)want;
    dy = nn_reshape(g, dy, NN_SHAPE(nn_count(dy->shape)));
    dx[0] = nn_reshape(g, pad(g, dy, NN_SHAPE(nn_count(x)), 0, y->at.part.from), x);
}

const nn_op nn_op_view = {.id = NN_OP_view, .name = "view", .shape = view_shape, .grad = view_grad, .alias = true};

nn_tensor nn_view(nn_graph *g, nn_tensor x, int64_t from, nn_shape s)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_view, .src = {x}, .shape = s, .at.part.from = from});
}

/* ---- detach, detach_rows ---- */

static int rows_shape(struct nn_node *y, err *e)
{
    nn_shape x = y->src[0]->shape;
    char text[64];

    if (x.n != 3 || y->at.part.count < 0 || y->at.part.count > x.d[1])
        return nn_shape_fail(y, e, "%s has no first %lld rows", nn_shape_text(x, text), (long long)y->at.part.count);
    return keep_shape(y, e);
}

static nn_tensor zero_rows(nn_graph *g, nn_tensor x, int64_t rows)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_zero_rows, .src = {x}, .at.part.count = rows});
}

static void rows_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[], nn_tensor dx[])
{
    (void)want;
    dx[0] = zero_rows(g, dy, y->at.part.count);
}

const nn_op nn_op_detach = {.id = NN_OP_detach, .name = "detach", .shape = keep_shape, .alias = true, .stops = true};
const nn_op nn_op_detach_rows = {
    .id = NN_OP_detach_rows, .name = "detach_rows", .shape = rows_shape, .grad = rows_grad, .alias = true};
const nn_op nn_op_zero_rows = {
    .id = NN_OP_zero_rows, .name = "zero_rows", .shape = rows_shape, .grad = rows_grad};

nn_tensor nn_detach(nn_graph *g, nn_tensor x)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_detach, .src = {x}});
}

nn_tensor nn_detach_rows(nn_graph *g, nn_tensor x, int rows)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_detach_rows, .src = {x}, .at.part.count = rows});
}

/* ---- concat along the last dimension ---- */

static int concat_shape(struct nn_node *y, err *e)
{
    nn_tensor a = y->src[0], b = y->src[1];
    nn_shape s = a->shape, t = b->shape;
    char ta[64], tb[64];

    if (s.n > 0 && s.n == t.n)
        t.d[s.n - 1] = s.d[s.n - 1];
    if (s.n == 0 || !nn_same_shape(s, t) || a->type != b->type)
        return nn_shape_fail(y, e, "%s beside %s", nn_shape_text(a->shape, ta), nn_shape_text(b->shape, tb));
    s.d[s.n - 1] += b->shape.d[s.n - 1];
    y->shape = s;
    y->type = a->type;
    return 0;
}

static void concat_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[], nn_tensor dx[])
{
    int last = y->shape.n - 1;
    int64_t a = y->src[0]->shape.d[last], b = y->src[1]->shape.d[last];

    if (want[0])
        dx[0] = nn_slice(g, dy, last, 0, a);
    if (want[1])
        dx[1] = nn_slice(g, dy, last, a, b);
}

const nn_op nn_op_concat = {.id = NN_OP_concat, .name = "concat", .shape = concat_shape, .grad = concat_grad};

nn_tensor nn_concat(nn_graph *g, nn_tensor a, nn_tensor b)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_concat, .src = {a, b}});
}

/* ---- upsample to the nearest ---- */

/* The builders set y->shape to the height and width wanted; n and c follow the source. */
static int upsample_shape(struct nn_node *y, err *e)
{
    nn_shape x = y->src[0]->shape;
    char text[64];

    if (x.n != 4)
        return nn_shape_fail(y, e, "%s is no map", nn_shape_text(x, text));
    y->shape = NN_SHAPE(x.d[0], y->shape.d[1], y->shape.d[2], x.d[3]);
    y->type = y->src[0]->type;
    return 0;
}

static void upsample_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[], nn_tensor dx[])
{
    (void)want;
    dx[0] = nn_make(g, (struct nn_node){.op = &nn_op_upsample_grad, .src = {dy}, .shape = y->src[0]->shape});
}

const nn_op nn_op_upsample = {
    .id = NN_OP_upsample, .name = "upsample", .shape = upsample_shape, .grad = upsample_grad};
const nn_op nn_op_upsample_grad = {.id = NN_OP_upsample_grad, .name = "upsample_grad", .shape = upsample_shape};

nn_tensor nn_upsample(nn_graph *g, nn_tensor x, int64_t h, int64_t w)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_upsample, .src = {x}, .shape = NN_SHAPE(1, h, w, 1)});
}
