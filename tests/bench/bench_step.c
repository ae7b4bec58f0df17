/* Seconds per training step of Custom Diffusion (forward, backward, clipping, AdamW) on random latents.
 *   bench_step MODEL_DIR [--batch 2] [--micro 1] [--size H W] [--steps 10] [--threads 1] [--backend cpu]
 *             [--compute f32|bf16] [--ops]
 * The same step in PyTorch: tests/bench/bench_step.py. One JSON line on stdout; --ops prints each call's time instead. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/made_up.h"
#include "trainer/method/method.h"
#include "trainer/step.h"
#include "trainer/train.h"

typedef struct { const char *dir; int batch, micro, h, w, steps, threads; bool ops; const char *backend, *compute; } options;
static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static int measure(stepper *s, made_up *src, const options *o, err *e)
{
    step_adamw adam = {.lr = 1e-5, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .clip = 1};
    double *seconds = NEW_N(double, o->steps);
    step_result r;

    for (int i = -2; i < o->steps; i++) { /* two to warm up */
        double from = clock_s();
        TRY(step_run(s, (uint64_t)(i + 3), &adam, made_up_fill, src, &r, e));
        if (i >= 0)
            seconds[i] = clock_s() - from;
    }
    qsort(seconds, (size_t)o->steps, sizeof *seconds, by_value);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"program\": \"conceptfarm\", \"model\": \"%s\", \"backend\": \"%s\", \"compute\": \"%s\", \"threads\": %d, \"batch\": %d, \"micro\": %d, \"latents\": [%d, %d], "
           "\"step_s_min\": %.6f, \"step_s_median\": %.6f, \"loss\": %.6f, \"plan_mib\": %.1f, \"resident_mib\": %ld}\n",
           o->dir, o->backend, o->compute, o->threads, o->batch, o->micro, o->h, o->w, seconds[0], seconds[o->steps / 2], r.loss,
           (double)step_bytes(s) / 1048576, used.ru_maxrss / 1024);
    free(seconds);
    return o->ops ? step_time(s, stdout, e) : 0;
}

static int run(const options *o, err *e)
{
    nn_backend *b;
    sd *m;
    comm *self;
    stepper *s;
    const char **moves;
    int n;
    train_cfg how = {.freeze = FREEZE_KV};

    TRY(nn_open(&b, o->backend, o->threads, e));
    if (strcmp(o->compute, "bf16") == 0 && !b->compute)
        return err_set(e, ERR_INPUT, "%s has no choice of what it computes in", b->name);
    if (b->compute)
        TRY(b->compute(b, strcmp(o->compute, "bf16") == 0 ? NN_BF16 : NN_F32, e));
    TRY(sd_open(&m, o->dir, b, e));
    float *row = NEW_N(float, sd_text_shape(m)->width);
    TRY(sd_text_row(m, 0, row, e));
    TRY(sd_text_rows_set(m, row, 1, e));
    TRY(train_moves(m, &method_custom_diffusion, &how, &moves, &n, e));
    TRY(comm_self(&self, e));
    step_opts opts = {.moves = moves, .n_moves = n, .batch = o->batch, .micro = o->micro, .h = o->h, .w = o->w, .detach_first = true};
    TRY(step_new(&s, m, self, &opts, e));
    made_up src = {m, o->h, o->w};
    int rc = measure(s, &src, o, e);
    step_free(s);
    comm_free(self);
    sd_close(m);
    b->close(b);
    free(row);
    free(moves);
    return rc;
}

int main(int argc, char **argv)
{
    options o = {.batch = 2, .micro = 1, .h = 8, .w = 8, .steps = 10, .threads = 1, .backend = "cpu", .compute = "f32"};
    struct { const char *flag; int *value; } flags[] = {{"--batch", &o.batch}, {"--micro", &o.micro}, {"--steps", &o.steps},
                                                        {"--threads", &o.threads}, {"--size", &o.h}};
    err e = {0};

    for (int i = 1; i < argc; i++) {
        size_t k = 0;
        while (k < 5 && strcmp(argv[i], flags[k].flag) != 0)
            k++;
        if (strcmp(argv[i], "--ops") == 0)
            o.ops = true;
        else if (strcmp(argv[i], "--backend") == 0 && i + 1 < argc)
            o.backend = argv[++i];
        else if (strcmp(argv[i], "--compute") == 0 && i + 1 < argc)
            o.compute = argv[++i];
        else if (k < 5 && i + 1 < argc)
            *flags[k].value = atoi(argv[++i]);
        else
            o.dir = argv[i];
        if (k == 4 && i + 1 < argc)
            o.w = atoi(argv[++i]);
    }
    if (!o.dir) {
        fprintf(stderr, "usage: bench_step MODEL_DIR [--batch N] [--micro N] [--size H W] [--steps N] [--threads N] [--backend cpu|cuda[:N]] [--compute f32|bf16] [--ops]\n");
        return 2;
    }
    if (run(&o, &e) != 0) {
        fprintf(stderr, "bench_step: %s\n", e.text);
        return 1;
    }
    return 0;
}
