/* Orders as files: durable, carried out in order, once or twice to the same end, and harmless when they are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/base/fault.h"
#include "cluster/base/fs.h"
#include "cluster/base/str.h"
#include "scheduler/spool.h"

static const sched_options HOW = {.gang_max = 8, .backoff_ms = 1000, .hold_ms = 2000};
static char dir[] = "/tmp/spool-XXXXXX";

static int fresh(void **unused)
{
    (void)unused;
    fs_remove_tree(dir, NULL);
    return fs_mkdirs(dir, NULL);
}

static ledger *begin(void)
{
    ledger *l;
    err e = {0};

    if (ledger_open(&l, dir, HOW, &e) != 0 || ledger_begin(l, "test", &e) != 0)
        fail_msg("%s", e.text);
    return l;
}

/* ---- orders --------------------------------------------------------------------------------------------------- */

static json_t *job(const char *name, int steps)
{
    return json_pack("{s:s, s:s, s:s, s:{s:i}, s:i, s:i, s:i, s:i, s:b}", "kind", "train", "name", name, "priority",
                     "normal", "settings", "steps", steps, "steps", steps, "batch", 8, "leaves", 8, "retries", 3, "added", 1);
}

static void put(json_t *order)
{
    char id[SPOOL_ID];
    err e = {0};

    if (spool_put(id, dir, order, &e) != 0)
        fail_msg("%s", e.text);
    assert_true(spool_has(dir, id));
}

static void add(const char *name, int steps) { put(json_pack("{s:s, s:[o]}", "do", "add", "jobs", job(name, steps))); }
static void say(const char *word, const char *name) { put(json_pack("{s:s, s:[s]}", "do", word, "names", name)); }

typedef struct { ledger *l; int changed, told; char last[200]; } heard;

static int on_step(void *arg, const sched_event *ev, err *e)
{
    sched_effects todo = {0};
    int rc = ledger_step(((heard *)arg)->l, ev, &todo, e);

    sched_effects_free(&todo);
    return rc;
}

static void on_tell(void *arg, const char *word, const char *name, bool changed, const char *text)
{
    heard *h = arg;

    h->told++;
    h->changed += changed;
    snprintf(h->last, sizeof h->last, "%s %s: %s", word, name, text);
}

static heard take(ledger *l)
{
    heard h = {.l = l};
    spool_hands hands = {.step = on_step, .tell = on_tell, .arg = &h};
    err e = {0};

    if (spool_take(l, &hands, &e) != 0)
        fail_msg("%s", e.text);
    return h;
}

static job_state state(const ledger *l, const char *name)
{
    int at = sched_find(l->s, name);

    return at < 0 ? JOB_STATES : l->s->job[at].state;
}

/* ---- laws ----------------------------------------------------------------------------------------------------- */

static void orders_are_carried_out_in_time_order_and_journalled(void **unused)
{
    ledger *l = begin();
    (void)unused;
    add("a", 5);
    usleep(2000);
    say("cancel", "a");
    usleep(2000);
    say("retry", "a");
    usleep(2000);
    say("hold", "a");
    assert_int_equal(spool_waiting(dir), 4);
    assert_int_equal(take(l).changed, 4);
    assert_int_equal(spool_waiting(dir), 0);
    assert_int_equal(state(l, "a"), JOB_HOLD);
    ledger_close(l);
    l = begin();
    assert_int_equal(state(l, "a"), JOB_HOLD);
    assert_true(l->s->job[0].spec.added);
    ledger_close(l);
}

static char *snapshot(const ledger *l)
{
    json_t *o = sched_snapshot(l->s);
    char *text;

    json_object_del(o, "epoch");
    text = json_dumps(o, JSON_SORT_KEYS);
    json_decref(o);
    return text;
}

/* As after a crash between the commit and the removal. */
static void what_is_carried_out_twice_changes_nothing_the_second_time(void **unused)
{
    static const char *const word[] = {"cancel", "retry", "hold", "release", "urgent", "normal", "hold"};
    char *once = NULL, *twice;
    ledger *l = begin();
    (void)unused;
    for (int round = 0; round < 2; round++) {
        add("a", 5);
        usleep(2000);
        for (size_t i = 0; i < sizeof word / sizeof word[0]; i++, usleep(2000))
            say(word[i], "a");
        take(l);
        if (round == 0)
            once = snapshot(l);
    }
    twice = snapshot(l);
    assert_string_equal(once, twice);
    free(once);
    free(twice);
    ledger_close(l);
}

static void what_is_there_already_is_no_change_and_what_differs_is(void **unused)
{
    ledger *l = begin();
    heard h;
    (void)unused;
    add("a", 5);
    take(l);
    add("a", 5);
    h = take(l);
    assert_int_equal(h.changed, 0);
    assert_string_equal(h.last, "add a: there already: queued");
    add("a", 6);
    assert_int_equal(take(l).changed, 1);
    assert_int_equal(l->s->job[0].spec.steps, 6);
    say("cancel", "nobody");
    h = take(l);
    assert_int_equal(h.changed, 0);
    assert_non_null(strstr(h.last, "no such concept"));
    ledger_close(l);
}

static void a_file_that_is_no_order_is_set_aside_and_harms_nobody(void **unused)
{
    static const char *const bad[] = {"", "x", "[]", "{}", "{\"version\":1}", "{\"version\":9,\"do\":\"add\",\"jobs\":[]}",
                                      "{\"version\":1,\"do\":\"dance\"}", "{\"version\":1,\"do\":\"cancel\"}",
                                      "{\"version\":1,\"do\":\"add\",\"jobs\":[{\"name\":\"a\"}]}",
                                      "{\"version\":1,\"do\":\"add\",\"jobs\":7}"};
    ledger *l = begin();
    char path[200], why[400];
    (void)unused;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(path, sizeof path, "%s/spool/00%zu.json", dir, i);
        assert_int_equal(fs_write(path, bad[i], strlen(bad[i]), NULL), 0);
    }
    snprintf(path, sizeof path, "%s/spool/009.json.tmp-1-1", dir); /* being written aside */
    assert_int_equal(fs_write(path, "{", 1, NULL), 0);
    add("good", 5);
    assert_int_equal(take(l).changed, 1);
    assert_int_equal(state(l, "good"), JOB_QUEUED);
    assert_int_equal(spool_waiting(dir), 0);
    assert_true(fs_exists(path));
    assert_true(spool_refused(dir, "006.json", why, sizeof why));
    assert_non_null(strstr(why, "an order to dance"));
    assert_int_equal(take(l).told, 0);
    ledger_close(l);
}

/* Killed at any step of writing it, an order is there whole or not at all; and one that was accepted is there. */
static void an_accepted_order_survives_any_crash(void **unused)
{
    static const char *const point[] = {"fs.open", "fs.write", "fs.sync", "fs.rename", "fs.folder"};
    (void)unused;
    for (size_t i = 0; i < sizeof point / sizeof point[0]; i++) {
        ledger *l;
        char fault[40];
        int status;
        pid_t pid;
        fresh(NULL);
        snprintf(fault, sizeof fault, "%s:1:kill", point[i]);
        pid = fork();
        if (pid == 0) {
            char id[SPOOL_ID];
            setenv("CFARM_FAULT", fault, 1);
            fault_reread();
            _exit(spool_put(id, dir, json_pack("{s:s, s:[o]}", "do", "add", "jobs", job("a", 5)), NULL) == 0 ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        add("b", 5);
        l = begin();
        take(l);
        assert_int_equal(state(l, "b"), JOB_QUEUED);
        assert_true(state(l, "a") == JOB_QUEUED || state(l, "a") == JOB_STATES);
        assert_true(state(l, "a") == JOB_QUEUED || i < 4); /* renamed: it is there */
        ledger_close(l);
    }
}

static void a_look_sees_what_waits_and_leaves_it(void **unused)
{
    ledger *l = begin(), *seen;
    (void)unused;
    add("a", 5);
    take(l);
    usleep(2000);
    say("cancel", "a");
    add("b", 5);
    assert_int_equal(ledger_look(&seen, dir, NULL), 0); /* while another has it open */
    assert_int_equal(spool_look(seen, dir, NULL), 0);
    assert_int_equal(state(seen, "a"), JOB_CANCELLED);
    assert_int_equal(state(seen, "b"), JOB_QUEUED);
    ledger_close(seen);
    assert_int_equal(spool_waiting(dir), 2);
    assert_int_equal(state(l, "a"), JOB_QUEUED);
    ledger_close(l);
}

/* journal/farms/NAME: a journal whose records were written by that version, and what the jobs are after it. */
static void the_records_of_every_version_mean_what_they_meant(void **unused)
{
    const char *source = getenv("CFARM_SOURCE");
    char folder[FS_PATH / 2], **names;
    size_t n;
    (void)unused;
    assert_non_null(source);
    snprintf(folder, sizeof folder, "%s/tests/scheduler/journal/farms", source);
    assert_int_equal(fs_list(&names, &n, folder, NULL), 0);
    assert_true(n >= 3);
    for (size_t i = 0; i < n; i++) {
        char path[FS_PATH], *expected;
        ledger *l;
        str got = {0};
        err e = {0};
        size_t size;
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (ledger_look(&l, path, &e) != 0)
            fail_msg("%s: %s", names[i], e.text);
        for (int j = 0; j < l->s->jobs; j++)
            str_add(&got, "%s%s %s %d", j ? ", " : "", l->s->job[j].spec.name, job_state_name(l->s->job[j].state),
                    l->s->job[j].attempt);
        ledger_close(l);
        snprintf(path, sizeof path, "%s/%s/expected", folder, names[i]);
        assert_int_equal(fs_read(path, &expected, &size, 1 << 16, NULL), 0);
        expected[strcspn(expected, "\n")] = 0;
        assert_string_equal(got.at, expected);
        free(expected);
        str_free(&got);
    }
    fs_list_free(names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(orders_are_carried_out_in_time_order_and_journalled, fresh),
        cmocka_unit_test_setup(what_is_carried_out_twice_changes_nothing_the_second_time, fresh),
        cmocka_unit_test_setup(what_is_there_already_is_no_change_and_what_differs_is, fresh),
        cmocka_unit_test_setup(a_file_that_is_no_order_is_set_aside_and_harms_nobody, fresh),
        cmocka_unit_test_setup(an_accepted_order_survives_any_crash, fresh),
        cmocka_unit_test_setup(a_look_sees_what_waits_and_leaves_it, fresh),
        cmocka_unit_test(the_records_of_every_version_mean_what_they_meant),
    };
    int failed;

    if (!mkdtemp(dir))
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    fs_remove_tree(dir, NULL);
    return failed;
}
