/* The worker, spoken to by hand: it is ready when it has loaded, gone when it is told to be, and of a pack answers for each. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/base/fs.h"
#include "cluster/wire/wire.h"
#include "cluster/wire/worker.h"

static wire *hire(pid_t *pid)
{
    const char *bin = getenv("CFARM_BIN");
    char program[FS_PATH];
    int ends[2];

    snprintf(program, sizeof program, "%s/cfarm-worker", bin ? bin : "");
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    *pid = fork();
    if (*pid == 0) {
        char fd[16];
        close(ends[0]);
        snprintf(fd, sizeof fd, "%d", ends[1]);
        execl(program, program, "--fd", fd, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    return wire_new(ends[0]);
}

static void load(wire *w, int room)
{
    const char *src = getenv("CFARM_SOURCE");
    char base[FS_PATH];
    wire_frame f;

    snprintf(base, sizeof base, "%s/data/toyworld/model", src ? src : ".");
    assert_int_equal(wire_tell(w, WORKER_LOAD, json_pack("{s:i, s:s, s:s, s:i, s:i, s:i, s:i}", "protocol", WORKER_PROTOCOL, "farm", "/",
                                                         "base", base, "epoch", 1, "slot", 0, "threads", 1, "pack", room), 10, NULL), 0);
    assert_int_equal(wire_take(w, &f, 120, NULL), 0);
    assert_int_equal(f.type, WORKER_READY);
}

/* While its agent still holds the line: who only ended with that would have to be killed at the end of every farm. */
static void expect_gone(pid_t pid)
{
    int status = -1;

    for (int i = 0; i < 6000 && waitpid(pid, &status, WNOHANG) != pid; i++)
        usleep(10000);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        kill(pid, SIGKILL);
        fail_msg("it did not end by itself (%d)", status);
    }
}

static void one_that_is_told_to_quit_ends(void **unused)
{
    pid_t pid;
    wire *w = hire(&pid);
    (void)unused;
    assert_int_equal(wire_tell(w, WORKER_QUIT, json_object(), 10, NULL), 0);
    expect_gone(pid);
    wire_free(w);
}

static void one_that_has_loaded_is_ready_and_ends_when_told(void **unused)
{
    pid_t pid;
    wire *w = hire(&pid);
    (void)unused;
    load(w, 1);
    assert_int_equal(wire_tell(w, WORKER_QUIT, json_object(), 10, NULL), 0);
    expect_gone(pid);
    wire_free(w);
}

/* ---- packs ---- */

static void start(wire *w, int job, int steps, int batch)
{
    const char *src = getenv("CFARM_SOURCE");
    char images[FS_PATH], name[32], token[32];

    snprintf(images, sizeof images, "%s/data/toyworld/subjects/mug", src ? src : ".");
    snprintf(name, sizeof name, "c%d", job);
    snprintf(token, sizeof token, "<c%d>", job);
    json_t *o = json_pack("{s:i, s:i, s:s, s:b, s:{s:s, s:s, s:s, s:i, s:i}}", "job", job, "attempt", 1, "name", name, "pack", 1,
                          "settings", "class", "mug", "token", token, "images", images, "batch", batch, "steps", steps);
    assert_non_null(o);
    assert_int_equal(wire_tell(w, WORKER_START, o, 10, NULL), 0);
}

static void stop(wire *w, int job)
{
    assert_int_equal(wire_tell(w, WORKER_STOP, json_pack("{s:i, s:i, s:s}", "job", job, "attempt", 1, "why", "cancelled"), 10, NULL), 0);
}

/* Until this answer for this one comes; any other that would end it fails. */
static void expect(wire *w, int job, int type, const char *code)
{
    for (;;) {
        wire_frame f;
        json_t *o;
        assert_int_equal(wire_take(w, &f, 120, NULL), 0);
        assert_int_equal(wire_parse(&f, &o, NULL), 0);
        bool ours = json_integer_value(json_object_get(o, "job")) == job;
        const char *is = json_string_value(json_object_get(o, "code"));
        bool met = ours && f.type == type && (!code || (is && strcmp(is, code) == 0));
        if (!met && (f.type == WORKER_FAILED || f.type == WORKER_STOPPED || f.type == WORKER_DONE))
            fail_msg("job %d: frame %d with code %s where %d was due for job %d", (int)json_integer_value(json_object_get(o, "job")), f.type,
                     is ? is : "none", type, job);
        json_decref(o);
        if (met)
            return;
    }
}

static void each_of_a_pack_is_answered_for_itself(void **unused)
{
    enum { FOR_EVER = 1000000 };
    pid_t pid;
    wire *w = hire(&pid);
    (void)unused;
    load(w, 3); /* two places */
    for (int job = 1; job <= 3; job++) {
        start(w, job, FOR_EVER, 2);
        expect(w, job, WORKER_STARTED, NULL);
    }
    start(w, 4, 2, 2); /* one waits already */
    expect(w, 4, WORKER_FAILED, "busy");
    stop(w, 3); /* one who waits while nobody ends */
    expect(w, 3, WORKER_STOPPED, NULL);
    start(w, 5, 6, 2);
    expect(w, 5, WORKER_STARTED, NULL);
    stop(w, 1); /* its place is taken */
    expect(w, 1, WORKER_STOPPED, NULL);
    expect(w, 5, WORKER_DONE, NULL);
    start(w, 6, 2, 4); /* of another class */
    expect(w, 6, WORKER_FAILED, "busy");
    stop(w, 2);
    expect(w, 2, WORKER_STOPPED, NULL);
    start(w, 7, 2, 4); /* a pack of that class is opened */
    expect(w, 7, WORKER_DONE, NULL);
    start(w, 8, FOR_EVER, 4);
    expect(w, 8, WORKER_STARTED, NULL);
    assert_int_equal(wire_tell(w, WORKER_QUIT, json_object(), 10, NULL), 0);
    expect_gone(pid);
    wire_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_is_told_to_quit_ends),
        cmocka_unit_test(one_that_has_loaded_is_ready_and_ends_when_told),
        cmocka_unit_test(each_of_a_pack_is_answered_for_itself),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
