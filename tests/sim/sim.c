/* Farms in worlds: a launcher that starts them again until they are done, and what befalls them meanwhile.
 *   sim [--first N] [--count N] [--minutes M] [--long] [--trace] [--csv]
 * --long: concepts whose steps take up to a minute, so many that they last as long as the farm is disturbed, which is rarely.
 * Each seed is one world. A law that breaks ends the run: the seed is printed with the command that repeats it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "scheduler/agent.h"
#include "scheduler/coordinator.h"
#include "scheduler/link.h"
#include "tests/sim/world.h"

enum { PORT = 1000, BATCH = 100 };

/* ---- a farm's processes ---------------------------------------------------------------------------------------- */

typedef struct launch launch;
typedef struct {
    launch *of;
    int host, slots;
    char name[16];
    process *p;
} node;
struct launch {
    door door;
    int listen, nodes, status;
    node node[HOSTS_MOST];
    process *coordinator;
    bool first, ended;
    bool zombie;             /* its coordinator may still come back */
};

typedef struct {
    int concepts, hosts, slots, pack_max, gang_max, gang_nodes;
    double mean_s;                   /* between two disturbances */
    double work_s;                   /* of a concept, alone on a slot; 0: seconds, some more and some less */
    int orders;                      /* given so far */
} plan;

static plan the;
static launch *now_running;

static double seconds_of(int concept)
{
    int k = concept * 7919 % 13;

    return the.work_s > 0 ? 20 + 3 * k : 0.5 + 0.5 * k;
}

static int steps_of(int concept)
{
    return the.work_s > 0 ? 3 + (int)(the.work_s / seconds_of(concept)) : 5 + concept * 104729 % 60;
}

static int submit(ledger *l, int i, err *e)
{
    char settings[128];
    sched_event ev = {.type = EV_SUBMIT};
    sched_effects todo = {0};
    int rc;

    snprintf(settings, sizeof settings, "{\"concept\":%d,\"steps\":%d,\"seconds\":%g}", i, steps_of(i), seconds_of(i));
    ev.spec = (job_spec){.priority = i % 9 == 4 ? PRIORITY_URGENT : PRIORITY_NORMAL, .name = laws_name(i), .settings = settings,
                         .steps = steps_of(i), .batch = 8, .leaves = 8, .retries = laws_poison(i) ? 3 : 20, .alike = i % 2 ? "one" : "other",
                         .owner = i % 3 ? "ana" : "bo"};
    rc = ledger_step(l, &ev, &todo, e);
    sched_effects_free(&todo);
    return rc;
}

static int prepare(ledger *l, err *e)
{
    TRY(ledger_begin(l, "sim", e));
    for (int i = 0; i < the.concepts; i++)
        if (sched_find(l->s, laws_name(i)) < 0)
            TRY(submit(l, i, e));
    return ledger_commit(l, e);
}

static void coordinate(launch *x, bool again, int *status)
{
    sched_options how = {.gang_max = the.gang_max, .gang_nodes = the.gang_nodes, .pack_max = the.pack_max, .moves = true,
                         .ahead_ms = 500, .backoff_ms = 1000, .hold_ms = 2000};
    coordinator_options o = {.name = "sim", .base = "base", .listen = net_share(x->listen), .token = x->door.token,
                             .agents = x->nodes, .time_left = -1};
    ledger *l = NULL;
    err e = {0};

    *status = FARM_BROKEN;
    if (ledger_open(&l, "/farm", how, &e) == 0) {
        l->shared = again;
        if (prepare(l, &e) == 0) {
            o.l = l;
            *status = coordinator_run(&o);
        }
        ledger_close(l);
    }
    world_say("the coordinator ends with status %d %s", *status, e.text);
    if (e.code == ERR_IO && strstr(e.text, "damaged"))
        world_break("no crash is taken for damage", "%s", e.text);
}

static void coordinate_first(void *arg, int *status) { coordinate(arg, false, status); }
static void coordinate_again(void *arg, int *status) { coordinate(arg, true, status); }

static int replace(void *arg, pid_t *pid, err *e)
{
    launch *x = arg;

    (void)e;
    world_say("the coordinator is replaced");
    x->coordinator = process_start(coordinate_again, x, 0, process_self());
    *pid = process_pid(x->coordinator);
    return 0;
}

static agent_options options_of(const node *n)
{
    return (agent_options){.door = n->of->door, .node = n->name, .slots = n->slots, .threads = 1};
}

static void be_agent(void *arg, int *status)
{
    node *n = arg;
    agent_options o = options_of(n);
    err e = {0};

    *status = agent_run(&o, &e) == 0 ? 0 : 3;
    world_say("agent %s ends: %s", n->name, e.code ? e.text : "told to");
}

static void be_first_agent(void *arg, int *status)
{
    node *n = arg;
    launch *x = n->of;
    agent_coordinator c = {.again = replace, .arg = x};
    agent_options o = options_of(n);
    err e = {0};

    x->coordinator = process_start(coordinate_first, x, 0, process_self());
    c.pid = process_pid(x->coordinator);
    o.coordinator = &c;
    agent_run(&o, &e);
    world_say("agent %s ends: %s", n->name, e.code ? e.text : "told to");
    while (process_alive(x->coordinator))
        process_wait(world.now + 100 * MS);
    x->status = process_status(x->coordinator);
    x->ended = true;
    *status = 0;
}

static void add_node(launch *x, int host)
{
    node *n = &x->node[x->nodes++];

    *n = (node){.of = x, .host = host, .slots = the.slots};
    snprintf(n->name, sizeof n->name, "n%d", host);
    n->p = process_start(x->nodes == 1 ? be_first_agent : be_agent, n, host, NULL);
}

static launch *start(void)
{
    launch *x = NEW(launch);
    int hosts = the.hosts;

    x->listen = net_listen(0);
    x->door = (door){.port = PORT + x->listen - FD_BASE, .addresses = 1};
    str_copy(x->door.address[0], sizeof x->door.address[0], "127.0.0.1");
    str_copy(x->door.token, sizeof x->door.token, "token");
    for (int h = 0; h < hosts; h++)
        add_node(x, h);
    world_say("a start with %d nodes", hosts);
    return x;
}

/* ---- what befalls it ------------------------------------------------------------------------------------------- */

static void lose_host(launch *x, int host)
{
    for (int i = 0; i < x->nodes; i++)
        if (x->node[i].host == host && process_alive(x->node[i].p)) {
            net_drop_process(x->node[i].p, true);
            process_signal(x->node[i].p, SIGKILL);
        }
}

static void kill_all(launch *x)
{
    for (int i = 0; i < x->nodes; i++)
        process_signal(x->node[i].p, SIGKILL);
    process_signal(x->coordinator, SIGKILL);
}

static void order(const char *word)
{
    char path[96], text[128];
    int n = snprintf(text, sizeof text, "{\"version\":1,\"do\":\"%s\",\"names\":[\"%s\"]}", word, laws_name((int)lot((uint32_t)the.concepts)));

    snprintf(path, sizeof path, "/farm/spool/%013lld-%04d.json", (long long)(world.now / MS), the.orders++);
    disk_put(path, text, (size_t)n);
}

static void hold_one(launch *x)
{
    (void)x;
    order(chance(0.5) ? "hold" : "release");
}

static void rank_one(launch *x)
{
    static const char *const word[] = {"urgent", "normal", "background"};
    (void)x;
    order(word[lot(3)]);
}

static int64_t moment(double least, double most) { return world.now + (int64_t)((least + (most - least) * lot_real()) * 1e9); }
static process *any_agent(launch *x) { return x->node[lot((uint32_t)x->nodes)].p; }
static int other_host(void) { return the.hosts > 1 ? 1 + (int)lot((uint32_t)the.hosts - 1) : 0; }

static void kill_worker(launch *x) { (void)x, hands_kill(hands_pick(), SIGKILL); }
static void crash_worker(launch *x) { (void)x, hands_kill(hands_pick(), SIGSEGV); }
static void freeze_worker(launch *x) { (void)x, hands_freeze(hands_pick(), moment(1, 200)); }
static void kill_coordinator(launch *x) { process_signal(x->coordinator, SIGKILL); }
static void freeze_coordinator(launch *x) { process_freeze(x->coordinator, moment(0.5, 60)); }
static void kill_agent(launch *x) { process_signal(any_agent(x), SIGKILL); }
static void freeze_agent(launch *x) { process_freeze(any_agent(x), moment(0.5, 60)); }
static void cut(launch *x) { (void)x, net_cut(0, other_host(), moment(0.5, 90)); }
static void spoil(launch *x) { (void)x, net_spoil(other_host()); }
static void lose_node(launch *x) { lose_host(x, other_host()); }
static void kill_everything(launch *x) { kill_all(x); }
static void fail_sync(launch *x) { (void)x, disk_fail(1 + (int)lot(6), 0); }
static void fail_write(launch *x) { (void)x, disk_fail(0, 1 + (int)lot(6)); }
static void stall_disk(launch *x) { (void)x, disk_stall(moment(1, 60)); }
static void take_agent(launch *x) { process_signal(any_agent(x), SIGTERM); }
static void stop_farm(launch *x) { process_signal(x->node[0].p, SIGTERM); }

static void lose_power(launch *x)
{
    for (int h = 0; h < the.hosts; h++)
        lose_host(x, h);
    process_end_all(); /* also who was left behind */
    disk_power_loss();
    laws_journal();
}

/* Its machine is cut off, from its locks as well, and stands still: the next start finds the farm free. What it does when it wakes
 * must not count. */
static void leave_zombie(launch *x)
{
    if (!process_alive(x->coordinator))
        return;
    process_freeze(x->coordinator, moment(1, 60));
    process_orphan(x->coordinator);
    disk_unlock();
    for (int h = 0; h < the.hosts; h++)
        lose_host(x, h);
    x->coordinator = NULL;
    x->zombie = true;
}

static void join_late(launch *x)
{
    if (x->nodes < HOSTS_MOST)
        add_node(x, other_host());
}

static const struct { const char *name; void (*does)(launch *x); } kinds[] = {
    {"worker killed", kill_worker}, {"worker crashes", crash_worker}, {"worker stands still", freeze_worker},
    {"coordinator killed", kill_coordinator}, {"coordinator stands still", freeze_coordinator}, {"agent killed", kill_agent},
    {"agent stands still", freeze_agent}, {"network cut", cut}, {"frame lost", spoil}, {"node lost", lose_node},
    {"everything killed", kill_everything}, {"power lost", lose_power}, {"sync fails", fail_sync}, {"write fails", fail_write},
    {"disk stalls", stall_disk}, {"agent told to leave", take_agent}, {"farm told to stop", stop_farm}, {"agent comes late", join_late},
    {"held or released", hold_one}, {"other priority", rank_one}, {"a zombie is left", leave_zombie},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* ---- one world ------------------------------------------------------------------------------------------------- */

typedef struct {
    int64_t minutes_ms, events, disturbances, starts, trainings, done;
    int64_t kind[KINDS];
} tally;

static tally *sum;

static void disturb(void *arg)
{
    int64_t *until = arg;
    int k = (int)lot(KINDS);

    if (world.now >= *until)
        return;
    world_say("--- %s", kinds[k].name);
    sum->kind[k]++;
    world.disturbances++;
    kinds[k].does(now_running);
    world_at(world.now + (int64_t)(the.mean_s * 2e9 * lot_real()), disturb, arg, NULL);
}

static void make_plan(void)
{
    the = (plan){.concepts = 4 + (int)lot(28), .hosts = 1 + (int)lot(4), .slots = 1 + (int)lot(4), .pack_max = lot(2) ? 4 : 1,
                 .gang_max = 1 << lot(4), .mean_s = 5 + 200 * lot_real() * lot_real()};
    the.gang_nodes = 1 << lot(3);
    world.turn_ns = lot(4) == 0 ? 100 * MS : 900 * MS;
    laws_reset(the.concepts);
}

/* Small farms for hours, since a virtual hour costs what happens in it. */
static void make_long_plan(int minutes)
{
    the = (plan){.concepts = 2 + (int)lot(9), .hosts = lot(3) == 0 ? 2 : 1, .slots = 1 + (int)lot(2), .gang_max = 1 << lot(2),
                 .pack_max = 1, .mean_s = 200 + 1000 * lot_real()};
    the.work_s = minutes * 60.0 * the.hosts * the.slots / the.concepts;
    world.turn_ns = 900 * MS;
    world.spells = true;
    laws_reset(the.concepts);
}

static bool anybody_left(const launch *x)
{
    for (int i = 0; i < x->nodes; i++)
        if (process_alive(x->node[i].p))
            return true;
    return process_alive(x->coordinator);
}

/* As mpirun does: when rank 0 is gone the others are ended, now or soon. */
static void look_after(launch *x)
{
    if (!process_alive(x->node[0].p) && anybody_left(x) && chance(0.2))
        kill_all(x);
}

/* The launcher's look, each second; the world goes on meanwhile. */
static bool live_until_ended(launch *x, int64_t until)
{
    while (anybody_left(x) && world.now < until && !world.broken) {
        int64_t next_look = world.now + SEC;
        while (world.now < next_look && !world.broken)
            if (!world_next())
                return true;
        look_after(x);
    }
    return !anybody_left(x);
}

static void release_all(void)
{
    for (int i = 0; i < the.concepts; i++) {
        char path[96], text[128];
        int n = snprintf(text, sizeof text, "{\"version\":1,\"do\":\"release\",\"names\":[\"%s\"]}", laws_name(i));
        snprintf(path, sizeof path, "/farm/spool/9999999999999-%04d.json", i);
        disk_put(path, text, (size_t)n);
    }
}

static void nothing(void *arg) { (void)arg; }

/* Disturbed for so long, left alone then: it must end within two hours, and the time its work takes on one slot. */
static void run_world(uint64_t seed, int minutes, bool lasts)
{
    int64_t calm, end;
    int status = FARM_BROKEN;

    world_reset(seed);
    net_reset();
    disk_reset();
    hands_reset();
    if (lasts)
        make_long_plan(minutes);
    else
        make_plan();
    calm = world.now + (int64_t)minutes * 60 * SEC;
    end = calm + (7200 + (int64_t)(the.work_s * the.concepts)) * SEC;
    world_say("%d concepts, %d hosts with %d slots, packs of %d, gangs of %d, a disturbance every %.0f s", the.concepts, the.hosts,
              the.slots, the.pack_max, the.gang_max, the.mean_s);
    world_at(world.now + 5 * SEC, disturb, &calm, NULL);
    for (bool released = false; !world.broken;) {
        launch *x;
        if (released)
            release_all(); /* one that was still being stopped refuses it */
        x = now_running = start();
        sum->starts++;
        live_until_ended(x, released ? end : calm);
        if (world.now >= calm && !released) {
            net_heal();
            disk_fail(0, 0);
            disk_stall(0);
            release_all();
            released = true;
            live_until_ended(x, end);
        }
        if (world.now >= end)
            world_break("a farm left alone ends", "long after the last disturbance %d concepts are open", laws_open_jobs());
        status = x->ended ? x->status >> 8 : FARM_BROKEN;
        if (!x->zombie) /* it has its connections still */
            net_unlisten(x->listen);
        laws_journal();
        if (world.now >= calm && released && (status == FARM_DONE || status == FARM_SOME_FAILED) && laws_open_jobs() == 0)
            break;
        if (world.now < calm && (status == FARM_DONE || status == FARM_SOME_FAILED) && laws_open_jobs() == 0)
            break;
        world_at(world.now + SEC + (int64_t)lot(20) * SEC, nothing, NULL, NULL);
        for (int64_t until = world.now + SEC + (int64_t)lot(20) * SEC; world.now < until && world_next();)
            ;
    }
    if (!world.broken)
        laws_final(status);
    sum->minutes_ms += world.now / MS;
    sum->events += world.events;
    sum->disturbances += world.disturbances;
    sum->trainings += hands_starts;
    sum->done += hands_done;
}

/* ---- many worlds ----------------------------------------------------------------------------------------------- */

typedef struct { uint64_t first, count; int minutes; bool lasts, csv; } options;

pid_t __real_fork(void);
pid_t __real_waitpid(pid_t pid, int *status, int how);

/* A batch of worlds is a process: what killed ones leave in memory goes with it. */
static int run_batch(const options *o, uint64_t first, uint64_t count)
{
    for (uint64_t seed = first; seed < first + count; seed++) {
        run_world(seed, o->minutes, o->lasts);
        if (!world.broken)
            continue;
        fprintf(stderr, "seed %llu breaks a law: %s (%s), %.3f s after its beginning\n  sim --first %llu --count 1 --minutes %d%s --trace\n",
                (unsigned long long)seed, world.broken, world.detail, (double)world.now * 1e-9, (unsigned long long)seed, o->minutes,
                o->lasts ? " --long" : "");
        return 1;
    }
    return 0;
}

static int run(const options *o)
{
    for (uint64_t at = o->first; at < o->first + o->count; at += BATCH) {
        uint64_t n = o->first + o->count - at < BATCH ? o->first + o->count - at : BATCH;
        pid_t pid = __real_fork();
        int status;
        if (pid == 0)
            _exit(run_batch(o, at, n));
        if (pid < 0 || __real_waitpid(pid, &status, 0) != pid)
            return fprintf(stderr, "sim: no process for a batch: %s\n", strerror(errno)), 2;
        if (WIFSIGNALED(status))
            fprintf(stderr, "sim: signal %d in seeds %llu to %llu\n", WTERMSIG(status), (unsigned long long)at,
                    (unsigned long long)(at + n - 1));
        if (status != 0)
            return 1;
    }
    return 0;
}

static void print_csv(const options *o)
{
    printf("first,seeds,minutes_disturbed,long,farm_minutes,events,disturbances,starts,trainings_begun,trainings_ended\n");
    printf("%llu,%llu,%d,%d,%.0f,%lld,%lld,%lld,%lld,%lld\n", (unsigned long long)o->first, (unsigned long long)o->count, o->minutes,
           o->lasts, (double)sum->minutes_ms / 60000, (long long)sum->events, (long long)sum->disturbances, (long long)sum->starts,
           (long long)sum->trainings, (long long)sum->done);
    printf("kind,disturbances\n");
    for (int k = 0; k < KINDS; k++)
        printf("%s,%lld\n", kinds[k].name, (long long)sum->kind[k]);
}

static int understand(options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--trace") == 0)
            world.trace = true;
        else if (strcmp(argv[i], "--csv") == 0)
            o->csv = true;
        else if (strcmp(argv[i], "--long") == 0)
            o->lasts = true;
        else if (more && strcmp(argv[i], "--first") == 0)
            o->first = strtoull(argv[++i], NULL, 10);
        else if (more && strcmp(argv[i], "--count") == 0)
            o->count = strtoull(argv[++i], NULL, 10);
        else if (more && strcmp(argv[i], "--minutes") == 0)
            o->minutes = atoi(argv[++i]);
        else
            return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    options o = {.first = 1, .count = 200, .minutes = 10};
    int rc;

    if (understand(&o, argc, argv) != 0)
        return fprintf(stderr, "usage: sim [--first N] [--count N] [--minutes M] [--long] [--trace] [--csv]\n"), 2;
    setenv("CFARM_SILENCE_S", o.lasts ? "300" : "60", 1); /* a worker says nothing during a step */
    json_object_seed(1);
    sum = mmap(NULL, sizeof *sum, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    rc = run(&o);
    if (rc == 0 && o.csv)
        print_csv(&o);
    else if (rc == 0)
        printf("%llu worlds, %.0f farm-minutes, %lld disturbances: no law is broken\n", (unsigned long long)o.count,
               (double)sum->minutes_ms / 60000, (long long)sum->disturbances);
    return rc;
}
