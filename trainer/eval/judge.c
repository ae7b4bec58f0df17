/* One struct for the three kinds: a picture's graph, its plan, how its pixels are made, and CLIP's text tower beside
 * it. */
#include "trainer/eval/judge.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/safetensors.h"
#include "data/tokenizer.h"
#include "trainer/eval/inception.h"
#include "trainer/eval/judge_pixels.h"
#include "trainer/eval/vit.h"
#include "trainer/model/clip.h"
#include "trainer/nn/node.h"
#include "trainer/nn/plan.h"

typedef struct {
    nn_graph *graph;
    nn_plan *plan;
    nn_tensor in, out;
} tower;

struct judge {
    safetensors *file;
    nn_params *params;
    tower sees, reads, projects; /* reads, projects: CLIP's text */
    judge_crop crop;             /* side 0: squashed to `side` around `centre` */
    int side, width;
    float centre;
    clip_shape text;
    tokenizer *words;
    char what[160];
};

static const float CLIP_MEAN[] = {0.48145466F, 0.4578275F, 0.40821073F},
                   CLIP_STD[] = {0.26862954F, 0.26130258F, 0.27577711F};
static const float IMAGENET_MEAN[] = {0.485F, 0.456F, 0.406F}, IMAGENET_STD[] = {0.229F, 0.224F, 0.225F};

/* ---- files ---- */

static int open_weights(judge *j, const char *path, err *e)
{
    if (str_ends(path, ".pth") || str_ends(path, ".pt") || str_ends(path, ".bin"))
        return err_set(e, ERR_INPUT, "%s: pickled weights are not read; save them as safetensors", path);
    return st_open(&j->file, path, e);
}

static int open_folder(judge *j, json_t **config, const char *dir, const char *wanted, err *e)
{
    char path[FS_PATH];

    TRY(fs_join(path, dir, "config.json", e));
    if (!fs_exists(path))
        return err_set(e, ERR_INPUT, "%s: no config.json; a folder with %s is wanted", dir, wanted);
    TRY(json_read(config, path, e));
    TRY(fs_join(path, dir, "model.safetensors", e));
    if (!fs_exists(path))
        return err_set(e, ERR_INPUT, "%s: missing; save the weights of %s as one safetensors file", path, wanted);
    return open_weights(j, path, e);
}

/* [o,h,w,i] of a graph is [o,i,h,w] in a file; dimensions of 1 are not compared. */
static bool fits(nn_shape want, const st_tensor *t)
{
    int64_t a[NN_MAX_DIM + 1] = {0}, b[ST_MAX_DIM + 1] = {0};
    int n = 0, m = 0;

    if (want.n == 4)
        want = NN_SHAPE(want.d[0], want.d[3], want.d[1], want.d[2]);
    for (int i = 0; i < want.n; i++)
        if (want.d[i] != 1)
            a[n++] = want.d[i];
    for (int i = 0; i < t->n; i++)
        if (t->d[i] != 1)
            b[m++] = t->d[i];
    return n == m && memcmp(a, b, (size_t)n * sizeof *a) == 0;
}

/* Every weight that a graph asks for, before any is loaded. What inception_fold has set is there already. */
static int check_weights(const judge *j, const nn_graph *g, err *e)
{
    char wants[64];

    TRY(nn_check(g, e));
    for (int i = 0; i < nn_node_count(g); i++) {
        nn_tensor t = nn_node_at(g, i);
        const st_tensor *in = t->op == &nn_op_param ? st_find(j->file, t->name) : NULL;
        if (t->op != &nn_op_param || (!in && nn_params_has(j->params, t->name)))
            continue;
        if (!in)
            return err_set(e, ERR_INPUT, "%s: no tensor %s, which %s has", st_path(j->file), t->name, j->what);
        if (!fits(nn_shape_get(t), in))
            return err_set(e, ERR_SHAPE, "%s: %s is not %s, as %s has it", st_path(j->file), t->name,
                           nn_shape_text(nn_shape_get(t), wants), j->what);
    }
    return 0;
}

/* ---- towers ---- */

static int tower_ready(tower *t, judge *j, err *e)
{
    TRY(check_weights(j, t->graph, e));
    return nn_plan_new(&t->plan, t->graph, j->params, &t->out, 1, e);
}

static int tower_run(tower *t, const void *in, float *out, err *e)
{
    TRY(nn_write(t->plan, t->in, in, (size_t)nn_bytes(t->in), e));
    TRY(nn_run(t->plan, e));
    return nn_read(t->plan, t->out, out, (size_t)nn_bytes(t->out), e);
}

static void tower_free(tower *t)
{
    nn_plan_free(t->plan);
    if (t->graph)
        nn_graph_free(t->graph);
}

static int begin(judge *j, nn_backend *b, err *e)
{
    j->params = nn_params_new(b);
    return nn_params_add_file(j->params, j->file, "", e);
}

static int see_by_vit(judge *j, const vit_shape *v, nn_backend *b, err *e)
{
    TRY(begin(j, b, e));
    j->side = v->side;
    j->width = vit_features(v);
    j->sees.graph = nn_graph_new();
    j->sees.in = nn_input(j->sees.graph, "pixels", F32, NN_SHAPE(1, v->side, v->side, 3));
    j->sees.out = vit_write(j->sees.graph, v, j->sees.in);
    return tower_ready(&j->sees, j, e);
}

static void crop_of(judge_crop *c, int shorter, int side, const float mean[3], const float std[3])
{
    c->shorter = shorter;
    c->side = side;
    memcpy(c->mean, mean, sizeof c->mean);
    memcpy(c->std, std, sizeof c->std);
}

/* ---- CLIP ---- */

static int open_words(judge *j, const char *dir, err *e)
{
    static const char *const PLACES[] = {".", "tokenizer", "../tokenizer"};
    char folder[FS_PATH], path[FS_PATH];

    for (size_t i = 0; i < sizeof PLACES / sizeof *PLACES; i++) {
        TRY(fs_join(folder, dir, PLACES[i], e));
        TRY(fs_join(path, folder, "vocab.json", e));
        if (fs_exists(path))
            return tokenizer_open(&j->words, folder, e);
    }
    return err_set(e, ERR_INPUT, "%s: no vocab.json in it, in its tokenizer/ or in tokenizer/ beside it", dir);
}

static int read_text_shape(judge *j, const json_t *config, err *e)
{
    const json_t *text = json_object_get(config, "text_config");

    if (!json_is_object(text))
        return err_set(e, ERR_INPUT, "no text_config; the config.json of a whole CLIP model is wanted");
    if (clip_shape_from(&j->text, text, e) != 0)
        return err_wrap(e, "text_config");
    j->text.projection = j->width;
    return 0;
}

static void write_text(judge *j)
{
    j->reads.graph = nn_graph_new();
    j->reads.in = nn_input(j->reads.graph, "ids", I32, NN_SHAPE(1, TOKENS));
    j->reads.out = clip_write(j->reads.graph, &j->text, j->reads.in, 0, NULL);
    j->projects.graph = nn_graph_new();
    j->projects.in = nn_input(j->projects.graph, "end", F32, NN_SHAPE(1, j->text.width));
    j->projects.out = clip_project_write(j->projects.graph, &j->text, j->projects.in);
}

static int open_clip(judge *j, const char *dir, nn_backend *b, err *e)
{
    json_t *config = NULL;
    vit_shape v;
    int rc = open_folder(j, &config, dir, "a whole CLIP model", e);

    if (rc == 0 && ((rc = vit_clip_shape_from(&v, config, e)) != 0 ||
                    (j->width = v.projection, rc = read_text_shape(j, config, e)) != 0))
        err_wrap(e, "%s/config.json", dir);
    json_decref(config);
    TRY(rc);
    snprintf(j->what, sizeof j->what, "CLIP ViT, %d pixels in patches of %d, %d features", v.side, v.patch,
             v.projection);
    crop_of(&j->crop, v.side, v.side, CLIP_MEAN, CLIP_STD);
    TRY(see_by_vit(j, &v, b, e));
    write_text(j);
    TRY(tower_ready(&j->reads, j, e));
    TRY(tower_ready(&j->projects, j, e));
    TRY(open_words(j, dir, e));
    if (tokenizer_vocab(j->words) > j->text.vocab || j->text.positions < TOKENS)
        return err_set(e, ERR_INPUT, "%s: a vocabulary of %d and %d tokens a text where the model has %d and %d", dir,
                       (int)tokenizer_vocab(j->words), TOKENS, j->text.vocab, j->text.positions);
    return 0;
}

/* ---- DINO ---- */

/* The authors' checkpoints tell no shape: it is read off the weights, and DINO's heads are 64 wide in all of them. */
static int dino_shape_from(vit_shape *out, const safetensors *f, err *e)
{
    const st_tensor *patch = st_find(f, "patch_embed.proj.weight"), *places = st_find(f, "pos_embed");
    const st_tensor *inner = st_find(f, "blocks.0.mlp.fc1.weight");
    vit_shape v = {.naming = VIT_DINO, .eps = 1e-6F, .act = VIT_GELU};
    char name[64];

    if (!patch || patch->n != 4 || !places || places->n != 3 || !inner || inner->n != 2)
        return err_set(e, ERR_INPUT, "%s: no tensor %s as a DINO vision transformer has it", st_path(f),
                       !patch || patch->n != 4     ? "patch_embed.proj.weight"
                       : !places || places->n != 3 ? "pos_embed"
                                                   : "blocks.0.mlp.fc1.weight");
    v.width = (int)patch->d[0];
    v.patch = (int)patch->d[2];
    v.inner = (int)inner->d[0];
    int64_t across = llround(sqrt((double)(places->d[1] - 1)));
    if (v.width % 64 != 0 || v.width == 0 || v.patch < 1 || across * across != places->d[1] - 1 ||
        across * v.patch > 1 << 12)
        return err_set(e, ERR_SHAPE, "%s: width %d, patches of %d, %lld positions: no square picture in heads of 64",
                       st_path(f), v.width, v.patch, (long long)places->d[1]);
    v.heads = v.width / 64;
    v.side = (int)across * v.patch;
    for (; snprintf(name, sizeof name, "blocks.%d.norm1.weight", v.layers) > 0 && st_find(f, name); v.layers++)
        ;
    *out = v;
    return 0;
}

static int dino_shape_of(judge *j, vit_shape *v, const char *path, err *e)
{
    json_t *config = NULL;
    const char *type;

    if (!fs_is_dir(path)) {
        TRY(open_weights(j, path, e));
        return dino_shape_from(v, j->file, e);
    }
    int rc = open_folder(j, &config, path, "a ViT model", e);
    if (rc == 0 && (rc = json_opt_text(config, "model_type", "vit", &type, e)) == 0 && strcmp(type, "vit") != 0)
        rc = err_set(e, ERR_INPUT, "model_type %s is not built (vit is)", type);
    else if (rc == 0)
        rc = vit_hf_shape_from(v, config, e);
    json_decref(config);
    return rc == 0 ? 0 : err_wrap(e, "%s", path);
}

static int open_dino(judge *j, const char *path, nn_backend *b, err *e)
{
    vit_shape v;

    TRY(dino_shape_of(j, &v, path, e));
    snprintf(j->what, sizeof j->what, "DINO ViT, %d pixels in patches of %d, %d features", v.side, v.patch, v.width);
    crop_of(&j->crop, v.side * 8 / 7, v.side, IMAGENET_MEAN, IMAGENET_STD); /* 256 for 224 */
    return see_by_vit(j, &v, b, e);
}

/* ---- Inception ---- */

static int open_inception(judge *j, const char *file, nn_backend *b, err *e)
{
    inception_shape s;

    TRY(open_weights(j, file, e));
    TRY(inception_shape_from(&s, j->file, e));
    TRY(begin(j, b, e));
    snprintf(j->what, sizeof j->what, "Inception-v3 %s, %d pixels, %d features", s.of_fid ? "of FID" : "of torchvision",
             INCEPTION_SIDE, s.features);
    j->side = INCEPTION_SIDE;
    j->centre = s.of_fid ? 128 : 127.5F;
    j->width = s.features;
    j->sees.graph = nn_graph_new();
    j->sees.in = nn_input(j->sees.graph, "pixels", F32, NN_SHAPE(1, j->side, j->side, 3));
    j->sees.out = inception_write(j->sees.graph, &s, j->sees.in);
    TRY(nn_check(j->sees.graph, e));
    TRY(inception_fold(j->params, j->sees.graph, &s, e));
    return tower_ready(&j->sees, j, e);
}

/* ---- all ---- */

static int opened(judge **out, judge *j, int rc)
{
    if (rc != 0)
        judge_close(j);
    else
        *out = j;
    return rc;
}

int judge_open_clip(judge **out, const char *dir, nn_backend *b, err *e)
{
    judge *j = NEW(judge);

    return opened(out, j, open_clip(j, dir, b, e));
}

int judge_open_dino(judge **out, const char *path, nn_backend *b, err *e)
{
    judge *j = NEW(judge);

    return opened(out, j, open_dino(j, path, b, e));
}

int judge_open_inception(judge **out, const char *file, nn_backend *b, err *e)
{
    judge *j = NEW(judge);

    return opened(out, j, open_inception(j, file, b, e));
}

void judge_close(judge *j)
{
    if (!j)
        return;
    tower_free(&j->sees);
    tower_free(&j->reads);
    tower_free(&j->projects);
    tokenizer_close(j->words);
    nn_params_free(j->params);
    st_close(j->file);
    free(j);
}

int judge_width(const judge *j) { return j->width; }
const char *judge_what(const judge *j) { return j->what; }

int judge_picture(judge *j, const image *m, float *out, err *e)
{
    float *pixels = NEW_N(float, j->side * j->side * 3);
    int rc = j->crop.side > 0 ? judge_pixels_crop(pixels, m, &j->crop, e)
                              : judge_pixels_squash(pixels, m, j->side, j->centre, e);

    if (rc == 0)
        rc = tower_run(&j->sees, pixels, out, e);
    free(pixels);
    return rc;
}

int judge_file(judge *j, const char *path, float *out, err *e)
{
    image m;

    TRY(image_load(&m, path, e));
    int rc = judge_picture(j, &m, out, e);
    image_free(&m);
    return rc == 0 ? 0 : err_wrap(e, "%s", path);
}

int judge_text(judge *j, const char *text, float *out, err *e)
{
    size_t width = (size_t)j->text.width;
    int32_t ids[TOKENS];
    int end = 0;

    CHECK(j->words);
    tokenizer_encode(j->words, text, ids);
    while (end < TOKENS - 1 && ids[end] != tokenizer_eos(j->words))
        end++;
    float *states = NEW_N(float, TOKENS * width);
    int rc = tower_run(&j->reads, ids, states, e);
    if (rc == 0)
        rc = tower_run(&j->projects, states + (size_t)end * width, out, e);
    free(states);
    return rc;
}
