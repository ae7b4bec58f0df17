/* Other programs' names and files: there and back, and files meant ill. What torch itself makes of ours, and we of
 * torch's, is asked by tests/reference/torch_files.py where torch is installed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "cluster/base/str.h"
#include "merge/export.h"
#include "merge/names.h"
#include "merge/torch.h"
#include "merge/torch_pickle.h"
#include "merge/torch_zip.h"

#define DOWN "down_blocks.1.attentions.0.transformer_blocks.0.attn2."
#define UP   "up_blocks.2.attentions.1.transformer_blocks.0.attn2."
#define MID  "mid_block.attentions.0.transformer_blocks.0.attn2."

static char dir[] = "/tmp/cf-formats-XXXXXX";
static char path[64];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/x.bin", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

/* ---- names ---- */

static const struct {
    const char *ours, *processor, *compvis, *kohya;
} spelled[] = {
    {DOWN "to_k.weight", DOWN "processor.to_k_custom_diffusion.weight",
     "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight",
     "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"},
    {UP "to_v.weight", UP "processor.to_v_custom_diffusion.weight",
     "model.diffusion_model.output_blocks.7.1.transformer_blocks.0.attn2.to_v.weight",
     "lora_unet_up_blocks_2_attentions_1_transformer_blocks_0_attn2_to_v"},
    {MID "to_out.0.weight", MID "processor.to_out_custom_diffusion.0.weight",
     "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_out.0.weight",
     "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0"},
};

static void names_go_there_and_back(void **state)
{
    char out[NAME_ROOM];
    (void)state;
    for (size_t i = 0; i < sizeof spelled / sizeof *spelled; i++) {
        assert_true(names_to_processor(out, spelled[i].ours));
        assert_string_equal(out, spelled[i].processor);
        assert_true(names_from_processor(out, spelled[i].processor));
        assert_string_equal(out, spelled[i].ours);
        assert_true(single_attention(out, spelled[i].ours, 2));
        assert_string_equal(out, spelled[i].compvis);
        assert_true(names_from_compvis(out, spelled[i].compvis, 2));
        assert_string_equal(out, spelled[i].ours);
        assert_true(names_to_kohya(out, spelled[i].ours));
        assert_string_equal(out, spelled[i].kohya);
    }
    assert_false(names_from_processor(out, DOWN "to_k.weight"));
    assert_false(names_from_compvis(out, "model.diffusion_model.out.0.weight", 2));
    assert_false(single_attention(out, "conv_in.weight", 2));
    assert_false(names_to_kohya(out, MID "to_out.0.bias"));
}

/* ---- torch files ---- */

static const float data[24] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12,
                               13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, -0.5F};

static void write_good(void)
{
    const st_tensor list[] = {
        {.name = "unet/" DOWN "to_k.weight", .type = F32, .n = 2, .d = {2, 4}, .count = 8, .data = data},
        {.name = "unet/" DOWN "to_v.weight", .type = F32, .n = 2, .d = {3, 4}, .count = 12, .data = data + 8},
        {.name = "modifier_token/<new1>", .type = F32, .n = 1, .d = {4}, .count = 4, .data = data + 20},
    };
    err e = {0};
    assert_int_equal(torch_write(path, list, 3, &e), 0);
}

static void a_torch_file_goes_there_and_back(void **state)
{
    torch_file f;
    err e = {0};
    (void)state;
    write_good();
    assert_int_equal(torch_read(&f, path, &e), 0);
    assert_int_equal(f.n, 3);
    assert_string_equal(f.tensor[1].name, "unet/" DOWN "to_v.weight");
    assert_int_equal(f.tensor[1].d[0], 3);
    assert_memory_equal(f.tensor[1].data, data + 8, 12 * sizeof(float));
    assert_string_equal(f.tensor[2].name, "modifier_token/<new1>");
    assert_null(f.other);
    torch_free(&f);
}

static void a_delta_becomes_a_concept(void **state)
{
    concept c = {0};
    err e = {0};
    (void)state;
    write_good();
    assert_int_equal(import_read(&c, path, 2, NULL, NULL, &e), 0);
    assert_int_equal(c.width, 4);
    assert_int_equal(c.n_tensors, 2);
    assert_int_equal(concept_find(&c, DOWN "to_v.weight")->rows, 3);
    assert_string_equal(c.tokens[0].word, "<new1>");
    assert_memory_equal(c.tokens[0].row, data + 20, 4 * sizeof(float));
    concept_free(&c);
}

static void keys_that_mean_nothing_are_listed(void **state)
{
    const st_tensor list[] = {
        {.name = "epoch", .type = F32, .n = 1, .d = {1}, .count = 1, .data = data},
        {.name = "state_dict/optimizer.step", .type = F32, .n = 1, .d = {1}, .count = 1, .data = data},
    };
    concept c = {0};
    err e = {0};
    (void)state;
    assert_int_equal(torch_write(path, list, 2, &e), 0);
    assert_int_equal(import_read(&c, path, 2, NULL, NULL, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "2 keys mean nothing here: epoch, optimizer.step"));
    concept_free(&c);
}

/* ---- pickles meant ill ---- */

#define BYTES(s) s, sizeof(s) - 1
static const struct {
    const char *what, *bytes;
    size_t n;
    const char *says;
} pickles[] = {
    {"nothing", BYTES(""), "cut short"},
    {"no end", BYTES("\x80\x02}"), "cut short"},
    {"an empty stack", BYTES("\x80\x02."), "cut short"},
    {"a call of a program",
     BYTES("\x80\x02"
           "cos\nsystem\nX\x02\x00\x00\x00ls\x85R."),
     "wants to call os system"},
    {"a call by STACK_GLOBAL", BYTES("\x80\x04\x8c\x02os\x8c\x06system\x93)R."), "wants to call os system"},
    {"an object made by class",
     BYTES("\x80\x02"
           "cos\nsystem\n)\x81."),
     "opcode 0x81"},
    {"an extension", BYTES("\x80\x02\x82\x01."), "opcode 0x82"},
    {"a text longer than the file", BYTES("\x80\x02X\xff\x0f\x00\x00"), "cut short"},
    {"a text beyond reason", BYTES("\x80\x02X\xff\xff\xff\x7f"), "a text of"},
    {"a memo never filled", BYTES("\x80\x02h\x05."), "cut short"},
    {"a memo beyond reason", BYTES("\x80\x02}r\xff\xff\xff\xff."), "cut short"},
    {"a tuple of a mark", BYTES("\x80\x02((\x86."), "cut short"},
    {"a marked tuple without mark", BYTES("\x80\x02}t."), "cut short"},
    {"an odd dictionary", BYTES("\x80\x02}(Nu."), "cut short"},
    {"items for what is no dictionary", BYTES("\x80\x02](NNu."), "cut short"},
    {"something that is no storage", BYTES("\x80\x02NQ."), "no storage"},
    {"a storage of objects",
     BYTES("\x80\x02(X\x07\x00\x00\x00storagecos\nx\nX\x01\x00\x00\x00"
           "0X\x03\x00\x00\x00"
           "cpuK\x01tQ."),
     "of kind os x"},
    {"a tensor of nothing",
     BYTES("\x80\x02"
           "ctorch._utils\n_rebuild_tensor_v2\n)R."),
     "cut short"},
};

static void pickles_meant_ill_are_refused_with_the_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        pickle *p;
        const pickle_value *root;
        err e = {0};
        if (pickle_read(&p, &root, (const unsigned char *)pickles[i].bytes, pickles[i].n, &e) == 0 ||
            !strstr(e.text, pickles[i].says))
            fail_msg("%s: \"%s\"", pickles[i].what, e.text);
    }
}

static void write_bytes(const char *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* A zip carries checksums that a mapping reader does not look at, so changed numbers may pass; nothing else may happen
 * than an error or a list of tensors. */
static void damaged_torch_files_never_crash(void **state)
{
    char *good;
    size_t n;
    (void)state;
    write_good();
    assert_int_equal(fs_read(path, &good, &n, 1 << 20, NULL), 0);
    for (uint32_t i = 0; i < 3000; i++) {
        rng_stream s = rng_open(9, "damage", i, 0);
        char *bad = mem_copy(good, n);
        size_t length = i % 3 == 0 ? rng_below(s, 9, (uint32_t)n) : n;
        torch_file f;
        err e = {0};
        for (uint32_t k = 0; i % 3 != 0 && k <= i % 4; k++)
            bad[rng_below(s, 2 * k, (uint32_t)n)] = (char)rng_u32(s, 2 * k + 1);
        write_bytes(bad, length);
        if (torch_read(&f, path, &e) == 0)
            torch_free(&f);
        else
            assert_true(e.text[0] != '\0');
        free(bad);
    }
    free(good);
}

/* Each level holds the one before 40 times: small in the file, millions of keys when told flat. */
static void a_pickle_that_unfolds_without_end_is_refused(void **state)
{
    str s = {0};
    torch_file f;
    err e = {0};
    zip_entry entry;
    (void)state;
    str_put(&s,
            "\x80\x02}(\x8c\x01"
            "aNuq\0",
            11);
    for (char level = 0; level < 5; level++) {
        str_put(&s, "}(", 2);
        for (char k = 0; k < 40; k++)
            str_put(&s, (const char[]){(char)0x8c, 1, (char)('0' + k), 'h', level}, 5);
        str_put(&s, (const char[]){'u', 'q', (char)(level + 1)}, 3);
    }
    str_put(&s, ".", 1);
    entry = (zip_entry){(char[]){"archive/data.pkl"}, (const unsigned char *)s.at, s.n};
    assert_int_equal(zip_write(path, &entry, 1, &e), 0);
    assert_int_equal(torch_read(&f, path, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "more than 65536 keys"));
    str_free(&s);
}

static void what_is_no_torch_file_is_told(void **state)
{
    static const char old[] = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.";
    torch_file f;
    err e = {0};
    (void)state;
    write_bytes(old, sizeof old - 1);
    assert_int_equal(torch_read(&f, path, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "before 1.6; load it with torch and save it again"));
    write_bytes("hello", 5);
    assert_int_equal(torch_read(&f, path, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "not a torch file"));
    write_bytes("", 0);
    assert_int_not_equal(torch_read(&f, path, &e), 0);
    assert_int_equal(zip_write(path, &(zip_entry){(char[]){"a.txt"}, (const unsigned char *)"x", 1}, 1, &e), 0);
    assert_int_equal(torch_read(&f, path, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "no data.pkl"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_go_there_and_back),
        cmocka_unit_test(a_torch_file_goes_there_and_back),
        cmocka_unit_test(a_delta_becomes_a_concept),
        cmocka_unit_test(keys_that_mean_nothing_are_listed),
        cmocka_unit_test(pickles_meant_ill_are_refused_with_the_reason),
        cmocka_unit_test(damaged_torch_files_never_crash),
        cmocka_unit_test(a_pickle_that_unfolds_without_end_is_refused),
        cmocka_unit_test(what_is_no_torch_file_is_told),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
