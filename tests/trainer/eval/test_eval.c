/* Laws: an evaluation makes its pictures once and the same ones again; its figures are those of its pictures; tokens
 * are not read by CLIP; whatever is missing is said before or instead of a figure. */
#include "tests/cluster/scratch.h"

#include <math.h>

#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "configs/cfg_yaml.h"
#include "data/image.h"
#include "tests/trainer/eval/judge_kit.h"
#include "tests/trainer/small_model.h"
#include "trainer/eval/eval.h"
#include "trainer/eval/judge.h"

static const char *golden(const char *name)
{
    static char path[FS_PATH];

    snprintf(path, sizeof path, "%s/tests/trainer/eval/golden/%s", getenv("CFARM_SOURCE"), name);
    return path;
}

/* Settings as flags would give them over the fallbacks; d owns their texts. */
static eval_cfg settings(cfg_doc *d, const char *const flags[])
{
    cfg_section section = {"eval", eval_rows(), NULL};
    char *argv[64] = {mem_text("eval")};
    int argc = 1;
    cfg_node *map;
    eval_cfg set;
    err e = {0};

    section.into = &set;
    while (*flags)
        argv[argc++] = cfg_text(d, *flags++);
    if (cfg_args(&map, d, &section, 1, &argc, argv, &e) != 0 || cfg_fill(NULL, d, &section, 1, map, &e) != 0)
        fail_msg("%s", e.text);
    free(argv[0]);
    return set;
}

static int ran(const char *const flags[], err *e)
{
    cfg_doc *d = cfg_doc_new();
    eval_cfg set = settings(d, flags);
    int rc = eval_run(&set, "{}", NULL, e);

    cfg_doc_free(d);
    return rc;
}

static void must_run(const char *const flags[])
{
    err e = {0};

    if (ran(flags, &e) != 0)
        fail_msg("%s", e.text);
}

static void must_say(const char *const flags[], const char *pattern)
{
    err e = {0};

    assert_int_not_equal(ran(flags, &e), 0);
    assert_said(e.text, pattern);
}

#define FLAGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static json_t *read_scores(const char *name)
{
    json_t *o;
    err e = {0};

    if (json_read(&o, in_scratch(name), &e) != 0)
        fail_msg("%s", e.text);
    return o;
}

static double figure(const json_t *scores, const char *measure, const char *scaling)
{
    json_t *list = json_object_get(scores, "scores"), *row;
    size_t i;

    json_array_foreach(list, i, row)
        if (strcmp(json_string_value(json_object_get(row, "measure")), measure) == 0 &&
            strcmp(json_string_value(json_object_get(row, "scaling")), scaling) == 0)
            return json_real_value(json_object_get(row, "value"));
    fail_msg("no %s, %s", measure, scaling);
    return 0;
}

/* ---- pictures ---- */

static char *bytes_of(const char *path, size_t *n)
{
    char *text;
    err e = {0};

    if (fs_read(path, &text, n, 1 << 24, &e) != 0)
        fail_msg("%s", e.text);
    return text;
}

static void same_bytes(const char *a, const char *b)
{
    size_t n, m;
    char *x = bytes_of(a, &n), *y = bytes_of(b, &m);

    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

static const char *const MADE[] = {"00000.png", "00001.png", "00002.png", "00003.png"};

static void make_real(const char *name, int n, int more)
{
    char path[FS_PATH];

    assert_int_equal(fs_mkdirs(in_scratch(name), NULL), 0);
    for (int i = 0; i < n; i++) {
        image m = judge_kit_picture(30 + i + more, 40);
        snprintf(path, sizeof path, "%.2000s/%d.png", in_scratch(name), i);
        assert_int_equal(image_write_png(path, m.rgb, m.h, m.w, NULL), 0);
        image_free(&m);
    }
}

static void an_evaluation_is_a_function_of_its_settings(void **state)
{
    (void)state;
    const char *model = small_model_dir();
    char clip[FS_PATH];

    make_real("own", 3, 0);
    strcpy(clip, in_scratch("clip"));
    for (int i = 0; i < 2; i++)
        must_run(FLAGS("--model", model, "--class", "dog", "--prompt", "a {}", "--prompt", "two {}", "--count", "2",
                       "--steps", "2", "--clip", clip, "--real", in_scratch("own"), "--out",
                       in_scratch(i == 0 ? "one" : "two")));
    for (int k = 0; k < 4; k++) {
        char a[FS_PATH], b[FS_PATH];
        snprintf(a, sizeof a, "%.2000s/%s", in_scratch("one/pictures"), MADE[k]);
        snprintf(b, sizeof b, "%.2000s/%s", in_scratch("two/pictures"), MADE[k]);
        same_bytes(a, b);
    }
    same_bytes(in_scratch("one/scores.csv"), in_scratch("two/scores.csv"));
    same_bytes(in_scratch("one/pictures.csv"), in_scratch("two/pictures.csv"));
    json_t *scores = read_scores("one/scores.json");
    double cosine = figure(scores, "clip-text", "cosine");
    assert_true(fabs(figure(scores, "clip-text", "100 x cosine") - 100 * cosine) < 1e-9);
    assert_true(figure(scores, "clip-text", "2.5 x max(cosine, 0)") >= 2.5 * cosine - 1e-9);
    assert_true(fabs(figure(scores, "clip-image", "cosine")) <= 1);
    assert_int_equal(json_array_size(json_object_get(scores, "pictures")), 4);
    json_decref(scores);
}

/* What is there is not made again: a picture that was changed by hand stays changed. */
static void a_run_cut_short_goes_on_and_another_is_refused(void **state)
{
    (void)state;
    const char *model = small_model_dir();
    char clip[FS_PATH], out[FS_PATH], own[FS_PATH];

    strcpy(clip, in_scratch("clip"));
    strcpy(out, in_scratch("one"));
    strcpy(own, in_scratch("own"));
    assert_int_equal(unlink(in_scratch("one/pictures/00002.png")), 0);
    image m = judge_kit_picture(16, 16);
    assert_int_equal(image_write_png(in_scratch("one/pictures/00001.png"), m.rgb, 16, 16, NULL), 0);
    must_run(FLAGS("--model", model, "--class", "dog", "--prompt", "a {}", "--prompt", "two {}", "--count", "2",
                   "--steps", "2", "--clip", clip, "--real", own, "--out", out));
    same_bytes(in_scratch("one/pictures/00002.png"), in_scratch("two/pictures/00002.png"));
    image kept;
    assert_int_equal(image_load(&kept, in_scratch("one/pictures/00001.png"), NULL), 0);
    assert_memory_equal(kept.rgb, m.rgb, 16 * 16 * 3);
    image_free(&kept);
    image_free(&m);
    must_say(FLAGS("--model", model, "--class", "dog", "--prompt", "a {}", "--prompt", "two {}", "--count", "2",
                   "--steps", "3", "--clip", clip, "--out", out),
             "@/one/pictures: pictures of another model, prompt list or sampler lie there; give another --out or take "
             "them away");
}

/* ---- folders ---- */

static void a_picture_beside_itself_is_all_alike(void **state)
{
    (void)state;
    char dino[FS_PATH];

    make_real("alone", 1, 0);
    strcpy(dino, in_scratch("dino"));
    must_run(FLAGS("--pictures", in_scratch("alone"), "--real", in_scratch("alone"), "--dino", dino, "--out",
                   in_scratch("same")));
    json_t *scores = read_scores("same/scores.json");
    assert_float_equal(figure(scores, "dino", "cosine"), 1, 1e-5);
    json_decref(scores);
}

static void kid_tells_one_set_from_another(void **state)
{
    (void)state;
    char inception[FS_PATH], a[FS_PATH], b[FS_PATH];

    make_real("many", 6, 0);
    make_real("more", 6, 3);
    strcpy(inception, in_scratch("inception/model.safetensors"));
    strcpy(a, in_scratch("many"));
    strcpy(b, in_scratch("more"));
    must_run(FLAGS("--pictures", a, "--against", b, "--inception", inception, "--kid_subsets", "5", "--out",
                   in_scratch("kid")));
    json_t *scores = read_scores("kid/scores.json");
    assert_true(fabs(1000 * figure(scores, "kid", "as it is") - figure(scores, "kid", "1000 x")) < 1e-9);
    json_decref(scores);
}

/* ---- words ---- */

static void tokens_are_said_and_not_read(void **state)
{
    (void)state;
    static const struct { const char *prompt, *said, *meant; } ROWS[] = {
        {"a photo of a {}", "a photo of a <rex> <rex>_1 dog", "a photo of a dog"},
        {"{0} beside {1}", "<rex> <rex>_1 dog beside <tab> cat", "dog beside cat"},
        {"<rex> <rex>_1 on the moon", "<rex> <rex>_1 on the moon", "on the moon"},
        {"the moon and <tab>", "the moon and <tab>", "the moon and"},
        {"a <rex>dog", "a <rex>dog", "a <rex>dog"},
        {"{2", "{2", "{2"},
    };
    char *words[] = {(char[]){"<rex>"}, (char[]){"<rex>_1"}, (char[]){"<tab>"}},
         *classes[] = {(char[]){"dog"}, (char[]){"dog"}, (char[]){"cat"}};
    concept_token tokens[3];
    eval_cfg set = {.class_word = ""};
    eval_words w;
    err e = {0};

    for (int i = 0; i < 3; i++)
        tokens[i] = (concept_token){.word = words[i], .class_word = classes[i]};
    eval_words_of(&w, &set, &(concept){.n_tokens = 3, .tokens = tokens});
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        char *said, *meant;
        assert_int_equal(eval_words_fill(&said, &meant, &w, ROWS[i].prompt, &e), 0);
        assert_string_equal(said, ROWS[i].said);
        assert_string_equal(meant, ROWS[i].meant);
        free(said);
        free(meant);
    }
    char *said, *meant;
    assert_int_not_equal(eval_words_fill(&said, &meant, &w, "{7}", &e), 0);
    assert_string_equal(e.text, "prompt \"{7}\" has a place for subject 7 and 2 are known; give --from FILE.h5 or "
                                "--class WORD");
    eval_words_free(&w);
}

/* ---- what is missing ---- */

static void what_is_missing_is_said(void **state)
{
    (void)state;
    char clip[FS_PATH], dino[FS_PATH], empty[FS_PATH], own[FS_PATH], out[FS_PATH];

    strcpy(clip, in_scratch("clip"));
    strcpy(dino, in_scratch("dino"));
    strcpy(own, in_scratch("own"));
    strcpy(out, in_scratch("out"));
    strcpy(empty, in_scratch("empty"));
    assert_int_equal(fs_mkdirs(empty, NULL), 0);
    must_say(FLAGS("--pictures", own), "nothing to measure with; give --clip DIR, --dino PATH or --inception FILE");
    must_say(FLAGS("--clip", clip), "no pictures; give --pictures DIR, or --model DIR or --from FILE.h5 with prompts "
                                    "to make some");
    must_say(FLAGS("--model", "x", "--clip", clip), "no prompt; give --prompt \"a photo of a {}\" or --prompts FILE");
    must_say(FLAGS("--pictures", own, "--dino", dino), "--dino compares with the subject's own pictures; give --real "
                                                       "DIR");
    must_say(FLAGS("--pictures", own, "--inception", "x"), "--inception compares with real pictures of the class; give "
                                                           "--against DIR");
    must_say(FLAGS("--pictures", empty, "--clip", clip, "--out", out),
             "@/empty: no .jpg, .jpeg, .png or .webp in this folder; name the one with the pictures");
    must_say(FLAGS("--pictures", own, "--clip", clip, "--out", out), "--clip has nothing to compare with: the pictures "
                                                                     "have no prompts (prompts.json, or X.txt beside "
                                                                     "X.png), and no --real "
                                                                     "DIR is given");
    must_say(FLAGS("--pictures", own, "--clip", dino, "--out", out),
             "@/dino/config.json: no vision_config; the config.json of a whole CLIP model is wanted");
    must_say(FLAGS("--pictures", own, "--real", empty, "--dino", dino, "--out", out),
             "@/empty: no .jpg, .jpeg, .png or .webp in this folder; name the one with the pictures");
}

/* ---- protocols ---- */

static void protocols_are_read_to_their_last_key(void **state)
{
    (void)state;
    static const struct { const char *name; size_t prompts; int count, scale; } ROWS[] = {
        {"dreambooth-object", 25, 4, SCALE_COSINE},
        {"dreambooth-live", 25, 4, SCALE_COSINE},
        {"custom-diffusion", 20, 50, SCALE_CLIPSCORE},
        {"custom-diffusion-pair", 8, 50, SCALE_CLIPSCORE},
    };
    char path[FS_PATH];
    err e = {0};

    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        cfg_doc *d = cfg_doc_new();
        const cfg_node *map;
        eval_cfg set;
        snprintf(path, sizeof path, "%s/configs/eval/%s.yaml", getenv("CFARM_SOURCE"), ROWS[i].name);
        if (cfg_yaml_read(&map, d, path, &e) != 0 ||
            cfg_fill(NULL, d, &(cfg_section){"eval", eval_rows(), &set}, 1, map, &e) != 0)
            fail_msg("%s", e.text);
        assert_int_equal(set.prompt.n, ROWS[i].prompts);
        assert_int_equal(set.count, ROWS[i].count);
        assert_int_equal(set.scale, ROWS[i].scale);
        cfg_doc_free(d);
    }
}

static int begin(void **state)
{
    if (scratch_make(state) != 0 || small_model_make(state) != 0)
        return -1;
    judge_kit_make(in_scratch("clip"), golden("clip_small"));
    judge_kit_make(in_scratch("dino"), golden("dino_hf"));
    judge_kit_make(in_scratch("inception"), golden("inception_small"));
    return 0;
}

static int end(void **state)
{
    return small_model_clear(state) | scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_evaluation_is_a_function_of_its_settings),
        cmocka_unit_test(a_run_cut_short_goes_on_and_another_is_refused),
        cmocka_unit_test(a_picture_beside_itself_is_all_alike),
        cmocka_unit_test(kid_tells_one_set_from_another),
        cmocka_unit_test(tokens_are_said_and_not_read),
        cmocka_unit_test(what_is_missing_is_said),
        cmocka_unit_test(protocols_are_read_to_their_last_key),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
