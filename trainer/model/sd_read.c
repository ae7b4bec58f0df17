/* Reads a model directory, or a model in one file, and says in one sentence what is wrong with it: files that are missing, configs that are not
 * built, weights that are not there or have another shape than the graphs ask for. Nothing is loaded. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/model/sd_impl.h"
#include "trainer/model/shapes.h"
#include "trainer/nn/node.h"

static const struct {
    const char *folder, *stem, *pickle;
} PARTS[SD_PARTS] = {
    [SD_UNET] = {"unet", "diffusion_pytorch_model", "diffusion_pytorch_model.bin"},
    [SD_VAE] = {"vae", "diffusion_pytorch_model", "diffusion_pytorch_model.bin"},
    [SD_TEXT] = {"text_encoder", "model", "pytorch_model.bin"},
};

const char *sd_part_scope(sd_part p)
{
    return PARTS[p].folder;
}

static int path_in(char out[FS_PATH], const char *dir, const char *folder, const char *name, err *e)
{
    char where[FS_PATH];

    TRY(fs_join(where, dir, folder, e));
    return fs_join(out, where, name, e);
}

/* ---- model_index.json ---- */

/* ["diffusers", "AutoencoderKL"]; null or absent is NULL. */
static const char *component(const json_t *index, const char *key)
{
    return json_string_value(json_array_get(json_object_get(index, key), 1));
}

static int check_index(const json_t *index, err *e)
{
    static const struct { const char *key, *one, *other; } WANT[] = {
        {"unet", "UNet2DConditionModel", NULL},
        {"vae", "AutoencoderKL", NULL},
        {"text_encoder", "CLIPTextModel", "CLIPTextModelWithProjection"},
        {"tokenizer", "CLIPTokenizer", "CLIPTokenizerFast"},
    };

    if (component(index, "text_encoder_2"))
        return err_set(e, ERR_INPUT, "two text encoders (SDXL) are not built; Stable Diffusion 1.x and 2.x are");
    for (size_t i = 0; i < sizeof WANT / sizeof *WANT; i++) {
        const char *is = component(index, WANT[i].key);

        if (!is)
            return err_set(e, ERR_INPUT, "no %s is named; a Stable Diffusion 1.x or 2.x directory names a %s",
                           WANT[i].key, WANT[i].one);
        if (strcmp(is, WANT[i].one) != 0 && !(WANT[i].other && strcmp(is, WANT[i].other) == 0))
            return err_set(e, ERR_INPUT, "%s is a %s, which is not built (%s is)", WANT[i].key, is, WANT[i].one);
    }
    return 0;
}

static int read_index(const char *dir, err *e)
{
    char path[FS_PATH];
    json_t *index = NULL;

    TRY(fs_join(path, dir, "model_index.json", e));
    if (!fs_is_dir(dir))
        return err_set(e, ERR_INPUT, "%s: no such folder; a model directory in the diffusers layout is wanted", dir);
    if (!fs_exists(path))
        return err_set(e, ERR_INPUT, "%s: no model_index.json; a model directory in the diffusers layout is wanted", dir);
    TRY(json_read(&index, path, e));
    int rc = check_index(index, e);
    json_decref(index);
    return rc == 0 ? 0 : err_wrap(e, "%s", path);
}

static int check_tokenizer(const char *dir, err *e)
{
    static const char *const NAMES[] = {"vocab.json", "merges.txt"};
    char path[FS_PATH];

    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        TRY(path_in(path, dir, "tokenizer", NAMES[i], e));
        if (!fs_exists(path))
            return err_set(e, ERR_INPUT, "%s: missing; the model directory is not complete", path);
    }
    return 0;
}

/* ---- configs ---- */

typedef int read_config(sd_files *f, const json_t *config, err *e);

static int read_unet(sd_files *f, const json_t *c, err *e)
{
    return unet_shape_from(&f->unet, c, e);
}

static int read_vae(sd_files *f, const json_t *c, err *e)
{
    return vae_shape_from(&f->vae, c, e);
}

static int read_text(sd_files *f, const json_t *c, err *e)
{
    return clip_shape_from(&f->text, c, e);
}

static int read_noise(sd_files *f, const json_t *c, err *e)
{
    return schedule_from(&f->noise, c, e);
}

/* The config of a named shape, which stands in this program. */
static int read_named(sd_files *f, const char *shape, const char *part, read_config *read, err *e)
{
    const char *text = shape_config(shape, part);
    json_t *config = NULL;

    TRY(json_parse(&config, text, strlen(text), shape, e));
    int rc = read(f, config, e);
    json_decref(config);
    return rc == 0 ? 0 : err_wrap(e, "%s of %s", part, shape);
}

static bool is_file(const char *dir)
{
    return str_ends(dir, ".safetensors") && !fs_is_dir(dir);
}

int sd_path(char out[FS_PATH], const char *dir, const char *name, err *e)
{
    char folder[FS_PATH];

    if (!is_file(dir))
        return fs_join(out, dir, name, e);
    snprintf(folder, sizeof folder, "%.*s", (int)(strlen(dir) - strlen(".safetensors")), dir);
    TRY(fs_join(out, folder, name, e));
    return fs_exists(out) ? 0 : err_set(e, ERR_INPUT, "%s: missing; a model in one file has no %s, so put that of its model folder there",
                                        out, name);
}

/* A config beside a model in one file; path "": there is none, and none is needed. Those of Stable Diffusion 1.x stand in this
 * program; those of 2.x differ in what cannot be seen in weights (what is predicted, the side). */
static int find_beside(char path[FS_PATH], const sd_files *f, const char *folder, const char *name, err *e)
{
    enum { WIDTH_1 = 768 };
    single_shape shape = {.keys = f->keys, .per_level = 2};
    const st_tensor *whole;
    st_tensor k;
    char both[128];
    err none = {0};

    snprintf(both, sizeof both, "%s/%s", folder, name);
    if (sd_path(path, f->dir, both, &none) == 0)
        return 0;
    if (!single_find(&k, &whole, f->single, SD_UNET, "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", &shape) ||
        k.n != 2 || k.d[1] != WIDTH_1) {
        *e = none;
        return (int)e->code;
    }
    path[0] = '\0';
    return 0;
}

static int read_one(sd_files *f, const char *folder, const char *name, read_config *read, err *e)
{
    char path[FS_PATH];
    json_t *config = NULL;

    if (f->named)
        return read_named(f, f->dir, folder, read, e);
    if (f->single)
        TRY(find_beside(path, f, folder, name, e));
    else
        TRY(path_in(path, f->dir, folder, name, e));
    if (!path[0])
        return read_named(f, "sd15", folder, read, e);
    if (!fs_exists(path))
        return err_set(e, ERR_INPUT, "%s: missing; the model directory is not complete", path);
    TRY(json_read(&config, path, e));
    int rc = read(f, config, e);
    json_decref(config);
    return rc == 0 ? 0 : err_wrap(e, "%s", path);
}

static int read_configs(sd_files *f, err *e)
{
    static const struct { const char *folder, *name; read_config *read; } CONFIGS[] = {
        {"unet", "config.json", read_unet},
        {"vae", "config.json", read_vae},
        {"text_encoder", "config.json", read_text},
        {"scheduler", "scheduler_config.json", read_noise},
    };

    for (size_t i = 0; i < sizeof CONFIGS / sizeof *CONFIGS; i++)
        TRY(read_one(f, CONFIGS[i].folder, CONFIGS[i].name, CONFIGS[i].read, e));
    if (f->unet.in != f->vae.latent || f->unet.out != f->vae.latent)
        return err_set(e, ERR_INPUT, "%s: the UNet takes %d channels and gives %d where the VAE's latents have %d "
                       "(inpainting and depth models are not built)", f->dir, f->unet.in, f->unet.out, f->vae.latent);
    if (f->unet.text_width != f->text.width)
        return err_set(e, ERR_INPUT, "%s: the UNet's cross_attention_dim is %d and the text encoder's hidden_size %d",
                       f->dir, f->unet.text_width, f->text.width);
    return 0;
}

/* ---- weights ---- */

static int find_weights(char path[FS_PATH], const char *dir, sd_part p, err *e)
{
    static const char *const KINDS[] = {"%s.safetensors", "%s.fp16.safetensors"};
    char name[128];

    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        snprintf(name, sizeof name, KINDS[i], PARTS[p].stem);
        TRY(path_in(path, dir, PARTS[p].folder, name, e));
        if (fs_exists(path))
            return 0;
    }
    snprintf(name, sizeof name, "%s.safetensors.index.json", PARTS[p].stem);
    TRY(path_in(path, dir, PARTS[p].folder, name, e));
    if (fs_exists(path))
        return err_set(e, ERR_INPUT, "%s: weights in several shards are not read; save them as one file", path);
    TRY(path_in(path, dir, PARTS[p].folder, PARTS[p].pickle, e));
    if (fs_exists(path))
        return err_set(e, ERR_INPUT, "%s: pickled weights are not read; save them as safetensors", path);
    TRY(path_in(path, dir, PARTS[p].folder, "", e));
    return err_set(e, ERR_INPUT, "%s%s.safetensors: missing; the model directory is not complete", path, PARTS[p].stem);
}

static int open_weights(sd_files *f, err *e)
{
    char path[FS_PATH];

    for (sd_part p = 0; p < SD_PARTS; p++) {
        TRY(find_weights(path, f->dir, p, e));
        TRY(st_open(&f->file[p], path, e));
    }
    f->vae.old_attention = st_find(f->file[SD_VAE], "encoder.mid_block.attentions.0.query.weight") != NULL;
    const st_tensor *projection = st_find(f->file[SD_TEXT], "text_projection.weight");
    f->text.projection = projection && projection->n == 2 ? (int)projection->d[0] : 0;
    return 0;
}

/* What the part's graph asks for, as views of the one file. */
static int view_part(sd_files *f, sd_part p, const single_shape *s, err *e)
{
    nn_graph *g = nn_graph_new();
    size_t skip = strlen(sd_part_scope(p)) + 1, n = 0;
    st_tensor *list;

    sd_files_write(g, f, p);
    list = NEW_N(st_tensor, nn_node_count(g) + 1);
    int rc = nn_check(g, e);
    for (int i = 0; rc == 0 && i < nn_node_count(g); i++) {
        nn_tensor t = nn_node_at(g, i);
        const st_tensor *whole;
        single_place place;

        if (t->op != &nn_op_param || single_find(&list[n++], &whole, f->single, p, t->name + skip, s))
            continue;
        single_place_of(&place, p, t->name + skip, s);
        rc = err_set(e, ERR_INPUT, "%s: no tensor %s (%s of a model folder)", f->dir, place.key, t->name);
    }
    if (rc == 0)
        st_view(&f->file[p], f->dir, list, n);
    free(list);
    nn_graph_free(g);
    return rc;
}

static int view_weights(sd_files *f, err *e)
{
    single_shape s = single_shape_of(f->keys, &f->unet, &f->vae, &f->text);

    f->vae.old_attention = st_find(f->single, "vae.encoder.mid_block.attentions.0.query.weight") != NULL;
    f->text.projection = 0;
    for (sd_part p = 0; p < SD_PARTS; p++)
        TRY(view_part(f, p, &s, e));
    return 0;
}

/* Each part as it will be asked for, at the smallest size: only its weights matter here. */
void sd_files_write(nn_graph *g, const sd_files *f, sd_part p)
{
    int64_t side = 1 << (f->unet.levels - 1), factor = vae_factor(&f->vae);

    nn_enter(g, "%s", sd_part_scope(p));
    if (p == SD_UNET)
        unet_write(g, &f->unet, nn_input(g, "x", F32, NN_SHAPE(1, side, side, f->unet.in)),
                   nn_input(g, "t", F32, NN_SHAPE(1)), nn_input(g, "text", F32, NN_SHAPE(1, 2, f->unet.text_width)), false);
    if (p == SD_VAE) {
        vae_encode_write(g, &f->vae, nn_input(g, "x", F32, NN_SHAPE(1, factor, factor, f->vae.in)));
        vae_decode_write(g, &f->vae, nn_input(g, "z", F32, NN_SHAPE(1, 1, 1, f->vae.latent)));
    }
    if (p == SD_TEXT) {
        clip_write(g, &f->text, nn_input(g, "ids", I32, NN_SHAPE(1, 2)), 0, NULL);
        if (f->text.projection > 0)
            clip_project_write(g, &f->text, nn_input(g, "end", F32, NN_SHAPE(1, f->text.width)));
    }
    nn_leave(g);
}

/* [o,h,w,i] of a graph is [o,i,h,w] in a file. */
static nn_shape as_in_file(nn_shape s)
{
    return s.n == 4 ? NN_SHAPE(s.d[0], s.d[3], s.d[1], s.d[2]) : s;
}

static int check_weight(const safetensors *f, const char *name, nn_shape want, err *e)
{
    const st_tensor *t = st_find(f, name);
    nn_shape is = {0};
    char a[64], b[64];

    if (!t)
        return err_set(e, ERR_INPUT, "%s: no tensor %s, which the config beside it asks for", st_path(f), name);
    if (t->type != F32 && t->type != F16 && t->type != BF16)
        return err_set(e, ERR_INPUT, "%s: %s is of type %s (F32, F16 and BF16 are read)", st_path(f), name,
                       dtype_name(t->type));
    if (t->n <= NN_MAX_DIM)
        is = nn_shape_of(t->d, (size_t)t->n);
    want = as_in_file(want);
    if (!nn_same_shape(is, want))
        return err_set(e, ERR_SHAPE, "%s: %s is %s where the config asks for %s", st_path(f), name, nn_shape_text(is, a),
                       nn_shape_text(want, b));
    return 0;
}

static int check_part(const sd_files *f, sd_part p, err *e)
{
    nn_graph *g = nn_graph_new();
    size_t skip = strlen(sd_part_scope(p)) + 1;

    sd_files_write(g, f, p);
    int rc = nn_check(g, e);
    for (int i = 0; rc == 0 && i < nn_node_count(g); i++) {
        nn_tensor t = nn_node_at(g, i);
        if (t->op == &nn_op_param)
            rc = check_weight(f->file[p], t->name + skip, nn_shape_get(t), e);
    }
    nn_graph_free(g);
    return rc;
}

/* ---- all of it ---- */

static int open_single(sd_files *f, err *e)
{
    TRY(st_open(&f->single, f->dir, e));
    if (st_find(f->single, "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight"))
        return err_set(e, ERR_INPUT, "%s: SDXL is not built; Stable Diffusion 1.x and 2.x are", f->dir);
    if (!single_is(&f->keys, f->single))
        return err_set(e, ERR_INPUT, "%s: no model in one file: neither CompVis' keys (model.diffusion_model.) are in it nor "
                       "diffusers' (unet.)", f->dir);
    TRY(read_configs(f, e));
    return view_weights(f, e);
}

static int open_folder(sd_files *f, err *e)
{
    TRY(read_index(f->dir, e));
    TRY(read_configs(f, e));
    TRY(check_tokenizer(f->dir, e));
    return open_weights(f, e);
}

static int open_all(sd_files *f, err *e)
{
    TRY(is_file(f->dir) ? open_single(f, e) : open_folder(f, e));
    for (sd_part p = 0; p < SD_PARTS; p++)
        TRY(check_part(f, p, e));
    return 0;
}

int sd_files_open(sd_files *out, const char *dir, err *e)
{
    *out = (sd_files){.dir = mem_text(dir)};
    int rc = open_all(out, e);
    if (rc != 0)
        sd_files_close(out);
    return rc;
}

int sd_files_named(sd_files *out, const char *shape, err *e)
{
    *out = (sd_files){.dir = mem_text(shape), .named = true};
    int rc = read_configs(out, e);
    if (rc != 0)
        sd_files_close(out);
    return rc;
}

void sd_files_close(sd_files *f)
{
    for (sd_part p = 0; p < SD_PARTS; p++)
        st_close(f->file[p]);
    st_close(f->single);
    schedule_free(&f->noise);
    free(f->dir);
    *f = (sd_files){0};
}

int sd_check(const char *dir, int *factor, err *e)
{
    sd_files f;

    TRY(sd_files_open(&f, dir, e));
    *factor = vae_factor(&f.vae);
    sd_files_close(&f);
    return 0;
}
