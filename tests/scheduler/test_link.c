/* The coordinator, spoken to by hand: strangers, wrong words, late words, and the whole conversation of an agent. */
#include <arpa/inet.h>
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
#include "scheduler/coordinator.h"
#include "scheduler/journal.h"
#include "scheduler/link.h"

static const char TOKEN[] = "secret", SHA[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
static char root[] = "/tmp/link-XXXXXX";

typedef struct { pid_t pid; int port; char dir[64]; } house;

static void step(ledger *l, sched_event ev)
{
    sched_effects todo = {0};

    if (ledger_step(l, &ev, &todo, NULL) != 0)
        _exit(98);
    sched_effects_free(&todo);
}

/* rex was begun by a coordinator that is no more, as a gang over two nodes. */
static _Noreturn void coordinate_gang(const char *dir, int listen)
{
    sched_options how = {.gang_max = 2, .gang_nodes = 2, .backoff_ms = 10};
    coordinator_options o = {.name = "pets", .base = "/base", .listen = listen, .token = TOKEN, .agents = 2, .time_left = -1};
    job_spec rex = {.name = "rex", .settings = "{\"steps\":3}", .steps = 3, .batch = 2, .leaves = 2, .retries = 2};
    int status;

    if (ledger_open(&o.l, dir, how, NULL) != 0 || ledger_begin(o.l, "test", NULL) != 0)
        _exit(99);
    step(o.l, (sched_event){.type = EV_SUBMIT, .spec = rex});
    for (int n = 0; n < 2; n++) {
        step(o.l, (sched_event){.type = EV_NODE_UP, .name = "n", .slots = 1});
        step(o.l, (sched_event){.type = EV_SLOT, .node = n, .becomes = SLOT_READY});
    }
    step(o.l, (sched_event){.type = EV_OPEN});
    if (ledger_commit(o.l, NULL) != 0)
        _exit(99);
    ledger_close(o.l);
    if (ledger_open(&o.l, dir, how, NULL) != 0 || ledger_begin(o.l, "test", NULL) != 0)
        _exit(99);
    status = coordinator_run(&o);
    ledger_close(o.l);
    _exit(status);
}

static _Noreturn void coordinate(const char *dir, int listen)
{
    sched_event ev = {.type = EV_SUBMIT, .spec = {.name = "rex", .settings = "{\"steps\":3}", .steps = 3, .batch = 1,
                                                  .leaves = 1, .retries = 2}};
    coordinator_options o = {.name = "pets", .base = "/base", .listen = listen, .token = TOKEN, .agents = 1,
                             .time_left = -1};
    sched_effects todo = {0};
    int status;

    if (ledger_open(&o.l, dir, (sched_options){.gang_max = 1}, NULL) != 0 || ledger_begin(o.l, "test", NULL) != 0 ||
        ledger_step(o.l, &ev, &todo, NULL) != 0 || ledger_commit(o.l, NULL) != 0)
        _exit(99);
    status = coordinator_run(&o);
    sched_effects_free(&todo);
    ledger_close(o.l);
    _exit(status);
}

typedef void run_fn(const char *dir, int listen);

static house open_house_of(run_fn *run)
{
    static int n;
    house h;
    int listen;

    snprintf(h.dir, sizeof h.dir, "%s/%d", root, n++);
    assert_int_equal(coordinator_listen(&listen, &h.port, false, NULL), 0);
    h.pid = fork();
    if (h.pid == 0)
        run(h.dir, listen);
    close(listen);
    return h;
}

static house open_house(void) { return open_house_of(coordinate); }

static wire *knock(const house *h)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)h->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return wire_new(fd);
}

static void say(wire *w, int type, json_t *body) { assert_int_equal(wire_tell(w, (uint16_t)type, body, 5, NULL), 0); }

static json_t *hear(wire *w, int type)
{
    wire_frame f;
    json_t *o;
    err e = {0};

    if (wire_take(w, &f, 10, &e) != 0 || f.type != type)
        fail_msg("frame %d, not %d (%s)", f.type, type, e.text);
    assert_int_equal(wire_parse(&f, &o, NULL), 0);
    return o;
}

static void expect_hung_up(wire *w)
{
    wire_frame f;

    assert_int_equal(wire_take(w, &f, 10, NULL), ERR_PEER);
    wire_free(w);
}

static json_t *hello_of(const char *node, int protocol)
{
    return json_pack("{s:i, s:s, s:i}", "protocol", protocol, "node", node, "slots", 1);
}

static json_t *hello(int protocol) { return hello_of("n0", protocol); }

static wire *greet(const house *h, const char *token)
{
    wire *w = knock(h);
    json_t *theirs = hear(w, LINK_NONCE);
    char mine[WIRE_NONCE];

    assert_int_equal(wire_nonce(mine, NULL), 0);
    say(w, LINK_NONCE, json_pack("{s:s}", "nonce", mine));
    assert_int_equal(wire_seal(w, token, mine, json_string_value(json_object_get(theirs, "nonce")), NULL), 0);
    json_decref(theirs);
    return w;
}

static wire *join_as(const house *h, const char *node)
{
    wire *w = greet(h, TOKEN);

    say(w, LINK_HELLO, hello_of(node, LINK_PROTOCOL));
    json_decref(hear(w, LINK_WELCOME));
    say(w, LINK_SLOT, json_pack("{s:i, s:s}", "slot", 0, "state", "ready"));
    return w;
}

static wire *join(const house *h) { return join_as(h, "n0"); }

static json_t *done(int attempt)
{
    return json_pack("{s:i, s:i, s:s, s:i}", "job", 0, "attempt", attempt, "sha256", SHA, "bytes", 3);
}

static int status_of(const house *h)
{
    int status;

    assert_int_equal(waitpid(h->pid, &status, 0), h->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Ends the farm well, so that each test shows it still can. */
static void finish(const house *h, wire *w, int attempt)
{
    say(w, LINK_DONE, done(attempt));
    json_decref(hear(w, LINK_END));
    wire_free(w);
    assert_int_equal(status_of(h), FARM_DONE);
}

static void an_agent_is_welcomed_given_work_and_sent_home(void **unused)
{
    house h = open_house();
    wire *w = join(&h);
    json_t *run = hear(w, LINK_RUN);
    (void)unused;
    assert_string_equal(json_string_value(json_object_get(run, "name")), "rex");
    assert_int_equal(json_integer_value(json_object_get(run, "attempt")), 1);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(run, "settings"), "steps")), 3);
    json_decref(run);
    finish(&h, w, 1);
}

static void strangers_are_sent_away_and_the_farm_goes_on(void **unused)
{
    house h = open_house();
    wire *w;
    (void)unused;
    w = greet(&h, "guess");
    say(w, LINK_HELLO, hello(LINK_PROTOCOL));
    expect_hung_up(w);
    w = greet(&h, TOKEN);
    say(w, LINK_HELLO, hello(LINK_PROTOCOL + 1));
    expect_hung_up(w);
    w = greet(&h, TOKEN);
    say(w, LINK_DONE, done(1)); /* before hello */
    expect_hung_up(w);
    for (int i = 0; i < 3; i++) {
        static const char *const links[] = {"[0, 1]", "[-1]", "[\"a\"]"}; /* of one slot */
        json_t *o = hello(LINK_PROTOCOL);
        w = greet(&h, TOKEN);
        json_object_set_new(o, "links", json_loads(links[i], 0, NULL));
        say(w, LINK_HELLO, o);
        expect_hung_up(w);
    }
    w = knock(&h);
    json_decref(hear(w, LINK_NONCE));
    say(w, LINK_HELLO, hello(LINK_PROTOCOL)); /* before a nonce, in clear */
    expect_hung_up(w);
    w = knock(&h);
    json_decref(hear(w, LINK_NONCE));
    assert_int_equal(send(wire_fd(w), "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 18);
    expect_hung_up(w);
    w = join(&h);
    json_decref(hear(w, LINK_RUN));
    finish(&h, w, 1);
}

static void wrong_words_of_an_agent_cost_it_its_place(void **unused)
{
    static const struct { int type; const char *body; } row[] = {
        {LINK_HELLO, "{}"}, {LINK_DONE, "{}"}, {LINK_DONE, "{\"job\":-1,\"attempt\":1}"},
        {LINK_SLOT, "{\"slot\":\"x\"}"}, {LINK_PROGRESS, "{\"job\":0,\"attempt\":1,\"phase\":\"dreaming\"}"},
        {LINK_RUN, "{}"}, {999, "{}"}, {LINK_LOG, "[]"},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        house h = open_house();
        wire *w = join(&h);
        json_decref(hear(w, LINK_RUN));
        assert_int_equal(wire_send(w, (uint16_t)row[i].type, row[i].body, strlen(row[i].body), 5, NULL), 0);
        expect_hung_up(w);
        assert_int_equal(status_of(&h), FARM_BROKEN); /* its only agent is gone, and it says so */
    }
}

static void late_and_impossible_news_change_nothing(void **unused)
{
    house h = open_house();
    wire *w = join(&h);
    (void)unused;
    json_decref(hear(w, LINK_RUN));
    say(w, LINK_FAILED, json_pack("{s:i, s:i, s:s, s:s}", "job", 0, "attempt", 1, "blame", "node", "text", "lost"));
    json_decref(hear(w, LINK_RUN)); /* attempt 2 */
    say(w, LINK_DONE, done(1));
    say(w, LINK_DONE, done(3));
    say(w, LINK_DONE, json_pack("{s:i, s:i, s:s, s:i}", "job", 7, "attempt", 1, "sha256", SHA, "bytes", 3));
    say(w, LINK_STOPPED, json_pack("{s:i, s:i}", "job", 0, "attempt", 1));
    say(w, LINK_PROGRESS, json_pack("{s:i, s:i, s:s, s:i}", "job", 0, "attempt", 2, "phase", "training", "step", 2));
    say(w, LINK_PROGRESS, json_pack("{s:i, s:i, s:s, s:i}", "job", 0, "attempt", 2, "phase", "loading", "step", 1));
    say(w, LINK_SLOT, json_pack("{s:i, s:s}", "slot", 9, "state", "ready"));
    finish(&h, w, 2);
}

static int count_failures(void *arg, int type, const char *body, size_t n, err *e)
{
    (void)body, (void)n, (void)e;
    *(int *)arg += type == EV_FAILED;
    return 0;
}

static int failures_of(const house *h)
{
    char path[FS_PATH];
    journal *j;
    int n = 0;

    snprintf(path, sizeof path, "%s/journal", h->dir);
    assert_int_equal(journal_open(&j, path, count_failures, &n, NULL), 0);
    journal_close(j);
    return n;
}

/* An order crossed the agent's "down" on the way: it is answered before the agent is let go, and nothing has failed. */
static void a_farewell_is_answered_when_nothing_is_under_way(void **unused)
{
    house h = open_house();
    wire *w = join(&h), *next;
    wire_frame f;
    (void)unused;
    json_decref(hear(w, LINK_RUN));
    say(w, LINK_SLOT, json_pack("{s:i, s:s}", "slot", 0, "state", "down"));
    say(w, LINK_LEAVE, json_object());
    next = join_as(&h, "n1"); /* its welcome comes a whole turn later: the farewell was not answered in that one */
    assert_int_equal(wire_take(w, &f, 0, NULL), 0);
    assert_int_equal(f.type, 0);
    say(w, LINK_STOPPED, json_pack("{s:i, s:i}", "job", 0, "attempt", 1));
    json_decref(hear(w, LINK_LEAVE));
    wire_free(w);
    json_decref(hear(next, LINK_RUN));
    finish(&h, next, 2);
    assert_int_equal(failures_of(&h), 0);
}

/* Heard twice: the first answer may come in the turn whose orders are still to go out. */
static void expect_nothing_but_beats(wire *w)
{
    for (int i = 0; i < 2; i++) {
        say(w, LINK_BEAT, json_object());
        json_decref(hear(w, LINK_BEAT));
    }
}

static void what_is_handed_back_is_blamed_on_nobody_and_waits_for_news_of_the_slot(void **unused)
{
    house h = open_house();
    wire *w = join(&h);
    (void)unused;
    for (int attempt = 1; attempt <= 30; attempt++) { /* more than any patience with failures */
        json_decref(hear(w, LINK_RUN));
        say(w, LINK_SLOT, json_pack("{s:i, s:s}", "slot", 0, "state", "warming"));
        say(w, LINK_STOPPED, json_pack("{s:i, s:i, s:s}", "job", 0, "attempt", attempt, "why", "slot 0 is not free"));
        expect_nothing_but_beats(w);
        say(w, LINK_SLOT, json_pack("{s:i, s:s}", "slot", 0, "state", "ready"));
    }
    json_decref(hear(w, LINK_RUN));
    finish(&h, w, 31);
    assert_int_equal(failures_of(&h), 0);
}

/* ---- a gang over two nodes that outlived its coordinator -------------------------------------------------------- */

typedef enum { AT_WORK, ANSWERS, HAS_SAID } part_state; /* slots; its answer comes when it is welcomed; it was said before */

static wire *come_back(const house *h, int rank, part_state is)
{
    wire *w = greet(h, TOKEN);
    json_t *part = json_pack("{s:i, s:i, s:i, s:b, s:i, s:i, s:[]}", "job", 0, "attempt", 1, "gang", 1, "part", 1, "first", rank, "size",
                             2, "slots"), *o = hello_of(rank ? "n1" : "n0", LINK_PROTOCOL);

    if (is == AT_WORK)
        json_array_append_new(json_object_get(part, "slots"), json_integer(0));
    if (is == HAS_SAID)
        json_object_set_new(part, "ended", json_true());
    json_object_set_new(o, "running", json_pack("[o]", part));
    say(w, LINK_HELLO, o);
    json_decref(hear(w, LINK_WELCOME));
    return w;
}

static void expect_home(const house *h, wire *a, wire *b, int status)
{
    json_decref(hear(a, LINK_END));
    json_decref(hear(b, LINK_END));
    wire_free(a);
    wire_free(b);
    assert_int_equal(status_of(h), status);
}

static void a_part_that_ended_while_nobody_coordinated_is_taken_over(void **unused)
{
    (void)unused;
    for (int is = AT_WORK; is <= HAS_SAID; is++) {
        house h = open_house_of(coordinate_gang);
        wire *a = come_back(&h, 0, AT_WORK), *b = come_back(&h, 1, (part_state)is);
        if (is == ANSWERS)
            say(b, LINK_DONE, json_pack("{s:i, s:i}", "job", 0, "attempt", 1));
        expect_nothing_but_beats(a);
        if (is == AT_WORK)
            say(b, LINK_DONE, json_pack("{s:i, s:i}", "job", 0, "attempt", 1));
        say(a, LINK_DONE, done(1));
        expect_home(&h, a, b, FARM_DONE);
        assert_int_equal(failures_of(&h), 0);
    }
}

static void a_result_that_came_meanwhile_waits_for_no_other_part(void **unused)
{
    house h = open_house_of(coordinate_gang);
    wire *a = come_back(&h, 0, ANSWERS);
    (void)unused;
    say(a, LINK_DONE, done(1));
    expect_home(&h, a, join_as(&h, "n1"), FARM_DONE); /* who has nothing of it any more */
    assert_int_equal(failures_of(&h), 0);
}

static void a_part_that_failed_meanwhile_stops_the_other_and_is_judged(void **unused)
{
    house h = open_house_of(coordinate_gang);
    wire *b = come_back(&h, 1, ANSWERS), *a;
    (void)unused;
    say(b, LINK_FAILED, json_pack("{s:i, s:i, s:s, s:b, s:s, s:s}", "job", 0, "attempt", 1, "blame", "job", "retry", 0, "code", "signal",
                                  "text", "it broke"));
    expect_nothing_but_beats(b); /* kept until the other one is there, too */
    a = come_back(&h, 0, AT_WORK);
    json_decref(hear(a, LINK_HALT));
    say(a, LINK_STOPPED, json_pack("{s:i, s:i}", "job", 0, "attempt", 1));
    expect_home(&h, a, b, FARM_SOME_FAILED);
    assert_int_equal(failures_of(&h), 1);
}

static void a_replaced_coordinator_stops(void **unused)
{
    house h = open_house();
    wire *w = join(&h);
    char path[FS_PATH];
    (void)unused;
    json_decref(hear(w, LINK_RUN));
    snprintf(path, sizeof path, "%s/journal/000002.log", h.dir);
    assert_int_equal(fs_write(path, "", 0, NULL), 0); /* epoch 2 has begun elsewhere */
    say(w, LINK_DONE, done(1));
    json_decref(hear(w, LINK_END));
    wire_free(w);
    assert_int_equal(status_of(&h), FARM_BROKEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_agent_is_welcomed_given_work_and_sent_home),
        cmocka_unit_test(strangers_are_sent_away_and_the_farm_goes_on),
        cmocka_unit_test(wrong_words_of_an_agent_cost_it_its_place),
        cmocka_unit_test(late_and_impossible_news_change_nothing),
        cmocka_unit_test(a_farewell_is_answered_when_nothing_is_under_way),
        cmocka_unit_test(what_is_handed_back_is_blamed_on_nobody_and_waits_for_news_of_the_slot),
        cmocka_unit_test(a_part_that_ended_while_nobody_coordinated_is_taken_over),
        cmocka_unit_test(a_result_that_came_meanwhile_waits_for_no_other_part),
        cmocka_unit_test(a_part_that_failed_meanwhile_stops_the_other_and_is_judged),
        cmocka_unit_test(a_replaced_coordinator_stops),
    };
    int failed;

    if (!mkdtemp(root))
        return 1;
    signal(SIGPIPE, SIG_IGN);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    fs_remove_tree(root, NULL);
    return failed;
}
