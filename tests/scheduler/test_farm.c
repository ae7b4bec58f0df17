/* Whole farms, as processes, with a worker that does as it is told (fake_worker.c). After each: every result is
 * published once and has the bytes of an undisturbed run, and nothing is left running. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "scheduler/journal.h"
#include "scheduler/sched.h"

static char root[] = "/tmp/farm-XXXXXX";
static char cfarm[FS_PATH];
static int farms;

/* ---- a farm of its own for each test -------------------------------------------------------------------------- */

typedef struct { char dir[64], file[128], said[128]; } farm;

static const char HEAD[] = "farm: pets\nbase: base\ndefaults: {images: x, class: dog, steps: 10}\nconcepts:\n";

/* concepts: lines of the YAML list; more: any other top-level keys. */
static farm farm_new(const char *concepts, const char *more)
{
    farm f;
    str text = {0};

    snprintf(f.dir, sizeof f.dir, "%s/f%d", root, ++farms);
    snprintf(f.file, sizeof f.file, "%s/farm.yaml", f.dir);
    snprintf(f.said, sizeof f.said, "%s/said", f.dir);
    fs_mkdirs(f.dir, NULL);
    str_add(&text, "%s%s\n%s\n", HEAD, concepts, more);
    assert_int_equal(fs_write(f.file, text.at, text.n, NULL), 0);
    str_free(&text);
    return f;
}

static void farm_rewrite(const farm *f, const char *concepts)
{
    str text = {0};
    str_add(&text, "%s%s\n", HEAD, concepts);
    assert_int_equal(fs_write(f->file, text.at, text.n, NULL), 0);
    str_free(&text);
}

static pid_t launch(const farm *f, const char *const *argv)
{
    pid_t pid = fork();

    if (pid == 0) {
        int fd = open(f->said, O_WRONLY | O_CREAT | O_APPEND, 0644), null = open("/dev/null", O_RDONLY);
        setenv("CFARM_TEST", f->file, 1);
        setpgid(0, 0);
        dup2(null, 0);
        dup2(fd, 1);
        dup2(fd, 2);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    assert_true(pid > 0);
    return pid;
}

static pid_t train_begin(const farm *f, const char *workers)
{
    const char *argv[] = {cfarm, "train", f->file, "--workers", workers, NULL};
    return launch(f, argv);
}

static char *said(const farm *f)
{
    char *text;
    size_t n;

    return fs_read(f->said, &text, &n, 1 << 20, NULL) == 0 ? text : mem_text("");
}

/* A farm that hangs is a failed test, not a hanging one. */
static int end_of(const farm *f, pid_t pid)
{
    int status;

    for (int i = 0; i < 6000; i++) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
        usleep(10000);
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    fail_msg("the farm did not end in 60 s:\n%s", said(f));
    return -1;
}

static void expect_end(const farm *f, pid_t pid, int status)
{
    int got = end_of(f, pid);

    if (got != status)
        fail_msg("exit status %d, not %d:\n%s", got, status, said(f));
}

static void train(const farm *f, const char *workers, int status) { expect_end(f, train_begin(f, workers), status); }

/* ---- what is left behind -------------------------------------------------------------------------------------- */

typedef struct { int starts, dones, fails; int widest; } tally;

static int count(void *arg, int type, const char *body, size_t n, err *e)
{
    tally *t = arg;
    json_t *o = json_loadb(body, n, 0, NULL);
    int gang = (int)json_integer_value(json_object_get(o, "gang"));

    (void)e;
    t->starts += type == EV_START;
    t->dones += type == EV_DONE;
    t->fails += type == EV_FAILED;
    if (type == EV_START && gang > t->widest)
        t->widest = gang;
    json_decref(o);
    return 0;
}

static tally journal_of(const farm *f)
{
    char path[256];
    tally t = {0};
    journal *j;
    err e = {0};

    snprintf(path, sizeof path, "%s/pets/journal", f->dir);
    if (journal_open(&j, path, count, &t, &e) != 0)
        fail_msg("%s", e.text);
    journal_close(j);
    return t;
}

static int files_in(const farm *f, const char *sub)
{
    char path[256], **names;
    size_t n;

    snprintf(path, sizeof path, "%s/pets/%s", f->dir, sub);
    if (fs_list(&names, &n, path, NULL) != 0)
        return -1;
    fs_list_free(names);
    return (int)n;
}

static bool has_result(const farm *f, const char *name)
{
    char path[256];

    snprintf(path, sizeof path, "%s/pets/out/%s.h5", f->dir, name);
    return fs_exists(path);
}

static char *result(const farm *f, const char *name)
{
    char path[256], *text;
    size_t n;

    snprintf(path, sizeof path, "%s/pets/out/%s.h5", f->dir, name);
    if (fs_read(path, &text, &n, 1 << 20, NULL) != 0)
        fail_msg("%s is not there:\n%s", path, said(f));
    return text;
}

/* For every process there is: its number, and its parent's (0 when it has ended but was not reaped). */
typedef void process_fn(void *arg, pid_t pid, pid_t parent);

static void each_process(process_fn *fn, void *arg)
{
    char **names, path[64];
    size_t n;

    assert_int_equal(fs_list(&names, &n, "/proc", NULL), 0);
    for (size_t i = 0; i < n; i++) {
        int parent = 0;
        char state = 0;
        FILE *f = NULL;
        if (strspn(names[i], "0123456789") == strlen(names[i])) {
            snprintf(path, sizeof path, "/proc/%.20s/stat", names[i]);
            f = fopen(path, "r");
        }
        if (f && fscanf(f, "%*d (%*[^)]) %c %d", &state, &parent) == 2)
            fn(arg, atoi(names[i]), state == 'Z' ? 0 : parent);
        if (f)
            fclose(f);
    }
    fs_list_free(names);
}

typedef struct { const char *mark; pid_t parent; int signal, n; } search;

/* Everything a farm starts inherits the mark that launch() leaves in its environment. */
static void count_marked(void *arg, pid_t pid, pid_t parent)
{
    search *s = arg;
    char path[64], *text;
    size_t n, at = 0;

    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    text = mem_new(1 << 16, 1);
    FILE *f = fopen(path, "r");
    n = f ? fread(text, 1, (1 << 16) - 1, f) : 0;
    if (f)
        fclose(f);
    for (; parent > 0 && at < n; at += strlen(text + at) + 1)
        s->n += strcmp(text + at, s->mark) == 0;
    free(text);
}

static int running(const farm *f)
{
    char mark[200];
    search s = {.mark = mark};

    snprintf(mark, sizeof mark, "CFARM_TEST=%s", f->file);
    each_process(count_marked, &s);
    return s.n;
}

static void on_child(void *arg, pid_t pid, pid_t parent)
{
    search *s = arg;

    if (parent != s->parent)
        return;
    s->n++;
    if (s->signal)
        kill(pid, s->signal);
}

/* Sends it to all of them; 0: only counts. */
static int children(pid_t parent, int signal)
{
    search s = {.parent = parent, .signal = signal};

    each_process(on_child, &s);
    return s.n;
}

static void nothing_is_left(const farm *f)
{
    char cmd[200];

    for (int i = 0; i < 300 && running(f) > 0; i++)
        usleep(10000);
    assert_int_equal(running(f), 0);
    snprintf(cmd, sizeof cmd, "! find '%s/pets/obj' -name '.aside-*' | grep -q .", f->dir);
    assert_int_equal(system(cmd), 0);
}

static void wait_for_words(const farm *f, const char *words)
{
    for (int i = 0; i < 1500; i++) {
        char *text = said(f);
        bool there = strstr(text, words) != NULL;
        free(text);
        if (there)
            return;
        usleep(10000);
    }
    fail_msg("it never said \"%s\":\n%s", words, said(f));
}

/* ---- the farm ------------------------------------------------------------------------------------------------- */

static void more_concepts_than_slots_wait_their_turn(void **unused)
{
    farm f = farm_new(" - {name: a}\n - {name: b}\n - {name: c}\n - {name: d}\n - {name: e}", "");
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

static void a_crash_costs_one_attempt(void **unused)
{
    static const char *const how[] = {"crash", "exit", "kill", "nan", "hang"};
    (void)unused;
    for (size_t i = 0; i < sizeof how / sizeof how[0]; i++) {
        char concepts[200];
        farm f;
        tally t;
        snprintf(concepts, sizeof concepts, " - {name: a, fake: {at: 3, does: %s, times: 1}}\n - {name: b}", how[i]);
        f = farm_new(concepts, "");
        setenv("CFARM_SILENCE_S", strcmp(how[i], "hang") == 0 ? "1" : "30", 1);
        train(&f, "2", 0);
        t = journal_of(&f);
        assert_int_equal(t.dones, 2);
        assert_int_equal(t.fails, 1);
        nothing_is_left(&f);
    }
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

static void kill_everything(pid_t pid)
{
    kill(pid, SIGSTOP); /* its children are found before they are orphans */
    children(pid, SIGKILL);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

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

static void two_interrupts_stop(void **unused)
{
    farm f = farm_new(" - {name: a, fake: {step_ms: 500}}\n - {name: b}", "");
    int64_t since;
    pid_t pid = train_begin(&f, "2");
    (void)unused;
    wait_for_words(&f, "done concept b");
    kill(pid, SIGINT);
    wait_for_words(&f, "draining");
    kill(pid, SIGINT);
    since = clock_ns();
    expect_end(&f, pid, 130);
    assert_true(clock_ns() - since < INT64_C(3000000000));
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

/* ---- under a launcher ----------------------------------------------------------------------------------------- */

static void need_mpirun(void)
{
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* Open MPI keeps what it has allocated: no news */
    if (system("command -v mpirun >/dev/null") != 0) {
        fprintf(stderr, "mpirun is not installed: not tried\n");
        skip();
    }
}

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

static void set_environment(void)
{
    static const char *const pair[][2] = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"}, {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
        {"OMPI_MCA_rmaps_base_oversubscribe", "1"}, {"OMPI_MCA_hwloc_base_binding_policy", "none"},
        {"OMPI_MCA_pml", "ob1"}, {"OMPI_MCA_plm", "isolated"}, {"CFARM_BACKOFF_MS", "50"}, {"CFARM_SILENCE_S", "30"}};
    const char *bin = getenv("CFARM_BIN");
    char fake[FS_PATH];

    for (size_t i = 0; i < sizeof pair / sizeof pair[0]; i++)
        setenv(pair[i][0], pair[i][1], 1);
    snprintf(cfarm, sizeof cfarm, "%s/cfarm", bin ? bin : "");
    snprintf(fake, sizeof fake, "%s/../fake", bin ? bin : "");
    setenv("CFARM_PROGRAMS", fake, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_concepts_than_slots_wait_their_turn),
        cmocka_unit_test(more_slots_than_concepts_make_gangs),
        cmocka_unit_test(a_crash_costs_one_attempt),
        cmocka_unit_test(a_member_that_dies_ends_its_gang_and_the_attempt_is_repeated),
        cmocka_unit_test(poison_is_quarantined_and_the_others_go_on),
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
        cmocka_unit_test(two_interrupts_stop),
        cmocka_unit_test(a_farm_that_runs_is_not_started_twice),
        cmocka_unit_test(a_fault_anywhere_between_result_and_done_publishes_once),
        cmocka_unit_test(a_result_whose_news_was_lost_is_adopted),
        cmocka_unit_test(two_ranks_are_two_slots),
        cmocka_unit_test(four_ranks_are_four_slots),
        cmocka_unit_test(a_launcher_that_is_killed_takes_the_farm_along),
    };
    int failed;

    if (!mkdtemp(root))
        return 1;
    set_environment();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (failed == 0)
        fs_remove_tree(root, NULL);
    return failed;
}
