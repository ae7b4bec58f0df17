/* Low-rank factors beside attention's linear layers (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR
 * 2022), with pictures and words as DreamBooth has them, as in diffusers' train_dreambooth_lora.py:
 *
 *     y = W x + bias + alpha/r B (A x),   A [r, in] ~ N(0, 1/r) at first, B [out, r] = 0
 *
 * W never moves. A file holds A, B and alpha of each layer; alpha/r B A is what it adds to the layer's W. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "cluster/base/str.h"
#include "trainer/method/factors.h"
#include "trainer/train.h"

static const char PART_A[] = FACTORS_DOWN, PART_B[] = FACTORS_UP, ALPHA[] = FACTORS_ALPHA;

static bool is_among(const char *layer, const char *const tails[])
{
    for (; *tails; tails++)
        if (str_ends(layer, *tails))
            return true;
    return false;
}

/* layer: "unet.….attn2.to_k" */
static bool adapts(const char *layer, const train_cfg *how)
{
    static const char *const cross[] = {".attn2.to_q", ".attn2.to_k", ".attn2.to_v", ".attn2.to_out.0", NULL};
    static const char *const self[] = {".attn1.to_q", ".attn1.to_k", ".attn1.to_v", ".attn1.to_out.0", NULL};
    static const char *const text[] = {".self_attn.q_proj", ".self_attn.k_proj", ".self_attn.v_proj",
                                       ".self_attn.out_proj", NULL};

    if (method_of_text_encoder(layer))
        return how->train_text_encoder && is_among(layer, text);
    return method_of_unet(layer) && (is_among(layer, cross) || (how->lora_layers == LORA_ATTENTION && is_among(layer, self)));
}

/* ---- training ---- */

static double alpha_of(const train_cfg *how)
{
    return how->lora_alpha < 0 ? (double)how->lora_rank : how->lora_alpha;
}

static int set(nn_params *p, const char *layer, const char *part, nn_shape s, const float *data, err *e)
{
    str name = {0};

    str_add(&name, "%s%s", layer, part);
    int rc = nn_params_set(p, name.at, s, data, e);
    str_free(&name);
    return rc;
}

/* nth: the place of its randomness. */
static int add_factors(nn_params *p, const char *layer, nn_shape w, const train_cfg *how, uint32_t nth, err *e)
{
    int64_t rank = how->lora_rank, out = w.d[0], in = w.d[1];
    float *a = NEW_N(float, rank * in), *b = NEW_N(float, out * rank), alpha = (float)alpha_of(how);

    rng_normal_fill(rng_open((uint64_t)how->seed, "lora", nth, 0), a, (uint64_t)(rank * in));
    for (int64_t i = 0; i < rank * in; i++)
        a[i] /= (float)rank;
    int rc = set(p, layer, PART_A, NN_SHAPE(rank, in), a, e);
    if (rc == 0)
        rc = set(p, layer, PART_B, NN_SHAPE(out, rank), b, e);
    if (rc == 0)
        rc = set(p, layer, ALPHA, NN_SHAPE(1), &alpha, e);
    free(a);
    free(b);
    return rc;
}

static int prepare(sd *model, const train_cfg *how, err *e)
{
    nn_params *p = sd_params(model);
    const char *name;
    uint32_t nth = 0;

    for (size_t i = 0; (name = nn_params_name(p, i)) != NULL; i++) {
        str layer = {0};
        nn_shape w;
        if (!str_ends(name, ".weight"))
            continue;
        str_add(&layer, "%.*s", (int)(strlen(name) - strlen(".weight")), name);
        int rc = adapts(layer.at, how) ? nn_params_shape(p, name, &w, e) : 0;
        if (rc == 0 && adapts(layer.at, how))
            rc = add_factors(p, layer.at, w, how, nth++, e);
        str_free(&layer);
        TRY(rc);
    }
    return 0;
}

static nn_tensor linear(const void *arg, nn_graph *g, nn_tensor y, nn_tensor x, const char *layer)
{
    const train_cfg *how = arg;
    nn_shape in = nn_shape_get(x), out = nn_shape_get(y);

    if (!adapts(layer, how))
        return y;
    nn_tensor a = nn_param(g, PART_A + 1, NN_SHAPE(how->lora_rank, in.d[in.n - 1]));
    nn_tensor b = nn_param(g, PART_B + 1, NN_SHAPE(out.d[out.n - 1], how->lora_rank));
    nn_tensor low = nn_scale(g, nn_linear(g, x, a, NULL), (float)(alpha_of(how) / (double)how->lora_rank));
    return nn_add(g, y, nn_linear(g, low, b, NULL));
}

static bool moves(const char *param, const train_cfg *how)
{
    (void)how;
    return str_ends(param, PART_A) || str_ends(param, PART_B);
}

static bool kept(const char *param)
{
    return str_ends(param, ALPHA);
}

/* ---- a file's factors ---- */

bool factors_find(factors *out, const concept *c, int at)
{
    const concept_tensor *b = &c->tensors[at];
    char name[FACTORS_NAME];

    if (!str_ends(b->name, PART_B) || strlen(b->name) >= sizeof name)
        return false;
    *out = (factors){.up = b};
    snprintf(out->layer, sizeof out->layer, "%.*s", (int)(strlen(b->name) - strlen(PART_B)), b->name);
    snprintf(name, sizeof name, "%.*s%s", (int)(FACTORS_NAME - sizeof PART_A), out->layer, PART_A);
    out->down = concept_find(c, name);
    snprintf(name, sizeof name, "%.*s%s", (int)(FACTORS_NAME - sizeof ALPHA), out->layer, ALPHA);
    const concept_tensor *alpha = concept_find(c, name);
    if (!out->down || !alpha || out->down->rows != b->cols)
        return false;
    out->alpha = alpha->data[0];
    return true;
}

/* w += alpha/r B A */
static void add_product(float *w, const factors *f)
{
    int64_t rank = f->up->cols, in = f->down->cols;
    float scale = f->alpha / (float)rank;

    for (int64_t i = 0; i < f->up->rows; i++)
        for (int64_t r = 0; r < rank; r++) {
            float by = scale * f->up->data[i * rank + r];
            for (int64_t k = 0; k < in; k++)
                w[i * in + k] += by * f->down->data[r * in + k];
        }
}

static int whole_one(concept *out, const factors *f, const sd *base, err *e)
{
    char weight[FACTORS_NAME];
    str name = {0};

    snprintf(weight, sizeof weight, "%.*s.weight", FACTORS_NAME - 8, f->layer);
    concept_tensor *t = concept_add_tensor(out, weight, f->up->rows, f->down->cols, NULL);
    method_param(&name, weight);
    int rc = sd_file_read(base, name.at, t->data, (size_t)(t->rows * t->cols), e);
    if (rc == 0)
        add_product(t->data, f);
    str_free(&name);
    return rc;
}

static int whole(concept *out, const concept *c, const sd *base, err *e)
{
    factors f;

    for (int i = 0; i < c->n_tensors; i++)
        if (factors_find(&f, c, i))
            TRY(whole_one(out, &f, base, e));
        else if (str_ends(c->tensors[i].name, PART_B))
            return err_set(e, ERR_INPUT, "%s stands without its other factor or its alpha", c->tensors[i].name);
    return 0;
}

/* Rates, steps and rank are those of diffusers' README for LoRA. */
const method method_lora = {
    .name = "lora",
    .help = "low-rank factors beside attention's layers, and a rare word (Hu et al., ICLR 2022; Ruiz et al., CVPR 2023)",
    .paper = {.lr = 1e-4, .clip = 1, .steps = 500, .batch = 1},
    .port = {.lr = 1e-4, .clip = 1, .steps = 500, .batch = 1},
    .in_pairs = true,
    .manner = {.show = DATA_CUT, .rare_words = true, .halves = true},
    .packs = true,
    .prepare = prepare,
    .adapter = {.linear = linear},
    .moves = moves,
    .kept = kept,
    .whole = whole,
};
