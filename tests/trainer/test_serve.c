/* The worker, spoken to by hand: it is ready when it has loaded, and gone when it is told to be. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
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
    const char *src = getenv("CFARM_SOURCE");
    char base[FS_PATH];
    wire_frame f;
    pid_t pid;
    wire *w = hire(&pid);
    (void)unused;
    snprintf(base, sizeof base, "%s/data/toyworld/model", src ? src : ".");
    assert_int_equal(wire_tell(w, WORKER_LOAD, json_pack("{s:i, s:s, s:s, s:i, s:i, s:i}", "protocol", WORKER_PROTOCOL, "farm", "/",
                                                         "base", base, "epoch", 1, "slot", 0, "threads", 1), 10, NULL), 0);
    assert_int_equal(wire_take(w, &f, 120, NULL), 0);
    assert_int_equal(f.type, WORKER_READY);
    assert_int_equal(wire_tell(w, WORKER_QUIT, json_object(), 10, NULL), 0);
    expect_gone(pid);
    wire_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_is_told_to_quit_ends),
        cmocka_unit_test(one_that_has_loaded_is_ready_and_ends_when_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
