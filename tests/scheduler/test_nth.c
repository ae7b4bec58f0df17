/* The 1st, the 2nd, the 3rd, ... call of the system that a commit of the journal, a publication and an order make fails, once each; or
 * the process ends there. Whatever was answered for must be there afterwards, nothing may be there by half, and the same done again
 * must succeed. The calls are taken over when this is linked (CMakeLists.txt), the farm's own object files are as they ship. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/base/json.h"
#include "cluster/base/str.h"
#include "scheduler/journal.h"
#include "scheduler/ledger.h"
#include "scheduler/publish.h"
#include "scheduler/spool.h"

enum { COMMITS = 3, CALLS_LEAST = 8, CALLS_MOST = 2000, DIED = 77 };

/* What the child shows: how many calls there were, and what it was answered. */
typedef struct { int calls, fail_at; bool dies; int commits, again, published, ordered, submitted; } shown;
static shown *show;
static bool armed;

static bool fails(void)
{
    if (!armed || ++show->calls != show->fail_at)
        return false;
    if (show->dies)
        _exit(DIED);
    errno = EIO;
    return true;
}

/* Each is named as the linker has it. */
#define TAKEN_OVER(type, name, args, call)                                                                                  \
    type __real_##name args;                                                                                                \
    type __wrap_##name args;                                                                                                \
    type __wrap_##name args { return fails() ? (type)-1 : __real_##name call; }

TAKEN_OVER(int, fsync, (int fd), (fd))
TAKEN_OVER(int, fdatasync, (int fd), (fd))
TAKEN_OVER(ssize_t, write, (int fd, const void *at, size_t n), (fd, at, n))
TAKEN_OVER(int, rename, (const char *from, const char *to), (from, to))
TAKEN_OVER(int, link, (const char *from, const char *to), (from, to))
TAKEN_OVER(int, unlink, (const char *path), (path))
TAKEN_OVER(int, mkdir, (const char *path, mode_t mode), (path, mode))
TAKEN_OVER(int, stat, (const char *path, struct stat *s), (path, s))
TAKEN_OVER(int, access, (const char *path, int mode), (path, mode))

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list more;

    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    return fails() ? -1 : __real_open(path, flags, mode);
}

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n) { return fails() ? NULL : __real_malloc(n); }
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size) { return fails() ? NULL : __real_calloc(n, size); }
void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n) { return fails() ? NULL : __real_realloc(p, n); }

/* ---- what is done ---------------------------------------------------------------------------------------------- */

static char dir[64];

static void in(char out[FS_PATH], const char *name) { assert_int_equal(fs_join(out, dir, name, NULL), 0); }

static int ignore(void *arg, int type, const char *body, size_t n, err *e)
{
    (void)arg, (void)type, (void)body, (void)n, (void)e;
    return 0;
}

/* A new epoch on what is there, and three commits of two records each. */
static void write_journal(void)
{
    char path[FS_PATH];
    journal *j;
    err e = {0};

    in(path, "journal");
    if (journal_open(&j, path, ignore, NULL, &e) != 0)
        return;
    if (journal_start(j, 0, NULL, 0, &e) == 0)
        for (int i = 0; i < COMMITS; i++) {
            char body[32];
            int n = snprintf(body, sizeof body, "commit %d", i);
            journal_append(j, 1, body, (size_t)n);
            journal_append(j, 2, body, (size_t)n);
            if (journal_commit(j, &e) == 0 && show->commits == i)
                show->commits++;
            else
                show->again += show->commits > i; /* it answered for what came after a failure */
        }
    journal_close(j);
}

static const char RESULT[] = "the bytes of a result";

static void write_result(void)
{
    char aside[FS_PATH], sha256[HASH_HEX];
    err e = {0};

    hash_bytes(RESULT, sizeof RESULT - 1, sha256);
    if (publish_aside(aside, dir, "rex", 1, &e) == 0 && fs_write(aside, RESULT, sizeof RESULT - 1, &e) == 0)
        show->published = publish(dir, aside, sha256, "rex", &e) == 0;
}

static void write_order(void)
{
    char id[SPOOL_ID];
    err e = {0};

    show->ordered = spool_put(id, dir, json_pack("{s:s, s:[s]}", "do", "cancel", "names", "rex"), &e) == 0;
}

/* A farm of one concept, begun. */
static void write_farm(void)
{
    job_spec spec = {.name = "rex", .settings = "{\"class\":\"dog\",\"steps\":3}", .steps = 3, .batch = 8, .leaves = 8, .retries = 3};
    sched_effects todo = {0};
    ledger *l;
    err e = {0};

    if (ledger_open(&l, dir, (sched_options){.gang_max = 8}, &e) != 0)
        return;
    if (ledger_begin(l, "a test", &e) == 0 && ledger_step(l, &(sched_event){.type = EV_SUBMIT, .spec = spec}, &todo, &e) == 0)
        show->submitted = ledger_commit(l, &e) == 0;
    sched_effects_free(&todo);
    ledger_close(l);
}

/* ---- what must be true ----------------------------------------------------------------------------------------- */

typedef struct { int records[2]; bool torn; } past;

static int on_record(void *arg, int type, const char *body, size_t n, err *e)
{
    past *p = arg;
    char due[32];

    (void)e;
    snprintf(due, sizeof due, "commit %d", p->records[type - 1]++);
    p->torn |= strlen(due) != n || memcmp(due, body, n) != 0;
    return 0;
}

/* All that was answered for, in order; perhaps more of the commit that failed; never damage; and it can be gone on with. */
static void journal_holds(int n)
{
    char path[FS_PATH];
    past p = {0};
    journal *j;
    err e = {0};

    in(path, "journal");
    if (journal_open(&j, path, on_record, &p, &e) != 0)
        fail_msg("call %d: %s", n, e.text);
    if (p.torn || p.records[0] < show->commits || p.records[1] < show->commits || p.records[0] > show->commits + 1 || show->again)
        fail_msg("call %d: %d commits were answered for; %d and %d records are there", n, show->commits, p.records[0], p.records[1]);
    if (journal_start(j, 0, NULL, 0, &e) != 0)
        fail_msg("call %d: the next epoch cannot begin: %s", n, e.text);
    journal_close(j);
}

/* Its name is there with all of it or not at all, at once where that was answered; done again it is there. */
static void result_holds(int n)
{
    char sha256[HASH_HEX], path[FS_PATH], *text;
    size_t size;
    err e = {0};

    if (publish_find(dir, "rex", sha256, &e) != 0)
        fail_msg("call %d: %s", n, e.text);
    if (show->published && !sha256[0])
        fail_msg("call %d: it was answered for and is not there", n);
    in(path, "out/rex.h5");
    if (fs_exists(path) && (fs_read(path, &text, &size, 1000, &e) != 0 || size != sizeof RESULT - 1 || memcmp(text, RESULT, size) != 0))
        fail_msg("call %d: the name has other bytes", n);
    else if (fs_exists(path))
        free(text);
    show->published = 0;
    write_result();
    if (!show->published || publish_find(dir, "rex", sha256, &e) != 0 || !sha256[0])
        fail_msg("call %d: done again it is not there", n);
    assert_int_equal(publish_sweep(dir, &e), 0);
    in(path, "obj");
    char **names;
    assert_int_equal(fs_list(&names, &size, path, &e), 0);
    assert_int_equal(size, 1); /* its folder, and nothing aside */
    fs_list_free(names);
}

static void order_holds(int n)
{
    char path[FS_PATH], **names;
    size_t there = 0, whole = 0;
    json_t *o;

    in(path, "spool");
    if (fs_is_dir(path)) {
        assert_int_equal(fs_list(&names, &there, path, NULL), 0);
        for (size_t i = 0; i < there; i++) {
            char file[FS_PATH];
            if (!str_ends(names[i], ".json"))
                continue;
            assert_int_equal(fs_join(file, path, names[i], NULL), 0);
            if (json_read(&o, file, NULL) != 0)
                fail_msg("call %d: an order is there by half", n);
            json_decref(o);
            whole++;
        }
        fs_list_free(names);
    }
    if (show->ordered && whole != 1)
        fail_msg("call %d: the order was accepted and is not there", n);
    show->ordered = 0;
    write_order();
    if (!show->ordered)
        fail_msg("call %d: it cannot be given again", n);
}

/* Every record says all it should: what was accepted is there with its settings. */
static void farm_holds(int n)
{
    ledger *l;
    err e = {0};

    if (ledger_look(&l, dir, &e) != 0)
        fail_msg("call %d: the farm cannot be read: %s", n, e.text);
    int at = sched_find(l->s, "rex");
    if ((show->submitted && at < 0) || (at >= 0 && strcmp(l->s->job[at].spec.settings, "{\"class\":\"dog\",\"steps\":3}") != 0))
        fail_msg("call %d: a concept was accepted and is not there as it was", n);
    ledger_close(l);
    show->submitted = 0;
    write_farm();
    if (!show->submitted && at < 0)
        fail_msg("call %d: it cannot be begun again", n);
}

/* ---- every call ------------------------------------------------------------------------------------------------ */

/* How many calls there were. A child that aborts for want of memory has died like any other. */
static int fail_call(int n, bool dies, void (*act)(void), void (*holds)(int))
{
    pid_t pid;
    int status, calls;

    *show = (shown){.fail_at = n, .dies = dies};
    strcpy(dir, "/tmp/test_nth-XXXXXX");
    assert_non_null(mkdtemp(dir));
    for (int i = 0; i < 2; i++) {
        char path[FS_PATH];
        in(path, i == 0 ? "journal" : "obj");
        assert_int_equal(fs_mkdirs(path, NULL), 0);
    }
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        int nothing = __real_open("/dev/null", O_WRONLY);
        dup2(nothing, 2); /* what it says when it aborts */
        armed = true;
        act();
        armed = false;
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    calls = show->calls;
    assert_true((WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == DIED)) ||
                (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT));
    holds(n);
    fs_remove_tree(dir, NULL);
    return calls;
}

static void fail_every_call(void (*act)(void), void (*holds)(int))
{
    for (int dies = 0; dies < 2; dies++) {
        int n = 1;
        while (n < CALLS_MOST && fail_call(n, dies, act, holds) >= n)
            n++;
        assert_true(n > CALLS_LEAST && n < CALLS_MOST); /* it is these calls that are taken over, and they have an end */
    }
}

static void what_a_commit_answered_for_is_there_whatever_fails(void **unused)
{
    (void)unused;
    fail_every_call(write_journal, journal_holds);
}

static void a_result_has_its_name_whole_or_not_at_all(void **unused)
{
    (void)unused;
    fail_every_call(write_result, result_holds);
}

static void an_order_that_was_accepted_is_there(void **unused)
{
    (void)unused;
    fail_every_call(write_order, order_holds);
}

static void a_concept_that_was_accepted_is_there_with_its_settings(void **unused)
{
    (void)unused;
    fail_every_call(write_farm, farm_holds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_commit_answered_for_is_there_whatever_fails),
        cmocka_unit_test(a_result_has_its_name_whole_or_not_at_all),
        cmocka_unit_test(an_order_that_was_accepted_is_there),
        cmocka_unit_test(a_concept_that_was_accepted_is_there_with_its_settings),
    };

    show = mmap(NULL, sizeof *show, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return show == MAP_FAILED ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
