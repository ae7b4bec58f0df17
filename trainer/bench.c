/* See bench.h. A part is a graph of its own, run several times; the step is the trainer's own stepper. */
#include "trainer/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "cluster/comm/comm.h"
#include "cluster/node/node.h"
#include "configs/cfg.h"
#include "configs/cfg_yaml.h"
#include "trainer/bench_bytes.h"
#include "trainer/made_up.h"
#include "trainer/method/method.h"
#include "trainer/pack_bench.h"
#include "trainer/model/shapes.h"
#include "trainer/step.h"
#include "trainer/train.h"

/* ---- settings ---- */

typedef struct {
    const char *model, *packs, *backend;
    cfg_texts parts;
    int side, batch, packed, rounds, threads, compute, peak, method, seconds;
    bool ops, json;
} settings;

static const char *const parts_known[] = {"step", "forward", "text", "vae", "decode", "ceilings", "bytes", "merge", NULL};
static const char *const methods[] = {"custom-diffusion", "textual-inversion", "dreambooth", NULL}; /* that begin from the model alone */
static const char *const computes[] = {"auto", "f32", "bf16", NULL};
static const char *const own[] = {"auto", NULL};

static const cfg_field ROWS[] = {
    {"model", CFG_TEXT, CFG_AT(settings, model), "sd15", 1, 4095,
     .help = "a model's folder, or a shape with random weights: sd15, sd21, small, tiny"},
    {"parts", CFG_TEXTS, CFG_AT(settings, parts), "", .names = parts_known,
     .help = "what to measure; empty: step, forward, text, vae; step (forward, backward, AdamW), forward (the UNet's), text, vae (encoding), decode, ceilings (a large product and a large copy, at best and kept up), bytes (nothing is run: what a step moves, multiplies and launches by kinds of calls, as CSV, with times reckoned of it)"},
    {"packs", CFG_TEXT, CFG_AT(settings, packs), "",
     .help = "a farm file: instead of parts, what its concepts gain by sharing a worker; its plan reads it where pack_max is auto"},
    {"side", CFG_INT, CFG_AT(settings, side), "auto", 8, 1 << 14, .names = own, .unit = "pixels",
     .help = "of the square pictures; auto: the model's"},
    {"batch", CFG_INT, CFG_AT(settings, batch), "1", 1, 1024, .help = "samples of one pass; of each concept, where several are packed"},
    {"packed", CFG_INT, CFG_AT(settings, packed), "1", 1, 1024, .help = "concepts that share a step's pass, each with its own weights"},
    {"rounds", CFG_INT, CFG_AT(settings, rounds), "5", 1, 1000, .help = "runs of each part, after one to warm up; the median counts"},
    {"threads", CFG_INT, CFG_AT(settings, threads), "0", 0, 4096, .help = "0: as many as this process may use"},
    {"backend", CFG_TEXT, CFG_AT(settings, backend), "cpu", 1, 64, .help = "what computes: cpu, cuda or cuda:N, the N-th GPU from 0"},
    {"compute", CFG_CHOICE, CFG_AT(settings, compute), "auto", .names = computes, .help = "what products are computed in"},
    {"peak", CFG_INT, CFG_AT(settings, peak), "2048", 64, 1 << 14,
     .help = "side of the square matrices whose product is the peak that parts are measured against; a GPU wants 8192"},
    {"method", CFG_CHOICE, CFG_AT(settings, method), "custom-diffusion", .names = methods, .help = "whose step"},
    {"seconds", CFG_INT, CFG_AT(settings, seconds), "3", 1, 600, .help = "of each of the ceilings"},
    {"ops", CFG_BOOL, CFG_AT(settings, ops), "false", .help = "a table of each part's operations, too"},
    {"json", CFG_BOOL, CFG_AT(settings, json), "false", .help = "one JSON object instead of a table"},
    CFG_END};

typedef struct {
    settings set;
    nn_backend *on;
    sd *model;
    json_t *said;        /* what --json prints */
    double peak;         /* floating-point operations a second of the product of large matrices */
    int64_t latent;      /* its side */
    double ready;        /* seconds until the part could run: its graph and plan, its weights loaded and laid out */
    size_t left;         /* of the device's memory at the beginning */
} bench;

/* ---- one measured plan ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *seconds, int n)
{
    qsort(seconds, (size_t)n, sizeof *seconds, by_value);
    return n % 2 ? seconds[n / 2] : (seconds[n / 2 - 1] + seconds[n / 2]) / 2;
}

/* Every input gets numbers of its kind: words that are known, otherwise normal ones. */
static int write_inputs(nn_plan *p, const nn_graph *g, int words, err *e)
{
    for (int id = 0; id < nn_node_count(g); id++) {
        nn_tensor in = nn_node_at(g, id);
        int64_t n = nn_count(in->shape);
        if (in->op != &nn_op_input)
            continue;
        int32_t *ids = NEW_N(int32_t, n);
        float *x = NEW_N(float, n);
        rng_normal_fill(rng_open(1, in->name, 0, 0), x, (uint64_t)n);
        for (int64_t i = 0; i < n; i++)
            ids[i] = (int32_t)(i % words);
        int rc = nn_write(p, in, in->type == I32 ? (const void *)ids : x, (size_t)nn_bytes(in), e);
        free(ids);
        free(x);
        TRY(rc);
    }
    return 0;
}

static int time_plan(nn_plan *p, int rounds, double *seconds, err *e)
{
    double *each = NEW_N(double, rounds);
    int rc = nn_run(p, e);

    for (int i = 0; i < rounds && rc == 0; i++) {
        double from = clock_s();
        rc = nn_run(p, e);
        each[i] = clock_s() - from;
    }
    *seconds = median(each, rounds);
    free(each);
    return rc;
}

/* ---- the machine's own peak ---- */

typedef struct { double best, kept; } ceiling; /* amounts a second: of one run, and of the last half of all */

static int run_plan(void *arg, err *e)
{
    return nn_run(arg, e);
}

/* Runs once to warm up, then for `seconds`, and twelve times at least. */
static int climb(ceiling *c, double amount, double seconds, int (*once)(void *arg, err *e), void *arg, err *e)
{
    TRY(once(arg, e));
    const double begun = clock_s();
    double now = begun, half = 0;

    *c = (ceiling){0};
    for (int i = 0, late = 0; i < 12 || now - begun < seconds; i++) {
        const double from = now;
        TRY(once(arg, e));
        now = clock_s();
        c->best = amount / (now - from) > c->best ? amount / (now - from) : c->best;
        if (now - begun < seconds / 2)
            half = now;
        else
            c->kept = ++late * amount / (now - (half > 0 ? half : begun));
    }
    return 0;
}

/* A product of [n,n] with frozen [n,n], in what the parts are computed in. */
static int find_peak(const bench *b, ceiling *c, double seconds, err *e)
{
    const int64_t N = b->set.peak;
    nn_params *w = nn_params_new(b->on);
    nn_graph *g = nn_graph_new();
    nn_plan *p = NULL;
    int rc = nn_params_add_drawn(w, "w", NN_SHAPE(N, N), e);
    nn_tensor y = nn_linear(g, nn_input(g, "x", F32, NN_SHAPE(N, N)), nn_param(g, "w", NN_SHAPE(N, N)), NULL);

    if (rc == 0)
        rc = nn_plan_new(&p, g, w, &y, 1, e);
    if (rc == 0)
        rc = write_inputs(p, g, 1, e);
    if (rc == 0)
        rc = climb(c, nn_flops_of_call(y), seconds, run_plan, p, e);
    nn_plan_free(p);
    nn_graph_free(g);
    nn_params_free(w);
    return rc;
}

typedef struct { nn_backend *on; void *to, *from; size_t bytes; } copied;

static int copy_once(void *arg, err *e)
{
    const copied *c = arg;

    if (c->on->copy(c->on, c->to, c->from, c->bytes) != 0)
        return err_set(e, ERR_DEVICE, "%s: a copy of %zu bytes is not taken", c->on->name, c->bytes);
    return c->on->wait(c->on, e);
}

/* Bytes read and written; 1 GiB beside a product of 8192. */
static int find_copy(const bench *b, ceiling *c, err *e)
{
    copied job = {.on = b->on, .bytes = 16 * (size_t)b->set.peak * (size_t)b->set.peak};

    TRY(job.on->alloc(job.on, &job.from, job.bytes, e));
    int rc = job.on->alloc(job.on, &job.to, job.bytes, e);
    if (rc == 0) {
        job.on->begin(job.on);
        rc = climb(c, 2.0 * (double)job.bytes, b->set.seconds, copy_once, &job, e);
        job.on->release(job.on, job.to);
    }
    job.on->release(job.on, job.from);
    return rc;
}

static int measure_ceilings(const bench *b, err *e)
{
    ceiling product, copy;

    TRY(find_peak(b, &product, b->set.seconds, e));
    TRY(find_copy(b, &copy, e));
    if (!b->set.json)
        printf("ceilings product %.1f GFLOP/s at best, %.1f kept up; copy %.1f GB/s at best, %.1f kept up\n", product.best * 1e-9,
               product.kept * 1e-9, copy.best * 1e-9, copy.kept * 1e-9);
    json_array_append_new(json_object_get(b->said, "parts"),
                          json_pack("{s:s s:f s:f s:f s:f}", "part", "ceilings", "product_gflops", product.best * 1e-9, "product_kept_gflops",
                                    product.kept * 1e-9, "copy_gbs", copy.best * 1e-9, "copy_kept_gbs", copy.kept * 1e-9));
    return 0;
}

/* ---- telling ---- */

typedef struct { const char *kernel; char shape[64]; int calls; double seconds, flops; } op_sum;

static int by_seconds(const void *a, const void *b)
{
    double x = ((const op_sum *)a)->seconds, y = ((const op_sum *)b)->seconds;

    return (x < y) - (x > y);
}

/* Equal kernels with results of equal shape and arithmetic are one row. */
static int sum_up(op_sum *sums, const nn_timing *each, int n)
{
    int rows = 0;

    for (int i = 0; i < n; i++) {
        op_sum s = {.kernel = each[i].kernel, .calls = 1, .seconds = each[i].seconds, .flops = nn_flops_of_call(each[i].y)};
        int k = 0;
        nn_shape_text(each[i].y->shape, s.shape);
        while (k < rows && (strcmp(sums[k].kernel, s.kernel) != 0 || strcmp(sums[k].shape, s.shape) != 0
                            || sums[k].flops != s.flops * sums[k].calls))
            k++;
        if (k == rows) {
            sums[rows++] = s;
            continue;
        }
        sums[k].calls++;
        sums[k].seconds += s.seconds;
        sums[k].flops += s.flops;
    }
    qsort(sums, (size_t)rows, sizeof *sums, by_seconds);
    return rows;
}

static void show_ops(const bench *b, json_t *part, const nn_timing *each, int n)
{
    op_sum *sums = NEW_N(op_sum, n + 1);
    int rows = sum_up(sums, each, n);
    json_t *list = json_array();
    double all = 0;

    for (int i = 0; i < rows; i++)
        all += sums[i].seconds;
    if (!b->set.json)
        printf("  %-28s %-22s %5s %9s %6s %9s %6s\n", "kernel", "result", "calls", "seconds", "time", "GFLOP/s", "peak");
    for (int i = 0; i < rows; i++) {
        const op_sum *s = &sums[i];
        double rate = s->flops / s->seconds;
        if (!b->set.json)
            printf("  %-28s %-22s %5d %9.4f %5.1f%% %9.1f %5.1f%%\n", s->kernel, s->shape, s->calls, s->seconds,
                   100 * s->seconds / all, rate * 1e-9, 100 * rate / b->peak);
        json_array_append_new(list, json_pack("{s:s s:s s:i s:f s:f}", "kernel", s->kernel, "result", s->shape, "calls", s->calls,
                                              "seconds", s->seconds, "gflop", s->flops * 1e-9));
    }
    json_object_set_new(part, "ops", list);
    free(sums);
}

static size_t most_resident(void)
{
    struct rusage u;

    return getrusage(RUSAGE_SELF, &u) == 0 ? (size_t)u.ru_maxrss * 1024 : 0;
}

/* Of a device's memory since the beginning; 0: it has none of its own. */
static size_t taken(const bench *b)
{
    size_t left;
    err e;

    return b->on->left && b->on->left(b->on, &left, &e) == 0 && left < b->left ? b->left - left : 0;
}

/* flops: forward, and backward in two parts. */
static json_t *show_part(const bench *b, const char *name, double seconds, nn_flops f, size_t bytes)
{
    double all = f.forward + f.rows + f.weights;
    size_t weights = nn_params_bytes(sd_params(b->model)), device = taken(b);
    json_t *o = json_pack("{s:s s:f s:f s:f s:f s:f s:f s:f s:I s:I s:I}", "part", name, "seconds", seconds, "gflop", all * 1e-9,
                          "forward_gflop", f.forward * 1e-9, "rows_gflop", f.rows * 1e-9, "weights_gflop", f.weights * 1e-9,
                          "peak_share", all / seconds / b->peak, "ready_seconds", b->ready, "plan_bytes", (json_int_t)bytes, "weight_bytes",
                          (json_int_t)weights, "device_bytes", (json_int_t)device);

    if (!b->set.json)
        printf("%-8s %9.4f s %10.2f GFLOP %8.1f GFLOP/s %5.1f%% of peak  plan %.0f MiB  ready in %.2f s\n", name, seconds,
               all * 1e-9, all / seconds * 1e-9, 100 * all / seconds / b->peak, (double)bytes / 1048576, b->ready);
    if (!b->set.json && device > 0)
        printf("         on the device %.0f MiB, of which plan and weights %.0f\n", (double)device / 1048576,
               (double)(bytes + weights) / 1048576);
    json_array_append_new(json_object_get(b->said, "parts"), o);
    return o;
}

/* ---- parts that are a graph ---- */

typedef nn_tensor write_part(nn_graph *g, const bench *b);

static nn_tensor write_text(nn_graph *g, const bench *b)
{
    return sd_text_write(g, b->model, nn_input(g, "ids", I32, NN_SHAPE(b->set.batch, TOKENS)), NULL);
}

static nn_tensor write_forward(nn_graph *g, const bench *b)
{
    const unet_shape *u = sd_unet_shape(b->model);
    nn_tensor x = nn_input(g, "latents", F32, NN_SHAPE(b->set.batch, b->latent, b->latent, u->in));
    nn_tensor t = nn_input(g, "timesteps", F32, NN_SHAPE(b->set.batch));

    return sd_unet_write(g, b->model, x, t, nn_input(g, "text", F32, NN_SHAPE(b->set.batch, TOKENS, u->text_width)), false);
}

static nn_tensor write_vae(nn_graph *g, const bench *b)
{
    const vae_shape *v = sd_vae_shape(b->model);
    int64_t side = b->latent * vae_factor(v);

    nn_enter(g, "vae");
    nn_tensor y = vae_encode_write(g, v, nn_input(g, "pixels", F32, NN_SHAPE(b->set.batch, side, side, v->in)));
    nn_leave(g);
    return y;
}

static nn_tensor write_decode(nn_graph *g, const bench *b)
{
    const vae_shape *v = sd_vae_shape(b->model);

    nn_enter(g, "vae");
    nn_tensor y = vae_decode_write(g, v, nn_input(g, "latents", F32, NN_SHAPE(b->set.batch, b->latent, b->latent, v->latent)));
    nn_leave(g);
    return y;
}

static int measure_plan(const bench *b, const char *name, const nn_graph *g, nn_tensor y, nn_plan *p, err *e)
{
    double seconds;
    nn_timing *each;
    int n;

    TRY(write_inputs(p, g, sd_text_shape(b->model)->vocab, e));
    TRY(time_plan(p, b->set.rounds, &seconds, e));
    json_t *o = show_part(b, name, seconds, nn_flops_of(g, y, NULL, 0, NULL), nn_plan_bytes(p));
    if (!b->set.ops)
        return 0;
    TRY(nn_plan_times(p, &each, &n, e));
    show_ops(b, o, each, n);
    free(each);
    return 0;
}

static int measure_part(bench *b, const char *name, write_part *write, err *e)
{
    double from = clock_s();
    nn_graph *g = nn_graph_new();
    nn_plan *p = NULL;
    nn_tensor y = write(g, b);
    int rc = nn_check(g, e);

    if (rc == 0)
        rc = nn_plan_new(&p, g, sd_params(b->model), &y, 1, e);
    b->ready = clock_s() - from;
    if (rc == 0)
        rc = measure_plan(b, name, g, y, p, e);
    nn_plan_free(p);
    nn_graph_free(g);
    return rc;
}

/* ---- the step ---- */

static int time_step(bench *b, stepper *s, double *seconds, err *e)
{
    const step_adamw adam = {.lr = 1e-5, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01};
    double *each = NEW_N(double, b->set.rounds);
    made_up from_nothing = {b->model, b->latent, b->latent};
    step_turn *turns = NEW_N(step_turn, b->set.packed);
    int rc = 0;

    for (int i = -1; i < b->set.rounds && rc == 0; i++) {
        for (int k = 0; k < b->set.packed; k++)
            turns[k] = (step_turn){.fill = made_up_fill, .arg = &from_nothing, .t = (uint64_t)(i + 2), .how = adam};
        double from = clock_s();
        rc = step_run_all(s, turns, e);
        if (i >= 0)
            each[i] = clock_s() - from;
        for (int k = 0; k < b->set.packed && rc == 0; k++)
            if (turns[k].why.code != ERR_NONE)
                rc = err_set(e, turns[k].why.code, "%s", turns[k].why.text);
    }
    *seconds = median(each, b->set.rounds);
    free(turns);
    free(each);
    return rc;
}

static int show_step(bench *b, stepper *s, err *e)
{
    double seconds;
    nn_timing *each;
    int n;

    TRY(time_step(b, s, &seconds, e));
    json_t *o = show_part(b, "step", seconds, step_flops(s), step_bytes(s));
    if (!b->set.ops)
        return 0;
    TRY(step_times(s, &each, &n, e));
    show_ops(b, o, each, n);
    free(each);
    return 0;
}

/* What the GPUs of a gang tell each other in a step, beside losses: the gradients of what moves. */
static int show_sum(const bench *b, const step_opts *opts, err *e)
{
    int64_t moved = 0;
    nn_shape s;

    for (int i = 0; i < opts->n_moves; i++) {
        TRY(nn_params_shape(sd_params(b->model), opts->moves[i], &s, e));
        moved += nn_count(s);
    }
    fprintf(stderr, "a gang adds up %.3f MB a step in bf16, %.3f in f32\n", 2e-6 * (double)moved, 4e-6 * (double)moved);
    return 0;
}

/* Nothing is planned, and no weight is loaded but those that move. */
static int count_bytes(bench *b, comm *self, const step_opts *opts, err *e)
{
    nn_traffic *each = NULL;
    nn_graph *g = NULL;
    nn_plan_size size;
    nn_tensor losses;
    int n;

    int rc = step_traffic(b->model, self, opts, &each, &n, &size, &g, &losses, e);
    if (rc == 0)
        bench_bytes_show(stdout, each, n, losses);
    if (rc == 0)
        fprintf(stderr, "a plan of %.0f MiB and weights of %.0f\n", (double)size.plan / 1048576, (double)size.weights / 1048576);
    if (rc == 0)
        rc = show_sum(b, opts, e);
    nn_graph_free(g);
    free(each);
    return rc;
}

static int time_new_step(bench *b, comm *self, const step_opts *opts, err *e)
{
    stepper *s = NULL;
    double from = clock_s();
    int rc = step_new(&s, b->model, self, opts, e);

    b->ready = clock_s() - from;
    if (rc == 0)
        rc = show_step(b, s, e);
    step_free(s);
    return rc;
}

/* look: at the step of these options. */
static int with_step(bench *b, int (*look)(bench *b, comm *self, const step_opts *opts, err *e), err *e)
{
    float *row = NEW_N(float, sd_text_shape(b->model)->width);
    const train_cfg how = {.freeze = FREEZE_KV};
    const method *by = method_find(methods[b->set.method]);
    const char **moves = NULL;
    comm *self = NULL;
    int n = 0, packed = b->set.packed;

    int rc = sd_text_row(b->model, 0, row, e);
    if (rc == 0)
        rc = sd_text_rows_set(b->model, row, 1, e);
    if (rc == 0)
        rc = train_moves(b->model, by, &how, &moves, &n, e);
    if (rc == 0 && packed > 1)
        rc = nn_params_train_pack(sd_params(b->model), moves, n, packed, e);
    if (rc == 0)
        rc = comm_self(&self, e);
    if (rc == 0) {
        const step_opts opts = {.moves = moves, .n_moves = n, .batch = b->set.batch, .micro = b->set.batch, .h = b->latent,
                                .w = b->latent, .detach_first = by->detach_first, .width = packed > 1 ? packed : 0};
        rc = look(b, self, &opts, e);
    }
    comm_free(self);
    sd_restore(b->model);
    free(row);
    free(moves);
    return rc;
}

/* ---- all of it ---- */

/* A merge needs no tensor and no model, and its code stands above ours; what counts bytes is a table of its own. */
static int check_parts(const settings *s, err *e)
{
    for (size_t i = 0; i < s->parts.n; i++) {
        if (strcmp(s->parts.at[i], "merge") == 0)
            return err_set(e, ERR_INPUT, "parts: a merge is not measured here; bench_merge in the build's bin/ does it at Stable "
                                         "Diffusion 1.5's size, `time cfarm merge` with concepts of your own");
        if (strcmp(s->parts.at[i], "bytes") == 0 && (s->parts.n > 1 || s->json))
            return err_set(e, ERR_INPUT, "parts: bytes is a CSV table of its own; ask for it alone and without --json");
    }
    return 0;
}

static int measure_named(bench *b, const char *name, err *e)
{
    static const struct { const char *name; write_part *write; } parts[] = {
        {"forward", write_forward}, {"text", write_text}, {"vae", write_vae}, {"decode", write_decode}};

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strcmp(parts[i].name, name) == 0)
            return measure_part(b, name, parts[i].write, e);
    if (strcmp(name, "ceilings") == 0)
        return measure_ceilings(b, e);
    return with_step(b, strcmp(name, "bytes") == 0 ? count_bytes : time_new_step, e);
}

static int open_model(bench *b, err *e)
{
    const char *why;
    int asked = b->set.compute;

    TRY(nn_open(&b->on, b->set.backend, b->set.threads, e));
    nn_compute best = nn_best_compute(b->on, &why);
    if (b->on->left)
        TRY(b->on->left(b->on, &b->left, e));
    TRY(b->on->compute(b->on, asked == COMPUTE_AUTO ? best : asked == COMPUTE_BF16 ? NN_BF16 : NN_F32, e));
    bool folder = fs_is_dir(b->set.model);
    TRY((folder ? sd_open : sd_open_named)(&b->model, b->set.model, b->on, e));
    int side = b->set.side > 0 ? b->set.side : sd_side(b->model), factor = vae_factor(sd_vae_shape(b->model));
    if (side % factor != 0)
        return err_set(e, ERR_INPUT, "side %d is no multiple of %d, the pixels of a latent", side, factor);
    b->latent = side / factor;
    b->said = json_pack("{s:s s:i s:i s:s s:[]}", "model", b->set.model, "side", side, "batch", b->set.batch, "computed in",
                        asked == COMPUTE_AUTO ? why : computes[asked], "parts");
    return 0;
}

static int run(bench *b, err *e)
{
    node_facts node;
    ceiling peak;

    node_look(&node);
    TRY(open_model(b, e));
    if (b->set.parts.n == 1 && strcmp(b->set.parts.at[0], "bytes") == 0)
        return measure_named(b, "bytes", e);
    TRY(find_peak(b, &peak, 0, e));
    b->peak = peak.best;
    if (!b->set.json)
        printf("%s; %d threads; product of %d x %d: %.1f GFLOP/s\n",
               json_string_value(json_object_get(b->said, "computed in")), b->set.threads ? b->set.threads : node.cores, b->set.peak,
               b->set.peak, b->peak * 1e-9);
    fflush(stdout);
    const cfg_texts parts = b->set.parts.n ? b->set.parts : (cfg_texts){parts_known, 4};
    for (size_t i = 0; i < parts.n; i++) {
        if (measure_named(b, parts.at[i], e) != 0)
            return err_wrap(e, "%s", parts.at[i]);
        fflush(stdout);
    }
    json_object_set_new(b->said, "threads", json_integer(b->set.threads ? b->set.threads : node.cores));
    json_object_set_new(b->said, "peak_gflops", json_real(b->peak * 1e-9));
    json_object_set_new(b->said, "resident_bytes", json_integer((json_int_t)most_resident()));
    if (b->set.json && (json_dumpf(b->said, stdout, JSON_COMPACT) != 0 || putchar('\n') == EOF))
        return err_set(e, ERR_IO, "standard output takes no more");
    if (!b->set.json)
        printf("at most %.2f GiB resident\n", (double)most_resident() / 1073741824);
    return 0;
}

static int read_settings(settings *s, cfg_doc *d, int argc, char **argv, err *e)
{
    const cfg_section section = {"bench", ROWS, s};
    cfg_node *flags;

    TRY(cfg_args(&flags, d, &section, 1, &argc, argv, e));
    TRY(cfg_args_done(&section, 1, argc, argv, e));
    if (argc > 2)
        return err_set(e, ERR_INPUT, "%s: one model at a time", argv[2]);
    TRY(cfg_fill(NULL, d, &section, 1, flags, e));
    if (argc > 1)
        s->model = argv[1];
    return check_parts(s, e);
}

static int help(void)
{
    const cfg_section section = {"bench", ROWS, NULL};

    printf("usage: cfarm bench [MODEL] [flags]\n\n");
    cfg_help(stdout, &section, 1);
    return 0;
}

/* With as many threads as a worker of that farm has here, unless told otherwise. */
static int run_packs(const settings *s, cfg_doc *d, err *e)
{
    farmfile *farm;
    node_facts node;
    int threads = s->threads;

    TRY(farm_read(&farm, d, s->packs, NULL, e));
    node_look(&node);
    if (threads == 0)
        threads = (int)farm->limits.threads;
    if (threads <= 0)
        threads = node.cores / (farm->limits.workers > 0 ? (int)farm->limits.workers : node_workers(&node));
    return pack_bench(farm, threads > 0 ? threads : 1, stdout, e);
}

int bench_main(int argc, char **argv)
{
    cfg_doc *d = cfg_doc_new();
    err e = {0};
    bench b = {0};

    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        cfg_doc_free(d);
        return help();
    }
    bool understood = read_settings(&b.set, d, argc, argv, &e) == 0;
    bool done = understood && (b.set.packs[0] ? run_packs(&b.set, d, &e) : run(&b, &e)) == 0;
    if (!done)
        fprintf(stderr, "cfarm bench: %s\n", e.text);
    sd_close(b.model);
    if (b.on)
        b.on->close(b.on);
    json_decref(b.said);
    cfg_doc_free(d);
    return done ? 0 : understood ? 1 : 2;
}
