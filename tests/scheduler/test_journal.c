/* The journal's promises: cut and flipped at every byte, fenced, sealed, restated; and the bytes of every version. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/base/fault.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "scheduler/journal.h"
#include "scheduler/journal_format.h"

static char dir[] = "/tmp/journal-XXXXXX";

static int fresh(void **unused)
{
    (void)unused;
    if (fs_exists(dir))
        fs_remove_tree(dir, NULL);
    return fs_mkdirs(dir, NULL);
}

static const char *segment_name(int epoch)
{
    static char path[FS_PATH];
    snprintf(path, sizeof path, "%s/%06d.log", dir, epoch);
    return path;
}

/* Records as "1:body 2:body ". */
static int collect(void *arg, int type, const char *body, size_t n, err *e)
{
    (void)e;
    str_add(arg, "%d:%.*s ", type, (int)n, body);
    return 0;
}

static int read_all(str *text, bool *warned, err *e)
{
    journal *j;
    int rc = journal_open(&j, dir, collect, text, e);

    *warned = rc == 0 && journal_warning(j) != NULL;
    if (rc == 0)
        journal_close(j);
    return rc;
}

static void expect(const char *text, bool warning)
{
    str got = {0};
    bool warned;
    err e = {0};

    if (read_all(&got, &warned, &e) != 0)
        fail_msg("%s", e.text);
    assert_string_equal(got.at ? got.at : "", text);
    assert_int_equal(warned, warning);
    str_free(&got);
}

static void add(journal *j, int type, const char *body)
{
    err e = {0};

    journal_append(j, type, body, strlen(body));
    assert_int_equal(journal_commit(j, &e), 0);
}

static journal *begin(void)
{
    journal *j;
    str ignored = {0};
    err e = {0};

    if (journal_open(&j, dir, collect, &ignored, &e) != 0 || journal_start(j, 0, NULL, 0, &e) != 0)
        fail_msg("%s", e.text);
    str_free(&ignored);
    return j;
}

static void two_epochs(void)
{
    journal *j = begin();

    add(j, 1, "one");
    add(j, 2, "two");
    journal_close(j);
    j = begin();
    add(j, 3, "three");
    add(j, 4, "");
    add(j, 5, "five");
    journal_close(j);
}

static void what_was_committed_is_read_again(void **unused)
{
    (void)unused;
    expect("", false);
    two_epochs();
    expect("1:one 2:two 3:three 4: 5:five ", false);
}

static void what_was_not_committed_is_not_there(void **unused)
{
    journal *j = begin();
    (void)unused;
    add(j, 1, "one");
    journal_append(j, 2, "two", 3);
    journal_close(j);
    expect("1:one ", false);
}

static void write_bytes(const char *path, const char *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static void cut_anywhere_it_is_a_crash_and_a_prefix_is_kept(void **unused)
{
    static const char *const prefix[] = {"1:one 2:two ", "1:one 2:two 3:three ", "1:one 2:two 3:three 4: "};
    static const size_t ends[] = {JOURNAL_HEAD, JOURNAL_HEAD + 29, JOURNAL_HEAD + 29 + 24, JOURNAL_HEAD + 29 + 24 + 28};
    char path[FS_PATH], *bytes;
    size_t n;
    (void)unused;
    two_epochs();
    strcpy(path, segment_name(2));
    assert_int_equal(fs_read(path, &bytes, &n, 1 << 20, NULL), 0);
    assert_int_equal(n, ends[3]);
    for (size_t cut = JOURNAL_HEAD; cut < n; cut++) {
        size_t whole = 0;
        while (ends[whole + 1] <= cut)
            whole++;
        write_bytes(path, bytes, cut);
        expect(prefix[whole], cut != ends[whole]);
    }
    free(bytes);
}

/* The head appears whole or not at all, so that a broken one is no crash. */
static void cut_in_its_head_it_is_damage(void **unused)
{
    char path[FS_PATH], *bytes;
    size_t n;
    (void)unused;
    two_epochs();
    strcpy(path, segment_name(2));
    assert_int_equal(fs_read(path, &bytes, &n, 1 << 20, NULL), 0);
    for (size_t cut = 0; cut < JOURNAL_HEAD; cut++) {
        str got = {0};
        bool warned;
        err e = {0};
        write_bytes(path, bytes, cut);
        assert_int_not_equal(read_all(&got, &warned, &e), 0);
        assert_non_null(strstr(e.text, path));
        str_free(&got);
    }
    free(bytes);
}

/* A flip in the last committed record cannot be told from a crash; everywhere else it is damage, and never read. */
static void flipped_anywhere_nothing_false_is_read(void **unused)
{
    (void)unused;
    two_epochs();
    for (int epoch = 1; epoch <= 2; epoch++) {
        char path[FS_PATH], *bytes;
        size_t n;
        strcpy(path, segment_name(epoch));
        assert_int_equal(fs_read(path, &bytes, &n, 1 << 20, NULL), 0);
        for (size_t at = 0; at < n; at++)
            for (int bit = 0; bit < 8; bit += 3) {
                str got = {0};
                bool warned;
                err e = {0};
                int rc;
                bytes[at] = (char)(bytes[at] ^ 1 << bit);
                write_bytes(path, bytes, n);
                bytes[at] = (char)(bytes[at] ^ 1 << bit);
                rc = read_all(&got, &warned, &e);
                if (epoch == 1 || at < n - 28) {
                    assert_int_not_equal(rc, 0);
                    assert_non_null(strstr(e.text, path));
                    assert_non_null(strstr(e.text, at < JOURNAL_HEAD && epoch == 2 ? "" : "offset"));
                } else {
                    assert_true(rc == 0 && warned);
                    assert_string_equal(got.at, "1:one 2:two 3:three 4: ");
                }
                str_free(&got);
            }
        write_bytes(path, bytes, n);
        free(bytes);
    }
}

/* Power was lost in the middle of a commit: a later page may have reached the disk and an earlier one not. */
static void a_hole_in_what_was_never_committed_is_a_crash(void **unused)
{
    journal *j = begin();
    char path[FS_PATH], *bytes;
    size_t n, first;
    (void)unused;
    add(j, 1, "one");
    strcpy(path, segment_name(1));
    journal_append(j, 2, "two", 3);
    journal_append(j, 3, "three", 5);
    assert_int_equal(journal_commit(j, NULL), 0);
    journal_close(j);
    assert_int_equal(fs_read(path, &bytes, &n, 1 << 20, NULL), 0);
    first = JOURNAL_HEAD + JOURNAL_RECORD + 3;
    memset(bytes + first, 0, JOURNAL_RECORD + 3); /* "two" is a hole, "three" is there */
    write_bytes(path, bytes, n);
    expect("1:one ", true);
    free(bytes);
}

static void after_a_crash_the_next_epoch_goes_on_from_what_was_kept(void **unused)
{
    journal *j = begin();
    (void)unused;
    add(j, 1, "one");
    add(j, 2, "two");
    journal_close(j);
    assert_int_equal(truncate(segment_name(1), JOURNAL_HEAD + 27 + 5), 0);
    expect("1:one ", true);
    j = begin();
    add(j, 3, "three");
    journal_close(j);
    expect("1:one 3:three ", false);
}

static void a_coordinator_that_was_replaced_has_nothing_more_to_say(void **unused)
{
    journal *old = begin(), *new;
    err e = {0};
    (void)unused;
    add(old, 1, "one");
    new = begin();
    journal_append(old, 2, "late", 4);
    assert_int_equal(journal_commit(old, &e), ERR_PEER);
    assert_int_not_equal(journal_commit(old, &e), 0);
    add(new, 3, "three");
    journal_close(new);
    journal_close(old);
    expect("1:one 3:three ", false);
}

static void what_is_appended_behind_the_seal_is_never_read(void **unused)
{
    FILE *f;
    (void)unused;
    two_epochs();
    f = fopen(segment_name(1), "ab");
    fputs("late words of a zombie", f);
    fclose(f);
    expect("1:one 2:two 3:three 4: 5:five ", false);
}

static void two_cannot_begin_the_same_epoch(void **unused)
{
    journal *a, *b;
    str none = {0};
    (void)unused;
    assert_int_equal(journal_open(&a, dir, collect, &none, NULL), 0);
    assert_int_equal(journal_open(&b, dir, collect, &none, NULL), 0);
    assert_int_equal(journal_start(a, 0, NULL, 0, NULL), 0);
    assert_int_equal(journal_start(b, 0, NULL, 0, NULL), ERR_PEER);
    journal_close(a);
    journal_close(b);
}

static void a_restating_segment_needs_none_before_it(void **unused)
{
    journal *j;
    str none = {0};
    (void)unused;
    two_epochs();
    assert_int_equal(journal_open(&j, dir, collect, &none, NULL), 0);
    assert_int_equal(journal_start(j, 9, "all of it", 9, NULL), 0);
    add(j, 1, "more");
    journal_close(j);
    str_free(&none);
    unlink(segment_name(1));
    unlink(segment_name(2));
    expect("9:all of it 1:more ", false);
    assert_int_equal(truncate(segment_name(3), JOURNAL_HEAD + 33 + 3), 0);
    expect("9:all of it ", true);
}

static void a_missing_segment_is_damage(void **unused)
{
    str got = {0};
    bool warned;
    err e = {0};
    (void)unused;
    two_epochs();
    unlink(segment_name(1));
    assert_int_not_equal(read_all(&got, &warned, &e), 0);
    assert_non_null(strstr(e.text, segment_name(1)));
    str_free(&got);
}

static void a_full_disk_stops_the_journal(void **unused)
{
    journal *j = begin();
    err e = {0};
    (void)unused;
    add(j, 1, "one");
    setenv("CFARM_FAULT", "journal.sync:1", 1);
    fault_reread();
    journal_append(j, 2, "two", 3);
    if (journal_commit(j, &e) == 0)
        fail_msg("a sync that failed was not noticed");
    unsetenv("CFARM_FAULT");
    fault_reread();
    assert_int_equal(journal_commit(j, &e), ERR_IO);
    journal_close(j);
}

/* journal/{valid,warn,invalid}/NAME: segments, and in "expected" the records, or the error's text. */
static void every_version_ever_written_is_read(void **unused)
{
    static const char *const kind[] = {"valid", "warn", "invalid"};
    const char *source = getenv("CFARM_SOURCE");
    int seen = 0;
    (void)unused;
    assert_non_null(source);
    for (size_t k = 0; k < 3; k++) {
        char **names, folder[FS_PATH], path[2 * FS_PATH], *expected;
        size_t n, size;
        snprintf(folder, sizeof folder, "%s/tests/scheduler/journal/%s", source, kind[k]);
        assert_int_equal(fs_list(&names, &n, folder, NULL), 0);
        for (size_t i = 0; i < n; i++, seen++) {
            str got = {0};
            journal *j = NULL;
            err e = {0};
            int rc;
            snprintf(path, sizeof path, "%s/%s/expected", folder, names[i]);
            assert_int_equal(fs_read(path, &expected, &size, 1 << 20, NULL), 0);
            snprintf(path, sizeof path, "%s/%s", folder, names[i]);
            rc = journal_open(&j, path, collect, &got, &e);
            assert_int_equal(rc != 0, k == 2);
            assert_int_equal(rc == 0 && journal_warning(j), k == 1);
            expected[strcspn(expected, "\n")] = 0;
            if (k == 2)
                assert_non_null(strstr(e.text, expected));
            else
                assert_string_equal(got.at, expected);
            journal_close(j);
            free(expected);
            str_free(&got);
        }
        fs_list_free(names);
    }
    assert_true(seen >= 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_was_committed_is_read_again, fresh),
        cmocka_unit_test_setup(what_was_not_committed_is_not_there, fresh),
        cmocka_unit_test_setup(cut_anywhere_it_is_a_crash_and_a_prefix_is_kept, fresh),
        cmocka_unit_test_setup(cut_in_its_head_it_is_damage, fresh),
        cmocka_unit_test_setup(flipped_anywhere_nothing_false_is_read, fresh),
        cmocka_unit_test_setup(a_hole_in_what_was_never_committed_is_a_crash, fresh),
        cmocka_unit_test_setup(after_a_crash_the_next_epoch_goes_on_from_what_was_kept, fresh),
        cmocka_unit_test_setup(a_coordinator_that_was_replaced_has_nothing_more_to_say, fresh),
        cmocka_unit_test_setup(what_is_appended_behind_the_seal_is_never_read, fresh),
        cmocka_unit_test_setup(two_cannot_begin_the_same_epoch, fresh),
        cmocka_unit_test_setup(a_restating_segment_needs_none_before_it, fresh),
        cmocka_unit_test_setup(a_missing_segment_is_damage, fresh),
        cmocka_unit_test_setup(a_full_disk_stops_the_journal, fresh),
        cmocka_unit_test(every_version_ever_written_is_read),
    };
    int failed;

    if (!mkdtemp(dir))
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    fs_remove_tree(dir, NULL);
    return failed;
}
