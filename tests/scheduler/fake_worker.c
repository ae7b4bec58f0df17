/* A worker without tensors: speaks cluster/wire/worker.h and misbehaves as its concept's settings tell it. Built as
 * "cfarm-worker" in a folder of its own, which tests name in CFARM_PROGRAMS.
 *
 *   fake: {step_ms: 5,          each step takes so long
 *          at: 3, does: crash,  at step 3: crash (SIGSEGV), kill (SIGKILL), exit, hang, nan, disk, refuse, or memory: as one
 *                               whom the kernel kills for want of it, and counts in the file $CFARM_CGROUP/memory.events;
 *                               or devour: memory that no limit of its own counts, until the kernel does kill it
 *          times: 1,            only so many times, counted in the farm's logs/fake-NAME; without it always
 *          rank: 1,             only this rank of a gang; without it the first
 *          says: 5}             tells the log when this step and its checkpoint are done
 *   alike: one                  the class of its settings
 *
 * The result depends on the settings alone, not on gang or attempt: as the real one's should. A checkpoint is a line
 * with its step and a checksum over step and settings, written after each step. FAKE_LOAD=exit ends it at LOAD. */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/base/fs.h"
#include "cluster/base/hash.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "cluster/wire/wire.h"
#include "cluster/wire/worker.h"
#include "configs/farmfile.h"

typedef struct training {
    wire *w;
    json_int_t job, attempt, rank, size;
    json_t *order;
    const json_t *fake;
    char *settings;
    atomic_int *meet;
    bool stop, keep, packed;
    int steps, step;         /* step: finished ones */
    int place;               /* of the next checkpoint */
    struct training *next;
} training;

static char farm[FS_PATH];   /* its folder */

static void say(wire *w, int type, json_t *body)
{
    if (wire_tell(w, (uint16_t)type, body, 10, NULL) != 0)
        exit(0);
}

static json_t *about(const training *t) { return json_pack("{s:I, s:I}", "job", t->job, "attempt", t->attempt); }

static json_int_t number(const json_t *o, const char *key, json_int_t otherwise)
{
    const json_t *v = json_object_get(o, key);
    return v ? (json_int_t)json_number_value(v) : otherwise;
}

static void say_failed(const training *t, const char *blame, bool retry, const char *text)
{
    json_t *o = about(t);
    json_object_update_new(o, json_pack("{s:s, s:b, s:s, s:s}", "blame", blame, "retry", retry, "code", "fake", "text",
                                        text));
    say(t->w, WORKER_FAILED, o);
}

/* The class of its settings. */
static const char *alike_of(const json_t *settings)
{
    const char *word = json_string_value(json_object_get(settings, "alike"));

    return word ? word : "one";
}

static void count_kill(void)
{
    char path[FS_PATH], *text;
    str more = {0};
    size_t n;

    snprintf(path, sizeof path, "%s/memory.events", getenv("CFARM_CGROUP"));
    if (fs_read(path, &text, &n, 4096, NULL) != 0)
        _exit(13);
    str_add(&more, "low 0\noom_kill %d\n", atoi(strstr(text, "oom_kill ") + 9) + 1);
    if (fs_write(path, more.at, more.n, NULL) != 0)
        _exit(13);
}

/* Pages of a memory file. A machine that lets it have a GiB would let it have all. */
static _Noreturn void devour(void)
{
    static char page[1 << 20];
    int fd = memfd_create("devoured", MFD_CLOEXEC);

    for (int i = 0; i < 1024; i++)
        if (write(fd, page, sizeof page) != sizeof page)
            _exit(15);
    _exit(16);
}

/* A byte for each time. An attempt may end before it comes so far: attempts are not counted. */
static bool often_enough(const training *t)
{
    const char *name = json_string_value(json_object_get(t->order, "name"));
    char path[FS_PATH + 300];
    struct stat s;
    int fd;

    if (!json_object_get(t->fake, "times"))
        return false;
    snprintf(path, sizeof path, "%s/logs/fake-%s", farm, name ? name : "");
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || fstat(fd, &s) != 0 || write(fd, "x", 1) != 1)
        _exit(14);
    close(fd);
    return s.st_size >= number(t->fake, "times", 0);
}

/* True: it has failed politely. */
static bool misbehave(const training *t)
{
    const char *does = json_string_value(json_object_get(t->fake, "does"));

    if (!does || often_enough(t))
        return false;
    if (strcmp(does, "crash") == 0)
        raise(SIGSEGV);
    if (strcmp(does, "devour") == 0)
        devour();
    if (strcmp(does, "memory") == 0)
        count_kill();
    if (strcmp(does, "kill") == 0 || strcmp(does, "memory") == 0)
        raise(SIGKILL);
    if (strcmp(does, "exit") == 0)
        _exit(3);
    while (strcmp(does, "hang") == 0)
        pause();
    if (strcmp(does, "nan") == 0)
        say_failed(t, "job", true, "step 3: the loss is not a number");
    else if (strcmp(does, "disk") == 0)
        say_failed(t, "store", true, "no space left on the disk");
    else
        say_failed(t, "settings", false, "a setting that cannot be");
    return true;
}

static atomic_int *map_meet(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    void *at;

    if (fd < 0 || ftruncate(fd, 64 * sizeof(atomic_int)) != 0)
        exit(9);
    at = mmap(NULL, 64 * sizeof(atomic_int), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return at == MAP_FAILED ? NULL : at;
}

static void look_for_stop(training *t)
{
    wire_frame f;

    if (wire_take(t->w, &f, 0, NULL) != 0 || f.type == WORKER_QUIT)
        exit(0);
    json_t *o = NULL;
    if (f.type == WORKER_STOP && wire_parse(&f, &o, NULL) == 0) {
        t->stop = true;
        t->keep = json_is_true(json_object_get(o, "keep"));
        json_decref(o);
    }
}

/* Each rank counts its steps where all can see them: the gang is as fast as its slowest, and waits for the dead. */
static void meet_gang(training *t, int step)
{
    if (!t->meet)
        return;
    atomic_store(&t->meet[t->rank], step);
    for (json_int_t r = 0; r < t->size; r++)
        for (int i = 0; atomic_load(&t->meet[r]) < step && !t->stop; i++) {
            usleep(200);
            if (i % 16 == 15)
                look_for_stop(t);
        }
}

/* ---- checkpoints ---- */

enum { LINE = 32 };

static void checkpoint_line(char line[LINE], int step, const char *settings)
{
    char what[16];

    snprintf(what, sizeof what, "%d", step);
    memset(line, 0, LINE);
    snprintf(line, LINE, "fake %d %08x\n", step, hash_crc32(hash_crc32(0, what, strlen(what)), settings, strlen(settings)));
}

static void keep(training *t, const json_t *order, int step, const char *settings)
{
    const char *path = json_string_value(json_array_get(json_object_get(order, "keep"), (size_t)t->place));
    char line[LINE];
    json_t *o;

    if (!path || (t->stop && !t->keep))
        return;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    checkpoint_line(line, step, settings);
    if (fd < 0 || pwrite(fd, line, LINE, 0) != LINE)
        exit(7);
    close(fd);
    o = about(t);
    json_object_update_new(o, json_pack("{s:i, s:i, s:i}", "place", t->place, "step", step, "bytes", LINE));
    say(t->w, WORKER_CHECKPOINT, o);
    t->place = 1 - t->place;
}

static void say_line(const training *t, const char *fmt, const char *what, int step)
{
    char text[300];

    snprintf(text, sizeof text, fmt, what, step);
    say(t->w, WORKER_LOG, json_pack("{s:s}", "text", text));
}

/* The finished step of the newest whole checkpoint; 0: none. */
static int go_on(training *t, const json_t *order, const char *settings)
{
    const json_t *from = json_object_get(order, "from");
    int best = 0;

    for (size_t i = 0; i < json_array_size(from); i++) {
        const char *path = json_string_value(json_array_get(from, i));
        char there[LINE] = "", due[LINE];
        int step = 0, fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || pread(fd, there, LINE, 0) != LINE || sscanf(there, "fake %d", &step) != 1)
            step = 0;
        if (fd >= 0)
            close(fd);
        checkpoint_line(due, step, settings);
        if (memcmp(there, due, LINE) != 0)
            say_line(t, "%s: damaged; passed over", path, 0);
        else if (step > best)
            best = step;
    }
    if (best > 0)
        say_line(t, "%s goes on from step %d", json_string_value(json_object_get(order, "name")), best);
    return best;
}

static void write_result(const training *t, const char *out, const char *settings)
{
    json_t *o = about(t);
    err e = {0};

    if (out) {
        char sha[HASH_HEX];
        if (fs_write(out, settings, strlen(settings), &e) != 0) {
            json_decref(o);
            say_failed(t, "store", true, e.text);
            return;
        }
        hash_bytes(settings, strlen(settings), sha);
        json_object_update_new(o, json_pack("{s:s, s:s, s:i}", "file", out, "sha256", sha, "bytes",
                                            (int)strlen(settings)));
    }
    json_object_update_new(o, json_pack("{s:f, s:{}}", "seconds", 0.5, "summary"));
    say(t->w, WORKER_DONE, o);
}

/* What remains of the order while it is under way. */
static void begin(training *t, const json_t *order)
{
    const json_t *settings;

    t->order = json_deep_copy(order);
    settings = json_object_get(t->order, "settings");
    t->fake = json_object_get(settings, "fake");
    t->settings = json_dumps(settings, JSON_SORT_KEYS);
    t->steps = (int)number(settings, "steps", 5);
    t->step = go_on(t, order, t->settings); /* only rank 0 of a gang knows; the others are soon there */
}

static void end(training *t)
{
    json_decref(t->order);
    free(t->settings);
}

/* False: that was all, and it has answered. */
static bool step(training *t)
{
    bool mine = number(t->fake, "rank", 0) == t->rank;
    json_t *o;

    if (t->stop || t->step == t->steps) {
        if (t->stop)
            say(t->w, WORKER_STOPPED, about(t));
        else if (mine)
            usleep((useconds_t)number(t->fake, "ends_ms", 0) * 1000);
        if (!t->stop)
            write_result(t, json_string_value(json_object_get(t->order, "out")), t->settings);
        return false;
    }
    t->step++;
    usleep((useconds_t)number(t->fake, "step_ms", 1) * 1000);
    if (mine && t->step == (int)number(t->fake, "at", -1) && misbehave(t))
        return false;
    meet_gang(t, t->step);
    o = about(t);
    json_object_update_new(o, json_pack("{s:s, s:i, s:i, s:f, s:f}", "phase", "training", "step", t->step, "steps", t->steps,
                                        "loss", 1.0 / t->step, "seconds", 0.01));
    if (t->size > 1)
        json_object_set_new(o, "joined", json_real(0.0025));
    say(t->w, WORKER_PROGRESS, o);
    if (!t->packed)
        look_for_stop(t);
    if (t->rank == 0 && t->step < t->steps)
        keep(t, t->order, t->step, t->settings);
    if (t->rank == 0 && t->step == number(t->fake, "says", -1))
        say_line(t, "%s is at step %d", json_string_value(json_object_get(t->order, "name")), t->step);
    return true;
}

/* ---- packs ---- */

static training *members;
static int room = 1, most; /* most: that were under way at the same time */

static void drop(training **at)
{
    training *t = *at;

    *at = t->next;
    end(t);
    free(t);
}

static void step_all(void)
{
    for (training **at = &members; *at;)
        if (step(*at))
            at = &(*at)->next;
        else
            drop(at);
}

static bool stop_member(const json_t *order)
{
    for (training *t = members; t; t = t->next)
        if (t->job == number(order, "job", 0) && t->attempt == number(order, "attempt", 0)) {
            t->stop = true;
            t->keep = json_is_true(json_object_get(order, "keep"));
            return true;
        }
    return false;
}

static void join_pack(const training *t, const json_t *order)
{
    training *m = NEW(training);
    int n = 1;

    *m = *t;
    m->packed = true;
    m->next = members;
    for (const training *at = members; at; at = at->next, n++)
        if (strcmp(alike_of(json_object_get(at->order, "settings")), alike_of(json_object_get(order, "settings"))) != 0)
            exit(10); /* nobody shall order that */
    if (n > room)
        exit(11);
    members = m;
    begin(m, order);
    if (n > most)
        say_line(m, "%s: %d side by side", json_string_value(json_object_get(m->order, "name")), most = n);
}

static void on_start(wire *w, const json_t *order)
{
    const json_t *gang = json_object_get(order, "gang");
    const char *path = json_string_value(json_object_get(gang, "path")), *meet = json_string_value(json_object_get(gang, "meet"));
    char file[FS_PATH];
    training t = {.w = w, .job = number(order, "job", 0), .attempt = number(order, "attempt", 0),
                  .rank = number(gang, "rank", 0), .size = number(gang, "size", 1)};

    snprintf(file, sizeof file, "%s.0", meet ? meet : "");
    if (path || meet)
        t.meet = map_meet(path ? path : file);
    say(w, WORKER_STARTED, about(&t));
    if (json_is_true(json_object_get(order, "pack"))) {
        join_pack(&t, order);
        return;
    }
    if (members)
        exit(12);
    begin(&t, order);
    while (step(&t))
        ;
    end(&t);
    if (t.meet)
        munmap(t.meet, 64 * sizeof(atomic_int));
}

static int serve(int fd)
{
    wire *w = wire_new(fd);
    const char *load = getenv("FAKE_LOAD");
    wire_frame f;
    json_t *o;

    while (wire_take(w, &f, members ? 0 : -1, NULL) == 0 && f.type != WORKER_QUIT) {
        if (!f.type) {
            step_all();
            continue;
        }
        if (wire_parse(&f, &o, NULL) != 0)
            return 1;
        if (f.type == WORKER_LOAD)
            str_copy(farm, sizeof farm, json_string_value(json_object_get(o, "farm")));
        if (f.type == WORKER_LOAD && load) {
            say(w, WORKER_FAILED, json_pack("{s:s, s:b, s:s, s:s}", "blame", "node", "retry", 1, "code", "load", "text",
                                            "no model here"));
            exit(1);
        }
        if (f.type == WORKER_LOAD) {
            room = (int)number(o, "pack", 1);
            say(w, WORKER_READY, json_pack("{s:i, s:i, s:s, s:s, s:i, s:i}", "protocol", WORKER_PROTOCOL, "pid", (int)getpid(),
                                           "version", "fake", "backend", "none", "memory", 0, "pack", room));
        } else if (f.type == WORKER_START)
            on_start(w, o);
        else if (f.type == WORKER_STOP && !stop_member(o))
            say(w, WORKER_STOPPED, json_incref(o));
        json_decref(o);
    }
    wire_free(w);
    return 0;
}

static int setting(const farm_concept *c, const char *key, int otherwise)
{
    const cfg_node *v = cfg_get(c->settings, key);
    return v ? atoi(v->text) : otherwise;
}

static int check_in(cfg_doc *d, const char *path, const char *piece)
{
    json_t *list, *o;
    farmfile *f;
    err e = {0};

    if (farm_read(&f, d, path, NULL, &e) != 0 || (piece && farm_piece(&f, f, piece, &e) != 0)) {
        fprintf(stderr, "%s\n", e.text);
        return 2;
    }
    for (size_t i = 0; i < f->concept_count; i++)
        if (cfg_get(f->concepts[i].settings, "broken")) {
            fprintf(stderr, "%s: broken\n", f->concepts[i].name);
            return 2;
        }
    list = json_array();
    for (size_t i = 0; i < f->concept_count; i++) {
        const farm_concept *c = &f->concepts[i];
        const cfg_node *alike = cfg_get(c->settings, "alike");
        json_array_append_new(list, json_pack("{s:s, s:i, s:i, s:i, s:s}", "name", c->name, "steps", setting(c, "steps", 5),
                                              "batch", setting(c, "batch", 8), "leaves", setting(c, "leaves", 8), "alike",
                                              alike ? alike->text : "one"));
    }
    o = json_pack("{s:o}", "concepts", list);
    json_dumpf(o, stdout, 0);
    json_decref(o);
    return 0;
}

static int check(const char *path, const char *piece)
{
    cfg_doc *d = cfg_doc_new();
    int status = check_in(d, path, piece);

    cfg_doc_free(d);
    return status;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--fd") == 0)
        return serve(atoi(argv[2]));
    if (argc >= 3 && strcmp(argv[1], "--check") == 0)
        return check(argv[2], argc > 4 && strcmp(argv[3], "--piece") == 0 ? argv[4] : NULL);
    return 2;
}
