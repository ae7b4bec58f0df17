/* Laws: a search is what all cosines in double say; a byte that was changed is found or changes nothing; an index
 * appears whole or not at all; collections are gathered from folders, lists and archives, and what cannot be used is
 * counted. */
#include "tests/cluster/scratch.h"

#include <fcntl.h>
#include <math.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "cluster/base/str.h"
#include "data/reg_gather.h"
#include "data/reg_index.h"

enum { DIM = 24 };

static float number(const char *what, int64_t i)
{
    return rng_uniform(rng_open(5, what, 0, 0), (uint64_t)i) * 2 - 1;
}

static void vector(float out[DIM], int64_t row)
{
    for (int k = 0; k < DIM; k++)
        out[k] = number("row", row * DIM + k) + (row % 7 == 0) * 0.8F;
}

/* n rows; every fifth has the path of the one before, and a place in it. */
static void write_index(const char *path, int64_t n)
{
    reg_entry *all = NEW_N(reg_entry, n);
    char (*text)[2][32] = mem_new((size_t)n, sizeof *text);
    float probe[DIM], row[DIM];
    reg_writer *w;
    err e = {0};

    for (int64_t i = 0; i < n; i++) {
        snprintf(text[i][0], 32, "/pictures/%lld", (long long)(i - (i % 5 == 4)));
        snprintf(text[i][1], 32, "caption %lld", (long long)i);
        all[i] = (reg_entry){text[i][0], text[i][1], i % 5 == 4 ? 512 : 0, i % 5 == 4 ? 77 : 0};
    }
    vector(probe, 12345);
    if (reg_writer_open(&w, path, all, n, DIM, probe, &e) != 0)
        fail_msg("%s", e.text);
    for (int64_t i = 0; i < n; i++) {
        vector(row, i);
        assert_int_equal(reg_writer_add(w, row, 1, false, &e), 0);
    }
    float back[DIM];
    double squares = 0;
    assert_int_equal(reg_writer_read(w, 0, back, &e), 0);
    for (int k = 0; k < DIM; k++)
        squares += back[k] * back[k];
    assert_true(fabs(squares - 1) < 1e-3);
    assert_int_equal(access(path, F_OK), -1); /* not before it is whole */
    assert_int_equal(reg_writer_commit(w, &e), 0);
    free(text);
    free(all);
}

static double cosine(const float *a, const float *b)
{
    double ab = 0, aa = 0, bb = 0;

    for (int k = 0; k < DIM; k++) {
        ab += (double)a[k] * b[k];
        aa += (double)a[k] * a[k];
        bb += (double)b[k] * b[k];
    }
    return ab / sqrt(aa * bb);
}

static void a_search_is_what_all_cosines_say(void **state)
{
    (void)state;
    enum { ROWS = 50000, WANT = 50 }; /* three blocks */
    const double OFF = 2e-4; /* of f16, at a width of 24 */
    float query[DIM], row[DIM];
    double near[ROWS];
    reg_index *x;
    err e = {0};

    write_index(in_scratch("all.index"), ROWS);
    assert_true(reg_index_is(in_scratch("all.index")));
    if (reg_index_open(&x, in_scratch("all.index"), &e) != 0)
        fail_msg("%s", e.text);
    vector(query, 777777);
    for (int i = 0; i < ROWS; i++) {
        vector(row, i);
        near[i] = cosine(query, row);
    }
    for (double least = -1; least < 0.9; least += 0.3) {
        reg_hit *hits;
        size_t n, found, really = 0, doubtful = 0; /* what f16 may put on the other side of least */
        assert_int_equal(reg_index_search(x, query, least, WANT, &hits, &n, &found, &e), 0);
        for (int i = 0; i < ROWS; i++)
            really += near[i] >= least, doubtful += fabs(near[i] - least) < OFF;
        assert_true(found + doubtful >= really && found <= really + doubtful && doubtful < 100);
        assert_int_equal(n, found < WANT ? found : WANT);
        for (size_t i = 0; i < n; i++) {
            size_t nearer = 0;
            assert_true(fabs(hits[i].near - near[hits[i].row]) < OFF);
            for (int k = 0; k < ROWS; k++)
                nearer += near[k] > near[hits[i].row] + 2 * OFF;
            assert_true(nearer <= i);
        }
        free(hits);
    }
    assert_int_equal(reg_index_check(x, &e), 0);
    assert_string_equal(reg_index_at(x, 8).caption, "caption 8");
    assert_string_equal(reg_index_at(x, 9).path, reg_index_at(x, 8).path);
    assert_int_equal(reg_index_at(x, 9).size, 77);
    reg_index_close(x);
}

/* ---- damage ---- */

/* Opened, checked and searched: 0 and what it said, or the error. */
static int whole(const char *path, char said[4096])
{
    reg_hit *hits = NULL;
    size_t n, found;
    float query[DIM];
    reg_index *x;
    err e = {0};

    vector(query, 3);
    TRY(reg_index_open(&x, path, &e));
    int rc = reg_index_search(x, query, -1, 5, &hits, &n, &found, &e);
    *said = '\0';
    for (size_t i = 0; rc == 0 && i < n; i++)
        snprintf(said + strlen(said), 4096 - strlen(said), "%.17g %s %s\n", hits[i].near,
                 reg_index_at(x, hits[i].row).path, reg_index_at(x, hits[i].row).caption);
    free(hits);
    reg_index_close(x);
    return rc;
}

static void a_changed_byte_is_found_or_changes_nothing(void **state)
{
    (void)state;
    char good[4096], now[4096], *bytes;
    size_t n, found = 0;

    write_index(in_scratch("small.index"), 9);
    assert_int_equal(whole(in_scratch("small.index"), good), 0);
    assert_int_equal(fs_read(in_scratch("small.index"), &bytes, &n, 1 << 20, NULL), 0);
    assert_int_equal(fs_write(in_scratch("bad.index"), bytes, n, NULL), 0);
    int fd = open(in_scratch("bad.index"), O_WRONLY); /* changed in place: thousands of files would be synced */
    for (size_t i = 0; i < n; i++) {
        char changed = (char)(bytes[i] ^ 0x10);
        assert_int_equal(pwrite(fd, &changed, 1, (off_t)i), 1);
        if (whole(in_scratch("bad.index"), now) != 0)
            found++;
        else
            assert_string_equal(now, good);
        assert_int_equal(pwrite(fd, &bytes[i], 1, (off_t)i), 1);
    }
    assert_int_equal(whole(in_scratch("bad.index"), now), 0);
    assert_true(found > 256 + DIM * 4 + 9 * (DIM * 2 + 32));
    for (size_t cut = n - 1; cut > 0; cut -= cut > 97 ? 97 : cut) {
        assert_int_equal(ftruncate(fd, (off_t)cut), 0);
        assert_int_not_equal(whole(in_scratch("bad.index"), now), 0);
    }
    close(fd);
    free(bytes);
}

/* ---- archives, with headers of our own ---- */

static void put_header(str *to, const char *name, size_t size, char kind)
{
    char h[512] = {0};
    unsigned sum = 0;

    snprintf(h, 100, "%s", name);
    snprintf(h + 124, 12, "%011o", (unsigned)(size & 0x3fffffff));
    memcpy(h + 257, "ustar", 6);
    h[156] = kind;
    memset(h + 148, ' ', 8);
    for (int i = 0; i < 512; i++)
        sum += (unsigned char)h[i];
    snprintf(h + 148, 8, "%06o", sum & 0x3ffff);
    str_put(to, h, sizeof h);
}

static void put_member(str *to, const char *name, const char *text, char kind)
{
    static const char zeros[512];
    size_t n = strlen(text);

    put_header(to, name, n, kind);
    str_put(to, text, n);
    str_put(to, zeros, (512 - n % 512) % 512);
}

static void end_archive(str *to, const char *path)
{
    static const char zeros[1024];

    str_put(to, zeros, sizeof zeros);
    assert_int_equal(fs_write(path, to->at, to->n, NULL), 0);
    str_free(to);
}

static void put_text(const char *name, const char *text)
{
    assert_int_equal(fs_write(in_scratch(name), text, strlen(text), NULL), 0);
}

static void must_hold(const reg_gathered *g, size_t i, const char *caption, uint64_t size)
{
    assert_string_equal(g->at[i].caption, caption);
    assert_int_equal(g->at[i].size, size);
}

static void an_archive_gives_its_samples(void **state)
{
    (void)state;
    reg_gathered g = {0};
    char deep[300];
    str t = {0};
    err e = {0};

    memset(deep, 'd', sizeof deep);
    strcpy(deep + 250, "/0003.jpg");
    put_member(&t, "./0001.jpg", "picture", '0');
    put_member(&t, "./0001.txt", " a  red\ncat ", '0');
    put_member(&t, "folder/", "", '5');
    put_member(&t, "0002.json", "{\"caption\": \"a dog\", \"width\": 3}", '0');
    put_member(&t, "0002.webp", "other", '0');
    put_member(&t, "././@LongLink", deep, 'L');
    put_member(&t, "short", "third picture", '0');
    deep[250 + 5] = '\0';
    strcat(deep, ".txt");
    put_member(&t, "././@LongLink", deep, 'L');
    put_member(&t, "short", "far down", '0');
    put_member(&t, "x", "19 path=0004.a.png\n", 'x');
    put_member(&t, "y", "fourth", '0');
    put_member(&t, "0004.txt", "four", '0');
    put_member(&t, "0005.png", "no caption", '0');
    put_member(&t, "0006.txt", "no picture", '0');
    put_member(&t, "0007.png", "bad", '0');
    put_member(&t, "0007.txt", "\xff\xfe", '0');
    end_archive(&t, in_scratch("shard.tar"));
    if (reg_gather(&g, in_scratch("shard.tar"), &e) != 0)
        fail_msg("%s", e.text);
    assert_int_equal(g.n, 4);
    must_hold(&g, 0, "a red cat", 7);
    must_hold(&g, 1, "a dog", 5);
    must_hold(&g, 2, "far down", 13);
    must_hold(&g, 3, "four", 6);
    assert_int_equal(g.without, 1);
    assert_int_equal(g.unreadable, 1);
    reg_gathered_free(&g);
}

static void damaged(const char *name, const char *text)
{
    reg_gathered g = {0};
    err e = {0};

    assert_int_not_equal(reg_gather(&g, in_scratch(name), &e), 0);
    assert_said(e.text, text);
    reg_gathered_free(&g);
}

static void a_damaged_archive_is_refused(void **state)
{
    (void)state;
    str t = {0};

    put_member(&t, "0001.jpg", "picture", '0');
    t.at[3] ^= 1;
    end_archive(&t, in_scratch("sum.tar"));
    damaged("sum.tar", "@/sum.tar: offset 0: a header whose checksum is wrong; the archive is damaged or cut short");
    put_header(&t, "0001.jpg", 100000, '0');
    end_archive(&t, in_scratch("cut.tar"));
    damaged("cut.tar", "@/cut.tar: offset 0: a member that is longer than the file; the archive is damaged or cut "
                       "short");
    put_member(&t, "x", "9 path=0004\n", 'x');
    end_archive(&t, in_scratch("pax.tar"));
    damaged("pax.tar", "@/pax.tar: offset 0: a pax record that is none; the archive is damaged or cut short");
    put_text("zipped.tar", "\x1f\x8b\x08");
    damaged("zipped.tar", "@/zipped.tar: compressed (gzip); pictures are compressed already: unpack it to a plain "
                          ".tar");
    put_member(&t, "0001.jpg", "picture", '0');
    end_archive(&t, in_scratch("bare.tar"));
    damaged("bare.tar", "@/bare.tar: no captioned picture in it (1 without a caption, 0 with one that is no text, 0 "
                        "not there)");
}

/* ---- folders and lists ---- */

static void folders_and_lists_give_what_has_a_caption(void **state)
{
    (void)state;
    reg_gathered g = {0};
    str t = {0};
    err e = {0};

    assert_int_equal(fs_mkdirs(in_scratch("pool/below"), NULL), 0);
    put_text("pool/1.jpg", "x");
    put_text("pool/1.txt", "one");
    put_text("pool/2.png", "x");
    put_text("pool/below/3.png", "x");
    put_text("pool/below/3.json", "{\"text\": \"three\"}");
    put_member(&t, "4.jpg", "four!", '0');
    put_member(&t, "4.txt", "four", '0');
    end_archive(&t, in_scratch("pool/shard.tar"));
    put_text("list.tsv", "pool/1.jpg\tuno\nnowhere.jpg\tnothing\npool/2.png\n");
    assert_int_equal(reg_gather(&g, in_scratch("pool"), &e), 0);
    assert_int_equal(g.n, 3);
    must_hold(&g, 0, "one", 0);
    must_hold(&g, 1, "three", 0);
    must_hold(&g, 2, "four", 5);
    assert_int_equal(g.without, 1);
    assert_int_equal(reg_gather(&g, in_scratch("list.tsv"), &e), 0);
    assert_int_equal(g.n, 4);
    must_hold(&g, 3, "uno", 0);
    assert_int_equal(g.missing, 1);
    assert_int_equal(g.without, 2);
    reg_gathered_free(&g);
    damaged("nothing", "@/nothing: no such folder, list or archive");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_search_is_what_all_cosines_say),
        cmocka_unit_test(a_changed_byte_is_found_or_changes_nothing),
        cmocka_unit_test(an_archive_gives_its_samples),
        cmocka_unit_test(a_damaged_archive_is_refused),
        cmocka_unit_test(folders_and_lists_give_what_has_a_caption),
    };

    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
