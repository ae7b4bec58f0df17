/* Files: whole or not at all, whatever happens between; and an error that names the path and the reason. */
#include "tests/cluster/scratch.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "cluster/base/fault.h"
#include "cluster/base/str.h"

static void put(const char *path, const char *text)
{
    err e = {0};
    if (fs_write(path, text, strlen(text), &e) != 0)
        fail_msg("%s", e.text);
}

static void assert_holds(const char *path, const char *text)
{
    char *got;
    size_t n;
    err e = {0};
    if (fs_read(path, &got, &n, 1 << 20, &e) != 0)
        fail_msg("%s", e.text);
    assert_string_equal(got, text);
    assert_int_equal(n, strlen(text));
    free(got);
}

static size_t files_in(const char *dir)
{
    char **names;
    size_t n;
    assert_int_equal(fs_list(&names, &n, dir, NULL), 0);
    fs_list_free(names);
    return n;
}

/* Each step of a write, and what stands there after a kill at it. */
static const struct {
    const char *point, *left, *said;
} STEPS[] = {
    {"fs.open", "old", "@/steps/file: cannot create: input/output error"},
    {"fs.write", "old", "@/steps/file: cannot write 4 bytes: input/output error"},
    {"fs.sync", "old", "@/steps/file: cannot sync: input/output error"},
    {"fs.rename", "old", "@/steps/file: cannot rename into place: input/output error"},
    {"fs.folder", "new!", "@/steps/: cannot sync folder: input/output error"},
};

static void arm(const char *point, const char *what)
{
    char fault[64];
    snprintf(fault, sizeof fault, "%s:1:%s", point, what);
    setenv("CFARM_FAULT", fault, 1);
    fault_reread();
}

static void disarm(void)
{
    unsetenv("CFARM_FAULT");
    fault_reread();
}

static void a_failed_write_leaves_the_old_file_and_nothing_aside(void **state)
{
    (void)state;
    assert_int_equal(fs_mkdirs(in_scratch("steps"), NULL), 0);
    for (size_t i = 0; i < sizeof STEPS / sizeof *STEPS; i++) {
        err e;
        const char *path = in_scratch("steps/file");
        put(path, "old");
        arm(STEPS[i].point, "error");
        assert_int_equal(fs_write(path, "new!", 4, &e), ERR_IO);
        disarm();
        assert_said(e.text, STEPS[i].said);
        assert_holds(path, STEPS[i].left);
        assert_int_equal(files_in(in_scratch("steps")), 1);
    }
}

static void a_killed_write_leaves_the_old_file_or_the_new_one(void **state)
{
    (void)state;
    const char *path = in_scratch("steps/file");
    for (size_t i = 0; i < sizeof STEPS / sizeof *STEPS; i++) {
        put(path, "old");
        pid_t child = fork();
        if (child == 0) {
            arm(STEPS[i].point, "kill");
            fs_write(path, "new!", 4, NULL);
            _exit(0);
        }
        int how;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
        assert_holds(path, STEPS[i].left);
    }
}

/* Runs in a child, whose limits and mounts are its own: 0 done, 1 wrong, 77 this machine does not let us try. */
static void in_child(int (*run)(void), const char *what)
{
    pid_t child = fork();
    if (child == 0)
        _exit(run());
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how));
    if (WEXITSTATUS(how) == 77) {
        print_message("not tried here: %s\n", what);
        skip();
    }
    assert_int_equal(WEXITSTATUS(how), 0);
}

static char large[1 << 20];

static int refused_with(const char *path, const char *said)
{
    err e = {0};
    char want[FS_PATH + 100];
    snprintf(want, sizeof want, "%s: cannot write %zu bytes: %s", path, sizeof large, said);
    if (fs_write(path, large, sizeof large, &e) == ERR_IO && strcmp(e.text, want) == 0)
        return 0;
    fprintf(stderr, "said: %s\nwant: %s\n", e.text, want);
    return 1;
}

static int write_beyond_the_limit(void)
{
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit most = {64 << 10, 64 << 10};
    if (setrlimit(RLIMIT_FSIZE, &most) != 0)
        return 77;
    return refused_with(in_scratch("steps/file"), "file too large");
}

static void a_file_past_the_limit_leaves_the_old_one(void **state)
{
    (void)state;
    put(in_scratch("steps/file"), "old");
    size_t before = files_in(in_scratch("steps"));
    in_child(write_beyond_the_limit, "a limit on file size");
    assert_holds(in_scratch("steps/file"), "old");
    assert_int_equal(files_in(in_scratch("steps")), before);
}

static int write_to_a_full_disk(void)
{
    const char *disk = in_scratch("disk"), *path = in_scratch("disk/file");
    char **names;
    size_t n;
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
        return 77;
    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    if (mount("tmpfs", disk, "tmpfs", 0, "size=64k") != 0)
        return 77;
    if (fs_write(path, "old", 3, NULL) != 0 || refused_with(path, "no space left on device") != 0)
        return 1;
    if (fs_list(&names, &n, disk, NULL) != 0 || n != 1)
        return 1;
    fs_list_free(names);
    char *left;
    return fs_read(path, &left, &n, 100, NULL) == 0 && strcmp(left, "old") == 0 ? 0 : 1;
}

static void a_full_disk_leaves_the_old_file(void **state)
{
    (void)state;
    assert_int_equal(fs_mkdirs(in_scratch("disk"), NULL), 0);
    in_child(write_to_a_full_disk, "a full disk, for want of the right to mount one");
}

static void what_cannot_be_read_is_told_with_its_reason(void **state)
{
    (void)state;
    put(in_scratch("five"), "12345");
    assert_int_equal(mkfifo(in_scratch("pipe"), 0600), 0);
    static const struct {
        const char *name, *said;
        err_code code;
    } rows[] = {
        {"none", "@/none: cannot open: no such file or directory", ERR_IO},
        {"five/x", "@/five/x: cannot open: not a directory", ERR_IO},
        {"pipe", "@/pipe: a device or pipe, not a file", ERR_IO},
        {"", "@/: a folder, not a file", ERR_IO},
        {"five", "@/five: 5 bytes; at most 4 are read", ERR_INPUT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        err e;
        char *got;
        size_t n;
        assert_int_equal(fs_read(in_scratch(rows[i].name), &got, &n, 4, &e), rows[i].code);
        assert_said(e.text, rows[i].said);
        assert_null(got);
    }
    err e;
    assert_int_equal(fs_write(in_scratch("none/x"), "", 0, &e), ERR_IO);
    assert_said(e.text, "@/none/x: cannot create: no such file or directory");
    assert_int_equal(fs_mkdirs(in_scratch("five/x"), &e), ERR_IO);
    assert_said(e.text, "@/five: cannot make folder: file exists");
}

static void paths_join(void **state)
{
    (void)state;
    static const struct {
        const char *dir, *name, *want;
    } rows[] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a", "/b", "/b"}, {"", "b", "b"}, {"/", "b", "/b"}, {"a", "", "a/"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[FS_PATH];
        assert_int_equal(fs_join(out, rows[i].dir, rows[i].name, NULL), 0);
        assert_string_equal(out, rows[i].want);
    }
    char out[FS_PATH] = "a/b";
    assert_int_equal(fs_join(out, out, "c", NULL), 0); /* onto itself */
    assert_string_equal(out, "a/b/c");
    memset(large, 'p', FS_PATH);
    large[FS_PATH - 3] = 0;
    err e;
    assert_int_equal(fs_join(out, "a", large, NULL), 0);
    large[FS_PATH - 3] = 'p';
    large[FS_PATH - 2] = 0;
    assert_int_equal(fs_join(out, "a", large, &e), ERR_INPUT);
    assert_string_equal(e.text, "a path of 4096 bytes; at most 4095 can be used: a...");
    assert_string_equal(fs_base("a/b.png"), "b.png");
    assert_string_equal(fs_base("b.png"), "b.png");
}

static void a_folder_lists_in_one_order_everywhere(void **state)
{
    (void)state;
    static const char *const made[] = {"b", "a10", ".hidden", "B", "a2", "\xc3\xa9"};
    static const char *const want[] = {"B", "a10", "a2", "b", "\xc3\xa9"};
    assert_int_equal(fs_mkdirs(in_scratch("list"), NULL), 0);
    for (size_t i = 0; i < 6; i++) {
        char name[32];
        snprintf(name, sizeof name, "list/%s", made[i]);
        put(in_scratch(name), "");
    }
    char **names;
    size_t n;
    assert_int_equal(fs_list(&names, &n, in_scratch("list"), NULL), 0);
    assert_int_equal(n, 5);
    for (size_t i = 0; i < 5; i++)
        assert_string_equal(names[i], want[i]);
    assert_null(names[5]);
    fs_list_free(names);
    err e;
    assert_int_equal(fs_list(&names, &n, in_scratch("no"), &e), ERR_IO);
    assert_said(e.text, "@/no: cannot open folder: no such file or directory");
}

static void removing_a_tree_does_not_follow_links(void **state)
{
    (void)state;
    assert_int_equal(fs_mkdirs(in_scratch("tree/deep/er"), NULL), 0);
    put(in_scratch("kept"), "kept");
    put(in_scratch("tree/deep/er/file"), "");
    assert_int_equal(symlink(scratch, in_scratch("tree/link")), 0);
    assert_int_equal(fs_remove_tree(in_scratch("tree"), NULL), 0);
    assert_false(fs_exists(in_scratch("tree")));
    assert_holds(in_scratch("kept"), "kept");
    assert_int_equal(fs_remove_tree(in_scratch("tree"), NULL), 0); /* gone is gone */
}

static void a_mapping_shows_the_file(void **state)
{
    (void)state;
    fs_map m;
    err e;
    put(in_scratch("map"), "mapped");
    assert_int_equal(fs_map_open(&m, in_scratch("map"), NULL), 0);
    assert_int_equal(m.n, 6);
    assert_memory_equal(m.at, "mapped", 6);
    fs_map_close(&m);
    put(in_scratch("map"), "");
    assert_int_equal(fs_map_open(&m, in_scratch("map"), NULL), 0);
    assert_int_equal(m.n, 0);
    fs_map_close(&m);
    fs_map_close(NULL);
    assert_int_equal(fs_map_open(&m, in_scratch("no"), &e), ERR_IO);
    assert_said(e.text, "@/no: cannot open: no such file or directory");
    assert_null(m.at);
}

static void a_writer_with_a_path_of_its_own_commits_or_discards(void **state)
{
    (void)state;
    char aside[FS_PATH], other[FS_PATH];
    const char *path = in_scratch("own");
    assert_int_equal(fs_aside(aside, path, NULL), 0);
    assert_int_equal(fs_aside(other, path, NULL), 0);
    assert_string_not_equal(aside, other);
    FILE *f = fopen(aside, "w");
    fputs("mine", f);
    fclose(f);
    assert_false(fs_exists(path));
    assert_int_equal(fs_commit(aside, path, NULL), 0);
    assert_holds(path, "mine");
    assert_false(fs_exists(aside));
    err e;
    assert_int_equal(fs_commit(aside, path, &e), ERR_IO);
    assert_said(e.text, "@/own: cannot open what was written aside: no such file or directory");
    fs_discard(aside);
    assert_holds(path, "mine");
}

static void a_fault_strikes_at_its_passage_alone(void **state)
{
    (void)state;
    setenv("CFARM_FAULT", "a:2,b:1:error", 1);
    fault_reread();
    assert_false(fault_here("a"));
    assert_true(fault_here("b"));
    assert_true(fault_here("a"));
    assert_false(fault_here("a"));
    assert_false(fault_here("b"));
    assert_false(fault_here("c"));
    disarm();
    assert_false(fault_here("b"));
}

static void a_misspelt_fault_is_no_quiet_pass(void **state)
{
    (void)state;
    static const char *const wrong[] = {"a", "a:0", "a:x", "a:1:kil", ":1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        pid_t child = fork();
        if (child == 0) {
            fclose(stderr);
            setenv("CFARM_FAULT", wrong[i], 1);
            signal(SIGABRT, SIG_DFL);
            fault_reread();
            fault_here("a");
            _exit(0);
        }
        int how;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGABRT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_write_leaves_the_old_file_and_nothing_aside),
        cmocka_unit_test(a_killed_write_leaves_the_old_file_or_the_new_one),
        cmocka_unit_test(a_file_past_the_limit_leaves_the_old_one),
        cmocka_unit_test(a_full_disk_leaves_the_old_file),
        cmocka_unit_test(what_cannot_be_read_is_told_with_its_reason),
        cmocka_unit_test(paths_join),
        cmocka_unit_test(a_folder_lists_in_one_order_everywhere),
        cmocka_unit_test(removing_a_tree_does_not_follow_links),
        cmocka_unit_test(a_mapping_shows_the_file),
        cmocka_unit_test(a_writer_with_a_path_of_its_own_commits_or_discards),
        cmocka_unit_test(a_fault_strikes_at_its_passage_alone),
        cmocka_unit_test(a_misspelt_fault_is_no_quiet_pass),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
