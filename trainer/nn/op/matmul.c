/* Matrix products: a [m,k] times b [k,n], either of them lying transposed, alone or with one leading batch
 * dimension, plus a bias [n]. A linear layer is this with its leading dimensions flattened into rows. */
#include "trainer/nn/node.h"

/* The matrix a factor stands for, after its flag: rows x columns, and how many of them (0: no batch dimension). */
typedef struct { int64_t batch, rows, cols; } factor;

static factor factor_of(nn_shape s, bool turned)
{
    int64_t r = s.d[s.n - 2], c = s.d[s.n - 1];

    return (factor){s.n == 3 ? s.d[0] : 0, turned ? c : r, turned ? r : c};
}

static int matmul_shape(struct nn_node *y, err *e)
{
    nn_shape sa = y->src[0]->shape, sb = y->src[1]->shape;
    char ta[64], tb[64];

    if (sa.n != sb.n || sa.n < 2 || sa.n > 3)
        return nn_shape_fail(y, e, "%s times %s: two matrices, or two batches of them, are needed",
                             nn_shape_text(sa, ta), nn_shape_text(sb, tb));
    factor a = factor_of(sa, y->at.mat.ta), b = factor_of(sb, y->at.mat.tb);
    if (a.cols != b.rows || a.batch != b.batch)
        return nn_shape_fail(y, e, "%s%s times %s%s", nn_shape_text(sa, ta), y->at.mat.ta ? "'" : "",
                             nn_shape_text(sb, tb), y->at.mat.tb ? "'" : "");
    if (y->src[2] && !nn_same_shape(y->src[2]->shape, NN_SHAPE(b.cols)))
        return nn_shape_fail(y, e, "bias %s beside %lld columns", nn_shape_text(y->src[2]->shape, ta),
                             (long long)b.cols);
    y->shape = a.batch ? NN_SHAPE(a.batch, a.rows, b.cols) : NN_SHAPE(a.rows, b.cols);
    y->type = y->src[0]->type;
    return 0;
}

/* Y = A B  =>  dA = dY B',  dB = A' dY. A factor that lies transposed gets its gradient transposed: both sides of the
 * product change places. */
static void matmul_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[NN_MAX_SRC],
                        nn_tensor dx[NN_MAX_SRC])
{
    nn_tensor a = y->src[0], b = y->src[1];
    bool ta = y->at.mat.ta, tb = y->at.mat.tb;

    if (want[0])
        dx[0] = ta ? nn_matmul(g, b, dy, tb, true) : nn_matmul(g, dy, b, false, !tb);
    if (want[1])
        dx[1] = tb ? nn_matmul(g, dy, a, true, ta) : nn_matmul(g, a, dy, !ta, false);
    if (want[2])
        dx[2] = nn_sum_to(g, dy, y->src[2]->shape);
}

const nn_op nn_op_matmul = {.id = NN_OP_matmul, .name = "matmul", .shape = matmul_shape, .grad = matmul_grad};

static nn_tensor product(nn_graph *g, nn_tensor a, nn_tensor b, nn_tensor bias, bool ta, bool tb)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_matmul, .src = {a, b, bias}, .at.mat = {ta, tb}});
}

nn_tensor nn_matmul(nn_graph *g, nn_tensor a, nn_tensor b, bool ta, bool tb)
{
    return product(g, a, b, NULL, ta, tb);
}

/* x [p * rows..., in], w [p, out, in] */
static nn_tensor linear_of_pack(nn_graph *g, nn_tensor x, nn_tensor w, nn_tensor bias)
{
    nn_shape s = nn_shape_get(x);
    int64_t p = w->shape.d[0], in = s.d[s.n - 1];
    char a[64], b[64];

    if (s.n < 2 || s.d[0] % p != 0)
        return nn_mistake(g, "%s is not the rows of %lld concepts' matrices %s", nn_shape_text(s, a), (long long)p,
                          nn_shape_text(w->shape, b));
    nn_tensor y = product(g, nn_reshape(g, x, NN_SHAPE(p, nn_count(s) / in / p, in)), w, bias, false, true);
    nn_shape ys = nn_shape_get(y);
    s.d[s.n - 1] = ys.d[ys.n - 1];
    return nn_reshape(g, y, s);
}

nn_tensor nn_linear(nn_graph *g, nn_tensor x, nn_tensor w, nn_tensor bias)
{
    nn_shape s = nn_shape_get(x);
    char text[64];

    if (nn_shape_get(w).n == 3)
        return linear_of_pack(g, x, w, bias);
    if (s.n == 2)
        return product(g, x, w, bias, false, true);
    if (s.n == 0)
        return nn_mistake(g, "a number has no last dimension to multiply: %s", nn_shape_text(s, text));
    int64_t in = s.d[s.n - 1], rows = in ? nn_count(s) / in : 0;
    nn_tensor y = product(g, nn_reshape(g, x, NN_SHAPE(rows, in)), w, bias, false, true);
    nn_shape ys = nn_shape_get(y);
    s.d[s.n - 1] = ys.d[ys.n - 1];
    return nn_reshape(g, y, s);
}
