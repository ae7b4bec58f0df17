/* The laws of a model: what its directory must hold, and what its parts promise on host arrays and in graphs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/mem.h"
#include "data/safetensors.h"
#include "tests/trainer/small_model.h"
#include "trainer/nn/plan.h"

#define OK(call) do { if ((call) != 0) fail_msg("%s", e.text); } while (0)

/* ---- directories ---- */

static void expect_refusal(const char *dir, const char *says)
{
    err e = {0};
    int factor;

    if (sd_check(dir, &factor, &e) == 0)
        fail_msg("accepted, where \"%s\" is expected", says);
    if (!strstr(e.text, says) || strchr(e.text, '\n'))
        fail_msg("%s does not say %s", e.text, says);
}

static void a_whole_directory_is_accepted(void **state)
{
    err e = {0};
    int factor;

    (void)state;
    OK(sd_check(small_model_dir(), &factor, &e));
    assert_int_equal(factor, 2);
}

static void a_missing_file_is_named(void **state)
{
    static const char *const FILES[][2] = {
        {"model_index.json", "no model_index.json"},
        {"unet/config.json", "unet/config.json: missing"},
        {"vae/config.json", "vae/config.json: missing"},
        {"text_encoder/config.json", "text_encoder/config.json: missing"},
        {"scheduler/scheduler_config.json", "scheduler_config.json: missing"},
        {"tokenizer/vocab.json", "vocab.json: missing"},
        {"tokenizer/merges.txt", "merges.txt: missing"},
        {"unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.safetensors: missing"},
        {"vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors: missing"},
        {"text_encoder/model.safetensors", "text_encoder/model.safetensors: missing"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        char dir[FS_PATH], path[FS_PATH], name[32];
        err e = {0};
        snprintf(name, sizeof name, "missing%zu", i);
        small_model_copy(dir, name);
        OK(fs_join(path, dir, FILES[i][0], &e));
        assert_int_equal(unlink(path), 0);
        expect_refusal(dir, FILES[i][1]);
    }
    expect_refusal("/nowhere/at/all", "no such folder");
}

static void weights_in_other_forms_are_told_apart(void **state)
{
    char dir[FS_PATH], from[FS_PATH], to[FS_PATH];
    err e = {0};
    int factor;

    (void)state;
    small_model_copy(dir, "forms");
    OK(fs_join(from, dir, "unet/diffusion_pytorch_model.safetensors", &e));
    OK(fs_join(to, dir, "unet/diffusion_pytorch_model.fp16.safetensors", &e));
    assert_int_equal(rename(from, to), 0);
    OK(sd_check(dir, &factor, &e)); /* the variant's name serves as well */
    assert_int_equal(unlink(to), 0);
    small_model_write(dir, "unet/diffusion_pytorch_model.bin", "pickle");
    expect_refusal(dir, "pickled weights are not read");
    small_model_write(dir, "unet/diffusion_pytorch_model.safetensors.index.json", "{}");
    expect_refusal(dir, "weights in several shards are not read");
    small_model_write(dir, "unet/diffusion_pytorch_model.safetensors", "garbage");
    expect_refusal(dir, "unet/diffusion_pytorch_model.safetensors");
}

/* One change in a config: what stands there becomes another thing. */
static void change(const char *dir, const char *file, const char *key, const char *value)
{
    char path[FS_PATH];
    json_t *j;
    err e = {0};

    OK(fs_join(path, dir, file, &e));
    OK(json_read(&j, path, &e));
    json_t *v = json_loads(value, JSON_DECODE_ANY, NULL);
    assert_non_null(v);
    json_object_set_new(j, key, v);
    char *text = json_dumps(j, 0);
    small_model_write(dir, file, text);
    free(text);
    json_decref(j);
}

static void a_config_that_is_not_built_is_named(void **state)
{
    static const struct { const char *file, *key, *value, *says; } ROWS[] = {
        {"unet/config.json", "act_fn", "\"gelu\"", "act_fn \"gelu\" is not built (\"silu\" is)"},
        {"unet/config.json", "time_embedding_type", "\"fourier\"", "time_embedding_type \"fourier\" is not built"},
        {"unet/config.json", "class_embed_type", "\"timestep\"", "class_embed_type \"timestep\" is not built"},
        {"unet/config.json", "num_class_embeds", "1000", "num_class_embeds 1000 is not built"},
        {"unet/config.json", "addition_embed_type", "\"text_time\"", "addition_embed_type \"text_time\" is not built"},
        {"unet/config.json", "resnet_time_scale_shift", "\"scale_shift\"", "resnet_time_scale_shift"},
        {"unet/config.json", "down_block_types", "[\"AttnDownBlock2D\", \"DownBlock2D\"]", "AttnDownBlock2D is not built"},
        {"unet/config.json", "down_block_types", "[\"DownBlock2D\"]", "a list of 2 block names"},
        {"unet/config.json", "up_block_types", "[3, 4]", "up_block_types: a value without a name is not built"},
        {"unet/config.json", "block_out_channels", "[]", "block_out_channels: a list of 1 to 8"},
        {"unet/config.json", "block_out_channels", "[8, \"x\"]", "block_out_channels: \"x\" where a whole number"},
        {"unet/config.json", "block_out_channels", "[8, 14]", "norm_num_groups 4 does not divide block_out_channels 14"},
        {"unet/config.json", "attention_head_dim", "3", "attention_head_dim 3 (a number of heads) does not divide"},
        {"unet/config.json", "attention_head_dim", "[1, 2, 3]", "attention_head_dim has 3 values for 2 levels"},
        {"unet/config.json", "layers_per_block", "0", "layers_per_block: 0 where a whole number from 1"},
        {"unet/config.json", "layers_per_block", "2", "no tensor down_blocks.0.resnets.1"},
        {"unet/config.json", "cross_attention_dim", "null", "cross_attention_dim"},
        {"unet/config.json", "cross_attention_dim", "24", "cross_attention_dim is 24 and the text encoder's hidden_size 16"},
        {"unet/config.json", "in_channels", "9", "the UNet takes 9 channels and gives 4"},
        {"unet/config.json", "use_linear_projection", "true", "proj_in.weight is [8,8,1,1] where the config asks for [8,8]"},
        {"unet/config.json", "norm_eps", "\"small\"", "norm_eps"},
        {"vae/config.json", "act_fn", "\"relu\"", "act_fn \"relu\" is not built"},
        {"vae/config.json", "down_block_types", "[\"DownEncoderBlock2D\", \"AttnDownEncoderBlock2D\"]", "is not built"},
        {"vae/config.json", "latent_channels", "8", "the VAE's latents have 8"},
        {"vae/config.json", "scaling_factor", "0", "scaling_factor 0"},
        {"vae/config.json", "block_out_channels", "[4, 9]", "norm_num_groups 2 does not divide block_out_channels 9"},
        {"text_encoder/config.json", "hidden_act", "\"relu\"", "hidden_act relu is not built"},
        {"text_encoder/config.json", "num_attention_heads", "3", "num_attention_heads 3 does not divide hidden_size 16"},
        {"text_encoder/config.json", "num_hidden_layers", "3", "no tensor text_model.encoder.layers.2"},
        {"text_encoder/config.json", "vocab_size", "60", "token_embedding.weight is [54,16] where the config asks for [60,16]"},
        {"scheduler/scheduler_config.json", "prediction_type", "\"sample\"", "prediction_type sample is not built"},
        {"model_index.json", "text_encoder_2", "[\"transformers\", \"CLIPTextModelWithProjection\"]", "SDXL"},
        {"model_index.json", "unet", "[\"diffusers\", \"UNet2DModel\"]", "unet is a UNet2DModel, which is not built"},
        {"model_index.json", "vae", "null", "no vae is named"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        char dir[FS_PATH], name[32];
        snprintf(name, sizeof name, "config%zu", i);
        small_model_copy(dir, name);
        change(dir, ROWS[i].file, ROWS[i].key, ROWS[i].value);
        expect_refusal(dir, ROWS[i].says);
    }
}

/* ---- other forms of the same weights ---- */

/* Writes one of a directory's weight files anew, in another type, with one tensor more (or more->name NULL). */
static void rewrite(const char *dir, const char *file, dtype type, const st_tensor *more)
{
    static const char *const NONE[] = {NULL};
    char path[FS_PATH];
    safetensors *f;
    err e = {0};

    OK(fs_join(path, dir, file, &e));
    OK(st_open(&f, path, &e));
    size_t n = st_count(f);
    st_tensor *all = NEW_N(st_tensor, n + 1);
    for (size_t i = 0; i < n; i++) {
        all[i] = *st_at(f, i);
        float *x = NEW_N(float, all[i].count);
        void *to = mem_new(all[i].count, dtype_bytes(type));
        OK(st_read_f32(f, all[i].name, x, all[i].count, &e));
        f32_into(to, type, x, all[i].count);
        free(x);
        all[i].type = type;
        all[i].data = to;
    }
    if (more->name)
        all[n] = *more;
    OK(st_write(path, all, n + (more->name != NULL), NONE, NONE, &e));
    for (size_t i = 0; i < n; i++)
        free((void *)(uintptr_t)all[i].data);
    free(all);
    st_close(f);
}

static double apart(const float *a, const float *b, size_t n)
{
    double sum = 0, of = 0;

    for (size_t i = 0; i < n; i++) {
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        of += (double)b[i] * (double)b[i];
    }
    return sqrt(sum / of);
}

/* ---- parts on host arrays ---- */

enum { H = 5, W = 7, TEXT_TOKENS = 9, WIDTH = 16, MAP = H * W * 4, WORDS = TEXT_TOKENS * WIDTH };

static void a_sample_does_not_depend_on_its_neighbours(void **state)
{
    sd *m = small_model_open();
    float *x = small_model_noise("x", 2 * MAP), *text = small_model_noise("text", 2 * WORDS), t[2] = {10, 700};
    float both[2 * MAP], one[MAP];
    err e = {0};

    (void)state;
    OK(sd_unet(m, x, t, text, 2, H, W, TEXT_TOKENS, both, &e));
    for (int i = 0; i < 2; i++) {
        OK(sd_unet(m, x + i * MAP, t + i, text + i * WORDS, 1, H, W, TEXT_TOKENS, one, &e));
        assert_memory_equal(one, both + i * MAP, sizeof one);
    }
    free(x);
    free(text);
    small_model_close(m);
}

static void a_modifier_row_is_read_as_a_row_of_the_table(void **state)
{
    sd *m = small_model_open();
    int32_t plain[4] = {52, 3, 17, 53}, modified[4] = {52, 54, 55, 53}, beyond[4] = {52, 56, 1, 53};
    float rows[2 * WIDTH], a[4 * WIDTH], b[4 * WIDTH], back[WIDTH];
    err e = {0};

    (void)state;
    OK(sd_text_row(m, 3, rows, &e));
    OK(sd_text_row(m, 17, rows + WIDTH, &e));
    OK(sd_text_encode(m, plain, 1, 4, a, &e));
    assert_int_equal(sd_text_encode(m, modified, 1, 4, b, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "token id 54 where the text encoder has 54"));
    OK(sd_text_rows_set(m, rows, 2, &e));
    OK(sd_text_encode(m, modified, 1, 4, b, &e));
    assert_memory_equal(a, b, sizeof a);
    OK(sd_text_row(m, 55, back, &e));
    assert_memory_equal(back, rows + WIDTH, sizeof back);
    assert_int_equal(sd_text_encode(m, beyond, 1, 4, b, &e), ERR_INPUT);
    small_model_close(m);
}

static void features_depend_on_earlier_tokens_only(void **state)
{
    sd *m = small_model_open();
    int32_t a[4] = {52, 3, 17, 53}, b[4] = {52, 3, 9, 9};
    float x[4 * WIDTH], y[4 * WIDTH];
    err e = {0};

    (void)state;
    OK(sd_text_encode(m, a, 1, 4, x, &e));
    OK(sd_text_encode(m, b, 1, 4, y, &e));
    assert_memory_equal(x, y, 2 * WIDTH * sizeof *x);
    assert_memory_not_equal(x + 2 * WIDTH, y + 2 * WIDTH, WIDTH * sizeof *x);
    small_model_close(m);
}

static void captions_are_compared_by_the_first_end_token(void **state)
{
    sd *m = small_model_open();
    int32_t ids[5] = {52, 3, 53, 53, 53};
    float all[5 * WIDTH], end[WIDTH];
    err e = {0};

    (void)state;
    assert_int_equal(sd_text_embed_width(m), WIDTH); /* the small model has no projection */
    OK(sd_text_encode(m, ids, 1, 5, all, &e));
    OK(sd_text_embed(m, ids, 1, 5, 53, end, &e));
    assert_memory_equal(end, all + 2 * WIDTH, sizeof end);
    small_model_close(m);
}

static sd *open_at(const char *dir, nn_backend **b)
{
    sd *m;
    err e = {0};

    OK(nn_cpu_open(b, 1, false, &e));
    OK(sd_open(&m, dir, *b, &e));
    return m;
}

static void a_projection_is_used_where_the_file_has_one(void **state)
{
    enum { OUT = 3 };
    float *w = small_model_noise("projection", OUT * WIDTH), end[WIDTH], out[OUT];
    st_tensor more = {.name = "text_projection.weight", .type = F32, .n = 2, .d = {OUT, WIDTH}, .count = OUT * WIDTH, .data = w};
    int32_t ids[4] = {52, 3, 53, 53};
    char dir[FS_PATH];
    nn_backend *b;
    err e = {0};

    (void)state;
    small_model_copy(dir, "projected");
    rewrite(dir, "text_encoder/model.safetensors", F32, &more);
    sd *plain = small_model_open(), *m = open_at(dir, &b);
    assert_int_equal(sd_text_embed_width(m), OUT);
    OK(sd_text_embed(plain, ids, 1, 4, 53, end, &e));
    OK(sd_text_embed(m, ids, 1, 4, 53, out, &e));
    for (int i = 0; i < OUT; i++) {
        double sum = 0;
        for (int k = 0; k < WIDTH; k++)
            sum += (double)w[i * WIDTH + k] * (double)end[k];
        assert_true(fabs(sum - (double)out[i]) < 1e-4);
    }
    small_model_close(plain);
    sd_close(m);
    b->close(b);
    free(w);
}

static void half_precision_files_are_read(void **state)
{
    static const struct { dtype type; double near; } ROWS[] = {{F16, 0.01}, {BF16, 0.08}};
    float *x = small_model_noise("x", MAP), *text = small_model_noise("text", WORDS), t = 300, want[MAP], got[MAP];
    st_tensor none = {0};
    err e = {0};

    (void)state;
    sd *m = small_model_open();
    OK(sd_unet(m, x, &t, text, 1, H, W, TEXT_TOKENS, want, &e));
    small_model_close(m);
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        char dir[FS_PATH], name[32];
        nn_backend *b;
        snprintf(name, sizeof name, "half%zu", i);
        small_model_copy(dir, name);
        rewrite(dir, "unet/diffusion_pytorch_model.safetensors", ROWS[i].type, &none);
        m = open_at(dir, &b);
        OK(sd_unet(m, x, &t, text, 1, H, W, TEXT_TOKENS, got, &e));
        double d = apart(got, want, MAP);
        assert_true(d > 0 && d < ROWS[i].near);
        sd_close(m);
        b->close(b);
    }
    free(x);
    free(text);
}

static void the_vae_halves_and_doubles(void **state)
{
    enum { PH = 10, PW = 14 };
    sd *m = small_model_open();
    float *pixels = small_model_noise("pixels", (PH + 1) * PW * 3), mean[MAP], logvar[MAP], back[PH * PW * 3];
    err e = {0};

    (void)state;
    assert_int_equal(vae_factor(sd_vae_shape(m)), 2);
    assert_int_equal(sd_side(m), 16);
    OK(sd_vae_encode(m, pixels, 1, PH, PW, mean, logvar, &e));
    OK(sd_vae_decode(m, mean, 1, H, W, back, &e));
    for (int i = 0; i < MAP; i++)
        assert_true(isfinite(mean[i]) && logvar[i] >= -30 && logvar[i] <= 20);
    for (int i = 0; i < PH * PW * 3; i++)
        assert_true(isfinite(back[i]));
    OK(sd_vae_encode(m, pixels, 1, PH + 1, PW, mean, logvar, &e)); /* an odd row more is left over */
    assert_int_equal(sd_vae_encode(m, pixels, 1, 1, 8, mean, logvar, &e), ERR_SHAPE);
    free(pixels);
    small_model_close(m);
}

/* Of 7, four, two and one go together; of larger maps the library's kernels are taken. */
static void samples_that_run_together_have_the_bytes_of_each_alone(void **state)
{
    enum { N = 7, SIDES = 2, TOKENS_EACH = 6, EACH = TOKENS_EACH * WIDTH };
    static const int sides[SIDES] = {16, 96};
    sd *m = small_model_open();
    err e = {0};

    (void)state;
    for (int k = 0; k < SIDES; k++) {
        size_t side = (size_t)sides[k], in = side * side * 3, out = side * side; /* 4 channels at half the side */
        float *pixels = small_model_noise("pixels", N * in), *all = mem_new(2 * N * out, sizeof *all), *one = mem_new(2 * out, sizeof *one);
        OK(sd_vae_encode(m, pixels, N, sides[k], sides[k], all, all + N * out, &e));
        for (size_t i = 0; i < N; i++) {
            OK(sd_vae_encode(m, pixels + i * in, 1, sides[k], sides[k], one, one + out, &e));
            assert_memory_equal(one, all + i * out, out * sizeof *one);
            assert_memory_equal(one + out, all + (N + i) * out, out * sizeof *one);
        }
        free(pixels);
        free(all);
        free(one);
    }
    int (*const encode[])(sd *, const int32_t *, int, int, float *, err *) = {sd_text_encode, sd_text_states};
    int32_t ids[N * TOKENS_EACH];
    float together[N * EACH], alone[EACH];
    for (int i = 0; i < N * TOKENS_EACH; i++)
        ids[i] = (i * 7 + 3) % 54;
    for (int k = 0; k < 2; k++) {
        OK(encode[k](m, ids, N, TOKENS_EACH, together, &e));
        for (int i = 0; i < N; i++) {
            OK(encode[k](m, ids + i * TOKENS_EACH, 1, TOKENS_EACH, alone, &e));
            assert_memory_equal(alone, together + i * EACH, sizeof alone);
        }
    }
    small_model_close(m);
}

static void latents_are_scaled_samples_of_clamped_moments(void **state)
{
    const vae_shape v = {.latent = 1, .scaling = 0.5F};
    const float moments[4] = {2, 100, 3, -100}, noise[2] = {1, -1};
    float mean[2], logvar[2], z[2];

    (void)state;
    vae_moments(&v, moments, 2, mean, logvar);
    assert_true(mean[0] == 2 && mean[1] == 3 && logvar[0] == 20 && logvar[1] == -30);
    logvar[0] = 0;
    vae_sample(&v, mean, logvar, noise, z, 2);
    assert_true(fabsf(z[0] - 1.5F) < 1e-6F && fabsf(z[1] - 1.5F) < 1e-6F);
}

/* ---- other weights ---- */

static void an_override_changes_the_model_and_restoring_brings_it_back(void **state)
{
    sd *m = small_model_open();
    float *x = small_model_noise("x", MAP), *text = small_model_noise("text", WORDS), t = 300, a[MAP], b[MAP];
    const char *name = sd_kv_name(m, 0);
    char before[HASH_HEX], after[HASH_HEX];
    nn_shape s;
    err e = {0};

    (void)state;
    OK(sd_fingerprint(m, before, &e));
    OK(sd_unet(m, x, &t, text, 1, H, W, TEXT_TOKENS, a, &e));
    OK(sd_file_shape(m, name, &s, &e));
    float *w = small_model_noise("w", (size_t)nn_count(s));
    OK(sd_override(m, name, w, (size_t)nn_count(s), &e));
    OK(sd_unet(m, x, &t, text, 1, H, W, TEXT_TOKENS, b, &e));
    assert_memory_not_equal(a, b, sizeof a);
    OK(sd_fingerprint(m, after, &e));
    assert_string_equal(before, after);
    sd_restore(m);
    OK(sd_unet(m, x, &t, text, 1, H, W, TEXT_TOKENS, b, &e));
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(sd_override(m, name, w, 3, &e), ERR_SHAPE);
    assert_int_not_equal(sd_override(m, "unet.nothing", w, 3, &e), 0);
    free(w);
    free(x);
    free(text);
    small_model_close(m);
}

static void keys_and_values_are_listed_in_pairs(void **state)
{
    sd *m = small_model_open();
    size_t n = 0;

    (void)state;
    while (sd_kv_name(m, n))
        n++;
    assert_int_equal(n, 8); /* one attention down, one in the middle, two up */
    for (size_t i = 0; i < n; i += 2) {
        const char *k = sd_kv_name(m, i), *v = sd_kv_name(m, i + 1);
        assert_non_null(strstr(k, ".attn2.to_k.weight"));
        assert_int_equal(strlen(k), strlen(v));
        assert_memory_equal(k, v, strlen(k) - strlen("k.weight"));
    }
    small_model_close(m);
}

/* ---- gradients ---- */

typedef struct {
    nn_graph *g;
    nn_plan *plan;
    nn_tensor x, t, text, seed, eps, grad[3];   /* of x, of the text, of the first K */
    float *of_x, *of_text, *of_k;
    size_t k_count;
} backward;

/* d(sum seed * eps) for the UNet at 5 x 7 latents. */
static void run_backward(backward *b, sd *m, bool detach_first)
{
    float *x = small_model_noise("x", MAP), *text = small_model_noise("text", WORDS), *seed = small_model_noise("seed", MAP);
    float t = 300;
    err e = {0};

    b->g = nn_graph_new();
    b->x = nn_input(b->g, "x", F32, NN_SHAPE(1, H, W, 4));
    b->t = nn_input(b->g, "t", F32, NN_SHAPE(1));
    b->text = nn_input(b->g, "text", F32, NN_SHAPE(1, TEXT_TOKENS, WIDTH));
    b->seed = nn_input(b->g, "seed", F32, NN_SHAPE(1, H, W, 4));
    b->eps = sd_unet_write(b->g, m, b->x, b->t, b->text, detach_first);
    nn_tensor k = nn_param_find(b->g, sd_kv_name(m, 0)), wrt[3] = {b->x, b->text, k};
    OK(nn_backward(b->g, b->eps, b->seed, wrt, b->grad, 3, &e));
    OK(nn_plan_new(&b->plan, b->g, sd_params(m), b->grad, 3, &e));
    OK(nn_write(b->plan, b->x, x, MAP * sizeof *x, &e));
    OK(nn_write(b->plan, b->t, &t, sizeof t, &e));
    OK(nn_write(b->plan, b->text, text, WORDS * sizeof *text, &e));
    OK(nn_write(b->plan, b->seed, seed, MAP * sizeof *seed, &e));
    OK(nn_run(b->plan, &e));
    b->k_count = (size_t)nn_count(nn_shape_get(k));
    b->of_x = NEW_N(float, MAP);
    b->of_text = NEW_N(float, WORDS);
    b->of_k = NEW_N(float, b->k_count);
    OK(nn_read(b->plan, b->grad[0], b->of_x, MAP * sizeof(float), &e));
    OK(nn_read(b->plan, b->grad[1], b->of_text, WORDS * sizeof(float), &e));
    OK(nn_read(b->plan, b->grad[2], b->of_k, b->k_count * sizeof(float), &e));
    free(x);
    free(text);
    free(seed);
}

static void free_backward(backward *b)
{
    nn_plan_free(b->plan);
    nn_graph_free(b->g);
    free(b->of_x);
    free(b->of_text);
    free(b->of_k);
}

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* sum seed * eps with x, text and the first K moved by `by` along three directions. */
static double moved(sd *m, float by, const float *dx, const float *dtext, const float *dk, size_t k_count)
{
    float *x = small_model_noise("x", MAP), *text = small_model_noise("text", WORDS), *seed = small_model_noise("seed", MAP);
    float *k = NEW_N(float, k_count), t = 300, eps[MAP];
    err e = {0};

    OK(sd_file_read(m, sd_kv_name(m, 0), k, k_count, &e));
    for (size_t i = 0; i < MAP; i++)
        x[i] += by * dx[i];
    for (size_t i = 0; i < WORDS; i++)
        text[i] += by * dtext[i];
    for (size_t i = 0; i < k_count; i++)
        k[i] += by * dk[i];
    OK(sd_override(m, sd_kv_name(m, 0), k, k_count, &e));
    OK(sd_unet(m, x, &t, text, 1, H, W, TEXT_TOKENS, eps, &e));
    double sum = dot(eps, seed, MAP);
    sd_restore(m);
    free(x);
    free(text);
    free(seed);
    free(k);
    return sum;
}

static void the_gradient_is_what_differences_say(void **state)
{
    static const float STEP = 0.01F;
    sd *m = small_model_open();
    backward b = {0};

    (void)state;
    run_backward(&b, m, false);
    nn_plan_free(b.plan);
    b.plan = NULL;
    float *dx = small_model_noise("dx", MAP), *dtext = small_model_noise("dtext", WORDS), *dk = small_model_noise("dk", b.k_count);
    double up = moved(m, STEP, dx, dtext, dk, b.k_count), down = moved(m, -STEP, dx, dtext, dk, b.k_count);
    double differences = (up - down) / (2 * (double)STEP);
    double gradient = dot(b.of_x, dx, MAP) + dot(b.of_text, dtext, WORDS) + dot(b.of_k, dk, b.k_count);
    if (!(fabs(differences - gradient) < 0.01 * fabs(gradient)))
        fail_msg("differences say %g, the gradient %g", differences, gradient);
    free(dx);
    free(dtext);
    free(dk);
    free_backward(&b);
    small_model_close(m);
}

static void a_detached_first_token_gets_no_gradient(void **state)
{
    sd *m = small_model_open();
    backward plain = {0}, detached = {0};

    (void)state;
    run_backward(&plain, m, false);
    run_backward(&detached, m, true);
    for (int i = 0; i < WIDTH; i++)
        assert_true(detached.of_text[i] == 0);
    assert_true(dot(plain.of_text, plain.of_text, WIDTH) > 0);
    for (int i = WIDTH; i < WORDS; i++) /* the others lose nothing */
        assert_true(fabsf(plain.of_text[i] - detached.of_text[i]) < 1e-5F);
    assert_memory_not_equal(plain.of_k, detached.of_k, plain.k_count * sizeof(float));
    free_backward(&plain);
    free_backward(&detached);
    small_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_directory_is_accepted),
        cmocka_unit_test(a_missing_file_is_named),
        cmocka_unit_test(weights_in_other_forms_are_told_apart),
        cmocka_unit_test(a_config_that_is_not_built_is_named),
        cmocka_unit_test(a_sample_does_not_depend_on_its_neighbours),
        cmocka_unit_test(a_modifier_row_is_read_as_a_row_of_the_table),
        cmocka_unit_test(features_depend_on_earlier_tokens_only),
        cmocka_unit_test(captions_are_compared_by_the_first_end_token),
        cmocka_unit_test(a_projection_is_used_where_the_file_has_one),
        cmocka_unit_test(half_precision_files_are_read),
        cmocka_unit_test(the_vae_halves_and_doubles),
        cmocka_unit_test(samples_that_run_together_have_the_bytes_of_each_alone),
        cmocka_unit_test(latents_are_scaled_samples_of_clamped_moments),
        cmocka_unit_test(an_override_changes_the_model_and_restoring_brings_it_back),
        cmocka_unit_test(keys_and_values_are_listed_in_pairs),
        cmocka_unit_test(the_gradient_is_what_differences_say),
        cmocka_unit_test(a_detached_first_token_gets_no_gradient),
    };

    return cmocka_run_group_tests(tests, small_model_make, small_model_clear);
}
