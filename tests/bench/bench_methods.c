/* bench_methods ROW [plan]: one method at Stable Diffusion 1.5's shape (random weights): how many numbers it trains, seconds of a step
 * summed over cores, memory. Prints one row of tests/bench/methods.csv; methods.sh runs them all, each in a process of its own.
 *
 * Times and resident memory are of 32 x 32 latents (256 pixels) and one sample; what a plan takes at 64 x 64 is told without
 * running it (and so is everything with `plan`). Singular values of svdiff are zeros here: their making is not measured, their use is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "configs/cfg_yaml.h"
#include "trainer/made_up.h"
#include "trainer/method/shifts.h"
#include "trainer/train.h"

static const struct { const char *settings, *papers; } rows[] = {
    {"method: custom-diffusion", "19.2 M, 75 MB"},
    {"method: custom-diffusion, recompute: yes", "19.2 M, 75 MB"},
    {"method: custom-diffusion, freeze: crossattn", "44.0 M"},
    {"method: textual-inversion", "768, 3 KB"},
    {"method: lora, lora: {rank: 4}", "0.80 M, 3.1 MB"},
    {"method: svdiff", "0.32 M, 1.4 MB"},
    {"method: svdiff, recompute: yes", "0.32 M, 1.4 MB"},
    {"method: svdiff, recompute: yes, svdiff: {norms: scalar}", "0.22 M; the public program"},
    {"method: svdiff, recompute: yes, svdiff: {norms: off}", "0.22 M; the public program at first"},
    {"method: dreambooth, moments: 8bit", "859.5 M, 3.44 GB"},
    {"method: dreambooth, recompute: yes, moments: 8bit", "859.5 M, 3.44 GB; 12 to 16 GB of a GPU"},
    {"method: dreambooth, recompute: yes", "859.5 M, 3.44 GB"},
    {"method: dreambooth, recompute: yes, moments: 8bit, master: bf16", "859.5 M, 3.44 GB"},
    {"method: fine-tune-all, recompute: yes, moments: 8bit", "859.5 M, 3.4 GB"},
    {"method: fine-tune-all, recompute: yes, moments: 8bit, master: bf16", "859.5 M, 3.4 GB"},
};
enum { ROWS = sizeof rows / sizeof *rows, SIDE = 32, WHOLE = 64 };

static int part(nn_params *p, const char *weight, const char *what, nn_shape s, bool state, err *e)
{
    str name = {0};
    float *zeros = NEW_N(float, nn_count(s));

    str_add(&name, "%.*s%s", (int)(strlen(weight) - strlen(".weight")), weight, what);
    int rc = state ? nn_params_state(p, name.at, s, e) : nn_params_set(p, name.at, s, zeros, e);
    str_free(&name);
    free(zeros);
    return rc;
}

/* As svdiff's prepare, without a decomposition. */
static int stand_in(sd *m, const train_cfg *how, err *e)
{
    nn_params *p = sd_params(m);
    const char *name;

    for (size_t i = 0; (name = nn_params_name(p, i)) != NULL; i++) {
        nn_shape w;
        if (!method_of_unet(name) || !str_ends(name, ".weight"))
            continue;
        TRY(nn_params_shape(p, name, &w, e));
        if (w.n == 1 && how->svdiff_norms == SVDIFF_OFF)
            continue;
        int64_t rest = nn_count(w) / w.d[0], n = w.n == 1 || w.d[0] < rest ? w.d[0] : rest;
        if (w.n == 1 && how->svdiff_norms == SVDIFF_SCALAR)
            n = 1;
        TRY(part(p, name, ".svd_u", w.n == 1 ? NN_SHAPE(w.d[0]) : NN_SHAPE(w.d[0], n), true, e));
        TRY(part(p, name, ".svd_s", NN_SHAPE(n), false, e));
        if (w.n > 1)
            TRY(part(p, name, ".svd_v", NN_SHAPE(n, rest), true, e));
        TRY(part(p, name, SHIFTS_TAIL, NN_SHAPE(n), false, e));
    }
    return 0;
}

static int prepare(sd *m, const method *by, const train_cfg *how, err *e)
{
    float *row = NEW_N(float, sd_text_shape(m)->width);
    int rc = sd_text_row(m, 1, row, e);

    if (rc == 0 && by->learns_words)
        rc = sd_text_rows_set(m, row, 1, e);
    free(row);
    TRY(rc);
    return by->adapter.weight ? stand_in(m, how, e) : by->prepare ? by->prepare(m, how, e) : 0;
}

/* Of all cores together: what else runs on the machine hardly changes it. */
static double cores_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The second of two steps. */
static int time_step(stepper *s, made_up *src, double *cores, err *e)
{
    const step_adamw adam = {.lr = 1e-6, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01};
    step_result r;

    for (uint64_t t = 1; t <= 2; t++) {
        double from = cores_s();
        TRY(step_run(s, t, &adam, made_up_fill, src, &r, e));
        *cores = cores_s() - from;
    }
    return 0;
}

static int measure(int which, bool run, err *e)
{
    cfg_doc *d = cfg_doc_new();
    const cfg_node *tree;
    concept_cfg c;
    str yaml = {0};
    nn_backend *b;
    sd *m;
    comm *self;
    const char **moves;
    stepper *s;
    double cores = 0, trained = 0;
    size_t small, whole;
    struct rusage used;
    int n;

    str_add(&yaml, "{class: a, images: a, %s}", rows[which].settings);
    TRY(cfg_yaml_parse(&tree, d, yaml.at, yaml.n, "row", e));
    TRY(concept_cfg_fill(&c, NULL, d, tree, e));
    const method *by = method_find(method_names[c.how.method]);
    TRY(nn_cpu_open(&b, 0, false, e));
    TRY(sd_open_named(&m, "sd15", b, e));
    TRY(prepare(m, by, &c.how, e));
    TRY(train_moves(m, by, &c.how, &moves, &n, e));
    for (int i = 0; i < n; i++) {
        nn_shape shape;
        TRY(nn_params_shape(sd_params(m), moves[i], &shape, e));
        trained += (double)nn_count(shape);
    }
    TRY(comm_self(&self, e));
    nn_adapter adapter = by->adapter;
    adapter.arg = &c.how;
    step_opts o = {.moves = moves, .n_moves = n, .batch = 1, .micro = 1, .h = SIDE, .w = SIDE, .adapter = &adapter,
                   .detach_first = by->detach_first, .recompute = c.how.recompute, .moments8 = c.how.moments == MOMENTS_8BIT,
                   .narrow = c.how.master == MASTER_BF16};
    made_up src = {m, SIDE, SIDE};
    TRY(step_new(&s, m, self, &o, e));
    small = step_bytes(s);
    if (run)
        TRY(time_step(s, &src, &cores, e));
    step_free(s);
    getrusage(RUSAGE_SELF, &used);
    o.h = o.w = WHOLE;
    o.width = 1; /* on the block that is there */
    TRY(step_new(&s, m, self, &o, e));
    whole = step_bytes(s);
    printf("\"%s\",%.0f,%.0f,", rows[which].settings + strlen("method: "), trained, 4 * trained);
    printf(run ? "%.1f,%.2f," : ",,", cores, (double)used.ru_maxrss * 1024 / 1e9);
    int each = (o.narrow ? 2 : 4) + 4 + (o.moments8 ? 2 : 8); /* weight, gradient, moments */
    printf("%.2f,%.2f,%.2f,\"%s\"\n", trained * each / 1e9, (double)small / 1e9, (double)whole / 1e9,
           rows[which].papers);
    return 0;
}

int main(int argc, char **argv)
{
    int which = argc == 2 || (argc == 3 && strcmp(argv[2], "plan") == 0) ? atoi(argv[1]) : -1;
    err e = {0};

    if (which < 0 || which >= ROWS) {
        fprintf(stderr, "bench_methods ROW [plan], ROW 0 to %d\n", ROWS - 1);
        return 2;
    }
    if (measure(which, argc == 2, &e) != 0) {
        fprintf(stderr, "%s: %s\n", rows[which].settings, e.text);
        return 1;
    }
    return 0;
}
