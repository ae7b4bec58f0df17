/* cfarm-worker: serves an agent (serve.h). By hand: --check tells what is wrong with a farm file, --train trains one of its
 * concepts, --train-pack all of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/clock.h"
#include "cluster/base/json.h"
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

static int train_by_hand(const farmfile *farm, const char *name, const char *out, err *e)
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
    TRY(comm_self(&self, e));
    char *ran = cfg_values(from);
    train_job job = {.name = name, .cfg = &cfg_of, .settings = ran, .gang = self, .out = out, .progress = print_progress,
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
