/* A training that loses its worker, its gang, its agent or its machine goes on where it was: the laws of checkpoints, over
 * whole farms. The worker writes one after each step (CFARM_CHECKPOINT_S=0). */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/base/str.h"
#include "tests/scheduler/farm_kit.h"

static int open_farms(void **unused)
{
    setenv("CFARM_CHECKPOINT_S", "0", 1);
    return farms_open(unused);
}

static bool farm_said(const farm *f, const char *words)
{
    char *text = said(f);
    bool there = strstr(text, words) != NULL;

    free(text);
    return there;
}

static void a_dead_worker_s_training_goes_on_from_agent_memory(void **unused)
{
    static const char *const how[] = {"crash", "exit", "kill", "nan"};
    (void)unused;
    for (size_t i = 0; i < sizeof how / sizeof how[0]; i++) {
        char concepts[200];
        snprintf(concepts, sizeof concepts, " - {name: a, fake: {at: 6, does: %s, times: 1}}", how[i]);
        farm f = farm_new(concepts, "");
        train(&f, "1", 0);
        wait_for_words(&f, "a goes on from step 5");
        assert_int_equal(journal_of(&f).fails, 1);
        assert_int_equal(files_in(&f, "ckpt/a"), -1); /* no longer of use */
        nothing_is_left(&f);
    }
}

static void a_gang_whose_member_dies_goes_on_from_agent_memory(void **unused)
{
    farm f = farm_new(" - {name: a, fake: {at: 7, does: crash, times: 1, rank: 2}}", "");
    tally t;
    (void)unused;
    train(&f, "4", 0);
    t = journal_of(&f);
    assert_int_equal(t.starts, 2);
    assert_int_equal(t.widest, 4);
    wait_for_words(&f, "a goes on from step 6");
    nothing_is_left(&f);
}

/* Long enough to be met at work after step 5, on a machine that has much else to do. */
static const char LONG[] = " - {name: a, steps: 100, fake: {step_ms: 20, says: 5}}\n"
                           " - {name: b, steps: 100, fake: {step_ms: 20, says: 5}}";
static const char ALONE[] = " - {name: a, steps: 60, fake: {step_ms: 20, says: 5}}";

/* Stopped by notice, and started again with another number of workers. */
static void a_stopped_farm_goes_on_in_its_steps(void **unused)
{
    static const char *const workers[] = {"2", "1", "4"};
    (void)unused;
    for (int i = 0; i < 3; i++) {
        farm f = farm_new(LONG, "");
        pid_t pid = train_begin(&f, "2");
        wait_for_words(&f, "a is at step 5");
        wait_for_words(&f, "b is at step 5");
        kill(pid, SIGTERM);
        assert_int_not_equal(end_of(&f, pid), 0);
        nothing_is_left(&f);
        assert_true(files_in(&f, "ckpt/a") >= 1);
        assert_true(files_in(&f, "ckpt/b") >= 1);
        train(&f, workers[i], 0);
        assert_true(farm_said(&f, "a goes on from step") && farm_said(&f, "b goes on from step"));
        assert_int_equal(files_in(&f, "ckpt"), 0);
        nothing_is_left(&f);
    }
}

/* Both places on the disk: the newer one flipped, then both. */
static void a_damaged_checkpoint_is_passed_over_and_said(void **unused)
{
    (void)unused;
    for (int bad = 1; bad <= 2; bad++) {
        farm f = farm_new(ALONE, "");
        char path[256];
        for (int stop = 0; stop < 2; stop++) {
            pid_t pid = train_begin(&f, "1");
            wait_for_words(&f, stop ? "a goes on from step" : "a is at step 5");
            kill(pid, SIGTERM);
            end_of(&f, pid);
        }
        assert_int_equal(files_in(&f, "ckpt/a"), 2);
        assert_int_equal(truncate(f.said, 0), 0);
        for (int i = 0; i < bad; i++) {
            snprintf(path, sizeof path, "%s/pets/ckpt/a/%d", f.dir, 1 - i);
            FILE *file = fopen(path, "r+");
            assert_non_null(file);
            fputs("fake 59 deadbeef", file);
            fclose(file);
        }
        train(&f, "1", 0);
        assert_true(farm_said(&f, "damaged; passed over"));
        assert_int_equal(farm_said(&f, "a goes on from step"), bad == 1);
        nothing_is_left(&f);
    }
}

/* A full disk under the checkpoints costs the checkpoint, not the farm. */
static void a_checkpoint_that_cannot_be_written_is_said(void **unused)
{
    farm f = farm_new(ALONE, "");
    pid_t pid;
    (void)unused;
    setenv("CFARM_FAULT", "checkpoint.write:1", 1);
    pid = train_begin(&f, "1");
    unsetenv("CFARM_FAULT");
    wait_for_words(&f, "a is at step 5");
    kill(pid, SIGTERM);
    end_of(&f, pid);
    wait_for_words(&f, "the checkpoint of a");
    train(&f, "1", 0);
    nothing_is_left(&f);
}

static const char EACH_SECOND[] = " - {name: a, steps: 100, fake: {step_ms: 20, says: 5}}";

/* Without any notice: what was in memory is gone with its machine, the disk has one that is not older than the limit says. */
static void a_lost_machine_costs_no_more_than_the_time_between_two_checkpoints_on_the_disk(void **unused)
{
    farm f = farm_new(EACH_SECOND, "limits: {checkpoint: 1s}"), never = farm_new(EACH_SECOND, "limits: {checkpoint: never}");
    pid_t pid = train_begin(&f, "1"), other = train_begin(&never, "1");
    char path[256];
    (void)unused;
    snprintf(path, sizeof path, "%s/pets/ckpt/a/0", f.dir);
    for (int i = 0; i < 1500 && !fs_exists(path); i++)
        usleep(10000);
    assert_true(fs_exists(path));
    wait_for_words(&never, "a is at step 5");
    kill_everything(pid);
    kill_everything(other);
    assert_int_equal(files_in(&never, "ckpt/a"), -1);
    train(&f, "1", 0);
    assert_true(farm_said(&f, "a goes on from step"));
    train(&never, "1", 0);
    assert_false(farm_said(&never, "a goes on from step"));
}

static void changed_settings_begin_anew(void **unused)
{
    farm f = farm_new(ALONE, "");
    pid_t pid = train_begin(&f, "1");
    (void)unused;
    wait_for_words(&f, "a is at step 5");
    kill(pid, SIGTERM);
    end_of(&f, pid);
    farm_rewrite(&f, " - {name: a, steps: 12}");
    train(&f, "1", 0);
    assert_true(farm_said(&f, "passed over"));
    assert_false(farm_said(&f, "a goes on from step"));
}

/* ---- the coordinator ------------------------------------------------------------------------------------------ */

/* Killed again and again, it is replaced, and no attempt is begun anew. */
static void a_killed_coordinator_is_replaced_and_what_runs_goes_on(void **unused)
{
    farm f = farm_new(LONG, "");
    pid_t pid = train_begin(&f, "2");
    tally t;
    (void)unused;
    wait_for_words(&f, "a is at step 5");
    wait_for_words(&f, "b is at step 5");
    for (int i = 0; i < 3; i++) {
        pid_t coordinator;
        for (int k = 0; (coordinator = coordinator_of(pid)) == 0 && k < 1500; k++)
            usleep(10000);
        assert_true(coordinator > 0);
        kill(coordinator, SIGKILL);
        usleep(150000);
    }
    expect_end(&f, pid, 0);
    wait_for_words(&f, "goes-on");
    t = journal_of(&f);
    assert_int_equal(t.dones, 2);
    assert_int_equal(t.starts, 2);
    assert_int_equal(t.fails, 0);
    assert_int_equal(files_in(&f, "out"), 2);
    nothing_is_left(&f);
}

/* A gang keeps its slots, and what waits keeps waiting. */
static void a_gang_outlives_its_coordinator(void **unused)
{
    farm f = farm_new(ALONE, "");
    pid_t pid = train_begin(&f, "4");
    tally t;
    (void)unused;
    wait_for_words(&f, "a is at step 5");
    kill(coordinator_of(pid), SIGKILL);
    expect_end(&f, pid, 0);
    t = journal_of(&f);
    assert_int_equal(t.starts, 1);
    assert_int_equal(t.dones, 1);
    assert_int_equal(t.widest, 4);
    nothing_is_left(&f);
}

/* Once it is killed all the time there is no use in it. */
static void a_coordinator_that_cannot_live_ends_the_farm(void **unused)
{
    farm f = farm_new(ALONE, "");
    pid_t pid;
    (void)unused;
    setenv("CFARM_FAULT", "coordinator.turn:3:kill", 1);
    pid = train_begin(&f, "1");
    unsetenv("CFARM_FAULT");
    expect_end(&f, pid, 3);
    wait_for_words(&f, "the coordinator was killed");
    nothing_is_left(&f);
    train(&f, "1", 0);
}

/* Stopped for a while, it neither loses its agents nor is it lost to them. */
static void a_coordinator_that_slept_goes_on(void **unused)
{
    farm f = farm_new(ALONE, "");
    pid_t pid = train_begin(&f, "1"), coordinator;
    tally t;
    (void)unused;
    wait_for_words(&f, "a is at step 5");
    coordinator = coordinator_of(pid);
    kill(coordinator, SIGSTOP);
    usleep(1500000);
    kill(coordinator, SIGCONT);
    expect_end(&f, pid, 0);
    t = journal_of(&f);
    assert_int_equal(t.starts, 1);
    assert_int_equal(t.fails, 0);
}

/* ---- agents that come later ----------------------------------------------------------------------------------- */

static pid_t join_begin(const farm *f, const char *workers)
{
    char dir[128];
    const char *argv[] = {cfarm, "agent", "--join", dir, "--workers", workers, NULL};

    snprintf(dir, sizeof dir, "%s/pets", f->dir);
    return launch(f, argv);
}

static const char MANY[] = " - {name: a, steps: 60, fake: {step_ms: 20, says: 5}}\n - {name: b, steps: 60, fake: {step_ms: 20, says: 5}}\n"
                           " - {name: c, steps: 60, fake: {step_ms: 20, says: 5}}";

static void a_late_agent_joins_works_and_is_sent_home(void **unused)
{
    farm f = farm_new(MANY, "");
    pid_t pid = train_begin(&f, "1"), late;
    char path[256];
    struct stat st;
    (void)unused;
    wait_for_words(&f, "a is at step 5");
    snprintf(path, sizeof path, "%s/pets/door", f.dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    late = join_begin(&f, "2");
    wait_for_words(&f, "c is at step 5"); /* it would wait its turn else */
    expect_end(&f, pid, 0);
    expect_end(&f, late, 0);
    assert_false(fs_exists(path));
    assert_int_equal(journal_of(&f).starts, 3);
    nothing_is_left(&f);
    expect_end(&f, join_begin(&f, "1"), 2); /* nobody is at home */
    wait_for_words(&f, "no farm runs here");
}

/* What it trained is kept, and goes on elsewhere; nobody is blamed. */
static void a_late_agent_that_is_told_to_go_leaves_its_training_to_others(void **unused)
{
    static const int by[] = {SIGTERM, SIGUSR1};
    (void)unused;
    for (int i = 0; i < 2; i++) {
        farm f = farm_new(LONG, "");
        pid_t pid = train_begin(&f, "1"), late;
        wait_for_words(&f, "a is at step 5");
        late = join_begin(&f, "1");
        wait_for_words(&f, "b is at step 5");
        kill(late, by[i]);
        expect_end(&f, late, 0);
        expect_end(&f, pid, 0);
        assert_true(farm_said(&f, "b goes on from step"));
        assert_int_equal(journal_of(&f).fails, 0);
        nothing_is_left(&f);
    }
}

static void a_late_agent_that_is_killed_costs_its_node_only(void **unused)
{
    farm f = farm_new(LONG, "");
    pid_t pid = train_begin(&f, "1"), late;
    tally t;
    (void)unused;
    wait_for_words(&f, "a is at step 5");
    late = join_begin(&f, "1");
    wait_for_words(&f, "b is at step 5");
    kill(late, SIGKILL);
    waitpid(late, NULL, 0);
    expect_end(&f, pid, 0);
    t = journal_of(&f);
    assert_int_equal(t.dones, 2);
    assert_int_equal(t.fails, 1);
    assert_int_equal(t.starts, 3);
    nothing_is_left(&f);
}

/* The farm's first node dies and the farm is started again, at another port: the other node has gone on meanwhile. */
static void a_farm_started_again_finds_its_other_nodes_at_work(void **unused)
{
    farm f = farm_new(LONG, "");
    pid_t pid = train_begin(&f, "1"), late;
    tally t;
    (void)unused;
    wait_for_words(&f, "a is at step 5");
    late = join_begin(&f, "1");
    wait_for_words(&f, "b is at step 5");
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    pid = train_begin(&f, "1");
    wait_for_words(&f, "goes-on concept b");
    expect_end(&f, pid, 0);
    expect_end(&f, late, 0);
    t = journal_of(&f);
    assert_int_equal(t.dones, 2);
    nothing_is_left(&f);
}

/* ---- a gang over several nodes (here: agents) ------------------------------------------------------------------ */

static const char WIDE[] = " - {name: a, steps: 60, hold: true, fake: {step_ms: 20, says: 5%s}}";

/* So many workers are ready and free, by the farm's own status. */
static void wait_for_slots(const farm *f, int n)
{
    char path[256], want[40], *text;
    bool there = false;
    size_t size;

    snprintf(path, sizeof path, "%s/pets/status.json", f->dir);
    snprintf(want, sizeof want, "\"free_slots\":%d,", n);
    for (int i = 0; i < 1500 && !there; i++, usleep(10000)) {
        if (fs_read(path, &text, &size, 1 << 20, NULL) != 0)
            continue;
        there = strstr(text, want) != NULL;
        free(text);
    }
    assert_true(there);
}

static void order(const farm *f, const char *verb, const char *name)
{
    const char *argv[] = {cfarm, verb, f->file, name, NULL};

    expect_end(f, launch(f, argv), 0);
}

/* Begun when both agents' workers are ready; *late: the second one's. */
static farm begin_wide(const char *fake, pid_t *pid, pid_t *late)
{
    char concepts[300];
    farm f;

    snprintf(concepts, sizeof concepts, WIDE, fake);
    f = farm_new(concepts, "serve: true\nlimits: {gang_nodes: 2}");
    *pid = train_begin(&f, "1");
    wait_for_slots(&f, 1);
    *late = join_begin(&f, "1");
    wait_for_slots(&f, 2);
    order(&f, "release", "a");
    wait_for_words(&f, "a is at step 5");
    assert_int_equal(journal_of(&f).widest, 2);
    return f;
}

static void end_wide(const farm *f, pid_t pid, pid_t late)
{
    wait_for_words(f, "done concept a");
    order(f, "drain", NULL);
    expect_end(f, pid, 0);
    if (late)
        expect_end(f, late, 0);
    assert_int_equal(files_in(f, "gang"), -1);
    nothing_is_left(f);
}

static void a_gang_over_two_nodes_ends_as_one(void **unused)
{
    pid_t pid, late;
    farm f = begin_wide("", &pid, &late);
    (void)unused;
    end_wide(&f, pid, late);
    assert_int_equal(journal_of(&f).starts, 1);
    assert_int_equal(journal_of(&f).fails, 0);
}

static void a_crash_in_either_part_is_the_concepts_and_is_tried_again(void **unused)
{
    (void)unused;
    for (int rank = 0; rank < 2; rank++) {
        char fake[80];
        pid_t pid, late;
        farm f;
        snprintf(fake, sizeof fake, ", at: 8, does: crash, times: 1, rank: %d", rank);
        f = begin_wide(fake, &pid, &late);
        end_wide(&f, pid, late);
        assert_int_equal(journal_of(&f).starts, 2);
        assert_int_equal(journal_of(&f).fails, 1);
        assert_true(farm_said(&f, "blame job"));
    }
}

static void an_agent_that_leaves_or_dies_gives_its_part_to_others(void **unused)
{
    static const int by[] = {SIGTERM, SIGKILL};
    (void)unused;
    for (int i = 0; i < 2; i++) {
        pid_t pid, late;
        farm f = begin_wide("", &pid, &late);
        kill(late, by[i]);
        waitpid(late, NULL, 0);
        end_wide(&f, pid, 0);
        assert_int_equal(journal_of(&f).starts, 2);
        assert_int_equal(journal_of(&f).fails, i);
        assert_true(farm_said(&f, "a goes on from step"));
    }
}

static void a_gang_over_two_nodes_goes_on_under_the_next_coordinator(void **unused)
{
    pid_t pid, late, coordinator;
    farm f = begin_wide("", &pid, &late);
    (void)unused;
    while ((coordinator = coordinator_of(pid)) == 0)
        usleep(1000);
    kill(coordinator, SIGKILL);
    end_wide(&f, pid, late);
    assert_true(farm_said(&f, "goes-on concept a"));
    assert_false(farm_said(&f, "a goes on from step"));
    assert_int_equal(journal_of(&f).starts, 1);
    assert_int_equal(journal_of(&f).dones, 1);
}

/* Rank 0 is long at its result; the other one's part is over, and told to a coordinator that dies. */
static void a_part_that_has_ended_is_remembered_for_the_next_coordinator(void **unused)
{
    pid_t pid, late, coordinator;
    farm f = begin_wide(", ends_ms: 8000", &pid, &late);
    (void)unused;
    wait_for_slots(&f, 1);
    while ((coordinator = coordinator_of(pid)) == 0)
        usleep(1000);
    kill(coordinator, SIGKILL);
    end_wide(&f, pid, late);
    assert_false(farm_said(&f, "a goes on from step"));
    assert_int_equal(journal_of(&f).starts, 1);
    assert_int_equal(journal_of(&f).dones, 1);
    assert_int_equal(journal_of(&f).fails, 0);
}

static void a_gang_whose_other_node_does_not_come_back_begins_again(void **unused)
{
    pid_t pid, late, coordinator;
    farm f = begin_wide("", &pid, &late);
    (void)unused;
    while ((coordinator = coordinator_of(pid)) == 0)
        usleep(1000);
    kill(late, SIGSTOP); /* it must not come before it is known that it does not */
    kill(coordinator, SIGKILL);
    kill(late, SIGKILL);
    waitpid(late, NULL, 0);
    end_wide(&f, pid, 0);
    assert_true(farm_said(&f, "a goes on from step"));
    assert_int_equal(journal_of(&f).starts, 2);
    assert_int_equal(journal_of(&f).dones, 1);
}

/* ---- limits --------------------------------------------------------------------------------------------------- */

static void workers_have_limits(void **unused)
{
    farm f = farm_new(" - {name: a, fake: {step_ms: 100, says: 1}}", "limits: {memory: 50%}");
    char cmd[400];
    pid_t pid = train_begin(&f, "1");
    (void)unused;
    wait_for_words(&f, "a is at step 1");
    snprintf(cmd, sizeof cmd,
             "for p in $(cat /proc/%d/task/%d/children); do grep -q cfarm-worker /proc/$p/cmdline || continue; "
             "grep -Eq 'core file size +0 +0 ' /proc/$p/limits && grep -Eq 'open files +[0-9]+ +[0-9]+ ' /proc/$p/limits && "
             "test $(awk '/open files/{print $5}' /proc/$p/limits) -le 4096 && "
             "test $(cat /proc/$p/oom_score_adj) -ge 500 && exit 0; done; exit 1", pid, pid);
    assert_int_equal(system(cmd), 0);
    expect_end(&f, pid, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dead_worker_s_training_goes_on_from_agent_memory),
        cmocka_unit_test(a_gang_whose_member_dies_goes_on_from_agent_memory),
        cmocka_unit_test(a_stopped_farm_goes_on_in_its_steps),
        cmocka_unit_test(a_damaged_checkpoint_is_passed_over_and_said),
        cmocka_unit_test(a_checkpoint_that_cannot_be_written_is_said),
        cmocka_unit_test(a_lost_machine_costs_no_more_than_the_time_between_two_checkpoints_on_the_disk),
        cmocka_unit_test(changed_settings_begin_anew),
        cmocka_unit_test(a_killed_coordinator_is_replaced_and_what_runs_goes_on),
        cmocka_unit_test(a_gang_outlives_its_coordinator),
        cmocka_unit_test(a_coordinator_that_cannot_live_ends_the_farm),
        cmocka_unit_test(a_coordinator_that_slept_goes_on),
        cmocka_unit_test(a_late_agent_joins_works_and_is_sent_home),
        cmocka_unit_test(a_late_agent_that_is_told_to_go_leaves_its_training_to_others),
        cmocka_unit_test(a_late_agent_that_is_killed_costs_its_node_only),
        cmocka_unit_test(a_farm_started_again_finds_its_other_nodes_at_work),
        cmocka_unit_test(a_gang_over_two_nodes_ends_as_one),
        cmocka_unit_test(a_crash_in_either_part_is_the_concepts_and_is_tried_again),
        cmocka_unit_test(an_agent_that_leaves_or_dies_gives_its_part_to_others),
        cmocka_unit_test(a_gang_over_two_nodes_goes_on_under_the_next_coordinator),
        cmocka_unit_test(a_part_that_has_ended_is_remembered_for_the_next_coordinator),
        cmocka_unit_test(a_gang_whose_other_node_does_not_come_back_begins_again),
        cmocka_unit_test(workers_have_limits),
    };

    return cmocka_run_group_tests(tests, open_farms, farms_close);
}
