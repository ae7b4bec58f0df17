/* The laws of a gang's collectives, over shared memory and over TCP: every rank sees the same bits, those of the fixed tree;
 * a failure is everyone's; a dead member is noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/rng.h"
#include "cluster/comm/comm.h"
#include "tests/cluster/tree.h"

enum { N = 10007, SLOT = 4096 }; /* several pieces and a tail */

static float leaf(int rank, int i) { return rng_normal(rng_open(1, "leaf", (uint32_t)rank, 0), (uint64_t)i); }

typedef int member(comm *c); /* what a forked rank does; 0: as it should be */

static int sums_in_the_tree(comm *c)
{
    static float buf[N];
    err e = {0};

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++)
            buf[i] = leaf(comm_rank(c), i);
        if (comm_sum(c, buf, N, &e) != 0)
            return 1;
        for (int i = 0; i < N; i++)
            if (buf[i] != tree_sum(leaf, 0, comm_size(c), i))
                return 2;
    }
    return 0;
}

static int hears_root(comm *c)
{
    char word[9000];
    err e = {0};

    memset(word, comm_rank(c) == 1 ? 'x' : '-', sizeof word);
    if (comm_broadcast(c, word, sizeof word, 1, &e) != 0)
        return 1;
    return word[0] == 'x' && word[sizeof word - 1] == 'x' ? 0 : 2;
}

static int all_fail_with_the_lowest(comm *c)
{
    err mine = {0}, e = {0};

    if (comm_agree(c, &mine, &e) != 0)
        return 1;
    if (comm_rank(c) >= 1)
        err_set(&mine, ERR_INPUT, "rank %d saw a bad picture", comm_rank(c));
    if (comm_agree(c, &mine, &e) != ERR_INPUT)
        return 2;
    return strcmp(e.text, "rank 1 saw a bad picture") == 0 ? 0 : 3;
}

static int notices_a_death(comm *c)
{
    float one = 1;
    err e = {0};

    if (comm_rank(c) == 1)
        _exit(0);
    return comm_sum(c, &one, 1, &e) == ERR_PEER && strstr(e.text, "is gone") ? 0 : 1;
}

static int notices_a_hang(comm *c)
{
    float one = 1;
    err e = {0};

    if (comm_rank(c) == 1) {
        usleep(1500000);
        return 0;
    }
    return comm_sum(c, &one, 1, &e) == ERR_PEER && strstr(e.text, "did not come") ? 0 : 1;
}

static int join_over(bool tcp, comm **c, const char *path, int rank, int size, double timeout, err *e)
{
    return tcp ? comm_tcp(c, path, rank, size, timeout, e) : comm_shm(c, path, rank, size, SLOT, timeout, e);
}

static void gang_over(bool tcp, int size, member *does, double timeout)
{
    char path[64], left[200];
    int bad = 0;

    snprintf(path, sizeof path, "/dev/shm/cfarm-test-%d", (int)getpid());
    for (int r = 0; r < size; r++) {
        if (fork() != 0)
            continue;
        err e = {0};
        comm *c;
        if (join_over(tcp, &c, path, r, size, timeout, &e) != 0) {
            fprintf(stderr, "rank %d: %s\n", r, e.text);
            _exit(99);
        }
        int rc = does(c);
        comm_free(c);
        _exit(rc);
    }
    for (int r = 0; r < size; r++) {
        int status = 0;
        waitpid(-1, &status, 0); /* whoever ends first: an agent reaps its dead at once, too */
        bad |= !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    assert_int_equal(bad, 0);
    snprintf(left, sizeof left, "! ls %s %s.* 2>/dev/null | grep -q .", path, path);
    assert_int_equal(system(left), 0); /* nothing is left behind */
}

static void gang_of(int size, member *does, double timeout)
{
    gang_over(false, size, does, timeout);
    gang_over(true, size, does, timeout);
}

static void every_rank_holds_the_bits_of_the_tree(void **state)
{
    (void)state;
    for (int size = 1; size <= 5; size++)
        gang_of(size, sums_in_the_tree, 20);
    gang_over(true, 8, sums_in_the_tree, 20);
}

static void a_broadcast_reaches_everyone(void **state)
{
    (void)state;
    gang_of(3, hears_root, 20);
    gang_over(true, 7, hears_root, 20);
}

static void a_failure_is_everyones(void **state)
{
    (void)state;
    gang_of(3, all_fail_with_the_lowest, 20);
}

static void a_dead_member_is_noticed(void **state)
{
    (void)state;
    gang_of(3, notices_a_death, 20);
}

static void a_hung_member_is_noticed(void **state)
{
    (void)state;
    gang_of(2, notices_a_hang, 0.4);
}

/* Whoever connects and does not know the gang's secret is sent away; so is a file of another gang at this place. */
static void strangers_do_not_join_a_gang(void **state)
{
    char path[64], at[72], text[400];
    int port = 0, bad = 0;
    pid_t pid[2];

    (void)state;
    snprintf(path, sizeof path, "/dev/shm/cfarm-test-%d", (int)getpid());
    snprintf(at, sizeof at, "%s.0", path);
    FILE *f = fopen(at, "w");
    assert_non_null(f);
    fputs("{\"port\":1,\"secret\":\"of another\",\"addresses\":[\"127.0.0.1\"]}", f);
    fclose(f);
    for (int r = 1; r >= 0; r--) {
        err e = {0};
        comm *c;
        if ((pid[r] = fork()) != 0)
            continue;
        usleep(r == 0 ? 200000 : 0); /* the other has read the wrong file by then, or reads the right one */
        if (comm_tcp(&c, path, r, 2, 20, &e) != 0)
            _exit(99);
        int rc = sums_in_the_tree(c);
        comm_free(c);
        _exit(rc);
    }
    while (port <= 1) { /* rank 0 listens */
        usleep(2000);
        f = fopen(at, "r");
        if (f && fgets(text, sizeof text, f) && strstr(text, "\"port\":"))
            port = atoi(strstr(text, "\"port\":") + 7);
        if (f)
            fclose(f);
        else if (waitpid(pid[0], NULL, WNOHANG) != 0)
            break; /* they met before we looked */
    }
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        bad |= send(fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL) != 18;
    for (int r = 0; r < 2; r++) {
        int status = 0;
        waitpid(pid[r], &status, 0);
        bad |= !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    close(fd);
    assert_int_equal(bad, 0);
}

static void a_gang_of_one_needs_no_wire(void **state)
{
    float x[2] = {1, 2};
    err e = {0}, mine = {0};
    comm *c;

    (void)state;
    assert_int_equal(comm_self(&c, &e), 0);
    assert_int_equal(comm_sum(c, x, 2, &e), 0);
    assert_true(x[0] == 1 && x[1] == 2 && comm_size(c) == 1 && comm_rank(c) == 0);
    assert_int_equal(comm_agree(c, &mine, &e), 0);
    err_set(&mine, ERR_IO, "gone");
    assert_int_equal(comm_agree(c, &mine, &e), ERR_IO);
    comm_free(c);
}

static void a_gang_of_another_size_is_refused(void **state)
{
    char path[64];
    err e = {0};
    comm *c;

    (void)state;
    snprintf(path, sizeof path, "/dev/shm/cfarm-test-size-%d", (int)getpid());
    pid_t pid = fork();
    if (pid == 0) {
        comm_shm(&c, path, 0, 2, SLOT, 30, &e); /* waits for its second member until it is killed */
        _exit(0);
    }
    for (int i = 0; i < 200 && access(path, F_OK) != 0; i++)
        usleep(10000);
    usleep(100000);
    assert_int_equal(comm_shm(&c, path, 1, 3, SLOT, 1, &e), ERR_PEER);
    assert_non_null(strstr(e.text, "a gang of 2, not of 3"));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rank_holds_the_bits_of_the_tree),
        cmocka_unit_test(a_broadcast_reaches_everyone),
        cmocka_unit_test(a_failure_is_everyones),
        cmocka_unit_test(a_dead_member_is_noticed),
        cmocka_unit_test(a_hung_member_is_noticed),
        cmocka_unit_test(strangers_do_not_join_a_gang),
        cmocka_unit_test(a_gang_of_one_needs_no_wire),
        cmocka_unit_test(a_gang_of_another_size_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
