/* Laws: pictures and texts get the features that independent implementations give them (tests/reference/eval_oracle.py,
 * in double); a model that is incomplete or of another kind is refused by the name of what is wrong.
 *
 *   test_judge [long]    long: the real shapes, CLIP ViT-B/32, DINO ViT-S/16 and the Inception of FID, as a table */
#include "tests/cluster/scratch.h"

#include <math.h>

#include "cluster/base/mem.h"
#include "data/safetensors.h"
#include "tests/trainer/eval/judge_kit.h"
#include "trainer/eval/judge.h"
#include "trainer/nn/nn.h"

typedef int open_judge(judge **out, const char *path, nn_backend *b, err *e);

typedef struct {
    const char *name;
    open_judge *open;
    const char *file; /* what is opened, in the model's folder; "": the folder */
    int h, w;         /* of the picture */
    const char *text;
    double most;      /* of the relative error: rounding of f32 through the layers */
} row;

static const row ROWS[] = {
    {"clip_small", judge_open_clip, "", 45, 61, "a b c", 2e-6},
    {"dino_hf", judge_open_dino, "", 61, 45, NULL, 2e-6},
    {"dino_small", judge_open_dino, "model.safetensors", 45, 61, NULL, 2e-6},
    {"inception_small", judge_open_inception, "model.safetensors", 45, 61, NULL, 2e-6},
    {"inception_torchvision", judge_open_inception, "model.safetensors", 331, 340, NULL, 2e-6},
};
static const row REAL[] = {
    {"clip_b32", judge_open_clip, "", 301, 417, NULL, 1e-5},
    {"dino_s16", judge_open_dino, "model.safetensors", 301, 417, NULL, 1e-5},
    {"inception_fid", judge_open_inception, "model.safetensors", 301, 417, NULL, 1e-5},
};
static nn_backend *backend;

static const char *golden(const char *name)
{
    static char path[FS_PATH];
    const char *source = getenv("CFARM_SOURCE");

    assert_non_null(source);
    snprintf(path, sizeof path, "%s/tests/trainer/eval/golden/%s", source, name);
    return path;
}

static const char *made(const row *r)
{
    static char path[FS_PATH];

    judge_kit_make(in_scratch(r->name), golden(r->name));
    assert_int_equal(fs_join(path, in_scratch(r->name), *r->file ? r->file : ".", NULL), 0);
    return path;
}

/* |is - should| / |should| */
static double apart(const row *r, const char *what, const float *is, int width)
{
    char path[FS_PATH];
    float *should = NEW_N(float, width);
    double miss = 0, size = 0;
    safetensors *f;
    err e = {0};

    assert_int_equal(fs_join(path, golden(r->name), "features.safetensors", &e), 0);
    assert_int_equal(st_open(&f, path, &e), 0);
    assert_int_equal(st_read_f32(f, what, should, (uint64_t)width, &e), 0);
    for (int i = 0; i < width; i++) {
        miss += pow((double)is[i] - should[i], 2);
        size += pow(should[i], 2);
    }
    st_close(f);
    free(should);
    assert_true(size > 0);
    return sqrt(miss / size);
}

static void judge_like_the_reference(const row *r, bool tell)
{
    image m = judge_kit_picture(r->h, r->w);
    judge *j;
    err e = {0};

    if (r->open(&j, made(r), backend, &e) != 0)
        fail_msg("%s", e.text);
    float *features = NEW_N(float, judge_width(j));
    assert_int_equal(judge_picture(j, &m, features, &e), 0);
    double miss = apart(r, "picture", features, judge_width(j));
    if (tell)
        printf("%s,\"%s\",%.2g\n", r->name, judge_what(j), miss);
    if (miss > r->most)
        fail_msg("%s: picture %.3g apart", r->name, miss);
    if (r->text) {
        assert_int_equal(judge_text(j, r->text, features, &e), 0);
        miss = apart(r, "text", features, judge_width(j));
        if (miss > r->most)
            fail_msg("%s: text %.3g apart", r->name, miss);
    }
    free(features);
    judge_close(j);
    image_free(&m);
}

static void features_are_those_of_independent_implementations(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++)
        judge_like_the_reference(&ROWS[i], false);
}

static void real_shapes_too(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof REAL / sizeof *REAL; i++)
        judge_like_the_reference(&REAL[i], true);
}

/* ---- what is refused ---- */

static void refused(open_judge *open, const char *path, const char *pattern)
{
    judge *j = NULL;
    err e = {0};

    assert_int_not_equal(open(&j, path, backend, &e), 0);
    assert_null(j);
    assert_said(e.text, pattern);
}

/* The file without one tensor. */
static void lose(const char *path, const char *name)
{
    static const char *const NONE[] = {NULL};
    st_tensor *all;
    size_t n = 0;
    safetensors *f;
    err e = {0};

    assert_int_equal(st_open(&f, path, &e), 0);
    all = NEW_N(st_tensor, st_count(f));
    for (size_t i = 0; i < st_count(f); i++)
        if (strcmp(st_at(f, i)->name, name) != 0)
            all[n++] = *st_at(f, i);
    assert_true(n < st_count(f));
    assert_int_equal(st_write(path, all, n, NONE, NONE, &e), 0);
    free(all);
    st_close(f);
}

static void put(const char *name, const char *text)
{
    assert_int_equal(fs_write(in_scratch(name), text, strlen(text), NULL), 0);
}

static void a_model_of_another_kind_is_refused_by_what_is_wrong(void **state)
{
    (void)state;
    made(&ROWS[0]);
    made(&ROWS[1]);
    made(&ROWS[2]);
    refused(judge_open_clip, in_scratch("dino_hf"),
            "@/dino_hf/config.json: no vision_config; the config.json of a whole CLIP model is wanted");
    refused(judge_open_dino, in_scratch("clip_small"), "@/clip_small: model_type clip is not built (vit is)");
    refused(judge_open_clip, in_scratch("nowhere"),
            "@/nowhere: no config.json; a folder with a whole CLIP model is wanted");
    refused(judge_open_dino, in_scratch("clip_small/model.safetensors"),
            "@/clip_small/model.safetensors: no tensor patch_embed.proj.weight as a DINO vision transformer has it");
    refused(judge_open_inception, in_scratch("dino_small/model.safetensors"),
            "@/dino_small/model.safetensors: no tensor fc.weight, which tells the Inception of FID (1008 classes) from "
            "torchvision's (1000)");
    refused(judge_open_inception, in_scratch("inception.pth"),
            "@/inception.pth: pickled weights are not read; save them as safetensors");
    put("clip_small/config.json", "{\"vision_config\": {\"hidden_act\": \"tanh\"}, \"text_config\": {}}");
    refused(judge_open_clip, in_scratch("clip_small"),
            "@/clip_small/config.json: vision_config: hidden_act tanh is not built (quick_gelu and gelu are)");
}

static void a_missing_tensor_is_named(void **state)
{
    (void)state;
    made(&ROWS[0]);
    lose(in_scratch("clip_small/model.safetensors"), "vision_model.encoder.layers.1.mlp.fc2.bias");
    refused(judge_open_clip, in_scratch("clip_small"),
            "@/clip_small/model.safetensors: no tensor vision_model.encoder.layers.1.mlp.fc2.bias, which CLIP ViT, 32 "
            "pixels in "
            "patches of 8, 12 features has");
    made(&ROWS[3]);
    lose(in_scratch("inception_small/model.safetensors"), "Mixed_6c.branch7x7_2.bn.running_var");
    refused(judge_open_inception, in_scratch("inception_small/model.safetensors"),
            "@/inception_small/model.safetensors: no tensor Mixed_6c.branch7x7_2.bn.running_var, which Inception-v3 "
            "has");
    lose(in_scratch("inception_small/model.safetensors"), "Mixed_7b.branch1x1.conv.weight");
    refused(judge_open_inception, in_scratch("inception_small/model.safetensors"),
            "Mixed_7b.branch1x1: @/inception_small/model.safetensors: no convolution Mixed_7b.branch1x1.conv.weight, "
            "which "
            "Inception-v3 has");
}

static int open_backend(void **state)
{
    return scratch_make(state) == 0 ? nn_cpu_open(&backend, 0, false, NULL) : -1;
}

static int close_backend(void **state)
{
    backend->close(backend);
    return scratch_remove(state);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_are_those_of_independent_implementations),
        cmocka_unit_test(a_model_of_another_kind_is_refused_by_what_is_wrong),
        cmocka_unit_test(a_missing_tensor_is_named),
    };
    const struct CMUnitTest real[] = {cmocka_unit_test(real_shapes_too)};

    if (argc > 1 && strcmp(argv[1], "long") == 0)
        return cmocka_run_group_tests(real, open_backend, close_backend);
    return cmocka_run_group_tests(tests, open_backend, close_backend);
}
