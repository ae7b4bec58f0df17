/* Times every CPU kernel of products, convolutions, norms and attention at the shapes models have, one row a kernel and
 * a number of threads:
 *
 *   bench_ops [--only TEXT] [--threads N] [--pass N] [--rounds N]
 *
 * --only: rows whose "model op shape" holds TEXT; --threads: 1 or 2, else both; --pass: only the N-th kernel of each
 * list, from 0; --rounds: goes through all N times and tells each row's best, for a machine that others use too.
 * Output is CSV: model, op, shape, kernel, threads, microseconds of the best of some runs, GFLOP/s. ops.csv beside this
 * file is what it said on the machine named in it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "trainer/nn/plan.h"

/* One operation: sizes n, h, w, c of what it reads and what its family needs. */
typedef struct {
    const char *model;
    nn_op_id op;
    nn_conv conv;        /* stride and padding */
    int heads, groups;
    bool causal, ta, tb;
    nn_shape y;          /* of gradients, which take it from their builder */
    nn_shape s[NN_MAX_SRC];
    unsigned weights;    /* bit i: source i is frozen */
} row;

#define S(...) {(int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)), {__VA_ARGS__}}
#define SAME {1, {1, 1, 1, 1}}
#define CONV(model, n, h, w, c, o)                                                                           \
    {model, NN_OP_conv2d, .conv = SAME, .s = {S(n, h, w, c), S(o, 3, 3, c), S(o)}, .weights = 6},            \
    {model, NN_OP_conv2d_grad_x, .conv = SAME, .y = S(n, h, w, c), .s = {S(n, h, w, o), S(o, 3, 3, c)}, .weights = 2}
#define CONV_W(model, n, h, w, c, o)                                                                         \
    {model, NN_OP_conv2d_grad_w, .conv = SAME, .y = S(o, 3, 3, c), .s = {S(n, h, w, c), S(n, h, w, o)}}
#define DOWN(model, n, h, w, c)                                                                              \
    {model, NN_OP_conv2d, .conv = {2, {1, 1, 1, 1}}, .s = {S(n, h, w, c), S(c, 3, 3, c), S(c)}, .weights = 6}, \
    {model, NN_OP_conv2d_grad_x, .conv = {2, {1, 1, 1, 1}}, .y = S(n, h, w, c),                              \
     .s = {S(n, (h + 1) / 2, (w + 1) / 2, c), S(c, 3, 3, c)}, .weights = 2}
#define POINT(model, n, h, w, c, o)                                                                          \
    {model, NN_OP_conv2d, .conv = {1, {0}}, .s = {S(n, h, w, c), S(o, 1, 1, c), S(o)}, .weights = 6},        \
    {model, NN_OP_conv2d_grad_x, .conv = {1, {0}}, .y = S(n, h, w, c), .s = {S(n, h, w, o), S(o, 1, 1, c)},  \
     .weights = 2}
/* A linear layer, the gradient of its rows, and the gradient of its weights. */
#define LINEAR(model, m, k, n)                                                                               \
    {model, NN_OP_matmul, .tb = true, .s = {S(m, k), S(n, k), S(n)}, .weights = 6},                          \
    {model, NN_OP_matmul, .s = {S(m, n), S(n, k)}, .weights = 2},                                            \
    {model, NN_OP_matmul, .ta = true, .s = {S(m, n), S(m, k)}}
#define ATT(model, n, tq, tk, c, hs, after)                                                                  \
    {model, NN_OP_attention, .heads = hs, .causal = after, .s = {S(n, tq, c), S(n, tk, c), S(n, tk, c)}},    \
    {model, NN_OP_attention_grad, .heads = hs, .causal = after,                                              \
     .s = {S(n, tq, c), S(n, tk, c), S(n, tk, c), S(n, tq, c), S(n, tq, c)}}
#define GROUP(model, n, h, w, c, g)                                                                          \
    {model, NN_OP_group_norm, .groups = g, .s = {S(n, h, w, c), S(c), S(c)}, .weights = 6},                  \
    {model, NN_OP_group_norm_grad_x, .groups = g, .s = {S(n, h, w, c), S(c), S(n, h, w, c)}, .weights = 2}
#define LAYER(model, m, c)                                                                                   \
    {model, NN_OP_layer_norm, .s = {S(m, c), S(c), S(c)}, .weights = 6},                                     \
    {model, NN_OP_layer_norm_grad_x, .s = {S(m, c), S(c), S(m, c)}, .weights = 2}

static const row table[] = {
    CONV("tiny unet", 2, 8, 8, 4, 8),      CONV("tiny unet", 2, 8, 8, 8, 8),     CONV("tiny unet", 2, 4, 4, 16, 16),
    CONV("tiny unet", 2, 1, 1, 48, 24),    DOWN("tiny unet", 2, 8, 8, 8),        POINT("tiny unet", 2, 8, 8, 8, 8),
    CONV_W("tiny unet", 2, 8, 8, 8, 8),    LINEAR("tiny unet", 128, 8, 64),      LINEAR("tiny unet", 154, 32, 8),
    LINEAR("tiny unet", 2, 32, 16),        ATT("tiny unet", 2, 64, 64, 8, 4, 0), ATT("tiny unet", 2, 64, 77, 8, 4, 0),
    GROUP("tiny unet", 2, 8, 8, 8, 4),     LAYER("tiny unet", 128, 8),           ATT("tiny text", 2, 77, 77, 32, 4, 1),
    LINEAR("tiny text", 154, 32, 128),     LAYER("tiny text", 154, 32),          CONV("tiny vae", 1, 128, 128, 8, 8),
    CONV("tiny vae", 1, 64, 64, 8, 12),    GROUP("tiny vae", 1, 128, 128, 8, 4),
    CONV("odd unet", 2, 8, 16, 10, 10),    CONV("odd unet", 2, 4, 8, 20, 20),    CONV("odd unet", 2, 2, 4, 60, 30),
    ATT("odd unet", 2, 128, 77, 10, 2, 0), GROUP("odd unet", 2, 8, 16, 10, 5),   LAYER("odd unet", 256, 10),
    CONV("small unet", 8, 16, 16, 64, 64), CONV("small unet", 8, 8, 8, 128, 128), DOWN("small unet", 8, 16, 16, 64),
    POINT("small unet", 8, 16, 16, 64, 64), CONV_W("small unet", 8, 16, 16, 64, 64),
    LINEAR("small unet", 2048, 64, 512),   LINEAR("small unet", 616, 256, 64),
    ATT("small unet", 8, 256, 256, 64, 4, 0), ATT("small unet", 8, 256, 77, 64, 4, 0),
    GROUP("small unet", 8, 16, 16, 64, 32), LAYER("small unet", 2048, 64),
    CONV("sd15 unet", 1, 64, 64, 4, 320),  CONV("sd15 unet", 1, 64, 64, 320, 320),
    CONV("sd15 unet", 1, 32, 32, 640, 640),
    CONV("sd15 unet", 1, 16, 16, 1280, 1280), CONV("sd15 unet", 1, 8, 8, 1280, 1280), DOWN("sd15 unet", 1, 64, 64, 320),
    POINT("sd15 unet", 1, 64, 64, 320, 320), CONV_W("sd15 unet", 1, 32, 32, 640, 640),
    LINEAR("sd15 unet", 4096, 320, 2560),  LINEAR("sd15 unet", 1024, 640, 640),  LINEAR("sd15 unet", 77, 768, 320),
    LINEAR("sd15 unet", 1, 1280, 1280),
    ATT("sd15 unet", 1, 4096, 4096, 320, 8, 0), ATT("sd15 unet", 1, 4096, 77, 320, 8, 0),
    ATT("sd15 unet", 1, 1024, 1024, 640, 8, 0), GROUP("sd15 unet", 1, 64, 64, 320, 32), LAYER("sd15 unet", 4096, 320),
    LINEAR("sd15 text", 77, 768, 3072),    ATT("sd15 text", 1, 77, 77, 768, 12, 1),
    CONV("sd15 vae", 1, 128, 128, 512, 512),
    CONV("sd15 vae", 1, 256, 256, 128, 128),
    {"sd15 vae", NN_OP_attention, .heads = 1, .s = {S(1, 4096, 512), S(1, 4096, 512), S(1, 4096, 512)}},
};

/* Multiplications and additions of products; 0 for the norms, which are judged by time alone. */
static double flops(const row *r)
{
    const nn_shape *s = r->s;
    double per_channel = (double)nn_count(s[1]) / (double)s[1].d[s[1].n - 1]; /* of kernels: o kh kw */

    switch (r->op) {
    case NN_OP_matmul: return 2.0 * (double)(nn_count(s[0]) * s[1].d[r->tb ? 0 : 1]);
    case NN_OP_conv2d: return 2.0 * (double)nn_count(s[0]) * per_channel / (double)(r->conv.stride * r->conv.stride);
    case NN_OP_conv2d_grad_x: return 2.0 * (double)nn_count(s[0]) * (double)(s[1].d[1] * s[1].d[2] * s[1].d[3]);
    case NN_OP_conv2d_grad_w: return 2.0 * (double)nn_count(s[1]) * (double)(nn_count(r->y) / r->y.d[0]);
    case NN_OP_attention: return 4.0 * (double)(nn_count(s[0]) * s[1].d[1]);
    case NN_OP_attention_grad: return 10.0 * (double)(nn_count(s[0]) * s[1].d[1]);
    default: return 0.0;
    }
}

/* ---- a backend that offers one kernel an operation ---- */

static nn_kernel chosen;
static const nn_kernel *const one[] = {&chosen, NULL};

static const nn_kernel *const *one_kernel(nn_op_id op)
{
    (void)op;
    return one;
}

typedef struct { nn_backend *on; nn_params *weights; nn_graph *g; nn_tensor y; nn_plan *p; } bench;

static nn_attr attributes(const row *r)
{
    nn_attr at = {0};

    if (r->op == NN_OP_matmul) {
        at.mat.ta = r->ta;
        at.mat.tb = r->tb;
    } else if (r->op == NN_OP_conv2d || r->op == NN_OP_conv2d_grad_x || r->op == NN_OP_conv2d_grad_w) {
        at.conv = r->conv;
    } else {
        at.norm.groups = r->groups;
        at.norm.heads = r->heads;
        at.norm.causal = r->causal;
        at.norm.eps = 1e-5f;
    }
    return at;
}

static int source(bench *b, const row *r, int i, nn_tensor *out, err *e)
{
    char name[] = {'s', (char)('0' + i), 0};
    nn_shape s = r->s[i];
    float *x = NEW_N(float, nn_count(s));
    int rc = 0;

    rng_normal_fill(rng_open(1, "bench", (uint32_t)i, 0), x, (uint64_t)nn_count(s));
    if (r->weights >> i & 1) {
        nn_shape file = s.n == 4 ? NN_SHAPE(s.d[0], s.d[3], s.d[1], s.d[2]) : s;
        rc = nn_params_set(b->weights, name, file, x, e);
        *out = nn_param(b->g, name, s);
    } else {
        *out = nn_input(b->g, name, F32, s);
    }
    free(x);
    return rc;
}

static int fill(bench *b, nn_tensor t, uint32_t stream, err *e)
{
    size_t n = (size_t)nn_count(t->shape);
    float *x = NEW_N(float, n);

    rng_normal_fill(rng_open(1, "bench", stream, 0), x, n);
    int rc = nn_write(b->p, t, x, n * sizeof *x, e);
    free(x);
    return rc;
}

static int bench_open(bench *b, const row *r, int threads, err *e)
{
    nn_tensor src[NN_MAX_SRC] = {0};

    TRY(nn_cpu_open(&b->on, threads, false, e));
    b->on->kernels = one_kernel;
    b->weights = nn_params_new(b->on);
    b->g = nn_graph_new();
    for (int i = 0; i < NN_MAX_SRC && r->s[i].n > 0; i++)
        TRY(source(b, r, i, &src[i], e));
    struct nn_node proto = {.op = nn_ops[r->op], .shape = r->y, .at = attributes(r)};
    memcpy(proto.src, src, sizeof src);
    b->y = nn_make(b->g, proto);
    TRY(nn_check(b->g, e));
    TRY(nn_plan_new(&b->p, b->g, b->weights, &b->y, 1, e));
    for (int i = 0; i < NN_MAX_SRC && r->s[i].n > 0; i++)
        if (!(r->weights >> i & 1))
            TRY(fill(b, src[i], (uint32_t)i, e));
    return 0;
}

static void bench_close(bench *b)
{
    nn_plan_free(b->p);
    if (b->g)
        nn_graph_free(b->g);
    if (b->weights)
        nn_params_free(b->weights);
    if (b->on)
        b->on->close(b->on);
}

/* Seconds of one run: the best of several bundles, each long enough for the clock. */
static int best_time(bench *b, double *seconds, err *e)
{
    const double bundle = 0.01, enough = 0.15;
    double begun = clock_s(), best = INFINITY;
    int n = 1;

    TRY(nn_run(b->p, e));
    for (int done = 0; done < 3 || clock_s() - begun < enough; done++) {
        double from = clock_s();
        for (int i = 0; i < n; i++)
            TRY(nn_run(b->p, e));
        double each = (clock_s() - from) / n;
        best = fmin(best, each);
        if (each * n < bundle)
            n = (int)(bundle / each) + 1;
    }
    *seconds = best;
    return 0;
}

/* "x [2,8,8,8], w [8,3,3,8] stride 2" */
static void describe(const row *r, char text[200])
{
    char shape[64];
    int at = 0;

    for (int i = 0; i < NN_MAX_SRC && r->s[i].n > 1; i++)
        at += snprintf(text + at, (size_t)(200 - at), "%s%s", i ? " " : "", nn_shape_text(r->s[i], shape));
    if (r->ta || r->tb)
        at += snprintf(text + at, (size_t)(200 - at), " %s", r->ta ? "ta" : "tb");
    if (r->conv.stride > 1)
        at += snprintf(text + at, (size_t)(200 - at), " stride %d", r->conv.stride);
    if (r->heads)
        snprintf(text + at, (size_t)(200 - at), " heads %d", r->heads);
}

typedef struct { const char *only; int threads, pass, rounds; } options;

/* One kernel of one row with so many threads, and the best time so far. */
typedef struct { const row *r; const nn_kernel *k; int threads; double seconds; } entry;
typedef struct { entry *at; int n, room; } list;

static void name_row(const row *r, char text[300])
{
    char shape[200];

    describe(r, shape);
    snprintf(text, 300, "%s %s %s", r->model, nn_ops[r->op]->name, shape);
}

/* A list may have one kernel twice, with different tastes. */
static bool earlier(const nn_kernel *const *kernels, int i)
{
    bool found = false;

    for (int k = 0; k < i; k++)
        found = found || strcmp(kernels[k]->name, kernels[i]->name) == 0;
    return found;
}

/* Kernels whose name has `of` in it. */
static void add_row(list *l, const row *r, const options *o, nn_backend *on, const char *of)
{
    const nn_kernel *const *kernels = on->kernels(r->op);

    for (int i = 0; kernels[i] && kernels[i + 1]; i++) /* the last is the reference */
        for (int t = 1; t <= 2; t++) {
            if ((o->threads && o->threads != t) || (o->pass >= 0 && o->pass != i) || earlier(kernels, i)
                || !strstr(kernels[i]->name, of))
                continue;
            if (l->n == l->room)
                l->at = mem_grow(l->at, (size_t)(l->room = 2 * l->room + 64), sizeof *l->at);
            l->at[l->n++] = (entry){r, kernels[i], t, INFINITY};
        }
}

static int add_rows(list *l, const options *o, err *e)
{
    nn_backend *on, *in_bf16;
    char name[300];
    err none = {0};

    TRY(nn_cpu_open(&on, 1, false, e));
    TRY(nn_cpu_open(&in_bf16, 1, false, e));
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        name_row(&table[i], name);
        if (strstr(name, o->only))
            add_row(l, &table[i], o, on, "");
        if (strstr(name, o->only) && in_bf16->compute(in_bf16, NN_BF16, &none) == 0)
            add_row(l, &table[i], o, in_bf16, ".bf16");
    }
    in_bf16->close(in_bf16);
    on->close(on);
    return 0;
}

static int time_entry(entry *t, err *e)
{
    bench b = {0};
    double seconds = INFINITY;

    chosen = *t->k;
    chosen.takes = NULL; /* also where the list would prefer another */
    int rc = bench_open(&b, t->r, t->threads, e);
    if (rc == 0)
        rc = best_time(&b, &seconds, e);
    bench_close(&b);
    t->seconds = fmin(t->seconds, seconds);
    return rc;
}

static void tell(const list *l)
{
    char shape[200];

    printf("model,op,shape,kernel,threads,microseconds,gflops\n");
    for (int i = 0; i < l->n; i++) {
        const entry *t = &l->at[i];
        describe(t->r, shape);
        printf("%s,%s,\"%s\",%s,%d,%.2f,%.1f\n", t->r->model, nn_ops[t->r->op]->name, shape, t->k->name, t->threads,
               t->seconds * 1e6, flops(t->r) / t->seconds * 1e-9);
    }
}

static options read_options(int argc, char **argv)
{
    options o = {.only = "", .pass = -1, .rounds = 1};

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--only") == 0)
            o.only = argv[i + 1];
        else if (strcmp(argv[i], "--threads") == 0)
            o.threads = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--pass") == 0)
            o.pass = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--rounds") == 0)
            o.rounds = atoi(argv[i + 1]);
    }
    return o;
}

int main(int argc, char **argv)
{
    const options o = read_options(argc, argv);
    char name[300];
    list l = {0};
    err e = {0};
    int rc = add_rows(&l, &o, &e);

    for (int r = 0; r < o.rounds && rc == 0; r++)
        for (int i = 0; i < l.n && rc == 0; i++)
            if ((rc = time_entry(&l.at[i], &e)) != 0) {
                name_row(l.at[i].r, name);
                fprintf(stderr, "%s: %s\n", name, e.text);
            }
    if (rc == 0)
        tell(&l);
    free(l.at);
    return rc != 0;
}
