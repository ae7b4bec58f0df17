/* Laws, over the stand-in's NCCL: a gang of GPUs has the same right sum on every rank; ranks that meet again need no new
 * communicator; one that is lost is noticed by all the others within the timeout, and those who meet next are a gang
 * again; what is missing or cannot be joined is said in one sentence. Each rank is a process. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/base/clock.h"
#include "cluster/comm/comm.h"
#include "trainer/nn/backend.h"

enum { N = 10007, TEXT = 512, RANKS = 5 };
/* Seconds; of a gang that is to lose a rank, and of one that is not, however busy the machine. */
static const double SHORT = 5.0, LONG = 60.0;
static char place[64];
static int meetings;

typedef struct {
    int rank, size;
    nn_backend *on;
    void *mem;
    double patience;
} seat;

static float number(int rank, int i)
{
    return (float)(rank + 1) * 0.37f + (float)(i % 101) * 1e-3f;
}

/* One meeting: the sum, judged; code of what failed. */
static int meet(seat *s, const char *path, comm **gang, err *e)
{
    TRY(comm_shm(gang, path, s->rank, s->size, 1 << 16, 30, e));
    return s->on->join(s->on, gang, s->patience, e);
}

static int add_up(seat *s, comm *gang, float out[N], err *e)
{
    for (int i = 0; i < N; i++)
        out[i] = number(s->rank, i);
    TRY(s->on->write(s->on, s->mem, out, N * sizeof *out, e));
    TRY(comm_sum_devices(gang, s->mem, N, e));
    return s->on->read(s->on, out, s->mem, N * sizeof *out, e);
}

static int right(const seat *s, const float out[N], err *e)
{
    for (int i = 0; i < N; i++) {
        double want = 0.0;
        for (int r = 0; r < s->size; r++)
            want += (double)number(r, i);
        if (!(fabs((double)out[i] - want) <= 1e-6 * want))
            return err_set(e, ERR_PEER, "element %d is %g and not %g", i, (double)out[i], want);
    }
    return 0;
}

static int open_seat(seat *s, err *e)
{
    char device[16];

    snprintf(device, sizeof device, "%d", s->rank);
    setenv("CUDA_VISIBLE_DEVICES", device, 1);
    setenv("STANDIN_CUDA", "devices=8", 1);
    TRY(nn_open(&s->on, "cuda", 1, e));
    return s->on->alloc(s->on, &s->mem, N * sizeof(float), e);
}

/* ---- what a rank does ---- */

typedef int act(seat *s, const char *path, err *e);

static int three_times(seat *s, const char *path, err *e)
{
    static float out[N], first[N];
    comm *gang;

    for (int k = 0; k < 3; k++) {
        TRY(meet(s, path, &gang, e));
        TRY(add_up(s, gang, k ? out : first, e));
        TRY(right(s, k ? out : first, e));
        if (k && memcmp(out, first, sizeof out) != 0)
            return err_set(e, ERR_PEER, "the sum has other bits the next time");
        TRY(comm_broadcast(gang, first, sizeof first, 0, e)); /* rank 0's bits are everybody's */
        if (k && memcmp(out, first, sizeof out) != 0)
            return err_set(e, ERR_PEER, "the sum has other bits on rank 0");
        comm_free(gang);
    }
    return 0;
}

static int rank_1_dies(seat *s, const char *path, err *e)
{
    static float out[N];
    comm *gang;

    TRY(meet(s, path, &gang, e));
    TRY(add_up(s, gang, out, e));
    if (s->rank == 1)
        raise(SIGKILL);
    double from = clock_s();
    int rc = add_up(s, gang, out, e);
    if (rc == 0 || clock_s() - from > 60)
        return err_set(e, ERR_INPUT, "nobody noticed");
    err again = {0};
    if (comm_sum_devices(gang, s->mem, N, &again) != ERR_PEER) /* and it stays broken */
        return err_set(e, ERR_INPUT, "it went on");
    return rc;
}

/* The graph that the sum is in goes only behind the notice. */
static int rank_1_dies_in_a_graph(seat *s, const char *path, err *e)
{
    static float out[N];
    void *list;
    comm *gang;

    TRY(meet(s, path, &gang, e));
    TRY(add_up(s, gang, out, e));
    TRY(s->on->record(s->on, e));
    TRY(comm_begin_sum(gang, s->mem, N, F32, e));
    TRY(comm_end_sums(gang, e));
    TRY(s->on->recorded(s->on, &list, e));
    TRY(s->on->replay(s->on, list, e));
    TRY(comm_wait_devices(gang, e));
    if (s->rank == 1)
        raise(SIGKILL);
    TRY(s->on->replay(s->on, list, e));
    int rc = comm_wait_devices(gang, e);
    s->on->forget(s->on, list);
    return rc ? rc : err_set(e, ERR_INPUT, "nobody noticed");
}

static int on_one_gpu(seat *s, const char *path, err *e)
{
    float one = 1;
    comm *gang;

    setenv("CUDA_VISIBLE_DEVICES", "3", 1);
    TRY(meet(s, path, &gang, e));
    if (comm_joins_devices(gang))
        return err_set(e, ERR_INPUT, "two ranks of one GPU were joined");
    TRY(comm_sum(gang, &one, 1, e)); /* the wire that the gang had is there yet */
    comm_free(gang);
    return one == 2.0F ? 0 : err_set(e, ERR_PEER, "the sum is %g", (double)one);
}

static int without_nccl(seat *s, const char *path, err *e)
{
    comm *gang;

    if (s->rank == 0)
        setenv("CFARM_NCCL", "/nowhere/libnccl.so.2", 1);
    return meet(s, path, &gang, e);
}

/* ---- processes ---- */

typedef struct { pid_t pid; int from, status; char text[TEXT]; } rank;

static void be_rank(int r, int size, act *what, const char *path, int to)
{
    seat s = {.rank = r, .size = size, .patience = what == rank_1_dies || what == rank_1_dies_in_a_graph ? SHORT : LONG};
    err e = {0};
    int rc = open_seat(&s, &e);

    if (rc == 0)
        rc = what(&s, path, &e);
    ssize_t n = write(to, e.text, strlen(e.text));
    _exit(n < 0 ? 99 : rc);
}

/* All ranks of a gang, to their ends. */
static void run(rank all[RANKS], int size, act *what)
{
    char path[96];
    int ends[2];

    snprintf(path, sizeof path, "%s-%d", place, meetings++);
    fflush(NULL);
    for (int r = 0; r < size; r++) {
        assert_int_equal(pipe(ends), 0);
        all[r] = (rank){.from = ends[0]};
        all[r].pid = fork();
        if (all[r].pid == 0)
            be_rank(r, size, what, path, ends[1]);
        close(ends[1]);
    }
    for (int r = 0; r < size; r++) {
        assert_true(read(all[r].from, all[r].text, TEXT - 1) >= 0);
        close(all[r].from);
        assert_int_equal(waitpid(all[r].pid, &all[r].status, 0), all[r].pid);
    }
    unlink(path);
}

static bool well(const rank *r)
{
    return WIFEXITED(r->status) && WEXITSTATUS(r->status) == 0;
}

static void expect_says(const rank *r, const char *says)
{
    if (!WIFEXITED(r->status) || WEXITSTATUS(r->status) == 0 || !strstr(r->text, says) || strchr(r->text, '\n'))
        fail_msg("status %x: %s", (unsigned)r->status, r->text);
}

static void every_rank_has_the_same_right_sum(void **unused)
{
    rank all[RANKS];

    (void)unused;
    for (int size = 1; size <= RANKS; size += 2) {
        run(all, size, three_times);
        for (int r = 0; r < size; r++)
            if (!well(&all[r]))
                fail_msg("rank %d of %d: %s", r, size, all[r].text);
    }
}

static void a_lost_rank_is_noticed_and_the_next_gang_is_whole(void **unused)
{
    rank all[RANKS];

    (void)unused;
    run(all, 3, rank_1_dies);
    assert_true(WIFSIGNALED(all[1].status) && WTERMSIG(all[1].status) == SIGKILL);
    expect_says(&all[0], "NCCL, rank 0 of 3: a sum is not done after 5 s; a rank is lost");
    expect_says(&all[2], "a rank is lost");
    run(all, 3, three_times);
    for (int r = 0; r < 3; r++)
        assert_true(well(&all[r]));
}

static void a_lost_rank_is_noticed_though_its_sums_are_recorded(void **unused)
{
    rank all[RANKS];

    (void)unused;
    run(all, 2, rank_1_dies_in_a_graph);
    expect_says(&all[0], "NCCL, rank 0 of 2: a sum is not done after 5 s; a rank is lost");
}

static void ranks_on_one_gpu_keep_the_wire_that_they_had(void **unused)
{
    rank all[RANKS];

    (void)unused;
    run(all, 2, on_one_gpu);
    for (int r = 0; r < 2; r++)
        if (!well(&all[r]))
            fail_msg("rank %d: %s", r, all[r].text);
}

static void what_cannot_be_joined_says_why(void **unused)
{
    rank all[RANKS];

    (void)unused;
    run(all, 2, without_nccl);
    expect_says(&all[0], "a gang of GPUs needs NCCL, or reduce: exact: /nowhere/libnccl.so.2");
    expect_says(&all[1], "a gang of GPUs needs NCCL");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rank_has_the_same_right_sum),
        cmocka_unit_test(a_lost_rank_is_noticed_and_the_next_gang_is_whole),
        cmocka_unit_test(a_lost_rank_is_noticed_though_its_sums_are_recorded),
        cmocka_unit_test(ranks_on_one_gpu_keep_the_wire_that_they_had),
        cmocka_unit_test(what_cannot_be_joined_says_why),
    };

    setenv("CFARM_NCCL", getenv("CFARM_CUDA_PLUGIN"), 0);
    snprintf(place, sizeof place, "/dev/shm/cfarm-test-gang-%d", (int)getpid());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
