/* A unit is a convolution, its batch norm and a relu. The norm is folded (inception_fold), so that here a unit is a
 * convolution with a bias; its channels are what the file has. Blocks are written as the paper's figures 5 to 7. */
#include "trainer/eval/inception.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/model/block.h"
#include "trainer/nn/node.h"

enum { FID_CLASSES = 1008, IMAGENET_CLASSES = 1000 };
static const float NORM_EPS = 1e-3F;

int inception_shape_from(inception_shape *out, const safetensors *f, err *e)
{
    const st_tensor *fc = st_find(f, "fc.weight");

    if (!fc || fc->n != 2)
        return err_set(e, ERR_INPUT,
                       "%s: no tensor fc.weight, which tells the Inception of FID (%d classes) from torchvision's (%d)",
                       st_path(f), FID_CLASSES, IMAGENET_CLASSES);
    if (fc->d[0] != FID_CLASSES && fc->d[0] != IMAGENET_CLASSES)
        return err_set(e, ERR_INPUT, "%s: fc.weight is for %lld classes; the Inception of FID has %d, torchvision's %d",
                       st_path(f), (long long)fc->d[0], FID_CLASSES, IMAGENET_CLASSES);
    *out = (inception_shape){f, fc->d[0] == FID_CLASSES, (int)fc->d[1]};
    return 0;
}

/* ---- units ---- */

/* Output channels of the unit whose scope is open. */
static int64_t channels(nn_graph *g, const inception_shape *s)
{
    str name = {0};

    str_add(&name, "%s.conv.weight", nn_scope(g));
    const st_tensor *t = st_find(s->file, name.at);
    if (!t || t->n != 4)
        nn_mistake(g, "%s: no convolution %s, which Inception-v3 has", st_path(s->file), name.at);
    str_free(&name);
    return t && t->n == 4 ? t->d[0] : 1;
}

static nn_tensor unit_at(nn_graph *g, const inception_shape *s, const char *name, nn_tensor x, int kh, int kw,
                         nn_conv at)
{
    nn_enter(g, "%s", name);
    int64_t out = channels(g, s);
    nn_enter(g, "conv");
    nn_tensor w = nn_weight(g, "weight", NN_SHAPE(out, kh, kw, block_dim(x, -1)));
    nn_tensor y = nn_relu(g, nn_conv2d(g, x, w, nn_param(g, "bias", NN_SHAPE(out)), at));
    nn_leave(g);
    nn_leave(g);
    return y;
}

/* "Same": the map keeps its size. */
static nn_tensor unit(nn_graph *g, const inception_shape *s, const char *name, nn_tensor x, int kh, int kw)
{
    return unit_at(g, s, name, x, kh, kw, (nn_conv){1, {kh / 2, kw / 2, kh / 2, kw / 2}});
}

static nn_tensor unit_bare(nn_graph *g, const inception_shape *s, const char *name, nn_tensor x, int stride)
{
    return unit_at(g, s, name, x, 3, 3, (nn_conv){.stride = stride});
}

static nn_tensor smaller(nn_graph *g, nn_tensor x)
{
    return nn_pool2d(g, x, NN_POOL_MAX, 3, (nn_conv){.stride = 2});
}

/* The branch that every block of one size has: pooled around each pixel, then 1x1. */
static nn_tensor pooled(nn_graph *g, const inception_shape *s, nn_tensor x, nn_pool how)
{
    return unit(g, s, "branch_pool", nn_pool2d(g, x, how, 3, (nn_conv){1, {1, 1, 1, 1}}), 1, 1);
}

static nn_pool mean(const inception_shape *s)
{
    return s->of_fid ? NN_POOL_MEAN : NN_POOL_MEAN_WHOLE;
}

static nn_tensor beside(nn_graph *g, nn_tensor a, nn_tensor b, nn_tensor c)
{
    return nn_concat(g, nn_concat(g, a, b), c);
}

/* ---- blocks ---- */

static nn_tensor block_a(nn_graph *g, const inception_shape *s, nn_tensor x)
{
    nn_tensor one = unit(g, s, "branch1x1", x, 1, 1);
    nn_tensor five = unit(g, s, "branch5x5_2", unit(g, s, "branch5x5_1", x, 1, 1), 5, 5);
    nn_tensor three = unit(g, s, "branch3x3dbl_2", unit(g, s, "branch3x3dbl_1", x, 1, 1), 3, 3);

    three = unit(g, s, "branch3x3dbl_3", three, 3, 3);
    return nn_concat(g, beside(g, one, five, three), pooled(g, s, x, mean(s)));
}

static nn_tensor block_b(nn_graph *g, const inception_shape *s, nn_tensor x)
{
    nn_tensor three = unit_bare(g, s, "branch3x3", x, 2);
    nn_tensor twice = unit(g, s, "branch3x3dbl_2", unit(g, s, "branch3x3dbl_1", x, 1, 1), 3, 3);

    twice = unit_bare(g, s, "branch3x3dbl_3", twice, 2);
    return beside(g, three, twice, smaller(g, x));
}

static nn_tensor block_c(nn_graph *g, const inception_shape *s, nn_tensor x)
{
    nn_tensor one = unit(g, s, "branch1x1", x, 1, 1);
    nn_tensor seven = unit(g, s, "branch7x7_2", unit(g, s, "branch7x7_1", x, 1, 1), 1, 7);
    nn_tensor twice = unit(g, s, "branch7x7dbl_2", unit(g, s, "branch7x7dbl_1", x, 1, 1), 7, 1);

    seven = unit(g, s, "branch7x7_3", seven, 7, 1);
    twice = unit(g, s, "branch7x7dbl_3", twice, 1, 7);
    twice = unit(g, s, "branch7x7dbl_4", twice, 7, 1);
    twice = unit(g, s, "branch7x7dbl_5", twice, 1, 7);
    return nn_concat(g, beside(g, one, seven, twice), pooled(g, s, x, mean(s)));
}

static nn_tensor block_d(nn_graph *g, const inception_shape *s, nn_tensor x)
{
    nn_tensor three = unit_bare(g, s, "branch3x3_2", unit(g, s, "branch3x3_1", x, 1, 1), 2);
    nn_tensor seven = unit(g, s, "branch7x7x3_2", unit(g, s, "branch7x7x3_1", x, 1, 1), 1, 7);

    seven = unit(g, s, "branch7x7x3_3", seven, 7, 1);
    return beside(g, three, unit_bare(g, s, "branch7x7x3_4", seven, 2), smaller(g, x));
}

static nn_tensor block_e(nn_graph *g, const inception_shape *s, nn_tensor x, nn_pool how)
{
    nn_tensor one = unit(g, s, "branch1x1", x, 1, 1), three = unit(g, s, "branch3x3_1", x, 1, 1);
    nn_tensor twice = unit(g, s, "branch3x3dbl_2", unit(g, s, "branch3x3dbl_1", x, 1, 1), 3, 3);

    three = nn_concat(g, unit(g, s, "branch3x3_2a", three, 1, 3), unit(g, s, "branch3x3_2b", three, 3, 1));
    twice = nn_concat(g, unit(g, s, "branch3x3dbl_3a", twice, 1, 3), unit(g, s, "branch3x3dbl_3b", twice, 3, 1));
    return nn_concat(g, beside(g, one, three, twice), pooled(g, s, x, how));
}

typedef nn_tensor write_block(nn_graph *g, const inception_shape *s, nn_tensor x);

static nn_tensor stem(nn_graph *g, const inception_shape *s, nn_tensor x)
{
    x = unit_bare(g, s, "Conv2d_1a_3x3", x, 2);
    x = unit_bare(g, s, "Conv2d_2a_3x3", x, 1);
    x = smaller(g, unit(g, s, "Conv2d_2b_3x3", x, 3, 3));
    x = unit(g, s, "Conv2d_3b_1x1", x, 1, 1);
    return smaller(g, unit_bare(g, s, "Conv2d_4a_3x3", x, 1));
}

nn_tensor inception_write(nn_graph *g, const inception_shape *s, nn_tensor x)
{
    static const struct { const char *name; write_block *write;
    } BLOCKS[] = {
        {"Mixed_5b", block_a}, {"Mixed_5c", block_a}, {"Mixed_5d", block_a},
        {"Mixed_6a", block_b}, {"Mixed_6b", block_c}, {"Mixed_6c", block_c},
        {"Mixed_6d", block_c}, {"Mixed_6e", block_c}, {"Mixed_7a", block_d},
    };

    x = stem(g, s, x);
    for (size_t i = 0; i < sizeof BLOCKS / sizeof *BLOCKS; i++) {
        nn_enter(g, "%s", BLOCKS[i].name);
        x = BLOCKS[i].write(g, s, x);
        nn_leave(g);
    }
    nn_enter(g, "Mixed_7b");
    x = block_e(g, s, x, mean(s));
    nn_leave(g);
    nn_enter(g, "Mixed_7c");
    x = block_e(g, s, x, s->of_fid ? NN_POOL_MAX : mean(s));
    nn_leave(g);
    int64_t n = block_dim(x, 0), c = block_dim(x, -1), pixels = block_dim(x, 1) * block_dim(x, 2);
    if (c != s->features)
        nn_mistake(g, "%s: %lld features beside a classifier of %d", st_path(s->file), (long long)c, s->features);
    x = nn_sum_to(g, x, NN_SHAPE(n, 1, 1, c));
    return nn_reshape(g, nn_scale(g, x, 1 / (float)pixels), NN_SHAPE(n, c));
}

/* ---- batch norms ---- */

typedef struct { float *weight, *bias, *mean, *var; } norm;

static int read_norm(norm *out, const safetensors *f, const char *unit_name, uint64_t n, err *e)
{
    static const char *const NAMES[] = {"weight", "bias", "running_mean", "running_var"};
    float **to[] = {&out->weight, &out->bias, &out->mean, &out->var};
    str name = {0};
    int rc = 0;

    for (int i = 0; i < 4 && rc == 0; i++) {
        name.n = 0;
        str_add(&name, "%s.bn.%s", unit_name, NAMES[i]);
        *to[i] = NEW_N(float, n);
        if (!st_find(f, name.at))
            rc = err_set(e, ERR_INPUT, "%s: no tensor %s, which Inception-v3 has", st_path(f), name.at);
        else
            rc = st_read_f32(f, name.at, *to[i], n, e);
    }
    str_free(&name);
    return rc;
}

static void norm_free(norm *b)
{
    free(b->weight);
    free(b->bias);
    free(b->mean);
    free(b->var);
}

/* y = gamma (W x - mean) / sqrt(var + eps) + beta */
static int fold_one(nn_params *p, const safetensors *f, const char *unit_name, err *e)
{
    str weight = {0}, bias = {0};
    norm b = {0};

    str_add(&weight, "%s.conv.weight", unit_name);
    str_add(&bias, "%s.conv.bias", unit_name);
    const st_tensor *t = st_find(f, weight.at);
    CHECK(t && t->n == 4); /* channels() has seen it */
    uint64_t out = (uint64_t)t->d[0], each = t->count / out;
    float *w = NEW_N(float, t->count);
    int rc = read_norm(&b, f, unit_name, out, e);
    if (rc == 0)
        rc = st_read_f32(f, weight.at, w, t->count, e);
    for (uint64_t o = 0; o < out && rc == 0; o++) {
        float by = b.weight[o] / sqrtf(b.var[o] + NORM_EPS);
        for (uint64_t i = 0; i < each; i++)
            w[o * each + i] *= by;
        b.bias[o] -= b.mean[o] * by;
    }
    if (rc == 0)
        rc = nn_params_set(p, weight.at, nn_shape_of(t->d, 4), w, e);
    if (rc == 0)
        rc = nn_params_set(p, bias.at, NN_SHAPE((int64_t)out), b.bias, e);
    norm_free(&b);
    free(w);
    str_free(&weight);
    str_free(&bias);
    return rc;
}

int inception_fold(nn_params *p, const nn_graph *g, const inception_shape *s, err *e)
{
    static const char TAIL[] = ".conv.bias";

    for (int i = 0; i < nn_node_count(g); i++) {
        nn_tensor t = nn_node_at(g, i);
        if (t->op != &nn_op_param || !str_ends(t->name, TAIL))
            continue;
        char *unit_name = mem_text(t->name);
        unit_name[strlen(unit_name) - strlen(TAIL)] = '\0';
        int rc = fold_one(p, s->file, unit_name, e);
        free(unit_name);
        TRY(rc);
    }
    return 0;
}
