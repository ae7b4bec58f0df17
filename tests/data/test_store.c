/* The store keeps what it promises: whole or absent, the same bytes for the same calls, and damage is told. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <hdf5.h>

#include "cluster/base/fault.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "data/store.h"

enum { ROWS = 40, COLS = 24 };
static char dir[] = "/tmp/cf-store-XXXXXX";
static float values[ROWS * COLS];

static const char *in_dir(const char *name)
{
    static char path[2][512];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static int fill(store *s, err *e)
{
    static const char *const list[] = {"a", "", "\xc3\xa4\xc3\xb6"};
    uint16_t half[3] = {0x3c00, 0x8000, 0x7bff};
    int64_t big = -5;
    TRY(store_put(s, "/kv/one.attn2/to_k", (store_shape){F32, 2, {ROWS, COLS}}, values, e));
    TRY(store_put(s, "/kv/one.attn2/to_v", (store_shape){F32, 2, {ROWS, COLS}}, values, e));
    TRY(store_put(s, "/half", (store_shape){F16, 1, {3}}, half, e));
    TRY(store_put(s, "/none", (store_shape){F32, 2, {0, 4}}, values, e));
    TRY(store_put(s, "/scalar", (store_shape){I64, 0, {0}}, &big, e));
    TRY(store_put_texts(s, "/list", list, 3, e));
    TRY(store_put_text(s, "/text", "{}", e));
    TRY(store_attr_text(s, "/", "format", "test", e));
    TRY(store_attr_int(s, "/", "version", 1, e));
    return store_attr_real(s, "/kv/one.attn2/to_k", "lr", 0.25, e);
}

static int write_file(const char *path, err *e)
{
    store *s;
    int rc;
    TRY(store_create(&s, path, e));
    rc = fill(s, e);
    if (rc == 0)
        return store_commit(s, e);
    store_drop(s);
    return rc;
}

static int check_file(const char *path, err *e)
{
    store *s;
    int rc;
    TRY(store_open(&s, path, e));
    rc = store_check(s, e);
    store_close(s);
    return rc;
}

static void slurp(const char *path, char **bytes, size_t *n)
{
    assert_int_equal(fs_read(path, bytes, n, 1 << 26, NULL), 0);
}

/* How many files a folder holds, temporary ones among them. */
static size_t files_in(const char *path)
{
    char **names;
    size_t n;
    assert_int_equal(fs_list(&names, &n, path, NULL), 0);
    fs_list_free(names);
    return n;
}

static int set_up(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < ROWS * COLS; i++)
        values[i] = rng_normal(rng_open(1, "values", 0, 0), i);
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

static void what_was_written_is_read(void **state)
{
    store *s;
    float back[ROWS * COLS];
    uint16_t *half;
    char **list, *text;
    int64_t n, number;
    double real;
    store_shape shape;
    err e = {0};
    (void)state;
    assert_int_equal(write_file(in_dir("a.h5"), &e), 0);
    assert_int_equal(store_open(&s, in_dir("a.h5"), &e), 0);
    assert_int_equal(store_get(s, "/kv/one.attn2/to_k", (store_shape){F32, 2, {-1, COLS}}, back, &e), 0);
    assert_memory_equal(back, values, sizeof back);
    assert_int_equal(store_load(s, "/half", (store_shape){F16, 1, {-1}}, (void **)&half, &shape, &e), 0);
    assert_int_equal(shape.d[0], 3);
    assert_int_equal(half[2], 0x7bff);
    assert_int_equal(store_get(s, "/scalar", (store_shape){I64, 0, {0}}, &number, &e), 0);
    assert_int_equal(number, -5);
    assert_int_equal(store_load_texts(s, "/list", &list, &n, &e), 0);
    assert_int_equal(n, 3);
    assert_string_equal(list[2], "\xc3\xa4\xc3\xb6");
    assert_int_equal(store_load_text(s, "/text", &text, &e), 0);
    assert_string_equal(text, "{}");
    assert_int_equal(store_get_int(s, "/", "version", &number, &e), 0);
    assert_int_equal(store_get_real(s, "/kv/one.attn2/to_k", "lr", &real, &e), 0);
    assert_true(real == 0.25);
    assert_true(store_has(s, "/kv/one.attn2") && !store_has(s, "/kv/two.attn2/to_k") && !store_has(s, "/x"));
    assert_int_equal(store_check(s, &e), 0);
    store_names_free(list);
    free(half);
    free(text);
    store_close(s);
}

static void the_same_calls_give_the_same_bytes(void **state)
{
    char *a, *b;
    size_t n, m;
    (void)state;
    assert_int_equal(write_file(in_dir("a.h5"), NULL), 0);
    sleep(1); /* a clock in the bytes would show */
    assert_int_equal(write_file(in_dir("b.h5"), NULL), 0);
    slurp(in_dir("a.h5"), &a, &n);
    slurp(in_dir("b.h5"), &b, &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    free(a);
    free(b);
}

static void a_wrong_shape_is_refused_with_both_shapes(void **state)
{
    store *s;
    float back[ROWS * COLS];
    err e = {0};
    (void)state;
    assert_int_equal(write_file(in_dir("a.h5"), NULL), 0);
    assert_int_equal(store_open(&s, in_dir("a.h5"), NULL), 0);
    assert_int_equal(store_get(s, "/kv/one.attn2/to_k", (store_shape){F32, 2, {ROWS, 7}}, back, &e), ERR_SHAPE);
    assert_non_null(strstr(e.text, "F32 [40,24] where F32 [40,7] is wanted"));
    assert_int_not_equal(store_get(s, "/kv/none/to_k", (store_shape){F32, 2, {ROWS, 7}}, back, &e), 0);
    store_close(s);
}

static void an_unfinished_file_is_not_seen(void **state)
{
    store *s;
    size_t before = files_in(dir);
    (void)state;
    assert_int_equal(store_create(&s, in_dir("unseen.h5"), NULL), 0);
    assert_int_equal(fill(s, NULL), 0);
    assert_false(fs_exists(in_dir("unseen.h5")));
    store_drop(s);
    assert_int_equal(files_in(dir), before);
}

/* ---- damage ---- */

static void write_bytes(const char *path, const char *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Either an error, or the contents are what they were: whole file read and checked, its digest the old one. */
static bool told_or_harmless(const char *path, const char *digest)
{
    store *s;
    err e = {0};
    bool fine;
    if (store_open(&s, path, &e) != 0)
        return e.text[0] != '\0';
    fine = store_check(s, &e) != 0 ? e.text[0] != '\0' : strcmp(store_digest(s), digest) == 0;
    store_close(s);
    return fine;
}

typedef enum { FLIP, ZERO, CUT, KINDS } damage;
static const char *const damage_name[KINDS] = {"a flipped bit", "a zeroed block", "a truncation"};

static size_t hurt(char *bytes, size_t n, damage kind, uint32_t i)
{
    size_t at = rng_below(rng_open(3, damage_name[kind], i, 0), 0, (uint32_t)n);
    size_t length = n - at < 512 ? n - at : 512;
    switch (kind) {
    case FLIP: bytes[at] = (char)(bytes[at] ^ 1 << rng_below(rng_open(3, "bit", i, 0), 0, 8)); return n;
    case ZERO: memset(bytes + at, 0, length); return n;
    default: return at;
    }
}

static void damage_is_told_or_changes_nothing(void **state)
{
    char *good, *bad, digest[HASH_HEX];
    size_t n;
    store *s;
    (void)state;
    assert_int_equal(write_file(in_dir("a.h5"), NULL), 0);
    assert_int_equal(store_open(&s, in_dir("a.h5"), NULL), 0);
    snprintf(digest, sizeof digest, "%s", store_digest(s));
    store_close(s);
    slurp(in_dir("a.h5"), &good, &n);
    for (damage kind = 0; kind < KINDS; kind++)
        for (uint32_t i = 0; i < 150; i++) {
            bad = mem_copy(good, n);
            write_bytes(in_dir("bad.h5"), bad, hurt(bad, n, kind, i));
            if (!told_or_harmless(in_dir("bad.h5"), digest))
                fail_msg("%s, number %u, went unseen", damage_name[kind], i);
            free(bad);
        }
    free(good);
}

static void every_truncation_is_told(void **state)
{
    char *good;
    size_t n;
    err e = {0};
    (void)state;
    assert_int_equal(write_file(in_dir("a.h5"), NULL), 0);
    slurp(in_dir("a.h5"), &good, &n);
    for (size_t cut = 0; cut < n; cut += n / 97) {
        write_bytes(in_dir("cut.h5"), good, cut);
        assert_int_not_equal(check_file(in_dir("cut.h5"), &e), 0);
    }
    free(good);
}

/* HDF5's own reader looks at the checksum behind each chunk: odd bytes, a last chunk that is not full, zeroes. */
static void hdf5_itself_reads_what_was_written(void **state)
{
    static const size_t sizes[] = {1, 2, 511, 512, 513, 1 << 20, (1 << 20) + 1, (5 << 19) + 7};
    err e = {0};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        unsigned char *out = NEW_N(unsigned char, n), *back = NEW_N(unsigned char, n);
        store *s;
        hid_t f, set;
        for (size_t k = 0; k < n && i % 2 == 0; k++)
            out[k] = (unsigned char)rng_u32(rng_open(4, "bytes", (uint32_t)i, 0), (uint32_t)k);
        assert_int_equal(store_create(&s, in_dir("sizes.h5"), &e), 0);
        assert_int_equal(store_put(s, "/x", (store_shape){U8, 1, {(int64_t)n}}, out, &e), 0);
        assert_int_equal(store_commit(s, &e), 0);
        f = H5Fopen(in_dir("sizes.h5"), H5F_ACC_RDONLY, H5P_DEFAULT);
        set = H5Dopen2(f, "/x", H5P_DEFAULT);
        assert_true(H5Dread(set, H5T_STD_U8LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, back) >= 0);
        assert_memory_equal(out, back, n);
        H5Dclose(set);
        H5Fclose(f);
        free(out);
        free(back);
    }
}

/* By HDF5's own reader: the text, a child of many, the chunks. */
static void hdf5_reads_the_long_lists(const char *path, const char *text, const float *out)
{
    hid_t f = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), many = H5Gopen2(f, "/many", H5P_DEFAULT);
    hid_t attr = H5Aopen(many, "note 17", H5P_DEFAULT), type = H5Aget_type(attr), set;
    char *read = NEW_N(char, H5Tget_size(type));
    float back[2];
    H5G_info_t info;
    assert_true(H5Aread(attr, type, read) >= 0);
    assert_string_equal(read, text);
    assert_int_equal(H5Aget_num_attrs(many), 41);
    assert_true(H5Gget_info(many, &info) >= 0);
    assert_int_equal(info.nlinks, 1200);
    set = H5Dopen2(many, "a child whose name is not short 719", H5P_DEFAULT); /* the second: 7919 modulo 1200 */
    assert_true(H5Dread(set, H5T_IEEE_F32LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, back) >= 0);
    assert_true(back[0] == out[1]);
    H5Dclose(set);
    set = H5Dopen2(f, "/wide", H5P_DEFAULT);
    assert_int_equal(H5Dget_storage_size(set), 3 * 2 * (350 * 401 * 4 + 4));
    H5Dclose(set);
    H5Tclose(type);
    H5Aclose(attr);
    H5Gclose(many);
    H5Fclose(f);
    free(read);
}

/* Lists too long for a header, texts too long for the heap of such a list, chunks that cut rows. */
static void long_lists_long_texts_and_cut_rows_are_read(void **state)
{
    enum { CHILDREN = 1200, TEXT = 100000, A = 3, B = 700, C = 401 };
    float *out = NEW_N(float, A *B *C), *back = NEW_N(float, A *B *C);
    char *text = NEW_N(char, TEXT + 1), *read = NULL, **names, path[64];
    size_t n;
    store *s;
    err e = {0};
    (void)state;
    memset(text, 'x', TEXT);
    for (int i = 0; i < A * B * C; i++)
        out[i] = (float)i;
    assert_int_equal(store_create(&s, in_dir("long.h5"), &e), 0);
    for (int i = 0; i < CHILDREN; i++) {
        snprintf(path, sizeof path, "/many/a child whose name is not short %d", i * 7919 % CHILDREN);
        assert_int_equal(store_put(s, path, (store_shape){F32, 1, {2}}, &out[i], &e), 0);
    }
    for (int i = 0; i < 40; i++) {
        snprintf(path, sizeof path, "note %d", i);
        assert_int_equal(store_attr_text(s, "/many", path, i == 17 ? text : path, &e), 0);
    }
    assert_int_equal(store_put(s, "/wide", (store_shape){F32, 3, {A, B, C}}, out, &e), 0);
    assert_int_equal(store_commit(s, &e), 0);

    assert_int_equal(store_open(&s, in_dir("long.h5"), &e), 0);
    assert_int_equal(store_names(s, "/many", &names, &n, &e), 0);
    assert_int_equal(n, CHILDREN);
    for (int i = 0; i < CHILDREN; i += 97) {
        snprintf(path, sizeof path, "/many/a child whose name is not short %d", i * 7919 % CHILDREN);
        assert_int_equal(store_get(s, path, (store_shape){F32, 1, {2}}, back, &e), 0);
        assert_true(back[0] == (float)i);
    }
    assert_int_equal(store_get_text(s, "/many", "note 17", &read, &e), 0);
    assert_string_equal(read, text);
    assert_int_equal(store_get(s, "/wide", (store_shape){F32, 3, {A, B, C}}, back, &e), 0);
    assert_memory_equal(out, back, sizeof(float) * A * B * C);
    assert_int_equal(store_check(s, &e), 0);
    store_close(s);
    hdf5_reads_the_long_lists(in_dir("long.h5"), text, out);
    store_names_free(names);
    free(read);
    free(text);
    free(out);
    free(back);
}

/* ---- files that are meant ill, written with HDF5 itself ---- */

static hid_t hostile(const char *path)
{
    hid_t how = H5Pcreate(H5P_FILE_ACCESS), f;
    H5Pset_libver_bounds(how, H5F_LIBVER_V110, H5F_LIBVER_V110);
    f = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, how);
    H5Pclose(how);
    assert_true(f >= 0);
    return f;
}

static void links_to_elsewhere_are_refused(void **state)
{
    err e = {0};
    hid_t f = hostile(in_dir("link.h5"));
    hid_t space = H5Screate(H5S_SCALAR), type = H5Tcopy(H5T_C_S1), a;
    (void)state;
    assert_true(H5Lcreate_external("/etc/other.h5", "/", f, "out", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    a = H5Acreate2(f, "sha256", type, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Aclose(a);
    H5Tclose(type);
    H5Sclose(space);
    H5Fclose(f);
    assert_int_equal(check_file(in_dir("link.h5"), &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "link to elsewhere"));
}

static void files_of_others_are_refused(void **state)
{
    err e = {0};
    (void)state;
    H5Fclose(hostile(in_dir("plain.h5")));
    assert_int_equal(check_file(in_dir("plain.h5"), &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "no attribute sha256"));
    write_bytes(in_dir("text.h5"), "hello", 5);
    assert_int_equal(check_file(in_dir("text.h5"), &e), ERR_INPUT);
    assert_int_equal(check_file(in_dir("absent.h5"), &e), ERR_INPUT);
    assert_int_equal(check_file(dir, &e), ERR_INPUT);
}

/* ---- another generation of a file ---- */

static void digest_of(char digest[HASH_HEX], const char *path)
{
    store *s;
    assert_int_equal(store_open(&s, path, NULL), 0);
    assert_int_equal(store_check(s, NULL), 0);
    snprintf(digest, HASH_HEX, "%s", store_digest(s));
    store_close(s);
}

/* Too much to be written together with what is short. */
static float many[40000];
static const store_shape MANY = {F32, 1, {sizeof many / sizeof *many}};

/* to_k stays, to_v and the rest go, /new and /many come. */
static int renew(const char *from, const char *digest, const char *path, err *e)
{
    store *s;
    int rc;
    for (size_t i = 0; i < sizeof many / sizeof *many; i++)
        many[i] = (float)i;
    TRY(store_renew(&s, from, digest, path, e));
    rc = store_keep(s, "/kv/one.attn2/to_k", e);
    if (rc == 0)
        rc = store_put(s, "/new", (store_shape){F32, 2, {COLS, ROWS}}, values, e);
    if (rc == 0)
        rc = store_put(s, "/many", MANY, many, e);
    if (rc == 0)
        rc = store_attr_text(s, "/", "format", "test", e);
    if (rc == 0)
        return store_commit(s, e);
    store_drop(s);
    return rc;
}

static void expect_new(const char *path)
{
    float back[ROWS * COLS];
    void *all = NULL;
    store *s;
    hid_t f, set;
    assert_int_equal(store_open(&s, path, NULL), 0);
    assert_int_equal(store_check(s, NULL), 0);
    assert_int_equal(store_load(s, "/many", MANY, &all, NULL, NULL), 0);
    assert_memory_equal(all, many, sizeof many);
    free(all);
    assert_int_equal(store_get(s, "/kv/one.attn2/to_k", (store_shape){F32, 2, {ROWS, COLS}}, back, NULL), 0);
    assert_memory_equal(back, values, sizeof back);
    assert_int_equal(store_get(s, "/new", (store_shape){F32, 2, {COLS, ROWS}}, back, NULL), 0);
    assert_memory_equal(back, values, sizeof back);
    assert_false(store_has(s, "/list") || store_has(s, "/kv/one.attn2/to_v"));
    store_close(s);
    memset(back, 0, sizeof back);
    f = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    set = H5Dopen2(f, "/kv/one.attn2/to_k", H5P_DEFAULT);
    assert_true(H5Dread(set, H5T_IEEE_F32LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, back) >= 0);
    assert_memory_equal(back, values, sizeof back);
    H5Dclose(set);
    H5Fclose(f);
}

static void a_new_generation_keeps_what_is_kept_and_its_readers(void **state)
{
    char digest[HASH_HEX], other[HASH_HEX];
    int64_t version = 0;
    store *old;
    struct stat before, after;
    err e = {0};
    (void)state;
    assert_int_equal(write_file(in_dir("gen.h5"), &e), 0);
    digest_of(digest, in_dir("gen.h5"));
    assert_int_equal(stat(in_dir("gen.h5"), &before), 0);
    assert_int_equal(store_open(&old, in_dir("gen.h5"), &e), 0);
    assert_int_equal(renew(in_dir("gen.h5"), digest, in_dir("gen.h5"), &e), 0);
    assert_int_equal(stat(in_dir("gen.h5"), &after), 0);
    assert_int_equal(before.st_ino, after.st_ino); /* the file itself, not another under its name */
    expect_new(in_dir("gen.h5"));
    assert_int_equal(store_get_int(old, "/", "version", &version, &e), 0); /* who had it open still has the old one */
    assert_int_equal(store_check(old, &e), 0);
    store_close(old);
    assert_int_equal(renew(in_dir("gen.h5"), digest, in_dir("gen.h5"), &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "changed while it was read"));

    assert_int_equal(write_file(in_dir("gen.h5"), &e), 0);
    assert_int_equal(renew(in_dir("gen.h5"), digest, in_dir("gen-to.h5"), &e), 0); /* elsewhere: the old one is as it was */
    expect_new(in_dir("gen-to.h5"));
    digest_of(other, in_dir("gen.h5"));
    assert_string_equal(other, digest);

    unlink(in_dir("gen-to.h5"));
    assert_int_equal(link(in_dir("gen.h5"), in_dir("gen-to.h5")), 0); /* so it is where somebody else has it */
    assert_int_equal(renew(in_dir("gen.h5"), digest, in_dir("gen.h5"), &e), 0);
    expect_new(in_dir("gen.h5"));
    digest_of(other, in_dir("gen-to.h5"));
    assert_string_equal(other, digest);
}

/* Whatever fails, whole is the old file or, once its superblock stands, the new one; and the next try goes through. */
static void a_generation_that_fails_leaves_the_old_one(void **state)
{
    static const char *const faults[] = {"store.write:1", "store.write:2", "store.write:3", "store.sync:1", "store.head:1",
                                         "store.sync:2"};
    char digest[HASH_HEX], now[HASH_HEX];
    err e = {0};
    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        bool turned = strcmp(faults[i], "store.sync:2") == 0;
        assert_int_equal(write_file(in_dir("fail.h5"), &e), 0);
        digest_of(digest, in_dir("fail.h5"));
        setenv("CFARM_FAULT", faults[i], 1);
        fault_reread();
        assert_int_equal(renew(in_dir("fail.h5"), digest, in_dir("fail.h5"), &e), ERR_IO);
        unsetenv("CFARM_FAULT");
        fault_reread();
        digest_of(now, in_dir("fail.h5"));
        assert_int_equal(strcmp(now, digest) != 0, turned);
        if (!turned)
            assert_int_equal(renew(in_dir("fail.h5"), digest, in_dir("fail.h5"), &e), 0);
        expect_new(in_dir("fail.h5"));
    }
}

static void two_cannot_renew_one_file(void **state)
{
    char digest[HASH_HEX];
    store *first;
    err e = {0};
    (void)state;
    assert_int_equal(write_file(in_dir("two.h5"), &e), 0);
    digest_of(digest, in_dir("two.h5"));
    assert_int_equal(store_renew(&first, in_dir("two.h5"), digest, in_dir("two.h5"), &e), 0);
    assert_int_equal(renew(in_dir("two.h5"), digest, in_dir("two.h5"), &e), ERR_IO);
    assert_non_null(strstr(e.text, "another program"));
    store_drop(first);
    assert_int_equal(renew(in_dir("two.h5"), digest, in_dir("two.h5"), &e), 0);
}

/* ---- places that cannot be written ---- */

static void an_unwritable_place_is_told_and_left_clean(void **state)
{
    err e = {0};
    (void)state;
    assert_int_equal(write_file("/nonexistent-folder/a.h5", &e), ERR_IO);
    assert_non_null(strstr(e.text, "No such file"));
    assert_int_equal(write_file("/proc/a.h5", &e), ERR_IO);
}

static void a_full_disk_is_told_and_left_clean(void **state)
{
    struct rlimit old, low;
    struct stat st;
    size_t before;
    err e = {0};
    (void)state;
    assert_int_equal(write_file(in_dir("full.h5"), NULL), 0);
    before = files_in(dir);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = old;
    assert_int_equal(stat(in_dir("full.h5"), &st), 0);
    for (rlim_t most = 0; most < (rlim_t)st.st_size; most += 500) { /* every place a write may stop at */
        int rc;
        low.rlim_cur = most;
        setrlimit(RLIMIT_FSIZE, &low);
        rc = write_file(in_dir("full.h5"), &e);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_int_not_equal(rc, 0);
        assert_int_equal(files_in(dir), before);
        assert_int_equal(check_file(in_dir("full.h5"), &e), 0); /* the old one stands */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(the_same_calls_give_the_same_bytes),
        cmocka_unit_test(hdf5_itself_reads_what_was_written),
        cmocka_unit_test(long_lists_long_texts_and_cut_rows_are_read),
        cmocka_unit_test(a_wrong_shape_is_refused_with_both_shapes),
        cmocka_unit_test(an_unfinished_file_is_not_seen),
        cmocka_unit_test(damage_is_told_or_changes_nothing),
        cmocka_unit_test(every_truncation_is_told),
        cmocka_unit_test(links_to_elsewhere_are_refused),
        cmocka_unit_test(files_of_others_are_refused),
        cmocka_unit_test(a_new_generation_keeps_what_is_kept_and_its_readers),
        cmocka_unit_test(a_generation_that_fails_leaves_the_old_one),
        cmocka_unit_test(two_cannot_renew_one_file),
        cmocka_unit_test(an_unwritable_place_is_told_and_left_clean),
        cmocka_unit_test(a_full_disk_is_told_and_left_clean),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
