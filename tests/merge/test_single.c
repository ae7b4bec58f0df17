/* A base model in one file: the model of its folder, in CompVis' keys and in diffusers', with CLIP's text encoder and with
 * OpenCLIP's; and what such a file may lack. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/mem.h"
#include "merge/export.h"
#include "tests/trainer/small_model.h"

enum { WIDTH = 16, WORDS = 6 };
static nn_backend *cpu;
#define OPEN "cond_stage_model.model."

static int set_up(void **state)
{
    assert_int_equal(nn_cpu_open(&cpu, 1, false, NULL), 0);
    return small_model_make(state);
}

static int tear_down(void **state)
{
    cpu->close(cpu);
    return small_model_clear(state);
}

static sd *opened(const char *path)
{
    sd *m;
    err e = {0};
    if (sd_open(&m, path, cpu, &e) != 0)
        fail_msg("%s", e.text);
    return m;
}

static void expect_refusal(const char *path, const char *says)
{
    sd *m;
    err e = {0};
    if (sd_open(&m, path, cpu, &e) == 0)
        fail_msg("accepted, where \"%s\" is expected", says);
    if (!strstr(e.text, says) || strchr(e.text, '\n'))
        fail_msg("%s does not say %s", e.text, says);
}

/* The small model with OpenCLIP's activation instead of CLIP's, which tells the encoders apart. */
static void make_folder(char dir[FS_PATH], const char *name, bool open_clip)
{
    char path[FS_PATH], *text, *at;
    size_t n;
    small_model_copy(dir, name);
    assert_int_equal(fs_join(path, dir, "text_encoder/config.json", NULL), 0);
    assert_int_equal(fs_read(path, &text, &n, 1 << 16, NULL), 0);
    at = strstr(text, "\"quick_gelu\"");
    assert_non_null(at);
    if (open_clip)
        memcpy(at, "\"gelu\"      ", strlen("\"quick_gelu\""));
    small_model_write(dir, "text_encoder/config.json", text);
    free(text);
}

typedef struct {
    char folder[FS_PATH], beside[FS_PATH], file[FS_PATH]; /* NAME, one-NAME/model, one-NAME/model.safetensors */
} both;

/* c: what is changed; NULL: nothing. */
static void make_both(both *b, const char *name, bool open_clip, single_keys keys, concept *c)
{
    concept none = {.base = mem_text("base"), .method = mem_text("none"), .recipe = mem_text("{}")};
    char out[FS_PATH], inside[64];
    sd *base;
    err e = {0};
    make_folder(b->folder, name, open_clip);
    snprintf(inside, sizeof inside, "one-%s/model", name);
    make_folder(b->beside, inside, open_clip);
    snprintf(out, sizeof out, "%.*s", (int)(strlen(b->beside) - strlen("/model")), b->beside);
    assert_int_equal(fs_join(b->file, out, "model.safetensors", &e), 0);
    base = opened(b->folder);
    export_job j = {.c = c ? c : &none, .base = base, .out = out};
    if ((keys == SINGLE_COMPVIS ? export_single(&j, &e) : export_single_diffusers(&j, &e)) != 0)
        fail_msg("%s", e.text);
    sd_close(base);
    concept_free(&none);
}

static void compare_parts(const sd *a, const sd *b)
{
    for (sd_part p = 0; p < SD_PARTS; p++) {
        assert_int_equal(st_count(sd_file(a, p)), st_count(sd_file(b, p)));
        for (size_t i = 0; i < st_count(sd_file(a, p)); i++) {
            const st_tensor *x = st_at(sd_file(a, p), i), *y = st_find(sd_file(b, p), x->name);
            assert_non_null(y);
            assert_true(x->type == y->type && x->n == y->n && memcmp(x->d, y->d, (size_t)x->n * sizeof x->d[0]) == 0);
            assert_memory_equal(x->data, y->data, x->count * dtype_bytes(x->type));
        }
    }
}

static void compare_texts(sd *a, sd *b)
{
    static const int32_t ids[WORDS] = {52, 3, 51, 40, 53, 53};
    float x[WORDS * WIDTH], y[WORDS * WIDTH];
    err e = {0};
    assert_int_equal(sd_text_encode(a, ids, 1, WORDS, x, &e), 0);
    assert_int_equal(sd_text_encode(b, ids, 1, WORDS, y, &e), 0);
    assert_memory_equal(x, y, sizeof x);
}

static void one_file_is_the_model_of_its_folder(void **state)
{
    (void)state;
    for (int open_clip = 0; open_clip < 2; open_clip++)
        for (single_keys keys = 0; keys <= SINGLE_DIFFUSERS; keys++) {
            both b;
            char name[32], one[HASH_HEX], two[HASH_HEX];
            err e = {0};
            snprintf(name, sizeof name, "same-%d-%d", open_clip, (int)keys);
            make_both(&b, name, open_clip, keys, NULL);
            sd *folder = opened(b.folder), *file = opened(b.file);
            assert_true(sd_is_single(file) && !sd_is_single(folder));
            assert_int_equal(sd_fingerprint(folder, one, &e), 0);
            assert_int_equal(sd_fingerprint(file, two, &e), 0);
            assert_string_equal(one, two);
            compare_parts(folder, file);
            compare_texts(folder, file);
            sd_close(folder);
            sd_close(file);
        }
}

static void open_clips_keys_are_those_of_its_program(void **state)
{
    static const struct {
        const char *key;
        int n;
        int64_t d[2];
    } keys[] = {
        {OPEN "token_embedding.weight", 2, {54, 16}},        {OPEN "positional_embedding", 2, {77, 16}},
        {OPEN "ln_final.weight", 1, {16}},                   {OPEN "transformer.resblocks.0.ln_1.weight", 1, {16}},
        {OPEN "transformer.resblocks.1.ln_2.bias", 1, {16}}, {OPEN "transformer.resblocks.1.mlp.c_fc.weight", 2, {32, 16}},
        {OPEN "transformer.resblocks.0.mlp.c_proj.weight", 2, {16, 32}},
        {OPEN "transformer.resblocks.1.attn.in_proj_weight", 2, {48, 16}},
        {OPEN "transformer.resblocks.1.attn.in_proj_bias", 1, {48}},
        {OPEN "transformer.resblocks.0.attn.out_proj.weight", 2, {16, 16}},
    };
    static const char *const proj[] = {"q", "k", "v"};
    both b;
    safetensors *f;
    (void)state;
    make_both(&b, "keys", true, SINGLE_COMPVIS, NULL);
    assert_int_equal(st_open(&f, b.file, NULL), 0);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const st_tensor *t = st_find(f, keys[i].key);
        if (!t)
            fail_msg("no %s", keys[i].key);
        assert_true(t->n == keys[i].n && t->d[0] == keys[i].d[0] && (t->n == 1 || t->d[1] == keys[i].d[1]));
    }
    for (size_t i = 0; i < st_count(f); i++) /* and no other of a text encoder */
        assert_true(strncmp(st_at(f, i)->name, "cond_stage_model.", 17) != 0 || strncmp(st_at(f, i)->name, OPEN, strlen(OPEN)) == 0);
    sd *folder = opened(b.folder);
    const float *all = st_find(f, OPEN "transformer.resblocks.1.attn.in_proj_weight")->data;
    for (int i = 0; i < 3; i++) {
        char name[80];
        snprintf(name, sizeof name, "text_model.encoder.layers.1.self_attn.%s_proj.weight", proj[i]);
        assert_memory_equal(all + i * WIDTH * WIDTH, st_find(sd_file(folder, SD_TEXT), name)->data, sizeof(float) * WIDTH * WIDTH);
    }
    sd_close(folder);
    st_close(f);
}

static void what_one_file_changes_comes_back_to_the_bit(void **state)
{
    static const char *const name = "text_encoder.text_model.encoder.layers.0.self_attn.k_proj.weight";
    (void)state;
    for (int open_clip = 0; open_clip < 2; open_clip++) {
        concept c = {.base = mem_text("base"), .method = mem_text("none"), .recipe = mem_text("{}")}, back = {0};
        float *w = small_model_noise("changed", WIDTH * WIDTH);
        both b;
        err e = {0};
        concept_add_tensor(&c, name, WIDTH, WIDTH, w);
        make_both(&b, open_clip ? "changed-1" : "changed-0", open_clip, SINGLE_COMPVIS, &c);
        sd *folder = opened(b.folder);
        assert_true(import_is_model(b.file));
        if (import_model(&back, b.file, folder, NULL, &e) != 0)
            fail_msg("%s", e.text);
        assert_int_equal(back.n_tensors, 1);
        assert_string_equal(back.tensors[0].name, name);
        assert_memory_equal(back.tensors[0].data, w, sizeof(float) * WIDTH * WIDTH);
        sd_close(folder);
        concept_free(&c);
        concept_free(&back);
        free(w);
    }
}

/* ---- what is not there, and what is beside ---- */

/* The file again, without its tensor `less` and with `more` (one number each) behind it. */
static void rewrite(const char *to, const char *from, const char *less, const char *const more[], size_t n_more)
{
    static const float one = 1;
    safetensors *f;
    size_t n = 0;
    assert_int_equal(st_open(&f, from, NULL), 0);
    st_tensor *list = NEW_N(st_tensor, st_count(f) + n_more);
    for (size_t i = 0; i < st_count(f); i++)
        if (!less || strcmp(st_at(f, i)->name, less) != 0)
            list[n++] = *st_at(f, i);
    for (size_t i = 0; i < n_more; i++)
        list[n++] = (st_tensor){.name = more[i], .type = F32, .n = 1, .d = {1}, .count = 1, .data = &one};
    assert_int_equal(st_write(to, list, n, (const char *const[]){NULL}, (const char *const[]){NULL}, NULL), 0);
    free(list);
    st_close(f);
}

static void what_training_leaves_beside_the_model_is_passed_over_and_told(void **state)
{
    static const char *const more[] = {OPEN "logit_scale", OPEN "text_projection", OPEN "transformer.resblocks.2.ln_1.weight",
                                       "model_ema.decay", "betas"};
    static const char *const foreign[] = {"model.control.weight"};
    both b;
    concept back = {0};
    import_notes notes = {{0}, {0}};
    char unet[FS_PATH];
    err e = {0};
    (void)state;
    make_both(&b, "more", true, SINGLE_COMPVIS, NULL);
    sd *folder = opened(b.folder);
    rewrite(b.file, b.file, NULL, more, sizeof more / sizeof *more);
    sd_close(opened(b.file));
    assert_int_equal(import_model(&back, b.file, folder, &notes, &e), 0);
    assert_int_equal(back.n_tensors, 0);
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        assert_non_null(strstr(notes.passed.at, more[i])); /* with a word for each */
    assert_null(notes.unknown.at);
    rewrite(b.file, b.file, NULL, foreign, 1);
    assert_int_equal(import_model(&back, b.file, folder, &notes, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "model.control.weight"));
    assert_string_equal(notes.unknown.at, "model.control.weight\n");
    import_notes_free(&notes);
    notes = (import_notes){{0}, {0}};
    assert_int_equal(fs_join(unet, b.beside, "unet/diffusion_pytorch_model.safetensors", NULL), 0);
    assert_int_equal(import_model(&back, b.beside, folder, &notes, &e), 0);
    rewrite(unet, unet, NULL, foreign, 1);
    assert_int_equal(import_model(&back, b.beside, folder, &notes, &e), ERR_INPUT);
    assert_string_equal(notes.unknown.at, "unet.model.control.weight\n");
    import_notes_free(&notes);
    sd_close(folder);
    concept_free(&back);
}

static void a_file_that_is_no_whole_model_is_refused_by_name(void **state)
{
    static const char *const xl[] = {"conditioner.embedders.0.transformer.text_model.final_layer_norm.weight"};
    both b;
    char other[FS_PATH + 64];
    err e = {0};
    (void)state;
    make_both(&b, "less", true, SINGLE_COMPVIS, NULL);
    snprintf(other, sizeof other, "%s-2.safetensors", b.beside);
    rewrite(other, b.file, NULL, NULL, 0);
    expect_refusal(other, "model-2/unet/config.json: missing; a model in one file has no unet/config.json");
    assert_int_equal(sd_path(other, b.file, "nothing", &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "model/nothing: missing"));
    rewrite(b.file, b.file, OPEN "transformer.resblocks.1.attn.in_proj_bias", NULL, 0);
    expect_refusal(b.file, "no tensor " OPEN "transformer.resblocks.1.attn.in_proj_bias");
    rewrite(b.file, b.file, NULL, xl, 1);
    expect_refusal(b.file, "SDXL is not built");
    snprintf(other, sizeof other, "%s/text_encoder/model.safetensors", b.folder);
    expect_refusal(other, "neither CompVis' keys");
    snprintf(other, sizeof other, "%s/none.safetensors", b.folder);
    expect_refusal(other, "none.safetensors");
}

static void of_one_file_no_folder_is_made(void **state)
{
    concept none = {0};
    both b;
    char out[FS_PATH + 8];
    err e = {0};
    (void)state;
    make_both(&b, "folder", false, SINGLE_COMPVIS, NULL);
    sd *file = opened(b.file);
    snprintf(out, sizeof out, "%s-out", b.beside);
    export_job j = {.c = &none, .base = file, .out = out};
    assert_int_equal(export_model(&j, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "--format single"));
    assert_false(fs_exists(out));
    sd_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_file_is_the_model_of_its_folder),
        cmocka_unit_test(open_clips_keys_are_those_of_its_program),
        cmocka_unit_test(what_one_file_changes_comes_back_to_the_bit),
        cmocka_unit_test(what_training_leaves_beside_the_model_is_passed_over_and_told),
        cmocka_unit_test(a_file_that_is_no_whole_model_is_refused_by_name),
        cmocka_unit_test(of_one_file_no_folder_is_made),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
