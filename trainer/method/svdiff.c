/* Shifts of singular values (Han, Li, Zhang, Milanfar, Metaxas, Yang, "SVDiff: Compact Parameter Space for Diffusion
 * Fine-Tuning", ICCV 2023, arXiv 2303.11305): of every weight matrix W = U diag(s) V of the UNet, and of the text encoder if
 * asked, only d moves in
 *
 *     U diag(relu(s + d)) V,   written as   W + U diag(relu(s + d) - s) V,
 *
 * so that W is met to the last bit at d = 0. Convolutions count as matrices [out, rest]; norms' gains as svdiff.norms says;
 * biases stand still. Pictures and words are DreamBooth's. A file holds the shifts, WEIGHT without ".weight" + ".shift".
 *
 * The shifts of norms are trained, and kept, in thousandths: with one rate for everything they then move at the
 * thousandth of it, as the authors' program has it (1e-3 and 1e-6), since AdamW's steps do not know a scale. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/method/method.h"
#include "trainer/method/shifts.h"
#include "trainer/method/spectrum.h"
#include "trainer/nn/node.h"
#include "trainer/nn/params_layout.h"
#include "trainer/train.h"

static const char WEIGHT[] = "weight", SHIFT[] = "shift";
static const float NORM_UNIT = SHIFTS_NORM_UNIT;

static bool shifts(const char *weight, const train_cfg *how)
{
    return str_ends(weight, ".weight") &&
           (method_of_unet(weight) || (how->train_text_encoder && method_of_text_encoder(weight)));
}

/* The weight's name with another last word: "….to_k.weight" -> "….to_k.shift". */
static void renamed(str *out, const char *weight, const char *what)
{
    str_add(out, "%.*s%s", (int)(strlen(weight) - strlen(WEIGHT)), weight, what);
}

/* ---- training ---- */

static int set(nn_params *p, const char *weight, const char *what, nn_shape s, const float *data, err *e)
{
    str name = {0};

    renamed(&name, weight, what);
    int rc = nn_params_set(p, name.at, s, data, e);
    str_free(&name);
    return rc;
}

/* U and V stand as states, which kernels take as they lie: weights would get a layout for each direction, two models more. */
static int hold(nn_params *p, const char *weight, const char *what, nn_shape s, const float *data, err *e)
{
    str name = {0};

    renamed(&name, weight, what);
    int rc = nn_params_state(p, name.at, s, e);
    if (rc == 0)
        rc = nn_params_state_write(p, name.at, data, (size_t)nn_count(s), e);
    str_free(&name);
    return rc;
}

/* Its rows in a graph's order; of a convolution they lie in the file's. */
static int hold_v(nn_params *p, const char *weight, nn_shape w, const spectrum *x, err *e)
{
    size_t count = (size_t)(x->n * x->cols);
    nn_shape filed = w;
    float *turned = NULL;

    filed.d[0] = x->n;
    if (!nn_layout_turns(filed))
        return hold(p, weight, "svd_v", NN_SHAPE(x->n, x->cols), x->v, e);
    TRY(mem_big((void **)&turned, count * sizeof *turned, "singular vectors", e));
    nn_layout_to_graph(turned, x->v, filed);
    int rc = hold(p, weight, "svd_v", NN_SHAPE(x->n, x->cols), turned, e);
    free(turned);
    return rc;
}

static int set_all(nn_params *p, const char *weight, nn_shape w, const spectrum *x, err *e)
{
    float *zeros = NEW_N(float, x->n);
    int rc = hold(p, weight, "svd_u", w.n == 1 ? NN_SHAPE(x->rows) : NN_SHAPE(x->rows, x->n), x->u, e);

    if (rc == 0)
        rc = set(p, weight, "svd_s", NN_SHAPE(x->n), x->s, e);
    if (rc == 0 && x->v)
        rc = hold_v(p, weight, w, x, e);
    if (rc == 0)
        rc = set(p, weight, SHIFT, NN_SHAPE(x->n), zeros, e);
    free(zeros);
    return rc;
}

static int prepare(sd *model, const train_cfg *how, err *e)
{
    nn_params *p = sd_params(model);
    const char *name;

    for (size_t i = 0; (name = nn_params_name(p, i)) != NULL; i++) {
        spectrum x;
        nn_shape w;
        if (!shifts(name, how))
            continue;
        TRY(nn_params_shape(p, name, &w, e));
        if (w.n == 1 && how->svdiff_norms == SVDIFF_OFF)
            continue;
        TRY(spectrum_of(&x, model, name, how->svdiff_norms == SVDIFF_SCALAR, e));
        int rc = set_all(p, name, w, &x, e);
        spectrum_free(&x);
        TRY(rc);
    }
    return 0;
}

static nn_tensor held(nn_graph *g, const char *name, const char *what, nn_shape s)
{
    str full = {0};

    renamed(&full, name, what);
    nn_tensor y = nn_state(g, full.at, s);
    str_free(&full);
    return y;
}

/* The weight's part of a name relative to the open scope, with another last word. */
static nn_tensor part(nn_graph *g, const char *name, const char *what, nn_shape s)
{
    size_t scope = strlen(nn_scope(g));
    str own = {0};

    renamed(&own, name + scope + (scope > 0), what);
    nn_tensor y = nn_param(g, own.at, s);
    str_free(&own);
    return y;
}

static nn_tensor weight(const void *arg, nn_graph *g, nn_tensor w, const char *name)
{
    const train_cfg *how = arg;
    nn_shape s = nn_shape_get(w);

    if (!shifts(name, how) || (s.n == 1 && how->svdiff_norms == SVDIFF_OFF))
        return w;
    int64_t rows = s.d[0], cols = nn_count(s) / rows, n = rows < cols ? rows : cols;
    if (s.n == 1)
        n = how->svdiff_norms == SVDIFF_SCALAR ? 1 : rows;
    nn_tensor sigma = part(g, name, "svd_s", NN_SHAPE(n)), shift = part(g, name, SHIFT, NN_SHAPE(n));
    if (s.n == 1) {
        nn_tensor moved = nn_sub(g, nn_relu(g, nn_add(g, sigma, nn_scale(g, shift, NORM_UNIT))), sigma);
        return nn_add(g, w, nn_mul(g, held(g, name, "svd_u", NN_SHAPE(rows)), moved));
    }
    nn_tensor moved = nn_sub(g, nn_relu(g, nn_add(g, sigma, shift)), sigma);
    nn_tensor left = nn_mul(g, held(g, name, "svd_u", NN_SHAPE(rows, n)), moved); /* [rows, n] */
    nn_tensor right = held(g, name, "svd_v", NN_SHAPE(n, cols));
    return nn_add(g, w, nn_reshape(g, nn_matmul(g, left, right, false, false), s));
}

static bool moves(const char *param, const train_cfg *how)
{
    (void)how;
    return str_ends(param, SHIFTS_TAIL);
}

/* ---- whole weights ---- */

static float moved_by(float sigma, float shift)
{
    return (sigma + shift > 0 ? sigma + shift : 0) - sigma;
}

/* w += U diag(relu(s + d) - s) V */
static void add_shifted(float *w, const spectrum *x, const float *shift)
{
    for (int64_t i = 0; i < x->rows && !x->v; i++) {
        int64_t k = x->n == 1 ? 0 : i;
        w[i] += x->u[i] * moved_by(x->s[k], NORM_UNIT * shift[k]);
    }
    for (int64_t i = 0; i < x->rows && x->v; i++)
        for (int64_t k = 0; k < x->n; k++) {
            float by = x->u[i * x->n + k] * moved_by(x->s[k], shift[k]);
            for (int64_t j = 0; j < x->cols; j++)
                w[i * x->cols + j] += by * x->v[k * x->cols + j];
        }
}

static int whole_one(concept *out, const concept_tensor *shift, const sd *base, err *e)
{
    str tensor = {0}, name = {0};
    spectrum x;

    str_add(&tensor, "%.*s%s", (int)(strlen(shift->name) - strlen(SHIFT)), shift->name, WEIGHT);
    method_param(&name, tensor.at);
    int rc = spectrum_of(&x, base, name.at, shift->rows == 1, e);
    if (rc == 0 && x.n != shift->rows)
        rc = err_set(e, ERR_SHAPE, "%s: %lld shifts of %lld singular values", name.at, (long long)shift->rows, (long long)x.n);
    if (rc == 0) {
        concept_tensor *t = concept_add_tensor(out, tensor.at, x.rows, x.v ? x.cols : 0, NULL);
        rc = sd_file_read(base, name.at, t->data, (size_t)(x.rows * x.cols), e);
        if (rc == 0)
            add_shifted(t->data, &x, shift->data);
    }
    spectrum_free(&x);
    str_free(&tensor);
    str_free(&name);
    return rc;
}

static int whole(concept *out, const concept *c, const sd *base, err *e)
{
    for (int i = 0; i < c->n_tensors; i++)
        TRY(whole_one(out, &c->tensors[i], base, e));
    return 0;
}

/* paper: 500 steps of one picture and one of its class. The rate is that of the one public program (1000 times DreamBooth's). */
const method method_svdiff = {
    .name = "svdiff",
    .help = "shifts of the singular values of every weight matrix, and a rare word (Han et al., ICCV 2023)",
    .paper = {.lr = 1e-3, .clip = 1, .steps = 500, .batch = 1},
    .port = {.lr = 1e-3, .clip = 1, .steps = 500, .batch = 1},
    .in_pairs = true,
    .manner = {.show = DATA_CUT, .rare_words = true, .halves = true},
    .merges = MERGE_SUMS,
    .prepare = prepare,
    .adapter = {.weight = weight},
    .moves = moves,
    .whole = whole,
};
