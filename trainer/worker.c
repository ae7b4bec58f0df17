/* cfarm-worker: loads the base model once and trains one concept after another, as an agent orders it over a socket
 * (cluster/wire/worker.h). By hand: --check tells what is wrong with a farm file, --train trains one of its concepts. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/fault.h"
#include "cluster/base/hash.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "cluster/wire/wire.h"
#include "cluster/wire/worker.h"
#include "configs/cfg_yaml.h"
#include "trainer/bench.h"
#include "trainer/check.h"
#include "trainer/pack_run.h"
#include "trainer/resume.h"
#include "trainer/train.h"

enum { GANG_SLOT = 4 << 20 };           /* bytes a rank shows at once in a gang */
static const double GANG_TIMEOUT = 600, TELL_EVERY = 0.1, SEND_WITHIN = 30;

typedef struct {
    wire *agent;
    nn_backend *backend;
    sd *model;
    int64_t job, attempt;               /* the one under way; attempt 0: none */
    bool stop, quit;
    bool keep;                          /* the stop asks for a checkpoint */
    double told;
    char phase[16];
} worker;

/* ---- telling the agent ---- */

static json_t *about(const worker *w) { return json_pack("{s:I s:I}", "job", (json_int_t)w->job, "attempt", (json_int_t)w->attempt); }

static void say(worker *w, uint16_t type, json_t *body)
{
    err e = {0};

    if (wire_tell(w->agent, type, body, SEND_WITHIN, &e) != 0)
        w->quit = w->stop = true;       /* the agent is gone: nobody wants the rest */
}

static void say_failed(worker *w, json_t *o, const char *blame, bool retry, const char *code, const char *text)
{
    json_object_set_new(o, "blame", json_string(blame));
    json_object_set_new(o, "retry", json_boolean(retry));
    json_object_set_new(o, "code", json_string(code));
    json_object_set_new(o, "text", json_string(text));
    say(w, WORKER_FAILED, o);
}

/* What would have to change for it to go well (rule 7). */
static void say_error(worker *w, const err *e)
{
    static const struct { err_code code; const char *blame; bool retry; } judge[] = {
        {ERR_INPUT, "job", false}, {ERR_SHAPE, "job", false}, {ERR_IO, "store", true},
        {ERR_MEMORY, "job", true}, {ERR_DEVICE, "gpu", true}, {ERR_PEER, "node", true},
    };

    for (size_t i = 0; i < sizeof judge / sizeof *judge; i++)
        if (judge[i].code == e->code)
            say_failed(w, about(w), judge[i].blame, judge[i].retry, e->code == ERR_PEER ? "gang" : err_name(e->code), e->text);
}

/* ---- what may come while training ---- */

static void on_order_while_busy(worker *w, const wire_frame *f)
{
    json_t *o = NULL;
    err e = {0};

    if (f->type == WORKER_QUIT)
        w->quit = w->stop = true;
    if ((f->type != WORKER_STOP && f->type != WORKER_START) || wire_parse(f, &o, &e) != 0)
        return;
    int64_t job = json_integer_value(json_object_get(o, "job")), attempt = json_integer_value(json_object_get(o, "attempt"));
    bool ours = job == w->job && attempt == w->attempt;
    json_t *reply = json_pack("{s:I s:I}", "job", (json_int_t)job, "attempt", (json_int_t)attempt);
    if (f->type == WORKER_START && !ours)
        say_failed(w, reply, "node", true, "busy", "another concept is under way");
    else if (f->type == WORKER_START)
        say(w, WORKER_STARTED, reply);
    else if (!ours)
        say(w, WORKER_STOPPED, reply);
    else {
        w->stop = true;
        w->keep = json_is_true(json_object_get(o, "keep"));
        json_decref(reply);
    }
    json_decref(o);
}

static void look_for_orders(worker *w)
{
    wire_frame f;
    err e = {0};

    do {
        if (wire_take(w->agent, &f, 0, &e) != 0) {
            w->quit = w->stop = true;
            return;
        }
        if (f.type)
            on_order_while_busy(w, &f);
    } while (f.type);
}

static bool on_progress(void *arg, const train_progress *p)
{
    worker *w = arg;
    bool turn = strcmp(w->phase, p->phase) != 0;

    if (turn || clock_s() - w->told >= TELL_EVERY || p->step == p->steps) {
        json_t *o = about(w);
        json_object_set_new(o, "phase", json_string(p->phase));
        json_object_set_new(o, "step", json_integer(p->step));
        json_object_set_new(o, "steps", json_integer(p->steps));
        json_object_set_new(o, "seconds", json_real(p->seconds));
        if (p->step > 0 && isfinite(p->loss))
            json_object_set_new(o, "loss", json_real(p->loss));
        say(w, WORKER_PROGRESS, o);
        snprintf(w->phase, sizeof w->phase, "%s", p->phase);
        w->told = clock_s();
    }
    if (strcmp(p->phase, "training") == 0)
        fault_here("worker.step");
    look_for_orders(w);
    return w->stop;
}

static void on_say(void *arg, const char *text)
{
    say(arg, WORKER_LOG, json_pack("{s:s}", "text", text));
}

/* ---- checkpoints ---- */

static void on_kept(void *arg, int place, int step, size_t bytes)
{
    worker *w = arg;
    json_t *o = about(w);

    json_object_set_new(o, "place", json_integer(place));
    json_object_set_new(o, "step", json_integer(step));
    json_object_set_new(o, "bytes", json_integer((json_int_t)bytes));
    say(w, WORKER_CHECKPOINT, o);
    fault_here("worker.checkpoint");
}

static bool on_wants(void *arg)
{
    const worker *w = arg;

    return w->keep;
}

/* ---- START ---- */

static json_t *summary_of(const train_summary *s)
{
    json_t *o = json_pack("{s:i s:i s:f s:f s:f s:f}", "steps", s->steps, "began", s->began, "first_loss", s->first_loss,
                          "last_loss", s->last_loss, "load_seconds", s->load_seconds, "train_seconds", s->seconds);

    if (isfinite(s->probe_before))
        json_object_set_new(o, "probe_before", json_real(s->probe_before));
    if (isfinite(s->probe_after))
        json_object_set_new(o, "probe_after", json_real(s->probe_after));
    return o;
}

/* One line for the farm's log: what was learned, as far as numbers say it. */
static void say_learned(worker *w, const char *name, const train_summary *s)
{
    str line = {0};

    str_add(&line, "concept %s: %d steps, mean loss %.5f over the first tenth and %.5f over the last", name, s->steps, s->first_loss,
            s->last_loss);
    if (isfinite(s->probe_before) && isfinite(s->probe_after))
        str_add(&line, "; on the fixed draws %.6f before and %.6f after", s->probe_before, s->probe_after);
    say(w, WORKER_LOG, json_pack("{s:s}", "text", line.at));
    str_free(&line);
}

static int say_done(worker *w, const char *out, const train_summary *s, err *e)
{
    json_t *o = about(w);

    json_object_set_new(o, "seconds", json_real(s->seconds));
    json_object_set_new(o, "summary", summary_of(s));
    if (out) {
        char sha[HASH_HEX];
        struct stat st;
        if (hash_file(out, sha, e) != 0 || stat(out, &st) != 0) {
            json_decref(o);
            return e->code ? (int)e->code : err_set(e, ERR_IO, "%s is gone", out);
        }
        json_object_set_new(o, "file", json_string(out));
        json_object_set_new(o, "sha256", json_string(sha));
        json_object_set_new(o, "bytes", json_integer(st.st_size));
    }
    say(w, WORKER_DONE, o);
    return 0;
}

static int join_gang(comm **out, const json_t *gang, err *e)
{
    int64_t rank, size;
    const char *path;

    TRY(json_opt_int(gang, "rank", 0, 63, 0, &rank, e));
    TRY(json_opt_int(gang, "size", 1, 64, 1, &size, e));
    if (size == 1)
        return comm_self(out, e);
    TRY(json_get_text(gang, "path", &path, e));
    return comm_shm(out, path, (int)rank, (int)size, GANG_SLOT, GANG_TIMEOUT, e);
}

static int train(worker *w, const json_t *order, const char *name, const char *settings, comm *gang, err *e)
{
    cfg_doc *d = cfg_doc_new();
    const cfg_node *tree;
    const cfg *from;
    concept_cfg cfg_of;
    const char *out = json_string_value(json_object_get(order, "out"));
    train_summary sum;
    resume *r = NULL;
    int64_t leaves = 0;
    char *ran = NULL;
    str title = {0};

    str_add(&title, "settings of %s", name);
    int rc = cfg_yaml_parse(&tree, d, settings, strlen(settings), title.at, e);
    if (rc == 0)
        rc = concept_cfg_fill(&cfg_of, &from, d, tree, e);
    if (rc == 0)
        rc = json_opt_int(json_object_get(order, "gang"), "leaves", 0, 1 << 20, 0, &leaves, e);
    if (rc == 0)
        rc = resume_open(&r, order, name, (resume_ear){w, on_kept, on_say, on_wants}, e);
    if (rc == 0) {
        ran = cfg_values(from);
        train_job job = {.name = name, .cfg = &cfg_of, .settings = ran, .gang = gang, .leaves = (int)leaves, .out = out,
                         .progress = on_progress, .say = on_say, .arg = w};
        rc = resume_prepare(r, w->model, &job, e);
        if (rc == 0)
            rc = train_concept(w->model, &job, &sum, e);
    }
    if (rc == 0 && sum.stopped)
        say(w, WORKER_STOPPED, about(w));
    else if (rc == 0 && out)
        say_learned(w, name, &sum);
    if (rc == 0 && !sum.stopped)
        rc = say_done(w, out, &sum, e);
    resume_close(r);
    free(ran);
    str_free(&title);
    cfg_doc_free(d);
    return rc;
}

static void on_start(worker *w, const json_t *order)
{
    const char *name = json_string_value(json_object_get(order, "name"));
    char *settings = json_dumps(json_object_get(order, "settings"), JSON_COMPACT);
    comm *gang = NULL;
    err e = {0};

    w->job = json_integer_value(json_object_get(order, "job"));
    w->attempt = json_integer_value(json_object_get(order, "attempt"));
    w->stop = w->keep = false;
    w->phase[0] = '\0';
    if (!name || !settings) {
        say_failed(w, about(w), "node", false, "protocol", "START without a name or settings");
    } else {
        say(w, WORKER_STARTED, about(w));
        int rc = join_gang(&gang, json_object_get(order, "gang"), &e);
        if (rc == 0)
            rc = train(w, order, name, settings, gang, &e);
        if (rc != 0)
            say_error(w, &e);
    }
    comm_free(gang);
    free(settings);
    w->attempt = 0;
}

/* ---- serving ---- */

static int on_load(worker *w, const json_t *order, err *e)
{
    const char *base;
    int64_t threads, protocol;

    TRY(json_get_int(order, "protocol", 0, 1 << 20, &protocol, e));
    if (protocol != WORKER_PROTOCOL)
        return err_set(e, ERR_PEER, "the agent speaks protocol %lld and this worker %d", (long long)protocol, WORKER_PROTOCOL);
    TRY(json_get_text(order, "base", &base, e));
    TRY(json_opt_int(order, "threads", 0, 4096, 0, &threads, e));
    TRY(nn_cpu_open(&w->backend, (int)threads, false, e));
    TRY(sd_open(&w->model, base, w->backend, e));
    say(w, WORKER_READY, json_pack("{s:i s:i s:s s:s s:I}", "protocol", WORKER_PROTOCOL, "pid", (int)getpid(), "version",
                                   CFARM_VERSION, "backend", w->backend->name, "memory", (json_int_t)mem_free_bytes()));
    return 0;
}

static int on_order(worker *w, const wire_frame *f, err *e)
{
    json_t *o = NULL;
    int rc = 0;

    if (f->type == WORKER_QUIT) {
        w->quit = true;
        return 0;
    }
    TRY(wire_parse(f, &o, e));
    if (f->type == WORKER_LOAD && !w->model)
        rc = on_load(w, o, e);
    else if (f->type == WORKER_START && w->model)
        on_start(w, o);
    else if (f->type == WORKER_STOP)
        say(w, WORKER_STOPPED, json_pack("{s:O? s:O?}", "job", json_object_get(o, "job"), "attempt", json_object_get(o, "attempt")));
    else
        rc = err_set(e, ERR_PEER, "order %d where none of its kind is due", f->type);
    json_decref(o);
    return rc;
}

static int serve(int fd)
{
    worker w = {.agent = wire_new(fd)};
    wire_frame f;
    err e = {0};
    int rc = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    while (!w.quit && rc == 0) {
        if (wire_take(w.agent, &f, -1, &e) != 0)
            break;                       /* the agent is gone */
        rc = on_order(&w, &f, &e);
    }
    if (rc != 0)
        say_failed(&w, json_object(), "node", true, err_name(e.code), e.text);
    sd_close(w.model);
    if (w.backend)
        w.backend->close(w.backend);
    wire_free(w.agent);
    return rc != 0;
}

/* ---- by hand ---- */

static bool print_progress(void *arg, const train_progress *p)
{
    double *told = arg;

    if (strcmp(p->phase, "training") == 0 && (clock_s() - *told > 1 || p->step == p->steps)) {
        fprintf(stderr, "step %d of %d  loss %.5f  %.3f s\n", p->step, p->steps, p->loss, p->seconds);
        *told = clock_s();
    }
    return false;
}

static void print_say(void *arg, const char *text)
{
    (void)arg;
    fprintf(stderr, "%s\n", text);
}

static int train_by_hand(const farmfile *farm, const char *name, const char *out, err *e)
{
    const farm_concept *f = farm_find(farm, name);
    const cfg *from;
    concept_cfg cfg_of;
    train_summary sum;
    nn_backend *b;
    sd *model;
    comm *self;
    double told = 0;

    if (!f)
        return err_set(e, ERR_INPUT, "%s: no concept %s", farm->path, name);
    TRY(concept_cfg_fill(&cfg_of, &from, farm->doc, f->settings, e));
    TRY(nn_cpu_open(&b, 0, false, e));
    TRY(sd_open(&model, farm->base, b, e));
    TRY(comm_self(&self, e));
    char *ran = cfg_values(from);
    train_job job = {.name = name, .cfg = &cfg_of, .settings = ran, .gang = self, .out = out, .progress = print_progress,
                     .say = print_say, .arg = &told};
    int rc = train_concept(model, &job, &sum, e);
    if (rc == 0) {
        json_t *o = summary_of(&sum);
        json_dumpf(o, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(o);
    }
    free(ran);
    comm_free(self);
    sd_close(model);
    b->close(b);
    return rc;
}

static int pack_by_hand(const farmfile *farm, int argc, char **argv)
{
    const pack_opts o = {argc > 4 ? atoi(argv[4]) : 2, argc > 5 ? atoi(argv[5]) : 1};
    err e = {0};
    int failed;

    if (pack_run(farm, argv[3], &o, &failed, &e) == 0)
        return failed > 0;
    fprintf(stderr, "%s\n", e.text);
    return 1;
}

static int usage(FILE *to)
{
    fprintf(to, "cfarm-worker --check FARM.yaml [--piece PIECE] [--json]\n"
                "                                                    what would run, and every mistake; status 2 if there are any;\n"
                "                                                    --piece: of what is to be added to that farm, alone\n"
                "cfarm-worker --train FARM.yaml NAME OUT.h5          trains one concept here and now, without a farm\n"
                "cfarm-worker --train-pack FARM.yaml FOLDER [LANES [WIDTH]]\n"
                "                                                    trains all of its concepts, many at once (trainer/pack.h), into\n"
                "                                                    FOLDER/NAME.h5; status 1 if any failed; LANES: 2, WIDTH: 1\n"
                "cfarm-worker --bench [MODEL] [FLAGS]                how long a model's parts take here (cfarm bench)\n"
                "cfarm-worker --settings                             every setting of a concept\n"
                "cfarm-worker --fd N                                 serves an agent (cluster/wire/worker.h)\n");
    return to == stdout ? 0 : 2;
}

static int by_hand(int argc, char **argv)
{
    cfg_doc *d = cfg_doc_new();
    farmfile *farm;
    err e = {0};
    int status = 0, piece = argc > 4 && strcmp(argv[3], "--piece") == 0 ? 4 : 0;

    if (farm_read(&farm, d, argv[2], NULL, &e) != 0 || (piece && farm_piece(&farm, farm, argv[piece], &e) != 0)) {
        fprintf(stderr, "%s\n", e.text);
        status = 2;
    } else if (strcmp(argv[1], "--check") == 0)
        status = check_farm(farm, argc > 3 && strcmp(argv[argc - 1], "--json") == 0, stdout, stderr) ? 2 : 0;
    else if (strcmp(argv[1], "--train-pack") == 0)
        status = pack_by_hand(farm, argc, argv);
    else if (train_by_hand(farm, argv[3], argv[4], &e) != 0) {
        fprintf(stderr, "concept %s: %s\n", argv[3], e.text);
        status = 1;
    }
    cfg_doc_free(d);
    return status;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";

    if (strcmp(verb, "--fd") == 0 && argc == 3)
        return serve(atoi(argv[2]));
    if ((strcmp(verb, "--check") == 0 && argc >= 3) || (strcmp(verb, "--train") == 0 && argc == 5) ||
        (strcmp(verb, "--train-pack") == 0 && argc >= 4 && argc <= 6))
        return by_hand(argc, argv);
    if (strcmp(verb, "--bench") == 0 || strcmp(verb, "bench") == 0) { /* the word alone: as cfarm hands it over */
        argv[1] = argv[0];
        return bench_main(argc - 1, argv + 1);
    }
    if (strcmp(verb, "--settings") == 0) {
        concept_cfg_help(stdout);
        return 0;
    }
    return usage(strcmp(verb, "--help") == 0 ? stdout : stderr);
}
