/* Laws: an index made again from what is there is the same bytes; captions it knows are not encoded again; a concept's
 * class pictures come out of it, those of archives as files; an index of another text encoder is refused. */
#include "tests/cluster/scratch.h"

#include <math.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/image.h"
#include "data/reg_index.h"
#include "data/regset.h"
#include "tests/trainer/eval/judge_kit.h"
#include "tests/trainer/small_model.h"
#include "trainer/eval/caption_vectors.h"
#include "trainer/eval/eval_command.h"

static void write_captioned(const char *folder, int from, int to)
{
    char path[FS_PATH], caption[32];

    assert_int_equal(fs_mkdirs(in_scratch(folder), NULL), 0);
    for (int i = from; i < to; i++) {
        image m = judge_kit_picture(16 + i % 5, 20);
        snprintf(path, sizeof path, "%.2000s/%d.png", in_scratch(folder), i);
        assert_int_equal(image_write_png(path, m.rgb, m.h, m.w, NULL), 0);
        image_free(&m);
        snprintf(caption, sizeof caption, "%c %c", 'a' + i % 25, 'b' + i / 25);
        snprintf(path, sizeof path, "%.2000s/%d.txt", in_scratch(folder), i);
        assert_int_equal(fs_write(path, caption, strlen(caption), NULL), 0);
    }
}

static int command(err *e, const char *const words[])
{
    char *argv[32];
    bool understood;
    int argc = 0;

    for (; words[argc]; argc++)
        argv[argc] = mem_text(words[argc]);
    argv[argc] = NULL;
    char *kept[32];
    memcpy(kept, argv, sizeof kept);
    int rc = eval_command_reg.run(argc, argv, &understood, e);
    for (int i = 0; i < argc; i++)
        free(kept[i]);
    return rc;
}

#define WORDS(...) ((const char *const[]){"reg", __VA_ARGS__, NULL})

static void must(const char *const words[])
{
    err e = {0};

    if (command(&e, words) != 0)
        fail_msg("%s", e.text);
}

static void same_bytes(const char *a, const char *b)
{
    char *x, *y;
    size_t n, m;

    assert_int_equal(fs_read(a, &x, &n, 1 << 24, NULL), 0);
    assert_int_equal(fs_read(b, &y, &m, 1 << 24, NULL), 0);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

/* 40 captions at first; then 10 more beside them, one of which is a repetition: the renewed index is the fresh one. */
static void a_renewed_index_is_the_one_made_afresh(void **state)
{
    (void)state;
    char pool[FS_PATH], renewed[FS_PATH];
    const char *model = small_model_dir();

    write_captioned("pool", 0, 40);
    strcpy(pool, in_scratch("pool"));
    strcpy(renewed, in_scratch("renewed.index"));
    must(WORDS("index", pool, "-o", renewed, "--model", model));
    write_captioned("pool", 40, 49);
    assert_int_equal(fs_write(in_scratch("pool/48.txt"), "a b", 3, NULL), 0);
    must(WORDS("index", pool, "-o", renewed, "--model", model));
    must(WORDS("index", pool, "-o", in_scratch("fresh.index"), "--model", model));
    same_bytes(renewed, in_scratch("fresh.index"));
    must(WORDS("show", renewed, "--check"));
}

static void vectors_are_those_of_one_caption_at_a_time(void **state)
{
    (void)state;
    sd *m = small_model_open();
    tokenizer *t = small_model_words();
    const char *text[] = {"a b", "c", "d e f g"};
    int width = sd_text_embed_width(m);
    caption_vectors *c;
    err e = {0};

    assert_int_equal(caption_vectors_open(&c, m, t, &e), 0);
    float *many = NEW_N(float, 3 * width), *one = NEW_N(float, width);
    assert_int_equal(caption_vectors_run(c, text, 3, many, &e), 0);
    for (int i = 0; i < 3; i++) {
        int32_t ids[TOKENS];
        tokenizer_encode(t, text[i], ids);
        assert_int_equal(sd_text_embed(m, ids, 1, TOKENS, tokenizer_eos(t), one, &e), 0);
        for (int k = 0; k < width; k++)
            assert_true(fabsf(one[k] - many[i * width + k]) < 1e-5F);
    }
    free(many);
    free(one);
    caption_vectors_close(c);
    tokenizer_close(t);
    small_model_close(m);
}

/* ---- class pictures from an index ---- */

typedef struct { caption_vectors *by; float turn; } embedder;

static int embed(void *arg, const char *const captions[], int n, float *out, err *e)
{
    const embedder *x = arg;
    int rc = caption_vectors_run(x->by, captions, n, out, e);

    out[0] += x->turn;
    return rc;
}

static void add_member(str *to, const char *name, const void *bytes, size_t n)
{
    char h[512] = {0};
    static const char zeros[512];
    unsigned sum = 0;

    snprintf(h, 100, "%s", name);
    snprintf(h + 124, 12, "%011o", (unsigned)n);
    memset(h + 148, ' ', 8);
    h[156] = '0';
    for (int i = 0; i < 512; i++)
        sum += (unsigned char)h[i];
    snprintf(h + 148, 8, "%06o", sum & 0x3ffff);
    str_put(to, h, sizeof h);
    str_put(to, bytes, n);
    str_put(to, zeros, (512 - n % 512) % 512);
}

static void write_archive(const char *path)
{
    char name[32], *png;
    str t = {0};
    size_t n;

    for (int i = 0; i < 6; i++) {
        assert_int_equal(fs_read(in_scratch(i % 2 ? "pool/1.png" : "pool/2.png"), &png, &n, 1 << 20, NULL), 0);
        snprintf(name, sizeof name, "%d.png", i);
        add_member(&t, name, png, n);
        snprintf(name, sizeof name, "%d.txt", i);
        add_member(&t, name, "x y z", 5);
        free(png);
    }
    assert_int_equal(fs_write(path, t.at, t.n, NULL), 0);
    str_free(&t);
}

static void class_pictures_come_out_of_an_index(void **state)
{
    (void)state;
    char root[FS_PATH], shard[FS_PATH];
    image_list l;
    regset_told told;
    err e = {0};
    sd *m = small_model_open();
    tokenizer *t = small_model_words();
    embedder by = {0};

    strcpy(root, in_scratch("."));
    strcpy(shard, in_scratch("shard.tar"));
    write_archive(shard);
    must(WORDS("index", in_scratch("pool"), shard, "-o", in_scratch("both.index"), "--model", small_model_dir()));
    assert_int_equal(caption_vectors_open(&by.by, m, t, &e), 0);
    regset_embed with = {caption_vectors_width(by.by), embed, &by};
    regset_cfg c = {
        .images = "", .captions = "", .index = "both.index", .count = 7, .similarity = -1, .prompt = "", .sampler = ""};
    if (regset_open(&l, &told, &c, root, "x y z", NULL, &with, &e) != 0)
        fail_msg("%s", e.text);
    assert_int_equal(l.n, 7);
    assert_int_equal(told.of, 55);
    assert_int_equal(told.found, 55);
    assert_true(told.lowest < 1 && told.lowest > -1);
    for (size_t i = 0; i < l.n; i++) {
        image_info info;
        if (image_probe(&info, l.at[i].path, &e) != 0)
            fail_msg("%s", e.text);
        assert_int_equal(strcmp(l.at[i].caption, "x y z") == 0, i < 6);
        assert_int_equal(strstr(l.at[i].path, "regularisation/index/") != NULL, i < 6);
    }
    image_list_free(&l);
    c.count = 20;
    c.similarity = 0.999;
    assert_int_not_equal(regset_open(&l, &told, &c, root, "x y z", NULL, &with, &e), 0);
    assert_string_equal(e.text, "both.index: 6 of 55 captions are as near as 0.999 to \"x y z\", 20 are wanted; lower "
                                "similarity, set "
                                "count: 6, add pictures, or use generate: 20");
    by.turn = 3;
    assert_int_not_equal(regset_open(&l, &told, &c, root, "x y z", NULL, &with, &e), 0);
    assert_said(e.text, "@/./both.index: made by another text encoder than this model's; make it again: cfarm reg "
                        "index ... -o FILE "
                        "--model DIR");
    c.captions = "captions.txt";
    assert_int_not_equal(regset_open(&l, &told, &c, root, "x y z", NULL, &with, &e), 0);
    assert_string_equal(e.text, "both.index: captions beside an index that has its own; leave captions out");
    caption_vectors_close(by.by);
    tokenizer_close(t);
    small_model_close(m);
}

static void what_makes_no_sense_is_said(void **state)
{
    (void)state;
    err e = {0};

    assert_int_not_equal(command(&e, WORDS("idnex", "x")), 0);
    assert_string_equal(e.text, "idnex is nothing that can be done; did you mean index; it goes: cfarm reg index, find "
                                "or show");
    assert_int_not_equal(command(&e, WORDS("index", "x", "-o", "y")), 0);
    assert_string_equal(e.text, "no model; give --model DIR, the base model that will train with these pictures");
    assert_int_not_equal(command(&e, WORDS("index", "--model", "m", "-o", "y")), 0);
    assert_string_equal(e.text, "0 given; it goes: cfarm reg index (FOLDER | LIST.tsv | SHARD.tar)... -o FILE --model "
                                "DIR");
    assert_int_not_equal(command(&e, WORDS("show", in_scratch("pool/1.txt"))), 0);
    assert_said(e.text, "@/pool/1.txt: no index of captions; cfarm reg index makes one");
}

static int begin(void **state)
{
    return scratch_make(state) | small_model_make(state);
}

static int end(void **state)
{
    return small_model_clear(state) | scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_renewed_index_is_the_one_made_afresh),
        cmocka_unit_test(vectors_are_those_of_one_caption_at_a_time),
        cmocka_unit_test(class_pictures_come_out_of_an_index),
        cmocka_unit_test(what_makes_no_sense_is_said),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
