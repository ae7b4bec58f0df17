/* cfarm-worker: serves an agent (serve.h). By hand: --check tells what is wrong with a farm file, --train trains one of its
 * concepts, --train-pack all of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "trainer/bench.h"
#include "trainer/check.h"
#include "trainer/pack_run.h"
#include "trainer/serve.h"
#include "trainer/train.h"

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

/* A rank of a gang by hand; size 1: alone, and with a place to meet all the same in a gang of one, as far as the device is concerned. */
typedef struct { int rank, size; const char *meet; double timeout; } seat;

enum { SEATS_MOST = 64 };
static const double GANG_TIMEOUT = 300; /* of ranks that a person or a launcher starts together, which load a model first */

static int sit_down(comm **out, const seat *at, nn_backend *b, bool fast, err *e)
{
    if (at->size == 1)
        TRY(comm_self(out, e));
    else
        TRY(comm_tcp(out, at->meet, at->rank, at->size, at->timeout, e));
    if (!fast || !b->join || !at->meet[0])
        return 0;
    TRY(b->join(b, out, at->timeout, e));
    if (!comm_joins_devices(*out))
        fprintf(stderr, "cfarm-worker: ranks share a GPU: gradients are added on the host, as by reduce: exact\n");
    return 0;
}

static int train_by_hand(const farmfile *farm, const char *name, const char *out, const seat *at, err *e)
{
    const bool cuda = farm->backend == FARM_BACKEND_CUDA;
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
    train_on_gpu(cuda);
    TRY(concept_cfg_fill(&cfg_of, &from, farm->doc, f->settings, e));
    TRY(nn_open(&b, cuda ? "cuda" : "cpu", 0, e));
    TRY(sd_open(&model, farm->base, b, e));
    TRY(sit_down(&self, at, b, cfg_of.how.reduce != REDUCE_EXACT, e));
    char *ran = cfg_values(from);
    train_job job = {.name = name, .cfg = &cfg_of, .settings = ran, .gang = self, .out = at->rank == 0 ? out : NULL, .progress = print_progress,
                     .say = print_say, .arg = &told};
    int rc = train_concept(model, &job, &sum, e);
    if (rc == 0) {
        json_t *o = serve_summary(&sum);
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

/* How fast a gang adds up, and that what it adds up is right: buf[i] = rank + i, whose sum is known. */
static int gang_speed(const seat *at, const char *backend, size_t n, int rounds, err *e)
{
    float *host = NEW_N(float, n), first = (float)at->rank, last, want = (float)(at->size * (at->size - 1) / 2);
    nn_backend *b;
    comm *gang;
    void *mem;
    double best = 0;

    TRY(nn_open(&b, backend, 0, e));
    TRY(sit_down(&gang, at, b, true, e));
    if (!comm_joins_devices(gang))
        return err_set(e, ERR_INPUT, "backend %s joins no devices here; cuda does, a GPU a rank", backend);
    TRY(b->alloc(b, &mem, n * sizeof *host, e));
    for (int i = 0; i < rounds; i++) {
        for (size_t k = 0; k < n; k++)
            host[k] = first;
        TRY(b->write(b, mem, host, n * sizeof *host, e));
        TRY(b->wait(b, e));
        double from = clock_s();
        TRY(comm_sum_devices(gang, mem, n, e));
        double rate = (double)(n * sizeof *host) / (clock_s() - from) / 1e9;
        TRY(b->read(b, host, mem, n * sizeof *host, e));
        last = host[n - 1];
        if (want != host[0] || host[0] != last)
            return err_set(e, ERR_PEER, "a sum is %g and %g where %g is right", (double)host[0], (double)last, (double)want);
        best = rate > best ? rate : best;
    }
    if (at->rank == 0)
        printf("gang %d bytes %zu best %.3f GB/s of payload, %.3f GB/s on each link\n", at->size, n * sizeof *host, best,
               2.0 * (at->size - 1) / at->size * best);
    comm_free(gang);
    b->release(b, mem);
    b->close(b);
    free(host);
    return 0;
}

/* For an agent, which touches no library of a device's: it ends by itself should a driver hang. */
static int tell_links(void)
{
    enum { DEVICES = 64, SECONDS = 30 };
    int group[DEVICES], n;
    err e = {0};

    alarm(SECONDS);
    if (nn_cuda_links(group, DEVICES, &n, &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    for (int i = 0; i < n; i++)
        printf("%c%d", i ? ',' : '[', group[i]);
    puts("]");
    return 0;
}

static int usage(FILE *to)
{
    fprintf(to, "cfarm-worker --check FARM.yaml [--piece PIECE] [--json]\n"
                "                                                    what would run, and every mistake; status 2 if there are any;\n"
                "                                                    --piece: of what is to be added to that farm, alone\n"
                "cfarm-worker --train FARM.yaml NAME OUT.h5          trains one concept here and now, without a farm\n"
                "cfarm-worker --train-gang FARM.yaml NAME OUT.h5 RANK SIZE MEET\n"
                "                                                    one rank of a gang that does it together; MEET: the beginning of\n"
                "                                                    a path that all of them see\n"
                "cfarm-worker --gang-speed BACKEND MIB ROUNDS TIMEOUT RANK SIZE MEET\n"
                "                                                    how fast a gang of GPUs adds up, and whether it is right; a rank\n"
                "                                                    that is lost is noticed after TIMEOUT seconds at most\n"
                "cfarm-worker --train-pack FARM.yaml FOLDER [LANES [WIDTH]]\n"
                "                                                    trains all of its concepts, many at once (trainer/pack.h), into\n"
                "                                                    FOLDER/NAME.h5; status 1 if any failed; LANES: 2, WIDTH: 1\n"
                "cfarm-worker --bench [MODEL] [FLAGS]                how long a model's parts take here (cfarm bench)\n"
                "cfarm-worker --settings                             every setting of a concept\n"
                "cfarm-worker --links                                which CUDA devices are linked: a group's number for each\n"
                "cfarm-worker --fd N                                 serves an agent (cluster/wire/worker.h)\n");
    return to == stdout ? 0 : 2;
}

static int by_hand(int argc, char **argv)
{
    cfg_doc *d = cfg_doc_new();
    farmfile *farm;
    err e = {0};
    seat at = {argc == 8 ? atoi(argv[5]) : 0, argc == 8 ? atoi(argv[6]) : 1, argc == 8 ? argv[7] : "", GANG_TIMEOUT};
    int status = 0, piece = argc > 4 && strcmp(argv[3], "--piece") == 0 ? 4 : 0;

    if (farm_read(&farm, d, argv[2], NULL, &e) != 0 || (piece && farm_piece(&farm, farm, argv[piece], &e) != 0)) {
        fprintf(stderr, "%s\n", e.text);
        status = 2;
    } else if (strcmp(argv[1], "--check") == 0)
        status = check_farm(farm, argc > 3 && strcmp(argv[argc - 1], "--json") == 0, stdout, stderr) ? 2 : 0;
    else if (strcmp(argv[1], "--train-pack") == 0)
        status = pack_by_hand(farm, argc, argv);
    else if (train_by_hand(farm, argv[3], argv[4], &at, &e) != 0) {
        fprintf(stderr, "concept %s: %s\n", argv[3], e.text);
        status = 1;
    }
    cfg_doc_free(d);
    return status;
}

static int speed_by_hand(char **argv)
{
    seat at = {atoi(argv[6]), atoi(argv[7]), argv[8], atof(argv[5])};
    int mib = atoi(argv[3]), rounds = atoi(argv[4]);
    err e = {0};

    if (at.size < 1 || at.size > SEATS_MOST || at.rank < 0 || at.rank >= at.size || mib < 1 || rounds < 1 || !(at.timeout > 0))
        return usage(stderr);
    if (gang_speed(&at, argv[2], (size_t)mib << 18, rounds, &e) == 0)
        return 0;
    fprintf(stderr, "rank %d of %d: %s\n", at.rank, at.size, e.text);
    return 1;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";

    if (strcmp(verb, "--fd") == 0 && argc == 3)
        return serve(atoi(argv[2]));
    if ((strcmp(verb, "--check") == 0 && argc >= 3) || (strcmp(verb, "--train") == 0 && argc == 5) ||
        (strcmp(verb, "--train-pack") == 0 && argc >= 4 && argc <= 6) ||
        (strcmp(verb, "--train-gang") == 0 && argc == 8 && atoi(argv[6]) >= 1 && atoi(argv[6]) <= SEATS_MOST && atoi(argv[5]) >= 0 &&
         atoi(argv[5]) < atoi(argv[6])))
        return by_hand(argc, argv);
    if (strcmp(verb, "--links") == 0 && argc == 2)
        return tell_links();
    if (strcmp(verb, "--gang-speed") == 0 && argc == 9)
        return speed_by_hand(argv);
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
