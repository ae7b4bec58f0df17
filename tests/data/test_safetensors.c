/* Safetensors: what is written is read; a damaged file is refused with a sentence that names it, and no bit of a
 * header can make a reader leave the file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/base/fault.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "data/safetensors.h"

static char folder[] = "/tmp/cf_safetensors_XXXXXX";
static char path[FS_PATH];     /* a file in the folder */
static int in_memory;
static char memory_path[64];   /* of a file in memory */

static int start(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    in_memory = memfd_create("model", MFD_CLOEXEC);
    snprintf(memory_path, sizeof memory_path, "/proc/self/fd/%d", in_memory);
    return in_memory < 0;
}

static int end(void **state)
{
    (void)state;
    return fs_remove_tree(folder, NULL);
}

/* Damaged files are written in memory: there are thousands of them. */
static void write_bytes(const void *bytes, size_t n)
{
    assert_int_equal(ftruncate(in_memory, 0), 0);
    assert_int_equal(pwrite(in_memory, bytes, n, 0), n);
}

/* A file of this header, without padding, and `data` bytes 0, 1, 2, ... */
static void write_header(const char *header, size_t data)
{
    const uint64_t length = strlen(header);
    unsigned char *bytes = NEW_N(unsigned char, 8 + length + data);

    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data; i++)
        bytes[8 + length + i] = (unsigned char)i;
    write_bytes(bytes, 8 + length + data);
    free(bytes);
}

static const float WEIGHTS[] = {1.5F, -2, 0.25F, 1e30F, -0.0F, 7};
static const uint16_t HALVES[] = {0x3C00, 0xC000, 0x3555}; /* 1, -2, 0.333 */
static const int64_t LONGS[] = {INT64_MIN, 5};
static const st_tensor TENSORS[] = {
    {.name = "unet.w\"\xC3\xA9", .type = F32, .n = 2, .d = {2, 3}, .count = 6, .data = WEIGHTS},
    {.name = "empty", .type = F32, .n = 2, .d = {0, 4}, .count = 0, .data = WEIGHTS},
    {.name = "a.half", .type = F16, .n = 3, .d = {1, 3, 1}, .count = 3, .data = HALVES},
    {.name = "scalar", .type = I64, .n = 0, .count = 1, .data = LONGS},
};
enum { N = sizeof TENSORS / sizeof *TENSORS };

static void test_what_is_written_is_read(void **state)
{
    static const char *const KEYS[] = {"step", NULL}, *const VALUES[] = {"120", NULL};
    safetensors *f;
    float got[6];
    err e = {0};

    (void)state;
    assert_int_equal(st_write(path, TENSORS, N, KEYS, VALUES, &e), 0);
    assert_int_equal(st_open(&f, path, &e), 0);
    assert_int_equal(st_count(f), N);
    assert_string_equal(st_path(f), path);
    for (size_t i = 0; i < N; i++) {
        const st_tensor *t = st_find(f, TENSORS[i].name);

        assert_ptr_equal(t, st_at(f, i)); /* in the order written */
        assert_int_equal(t->type, TENSORS[i].type);
        assert_int_equal(t->n, TENSORS[i].n);
        assert_int_equal(t->count, TENSORS[i].count);
        assert_memory_equal(t->d, TENSORS[i].d, sizeof t->d);
        assert_memory_equal(t->data, TENSORS[i].data, t->count * dtype_bytes(t->type));
    }
    assert_string_equal(st_metadata(f, "format"), "pt");
    assert_string_equal(st_metadata(f, "step"), "120");
    assert_null(st_metadata(f, "none"));
    assert_null(st_find(f, "none"));
    assert_null(st_find(f, "__metadata__"));
    assert_int_equal(st_read_f32(f, "a.half", got, 3, &e), 0);
    assert_true(got[0] == 1 && got[1] == -2);
    st_close(f);
    st_close(NULL);
}

static void test_data_begins_aligned(void **state)
{
    safetensors *f;

    (void)state;
    for (int64_t n = 1; n < 10; n++) {
        char name[16] = {0};

        memset(name, 'x', (size_t)n);
        const st_tensor t = {.name = name, .type = F32, .n = 1, .d = {6}, .count = 6, .data = WEIGHTS};
        assert_int_equal(st_write(path, &t, 1, NULL, NULL, NULL), 0);
        assert_int_equal(st_open(&f, path, NULL), 0);
        assert_int_equal((uintptr_t)st_at(f, 0)->data % 8, 0);
        st_close(f);
    }
}

static void test_unaligned_data_is_read(void **state)
{
    safetensors *f;
    float got[2];
    err e = {0};

    (void)state;
    for (int pad = 0; pad < 4; pad++) {
        char header[128];

        snprintf(header, sizeof header, "{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}%*s", pad, "");
        write_header(header, 8);
        assert_int_equal(st_open(&f, memory_path, &e), 0);
        assert_int_equal(st_read_f32(f, "x", got, 2, &e), 0);
        assert_memory_equal(got, "\0\1\2\3\4\5\6\7", 8);
        st_close(f);
    }
}

static void test_reading_says_what_does_not_fit(void **state)
{
    safetensors *f;
    float got[8];
    err e = {0};

    (void)state;
    assert_int_equal(st_write(path, TENSORS, N, NULL, NULL, &e), 0);
    assert_int_equal(st_open(&f, path, &e), 0);
    assert_int_equal(st_read_f32(f, "none", got, 1, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "no tensor \"none\""));
    assert_int_equal(st_read_f32(f, "a.half", got, 4, &e), ERR_SHAPE);
    assert_non_null(strstr(e.text, "3 elements, 4 are needed"));
    assert_int_equal(st_read_f32(f, "scalar", got, 1, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "holds I64, a float type is needed"));
    st_close(f);
}

#define ONE(entry) "{\"x\":" entry "}"
#define X(type, shape, range) ONE("{\"dtype\":" type ",\"shape\":" shape ",\"data_offsets\":" range "}")
#define TWO(a, b)                                                                                                    \
    "{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" a "},\"y\":{\"dtype\":\"U8\",\"shape\":[4],"       \
    "\"data_offsets\":" b "}}"
static const struct { const char *header; size_t data; const char *said; } DAMAGED[] = {
    {"", 0, "header is not JSON"},
    {"{", 0, "header is not JSON"},
    {"[]", 0, "no object of tensors"},
    {"{} x", 0, "header is not JSON"},
    {"{\"x\":1}", 0, "tensor \"x\": its entry is not an object"},
    {"{\"\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, "without a name"},
    {"{\"a\\u0001\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, "control character 0x01 at byte 1"},
    {"{\"a\\u0000\":1}", 0, "header is not JSON"},
    {"{\"x\":1,\"x\":2}", 0, "duplicate object key"},
    {"{\"\xFF\":1}", 0, "header is not JSON"},
    {"{\"__metadata__\":3}", 0, "__metadata__: not an object"},
    {"{\"__metadata__\":{\"format\":3}}", 0, "\"format\" is not a text"},
    {ONE("{}"), 0, "no text \"dtype\""},
    {X("3", "[1]", "[0,1]"), 1, "no text \"dtype\""},
    {X("\"F99\"", "[1]", "[0,1]"), 1, "dtype \"F99\" is not known"},
    {X("\"U8\"", "4", "[0,4]"), 4, "no list \"shape\""},
    {X("\"U8\"", "[-4]", "[0,4]"), 4, "dimension 0 of its shape"},
    {X("\"U8\"", "[4,1.0]", "[0,4]"), 4, "dimension 1 of its shape"},
    {X("\"U8\"", "[1,1,1,1,1,1,1,1,4]", "[0,4]"), 4, "9 dimensions, at most 8"},
    {X("\"U8\"", "[4294967296,4294967296]", "[0,0]"), 0, "more than 2^64 elements"},
    {X("\"F32\"", "[4611686018427387904]", "[0,0]"), 0, "more than 2^64 bytes"},
    {X("\"F32\"", "[1]", "[0,3]"), 3, "3 bytes, its shape in F32 takes 4"},
    {X("\"F32\"", "[1]", "[0,8]"), 8, "8 bytes, its shape in F32 takes 4"},
    {X("\"U8\"", "[4]", "[0,4]"), 3, "cut short"},
    {X("\"U8\"", "[4]", "[4,0]"), 4, "\"data_offsets\" is not [first, end]"},
    {X("\"U8\"", "[4]", "[-4,0]"), 4, "\"data_offsets\" is not [first, end]"},
    {X("\"U8\"", "[4]", "[0]"), 4, "\"data_offsets\" is not [first, end]"},
    {X("\"U8\"", "[4]", "[0,4,8]"), 4, "\"data_offsets\" is not [first, end]"},
    {X("\"U8\"", "[4]", "\"0\""), 4, "\"data_offsets\" is not [first, end]"},
    {X("\"U8\"", "[4]", "[9223372036854775803,9223372036854775807]"), 4, "cut short"},
    {X("\"U8\"", "[4]", "[1,5]"), 5, "1 bytes before tensor \"x\" belong to no tensor"},
    {X("\"U8\"", "[4]", "[0,4]"), 6, "2 bytes at its end belong to no tensor"},
    {TWO("[0,4]", "[2,6]"), 6, "tensors \"x\" and \"y\" overlap"},
    {TWO("[0,4]", "[0,4]"), 4, "tensors \"x\" and \"y\" overlap"},
    {TWO("[6,10]", "[0,4]"), 10, "2 bytes before tensor \"x\" belong to no tensor"},
};

static void test_a_damaged_file_is_refused_with_a_sentence(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof DAMAGED / sizeof *DAMAGED; i++) {
        safetensors *f;
        err e = {0};

        write_header(DAMAGED[i].header, DAMAGED[i].data);
        assert_int_equal(st_open(&f, memory_path, &e), ERR_INPUT);
        assert_null(f);
        if (!strstr(e.text, DAMAGED[i].said) || strncmp(e.text, memory_path, strlen(memory_path)) != 0 || strchr(e.text, '\n'))
            fail_msg("%s said: %s", DAMAGED[i].header, e.text);
    }
}

static void test_a_header_longer_than_the_file_is_refused(void **state)
{
    static const struct { const char *bytes; size_t n; const char *said; } ROWS[] = {
        {"", 0, "not a safetensors file"},
        {"\2\0\0\0\0\0\0", 7, "not a safetensors file"},
        {"\3\0\0\0\0\0\0\0{}", 10, "cut short"},
        {"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF{}", 10, "at most 100000000"},
        {"PK\3\4 a checkpoint in a zip", 26, "at most 100000000"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        safetensors *f;
        err e = {0};

        write_bytes(ROWS[i].bytes, ROWS[i].n);
        assert_int_not_equal(st_open(&f, memory_path, &e), 0);
        if (!strstr(e.text, ROWS[i].said))
            fail_msg("row %zu said: %s", i, e.text);
    }
}

static void test_a_missing_file_is_named(void **state)
{
    safetensors *f;
    err e = {0};

    (void)state;
    assert_int_equal(st_open(&f, "/nowhere/model.safetensors", &e), ERR_IO);
    assert_non_null(strstr(e.text, "/nowhere/model.safetensors"));
}

/* Reads whatever a file that opens promises; the sanitizer sees a step outside. */
static unsigned read_all(void)
{
    unsigned sum = 0;
    safetensors *f;
    err e = {0};

    if (st_open(&f, memory_path, &e) != 0) {
        assert_true(e.text[0] != '\0');
        return 0;
    }
    for (size_t i = 0; i < st_count(f); i++) {
        const st_tensor *t = st_at(f, i);
        const unsigned char *bytes = t->data;

        for (size_t k = 0; k < t->count * dtype_bytes(t->type); k++)
            sum += bytes[k];
    }
    st_close(f);
    return sum;
}

static char *good_file(size_t *n)
{
    char *bytes;

    assert_int_equal(st_write(path, TENSORS, N, NULL, NULL, NULL), 0);
    assert_int_equal(fs_read(path, &bytes, n, 1 << 20, NULL), 0);
    return bytes;
}

static void test_no_bit_of_a_header_leads_out_of_the_file(void **state)
{
    size_t n;
    char *bytes = good_file(&n);

    (void)state;
    for (size_t bit = 0; bit < 8 * n; bit++) {
        bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
        write_bytes(bytes, n);
        read_all();
        bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
    }
    free(bytes);
}

static void test_a_file_cut_anywhere_is_refused(void **state)
{
    size_t n;
    char *bytes = good_file(&n);
    safetensors *f;
    err e = {0};

    (void)state;
    for (size_t cut = 0; cut < n; cut++) {
        write_bytes(bytes, cut);
        assert_int_not_equal(st_open(&f, memory_path, &e), 0);
    }
    free(bytes);
}

static void test_a_file_appears_whole_or_not_at_all(void **state)
{
    size_t n, after;
    char *bytes = good_file(&n), *kept, **names;

    (void)state;
    for (int k = 0; k < 2; k++) {
        err e = {0};

        setenv("CFARM_FAULT", k ? "fs.rename:1" : "st.write:1", 1);
        fault_reread();
        assert_int_equal(st_write(path, TENSORS, 1, NULL, NULL, &e), ERR_IO);
        assert_non_null(strstr(e.text, path));
        assert_int_equal(fs_read(path, &kept, &after, 1 << 20, NULL), 0);
        assert_int_equal(after, n);
        assert_memory_equal(kept, bytes, n);
        free(kept);
    }
    unsetenv("CFARM_FAULT");
    fault_reread();
    assert_int_equal(fs_list(&names, &n, folder, NULL), 0);
    assert_int_equal(n, 1); /* nothing lies beside */
    fs_list_free(names);
    free(bytes);
}

static void test_what_a_reader_would_refuse_is_not_written(void **state)
{
    static const char *const NAMES[] = {"", "a\nb", "\xFF"};
    const st_tensor twice[2] = {TENSORS[0], TENSORS[0]};
    err e = {0};

    (void)state;
    unlink(path);
    for (size_t i = 0; i < 3; i++) {
        st_tensor t = TENSORS[0];

        t.name = NAMES[i];
        assert_int_equal(st_write(path, &t, 1, NULL, NULL, &e), ERR_INPUT);
    }
    assert_int_equal(st_write(path, twice, 2, NULL, NULL, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "two tensors named"));
    assert_int_equal(st_write("/nowhere/x.safetensors", TENSORS, N, NULL, NULL, &e), ERR_IO);
    assert_non_null(strstr(e.text, "/nowhere/x.safetensors"));
    assert_false(fs_exists(path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read),
        cmocka_unit_test(test_data_begins_aligned),
        cmocka_unit_test(test_unaligned_data_is_read),
        cmocka_unit_test(test_reading_says_what_does_not_fit),
        cmocka_unit_test(test_a_damaged_file_is_refused_with_a_sentence),
        cmocka_unit_test(test_a_header_longer_than_the_file_is_refused),
        cmocka_unit_test(test_a_missing_file_is_named),
        cmocka_unit_test(test_no_bit_of_a_header_leads_out_of_the_file),
        cmocka_unit_test(test_a_file_cut_anywhere_is_refused),
        cmocka_unit_test(test_a_file_appears_whole_or_not_at_all),
        cmocka_unit_test(test_what_a_reader_would_refuse_is_not_written),
    };
    return cmocka_run_group_tests_name("safetensors", tests, start, end);
}
