/* See small_model.h. */
#include "tests/trainer/small_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "cluster/base/str.h"
#include "data/safetensors.h"
#include "trainer/nn/node.h"

static const char UNET[] =
    "{\"in_channels\": 4, \"out_channels\": 4, \"sample_size\": 8, \"block_out_channels\": [8, 12], \"layers_per_block\": 1,"
    " \"down_block_types\": [\"CrossAttnDownBlock2D\", \"DownBlock2D\"],"
    " \"up_block_types\": [\"UpBlock2D\", \"CrossAttnUpBlock2D\"],"
    " \"attention_head_dim\": 2, \"cross_attention_dim\": 16, \"norm_num_groups\": 4}";
static const char VAE[] =
    "{\"block_out_channels\": [4, 8], \"layers_per_block\": 1, \"norm_num_groups\": 2,"
    " \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\"],"
    " \"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\"]}";
static const char TEXT[] =
    "{\"hidden_size\": 16, \"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"intermediate_size\": 32,"
    " \"vocab_size\": 54, \"hidden_act\": \"quick_gelu\"}";
static const char NOISE[] =
    "{\"beta_schedule\": \"scaled_linear\", \"beta_start\": 0.00085, \"beta_end\": 0.012, \"clip_sample\": false,"
    " \"steps_offset\": 1, \"lambda_min_clipped\": -Infinity}";
static const char INDEX[] =
    "{\"unet\": [\"diffusers\", \"UNet2DConditionModel\"], \"vae\": [\"diffusers\", \"AutoencoderKL\"],"
    " \"text_encoder\": [\"transformers\", \"CLIPTextModel\"], \"tokenizer\": [\"transformers\", \"CLIPTokenizer\"],"
    " \"scheduler\": [\"diffusers\", \"DDIMScheduler\"], \"safety_checker\": [null, null]}";

static char folder[64], model[FS_PATH];

static const char *const FILES[] = {
    "model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json",
    "scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer/merges.txt",
    "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
};

/* ---- weights ---- */

/* [o,h,w,i] of a graph is [o,i,h,w] in a file. Norms' weights are about 1, the rest keeps its input's size. */
static st_tensor random_weight(nn_tensor t, const char *name)
{
    nn_shape s = nn_shape_get(t);
    st_tensor out = {.name = name, .type = F32, .n = s.n, .count = (uint64_t)nn_count(s)};
    float *data = NEW_N(float, out.count), by = s.n == 1 ? 0.1F : 1 / sqrtf((float)(nn_count(s) / s.d[0]));

    memcpy(out.d, s.d, (size_t)s.n * sizeof *s.d);
    if (s.n == 4)
        out.d[1] = s.d[3], out.d[2] = s.d[1], out.d[3] = s.d[2];
    rng_normal_fill(rng_open(7, name, 0, 0), data, out.count);
    for (uint64_t i = 0; i < out.count; i++)
        data[i] = data[i] * by + (float)(strstr(name, "norm") && str_ends(name, ".weight"));
    out.data = data;
    return out;
}

static void write_weights(const nn_graph *g, const char *scope, const char *file)
{
    static const char *const NONE[] = {NULL};
    st_tensor *all = NEW_N(st_tensor, nn_node_count(g));
    char path[FS_PATH];
    size_t n = 0;
    err e = {0};

    assert_int_equal(nn_check(g, &e), 0);
    for (int i = 0; i < nn_node_count(g); i++)
        if (nn_node_at(g, i)->op == &nn_op_param) {
            all[n] = random_weight(nn_node_at(g, i), nn_node_at(g, i)->name + strlen(scope) + 1);
            n++;
        }
    assert_int_equal(fs_join(path, model, file, &e), 0);
    assert_int_equal(st_write(path, all, n, NONE, NONE, &e), 0);
    for (size_t i = 0; i < n; i++)
        free((void *)(uintptr_t)all[i].data);
    free(all);
}

static json_t *parsed(const char *text)
{
    json_t *j = NULL;
    err e = {0};

    assert_int_equal(json_parse(&j, text, strlen(text), "config", &e), 0);
    return j;
}

static void make_unet(void)
{
    nn_graph *g = nn_graph_new();
    json_t *config = parsed(UNET);
    unet_shape u;
    err e = {0};

    assert_int_equal(unet_shape_from(&u, config, &e), 0);
    nn_enter(g, "unet");
    unet_write(g, &u, nn_input(g, "x", F32, NN_SHAPE(1, 2, 2, u.in)), nn_input(g, "t", F32, NN_SHAPE(1)),
               nn_input(g, "text", F32, NN_SHAPE(1, 2, u.text_width)), false);
    nn_leave(g);
    write_weights(g, "unet", "unet/diffusion_pytorch_model.safetensors");
    json_decref(config);
    nn_graph_free(g);
}

static void make_vae(void)
{
    nn_graph *g = nn_graph_new();
    json_t *config = parsed(VAE);
    vae_shape v;
    err e = {0};

    assert_int_equal(vae_shape_from(&v, config, &e), 0);
    nn_enter(g, "vae");
    vae_encode_write(g, &v, nn_input(g, "x", F32, NN_SHAPE(1, 8, 8, v.in)));
    vae_decode_write(g, &v, nn_input(g, "z", F32, NN_SHAPE(1, 4, 4, v.latent)));
    nn_leave(g);
    write_weights(g, "vae", "vae/diffusion_pytorch_model.safetensors");
    json_decref(config);
    nn_graph_free(g);
}

static void make_text(void)
{
    nn_graph *g = nn_graph_new();
    json_t *config = parsed(TEXT);
    clip_shape c;
    err e = {0};

    assert_int_equal(clip_shape_from(&c, config, &e), 0);
    nn_enter(g, "text_encoder");
    clip_write(g, &c, nn_input(g, "ids", I32, NN_SHAPE(1, 2)), 0, NULL);
    nn_leave(g);
    write_weights(g, "text_encoder", "text_encoder/model.safetensors");
    json_decref(config);
    nn_graph_free(g);
}

/* ---- files ---- */

void small_model_write(const char *dir, const char *file, const char *text)
{
    char path[FS_PATH], parent[FS_PATH];
    err e = {0};

    assert_int_equal(fs_join(path, dir, file, &e), 0);
    memcpy(parent, path, sizeof parent);
    *strrchr(parent, '/') = '\0';
    assert_int_equal(fs_mkdirs(parent, &e), 0);
    assert_int_equal(fs_write(path, text, strlen(text), &e), 0);
}

/* Letters inside a word, letters but z that end one, one merge, BOS, EOS: 54 ids. */
static void make_tokenizer(void)
{
    str vocab = {0};

    str_add(&vocab, "{");
    for (int i = 0; i < 51; i++)
        str_add(&vocab, "\"%c%s\": %d, ", 'a' + i % 26, i < 26 ? "" : "</w>", i);
    str_add(&vocab, "\"qu\": 51, \"<|startoftext|>\": 52, \"<|endoftext|>\": 53}");
    small_model_write(model, "tokenizer/vocab.json", vocab.at);
    small_model_write(model, "tokenizer/merges.txt", "#version: 0.2\nq u\n");
    str_free(&vocab);
}

int small_model_make(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/cfarm-small-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(model, sizeof model, "%s/model", folder);
    small_model_write(model, "model_index.json", INDEX);
    small_model_write(model, "unet/config.json", UNET);
    small_model_write(model, "vae/config.json", VAE);
    small_model_write(model, "text_encoder/config.json", TEXT);
    small_model_write(model, "scheduler/scheduler_config.json", NOISE);
    make_tokenizer();
    make_unet();
    make_vae();
    make_text();
    return 0;
}

int small_model_clear(void **state)
{
    err e = {0};

    (void)state;
    return fs_remove_tree(folder, &e);
}

const char *small_model_dir(void)
{
    return model;
}

void small_model_copy(char to[FS_PATH], const char *name)
{
    snprintf(to, FS_PATH, "%s/%s", folder, name);
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        char from[FS_PATH], path[FS_PATH], parent[FS_PATH], *bytes;
        size_t n;
        err e = {0};

        assert_int_equal(fs_join(from, model, FILES[i], &e), 0);
        assert_int_equal(fs_join(path, to, FILES[i], &e), 0);
        memcpy(parent, path, sizeof parent);
        *strrchr(parent, '/') = '\0';
        assert_int_equal(fs_mkdirs(parent, &e), 0);
        assert_int_equal(fs_read(from, &bytes, &n, 1 << 26, &e), 0);
        assert_int_equal(fs_write(path, bytes, n, &e), 0);
        free(bytes);
    }
}

/* ---- opening ---- */

static nn_backend *backend;

sd *small_model_open(void)
{
    sd *m;
    err e = {0};

    assert_int_equal(nn_cpu_open(&backend, 1, false, &e), 0);
    if (sd_open(&m, model, backend, &e) != 0)
        fail_msg("%s", e.text);
    return m;
}

void small_model_close(sd *m)
{
    sd_close(m);
    backend->close(backend);
}

tokenizer *small_model_words(void)
{
    char path[FS_PATH];
    tokenizer *t;
    err e = {0};

    assert_int_equal(fs_join(path, model, "tokenizer", &e), 0);
    if (tokenizer_open(&t, path, &e) != 0)
        fail_msg("%s", e.text);
    return t;
}

float *small_model_noise(const char *purpose, size_t n)
{
    float *x = NEW_N(float, n);

    rng_normal_fill(rng_open(11, purpose, 0, 0), x, n);
    return x;
}
