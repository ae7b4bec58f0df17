/* Whole farms, as processes, with a worker that does as it is told (fake_worker.c). After each: every result is
 * published once and has the bytes of an undisturbed run, and nothing is left running. */
#include <fcntl.h>
#include <math.h>
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

#include "cluster/base/clock.h"
#include "cluster/base/str.h"
#include "tests/scheduler/farm_kit.h"

/* ---- the farm ------------------------------------------------------------------------------------------------- */

static void more_concepts_than_slots_wait_their_turn(void **unused)
{
    /* The last one may be made a gang of both slots, which is a start more. */
    farm f = farm_new(" - {name: a}\n - {name: b}\n - {name: c}\n - {name: d}\n - {name: e}", "limits: {gang_max: 1}");
    tally t;
    (void)unused;
    train(&f, "2", 0);
    t = journal_of(&f);
    assert_int_equal(t.dones, 5);
    assert_int_equal(t.starts, 5);
    assert_int_equal(files_in(&f, "out"), 5);
    nothing_is_left(&f);
}

static void more_slots_than_concepts_make_gangs(void **unused)
{
    farm f = farm_new(" - {name: a}", ""), alone = farm_new(" - {name: a}", "");
    char *x, *y;
    (void)unused;
    train(&f, "4", 0);
    assert_int_equal(journal_of(&f).widest, 4);
    train(&alone, "1", 0);
    assert_int_equal(journal_of(&alone).widest, 1);
    x = result(&f, "a");
    y = result(&alone, "a");
    x[strcspn(x, "\n")] = y[strcspn(y, "\n")] = 0;
    assert_int_equal(strlen(x), strlen(y)); /* the settings name different folders of the same length */
    free(x);
    free(y);
    nothing_is_left(&f);
}

/* The account of where its slots' time went. */
static double slot_seconds(const farm *f, const char *use)
{
    char path[FS_PATH];
    json_t *o = NULL;
    double v;

    snprintf(path, sizeof path, "%s/pets/status.json", f->dir);
    assert_int_equal(json_read(&o, path, NULL), 0);
    v = json_number_value(json_object_get(json_object_get(o, "slot_seconds"), use));
    json_decref(o);
    return v;
}

/* Its stand-in says that a quarter of each step is. */
static void what_a_gang_adds_up_is_counted_apart(void **unused)
{
    farm f = farm_new(" - {name: a, steps: 40, fake: {step_ms: 10}}", "");
    double train_s, reduce_s;
    (void)unused;
    train(&f, "2", 0);
    train_s = slot_seconds(&f, "train");
    reduce_s = slot_seconds(&f, "reduce");
    assert_true(reduce_s > 0.1);
    assert_true(fabs(train_s - 3 * reduce_s) < 0.01);
}

static void a_crash_costs_one_attempt(void **unused)
{
    static const char *const how[] = {"crash", "exit", "kill", "nan"};
    (void)unused;
    for (size_t i = 0; i < sizeof how / sizeof how[0]; i++) {
        char concepts[200];
        farm f;
        tally t;
        snprintf(concepts, sizeof concepts, " - {name: a, fake: {at: 3, does: %s, times: 1}}\n - {name: b}", how[i]);
        f = farm_new(concepts, "");
        train(&f, "2", 0);
        t = journal_of(&f);
        assert_int_equal(t.dones, 2);
        assert_int_equal(t.fails, 1);
        nothing_is_left(&f);
    }
}

/* By default within ten seconds where steps were seen; where none was, by another and longer patience. */
static void a_hang_is_found_by_the_steps_that_were_seen(void **unused)
{
    farm f = farm_new(" - {name: a, fake: {at: 3, does: hang, times: 1}}\n - {name: b}", "");
    (void)unused;
    unsetenv("CFARM_STILL_S");
    setenv("CFARM_SILENCE_S", "600", 1);
    train(&f, "2", 0);
    wait_for_words(&f, "no further step for 10 s, where one takes 0.01 s");
    assert_int_equal(journal_of(&f).fails, 1);
    f = farm_new(" - {name: a, fake: {at: 1, does: hang, times: 1}}\n - {name: b}", "");
    setenv("CFARM_STILL_S", "600", 1);
    setenv("CFARM_SILENCE_S", "1", 1);
    train(&f, "2", 0);
    wait_for_words(&f, "the worker gave no sign of life for 1 s");
    assert_int_equal(journal_of(&f).fails, 1);
    setenv("CFARM_STILL_S", "30", 1);
    setenv("CFARM_SILENCE_S", "30", 1);
    nothing_is_left(&f);
}

static void a_member_that_dies_ends_its_gang_and_the_attempt_is_repeated(void **unused)
{
    farm f = farm_new(" - {name: a, fake: {at: 4, does: crash, times: 1, rank: 2}}", "");
    tally t;
    (void)unused;
    train(&f, "4", 0);
    t = journal_of(&f);
    assert_int_equal(t.starts, 2);
    assert_int_equal(t.fails, 1);
    assert_int_equal(t.dones, 1);
    assert_int_equal(t.widest, 4);
    nothing_is_left(&f);
}

static void poison_is_quarantined_and_the_others_go_on(void **unused)
{
    farm f = farm_new(" - {name: bad, fake: {at: 2, does: crash}}\n - {name: a}\n - {name: b}\n - {name: c}", "");
    tally t;
    (void)unused;
    train(&f, "2", 1);
    t = journal_of(&f);
    assert_int_equal(t.fails, 3);
    assert_int_equal(t.dones, 3);
    assert_false(has_result(&f, "bad"));
    train(&f, "2", 1); /* nothing to do, and it says why */
    wait_for_words(&f, "bad is quarantined");
    assert_int_equal(journal_of(&f).starts, t.starts);
    farm_rewrite(&f, " - {name: bad}\n - {name: a}\n - {name: b}\n - {name: c}"); /* cured */
    train(&f, "2", 0);
    assert_true(has_result(&f, "bad"));
    nothing_is_left(&f);
}

/* The kernel's signature: its counter moves, then SIGKILL. Whoever is killed without it is nobody's victim but the node's. */
static void a_worker_killed_for_want_of_memory_is_named_and_costs_its_concept(void **unused)
{
    static const char none[] = "low 0\noom_kill 7\n", named[] = "the kernel killed the worker for want of memory";
    farm f = farm_new(" - {name: bad, fake: {at: 2, does: memory}}\n - {name: a, fake: {at: 2, does: kill, times: 1}}\n - {name: b}", "");
    const char *why[] = {cfarm, "why", f.file, "bad", NULL};
    char path[160];
    tally t;
    (void)unused;
    snprintf(path, sizeof path, "%s/memory.events", f.dir);
    assert_int_equal(fs_write(path, none, sizeof none - 1, NULL), 0);
    setenv("CFARM_CGROUP", f.dir, 1);
    train(&f, "1", 1);
    unsetenv("CFARM_CGROUP");
    t = journal_of(&f);
    assert_int_equal(t.dones, 2);
    assert_int_equal(t.fails, 4); /* three times bad, until it is set aside, and the one of a */
    assert_false(has_result(&f, "bad"));
    assert_int_equal(unlink(f.said), 0);
    expect_end(&f, launch(&f, why), 0);
    wait_for_words(&f, named);
    nothing_is_left(&f);
}

/* A control group with a limit, of either version; false: nobody lets us make one. */
static bool memory_group(char path[100])
{
    static const char *const kind[][2] = {{"/sys/fs/cgroup", "memory.max"}, {"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}};
    char file[160];

    for (size_t i = 0; i < sizeof kind / sizeof *kind; i++) {
        int fd;
        snprintf(path, 100, "%s/cfarm-test-%ld", kind[i][0], (long)getpid());
        snprintf(file, sizeof file, "%s/%s", path, kind[i][1]);
        if (mkdir(path, 0755) != 0)
            continue;
        fd = open(file, O_WRONLY | O_CLOEXEC);
        bool limited = fd >= 0 && write(fd, "201326592", 9) == 9;
        if (fd >= 0)
            close(fd);
        if (limited)
            return true;
        rmdir(path);
    }
    return false;
}

/* Not as if: the kernel does it. Each time one worker dies, it is known why, and nobody else is harmed. */
static void a_worker_that_the_kernel_does_kill_costs_its_concept_and_nothing_else(void **unused)
{
    char group[100], command[600];
    farm f = farm_new(" - {name: bad, fake: {at: 2, does: devour}}\n - {name: a}\n - {name: b}", "");
    const char *argv[] = {"sh", "-c", command, NULL}, *why[] = {cfarm, "why", f.file, "bad", NULL};
    tally t;
    (void)unused;
    if (!memory_group(group)) {
        print_message("no control group with a limit of memory can be made here: the kernel's own killing is not tried\n");
        skip();
    }
    snprintf(command, sizeof command, "echo $$ >%s/cgroup.procs && exec %.200s train %s --workers 1", group, cfarm, f.file);
    expect_end(&f, launch(&f, argv), 1);
    t = journal_of(&f);
    assert_int_equal(t.dones, 2);
    assert_int_equal(t.fails, 3);
    assert_false(has_result(&f, "bad"));
    assert_int_equal(unlink(f.said), 0);
    expect_end(&f, launch(&f, why), 0);
    wait_for_words(&f, "the kernel killed the worker for want of memory");
    nothing_is_left(&f);
    for (int i = 0; i < 300 && rmdir(group) != 0; i++)
        usleep(10000);
}

static void what_a_setting_makes_impossible_is_rejected_at_once(void **unused)
{
    farm f = farm_new(" - {name: bad, fake: {at: 2, does: refuse}}\n - {name: a}", "");
    (void)unused;
    train(&f, "1", 1);
    assert_int_equal(journal_of(&f).fails, 1);
    assert_true(has_result(&f, "a"));
    nothing_is_left(&f);
}

static void a_second_run_does_nothing_and_says_so(void **unused)
{
    farm f = farm_new(" - {name: a}\n - {name: b}", "");
    tally before, after;
    (void)unused;
    train(&f, "1", 0);
    before = journal_of(&f);
    train(&f, "1", 0);
    after = journal_of(&f);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(files_in(&f, "journal"), 1);
    wait_for_words(&f, "nothing to do: 2 of 2 done");
}

static void new_concepts_are_added_and_removed_ones_dropped(void **unused)
{
    farm f = farm_new(" - {name: a}\n - {name: bad, fake: {at: 1, does: nan}}", "");
    (void)unused;
    train(&f, "1", 1);
    farm_rewrite(&f, " - {name: a}\n - {name: b}");
    train(&f, "1", 0);
    assert_int_equal(journal_of(&f).dones, 2);
    assert_true(has_result(&f, "b"));
}

static void changed_settings_of_a_finished_concept_are_refused_by_name(void **unused)
{
    farm f = farm_new(" - {name: a}\n - {name: b}", "");
    (void)unused;
    train(&f, "1", 0);
    farm_rewrite(&f, " - {name: a}\n - {name: b, steps: 11}");
    train(&f, "1", 2);
    wait_for_words(&f, "b is done, and its settings changed (steps: 10 became 11)");
}

static void a_file_with_mistakes_begins_nothing(void **unused)
{
    farm f = farm_new(" - {name: a, broken: yes}", "");
    (void)unused;
    train(&f, "1", 2);
    assert_int_equal(files_in(&f, "out"), -1); /* not even a folder */
}

static void merges_follow_their_concepts(void **unused)
{
    farm f = farm_new(" - {name: a}\n - {name: b}", "merge:\n - {name: both, of: [a, b]}");
    char *a, *b, *both;
    str sum = {0};
    (void)unused;
    train(&f, "2", 0);
    a = result(&f, "a");
    b = result(&f, "b");
    both = result(&f, "both");
    str_add(&sum, "%s%s", a, b);
    assert_string_equal(both, sum.at);
    free(a);
    free(b);
    free(both);
    str_free(&sum);
    assert_int_equal(journal_of(&f).dones, 3);
    nothing_is_left(&f);
}

static void a_merge_that_fails_says_why_and_harms_nobody(void **unused)
{
    farm f = farm_new(" - {name: a}\n - {name: b}", "merge:\n - {name: m, of: [a, b], fail: 2}");
    (void)unused;
    train(&f, "1", 1);
    wait_for_words(&f, "told to fail");
    assert_int_equal(journal_of(&f).fails, 1);
    assert_true(has_result(&f, "b"));
}

static void no_worker_means_an_end_with_its_reason(void **unused)
{
    farm f = farm_new(" - {name: a}", "");
    (void)unused;
    setenv("FAKE_LOAD", "exit", 1);
    train(&f, "2", 3);
    unsetenv("FAKE_LOAD");
    wait_for_words(&f, "no model here");
    train(&f, "2", 0);
    nothing_is_left(&f);
}

/* ---- stopping and going on ------------------------------------------------------------------------------------ */

static const char SLOW[] = " - {name: a, fake: {step_ms: 20}}\n - {name: b, fake: {step_ms: 20}}\n"
                           " - {name: c, fake: {step_ms: 20}}\n - {name: d, fake: {step_ms: 20}}";

static void killed_at_any_moment_it_goes_on(void **unused)
{
    (void)unused;
    for (int ms = 50; ms <= 500; ms += 150) {
        farm f = farm_new(SLOW, "");
        pid_t pid = train_begin(&f, "2");
        usleep((useconds_t)ms * 1000);
        kill_everything(pid);
        train(&f, "2", 0);
        assert_int_equal(journal_of(&f).dones, 4);
        assert_int_equal(files_in(&f, "out"), 4);
        nothing_is_left(&f);
    }
}

static void nobody_outlives_the_agent(void **unused)
{
    farm f = farm_new(" - {name: a, fake: {step_ms: 1000}}", "");
    pid_t pid = train_begin(&f, "2");
    (void)unused;
    wait_for_words(&f, "started");
    assert_int_equal(children(pid, 0), 3); /* two workers and the coordinator */
    assert_int_equal(running(&f), 4);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    for (int i = 0; i < 300 && running(&f) > 0; i++)
        usleep(10000);
    assert_int_equal(running(&f), 0);
}

static void one_interrupt_drains(void **unused)
{
    farm f = farm_new(SLOW, "");
    pid_t pid = train_begin(&f, "1");
    (void)unused;
    wait_for_words(&f, "started");
    kill(pid, SIGINT);
    expect_end(&f, pid, 130);
    assert_int_equal(journal_of(&f).dones, 1); /* what ran has ended */
    nothing_is_left(&f);
    train(&f, "4", 0);
    assert_int_equal(journal_of(&f).dones, 4);
}

static void the_machines_signals_stop_and_ask_for_another_start(void **unused)
{
    static const int by[] = {SIGTERM, SIGUSR1};
    (void)unused;
    for (int i = 0; i < 2; i++) {
        farm f = farm_new(SLOW, "");
        pid_t pid = train_begin(&f, "1");
        wait_for_words(&f, "started");
        kill(pid, by[i]);
        expect_end(&f, pid, 20);
        assert_int_equal(journal_of(&f).fails, 0);
        assert_true(journal_of(&f).dones < 4);
        nothing_is_left(&f);
        train(&f, "2", 0);
    }
}

static void three_interrupts_kill(void **unused)
{
    farm f = farm_new(" - {name: a, fake: {at: 1, does: hang}}", "");
    pid_t pid = train_begin(&f, "1");
    (void)unused;
    wait_for_words(&f, "started");
    for (int i = 0; i < 3; i++) {
        static const char *const word[] = {"draining", "stopping", "end interrupted"};
        kill(pid, SIGINT);
        wait_for_words(&f, word[i]);
    }
    expect_end(&f, pid, 130);
    nothing_is_left(&f);
}

static void two_interrupts_stop(void **unused)
{
    farm f = farm_new(" - {name: a, steps: 100, fake: {step_ms: 500}}\n - {name: b}", "");
    int64_t since;
    pid_t pid = train_begin(&f, "2");
    (void)unused;
    wait_for_words(&f, "done concept b");
    kill(pid, SIGINT);
    wait_for_words(&f, "draining");
    kill(pid, SIGINT);
    since = clock_ns();
    expect_end(&f, pid, 130);
    assert_true(clock_ns() - since < INT64_C(20000000000));
    assert_false(has_result(&f, "a"));
    nothing_is_left(&f);
}

static void a_farm_that_runs_is_not_started_twice(void **unused)
{
    farm f = farm_new(" - {name: a, fake: {step_ms: 280}}", "");
    pid_t pid = train_begin(&f, "1");
    (void)unused;
    wait_for_words(&f, "started");
    train(&f, "1", 3);
    wait_for_words(&f, "is running already");
    expect_end(&f, pid, 0);
    assert_int_equal(journal_of(&f).dones, 1);
}

/* ---- faults on purpose ---------------------------------------------------------------------------------------- */

static void a_fault_anywhere_between_result_and_done_publishes_once(void **unused)
{
    static const char *const fault[] = {"publish.link:1:kill", "journal.sync:4:kill", "fs.rename:3:kill",
                                        "journal.sync:5", "publish.link:1"};
    (void)unused;
    for (size_t i = 0; i < sizeof fault / sizeof fault[0]; i++) {
        farm f = farm_new(" - {name: a}\n - {name: b}", "");
        pid_t pid;
        setenv("CFARM_FAULT", fault[i], 1);
        pid = train_begin(&f, "1");
        unsetenv("CFARM_FAULT");
        end_of(&f, pid);
        train(&f, "1", 0);
        assert_int_equal(journal_of(&f).dones, 2);
        assert_int_equal(files_in(&f, "out"), 2);
        nothing_is_left(&f);
    }
}

/* The name was given and the coordinator died before it wrote DONE: it is not trained again. */
static void a_result_whose_news_was_lost_is_adopted(void **unused)
{
    bool seen = false;
    (void)unused;
    for (int n = 3; n <= 8 && !seen; n++) {
        farm f = farm_new(" - {name: a}", "");
        char fault[40];
        pid_t pid;
        snprintf(fault, sizeof fault, "journal.write:%d:kill", n);
        setenv("CFARM_FAULT", fault, 1);
        pid = train_begin(&f, "1");
        unsetenv("CFARM_FAULT");
        end_of(&f, pid);
        seen = has_result(&f, "a") && journal_of(&f).dones == 0;
        train(&f, "1", 0);
        assert_int_equal(journal_of(&f).dones, 1);
        if (seen)
            assert_int_equal(journal_of(&f).starts, 1);
    }
    assert_true(seen);
}

/* ---- packs ---------------------------------------------------------------------------------------------------- */

static void packed_concepts_end_as_those_alone(void **unused)
{
    farm f = farm_new(" - {name: a}\n - {name: b}\n - {name: c, fake: {at: 3, does: nan, times: 1}}\n - {name: d}\n"
                      " - {name: e}\n - {name: x, alike: two}\n - {name: y, alike: two}", "limits: {pack_max: 4}");
    tally t;
    (void)unused;
    train(&f, "1", 0);
    t = journal_of(&f);
    assert_int_equal(t.dones, 7);
    assert_int_equal(t.fails, 1);
    assert_int_equal(t.starts, 8);
    wait_for_words(&f, "4 side by side");
    nothing_is_left(&f);
}

static void a_pack_that_dies_costs_each_of_its_concepts_one_attempt(void **unused)
{
    farm f = farm_new(" - {name: a}\n - {name: b}\n - {name: bad, fake: {at: 4, does: crash}}\n - {name: c}\n - {name: d}",
                      "limits: {pack_max: 4}");
    tally t;
    (void)unused;
    train(&f, "1", 1);
    t = journal_of(&f);
    assert_int_equal(t.dones, 4); /* bad is blamed when it is alone, and nobody else is */
    assert_in_range(t.fails, 5, 7);
    assert_false(has_result(&f, "bad"));
    wait_for_words(&f, "is tried again alone");
    nothing_is_left(&f);
}

static void a_member_that_hangs_is_found_among_its_pack(void **unused)
{
    farm f = farm_new(" - {name: a}\n - {name: b, fake: {at: 4, does: hang, times: 1}}\n - {name: c}", "limits: {pack_max: 4}");
    (void)unused;
    setenv("CFARM_STILL_S", "1", 1);
    train(&f, "1", 0);
    setenv("CFARM_STILL_S", "30", 1);
    assert_int_equal(journal_of(&f).dones, 3);
    nothing_is_left(&f);
}

static void one_cancelled_of_a_pack_harms_nobody(void **unused)
{
    farm f = farm_new(" - {name: a, steps: 300}\n - {name: b, steps: 100}\n - {name: c, steps: 100}", "limits: {pack_max: 4}");
    const char *cancel[] = {cfarm, "cancel", f.file, "a", NULL};
    pid_t pid;
    tally t;
    (void)unused;
    pid = train_begin(&f, "1");
    wait_for_words(&f, "3 side by side");
    expect_end(&f, launch(&f, cancel), 0);
    expect_end(&f, pid, 0);
    t = journal_of(&f);
    assert_int_equal(t.dones, 2);
    assert_int_equal(t.fails, 0);
    assert_int_equal(t.starts, 3);
    nothing_is_left(&f);
}

static void a_pack_outlives_its_coordinator(void **unused)
{
    farm f = farm_new(" - {name: a, steps: 400}\n - {name: b, steps: 400}\n - {name: c, steps: 400}", "limits: {pack_max: 4}");
    pid_t pid, coordinator;
    tally t;
    (void)unused;
    pid = train_begin(&f, "1");
    wait_for_words(&f, "3 side by side");
    while ((coordinator = coordinator_of(pid)) == 0)
        usleep(1000);
    kill(coordinator, SIGKILL);
    expect_end(&f, pid, 0);
    t = journal_of(&f);
    assert_int_equal(t.dones, 3);
    assert_int_equal(t.starts, 3);
    assert_int_equal(t.fails, 0);
    nothing_is_left(&f);
}

/* ---- under a launcher ----------------------------------------------------------------------------------------- */

static void under_mpirun(const char *np)
{
    farm f = farm_new(" - {name: a}\n - {name: b}\n - {name: c, fake: {at: 3, does: crash, times: 1}}", "");
    const char *argv[] = {"mpirun", "-np", np, cfarm, "train", f.file, NULL};
    tally t;

    need_mpirun();
    expect_end(&f, launch(&f, argv), 0);
    t = journal_of(&f);
    assert_int_equal(t.dones, 3);
    assert_int_equal(t.fails, 1);
    nothing_is_left(&f);
    expect_end(&f, launch(&f, argv), 0);
    wait_for_words(&f, "nothing to do");
}

static void two_ranks_are_two_slots(void **unused)
{
    (void)unused;
    under_mpirun("2");
}

static void four_ranks_are_four_slots(void **unused)
{
    (void)unused;
    under_mpirun("4");
}

/* Open MPI has unloaded its components by then, but its own thread may have been about to call one of them. */
static void what_mpi_has_loaded_stays_when_it_is_left(void **unused)
{
    farm f = farm_new(" - {name: a, fake: {step_ms: 1000}}", "");
    const char *argv[] = {"mpirun", "-np", "2", cfarm, "train", f.file, NULL};
    pid_t pid;
    (void)unused;
    need_mpirun();
    if (system("ls /usr/lib/*/openmpi/lib/openmpi3/mca_pmix_ext3x.so >/dev/null 2>&1") != 0) {
        fprintf(stderr, "this MPI has no component that it would unload: not tried\n");
        skip();
    }
    pid = launch(&f, argv);
    wait_for_words(&f, "started");
    assert_true(mapping(&f, "/mca_pmix_ext3x.so") >= 3); /* mpirun itself, the agent, and its coordinator */
    kill(pid, SIGTERM);
    end_of(&f, pid);
    nothing_is_left(&f);
}

static void a_launcher_that_is_killed_takes_the_farm_along(void **unused)
{
    farm f = farm_new(SLOW, "");
    const char *argv[] = {"mpirun", "-np", "2", cfarm, "train", f.file, NULL};
    pid_t pid;
    (void)unused;
    need_mpirun();
    pid = launch(&f, argv);
    wait_for_words(&f, "started");
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    nothing_is_left(&f);
    expect_end(&f, launch(&f, argv), 0);
    assert_int_equal(journal_of(&f).dones, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_concepts_than_slots_wait_their_turn),
        cmocka_unit_test(more_slots_than_concepts_make_gangs),
        cmocka_unit_test(what_a_gang_adds_up_is_counted_apart),
        cmocka_unit_test(a_crash_costs_one_attempt),
        cmocka_unit_test(a_hang_is_found_by_the_steps_that_were_seen),
        cmocka_unit_test(a_member_that_dies_ends_its_gang_and_the_attempt_is_repeated),
        cmocka_unit_test(poison_is_quarantined_and_the_others_go_on),
        cmocka_unit_test(a_worker_killed_for_want_of_memory_is_named_and_costs_its_concept),
        cmocka_unit_test(a_worker_that_the_kernel_does_kill_costs_its_concept_and_nothing_else),
        cmocka_unit_test(what_a_setting_makes_impossible_is_rejected_at_once),
        cmocka_unit_test(a_second_run_does_nothing_and_says_so),
        cmocka_unit_test(new_concepts_are_added_and_removed_ones_dropped),
        cmocka_unit_test(changed_settings_of_a_finished_concept_are_refused_by_name),
        cmocka_unit_test(a_file_with_mistakes_begins_nothing),
        cmocka_unit_test(merges_follow_their_concepts),
        cmocka_unit_test(a_merge_that_fails_says_why_and_harms_nobody),
        cmocka_unit_test(no_worker_means_an_end_with_its_reason),
        cmocka_unit_test(killed_at_any_moment_it_goes_on),
        cmocka_unit_test(nobody_outlives_the_agent),
        cmocka_unit_test(one_interrupt_drains),
        cmocka_unit_test(the_machines_signals_stop_and_ask_for_another_start),
        cmocka_unit_test(two_interrupts_stop),
        cmocka_unit_test(three_interrupts_kill),
        cmocka_unit_test(a_farm_that_runs_is_not_started_twice),
        cmocka_unit_test(a_fault_anywhere_between_result_and_done_publishes_once),
        cmocka_unit_test(a_result_whose_news_was_lost_is_adopted),
        cmocka_unit_test(packed_concepts_end_as_those_alone),
        cmocka_unit_test(a_pack_that_dies_costs_each_of_its_concepts_one_attempt),
        cmocka_unit_test(a_member_that_hangs_is_found_among_its_pack),
        cmocka_unit_test(one_cancelled_of_a_pack_harms_nobody),
        cmocka_unit_test(a_pack_outlives_its_coordinator),
        cmocka_unit_test(two_ranks_are_two_slots),
        cmocka_unit_test(four_ranks_are_four_slots),
        cmocka_unit_test(what_mpi_has_loaded_stays_when_it_is_left),
        cmocka_unit_test(a_launcher_that_is_killed_takes_the_farm_along),
    };

    return cmocka_run_group_tests(tests, farms_open, farms_close);
}
