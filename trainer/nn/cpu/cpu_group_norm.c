/* Group norm and its gradients (formulas: op/norm.c), fast and stable.
 *
 * A sample's pixels are cut into chunks that fit the cache. Each chunk gives every group's mean and sum of squares
 * about that mean, in two passes; chunks are joined in their order by Chan, Golub and LeVeque's rule (1979) in double.
 * Chunks depend on the shape alone, so the number of threads does not change a bit.
 *
 * A pixel of few channels is too narrow for a vector: `fold` pixels side by side are one row, and what belongs to a
 * channel (mean, scale, ...) is repeated fold times beside itself. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_shapes.h"
#include "trainer/nn/cpu/cpu_simd.h"

enum {
    ROW = 64,            /* numbers a row should have at least */
    CHUNK = 16384,       /* numbers of a chunk: 64 KiB, read twice from L2 */
};

typedef struct { double mean, squares; } moments;

/* Laid out in scratch behind each other; `columns` is the width of a row. */
typedef struct {
    moments *part;       /* [samples][chunks][groups] */
    float *mean, *scale, *slope, *level;  /* [samples][columns]; forward, level is the bias and slope not used */
    float *rstd;                          /* [samples][groups] */
    float *work;                          /* [samples][chunks][2][columns] */
} room;

typedef struct {
    norm_shape s;
    const cpu_simd *simd;
    int64_t fold, columns, chunk, chunks;    /* chunk: pixels */
} norm;

typedef struct { const norm *m; room r; const float *x, *w, *bias, *dy; float *out; bool silu; } job;

static room room_of(const norm *m, void *scratch)
{
    room r;
    int64_t rows = m->s.samples * m->columns;

    r.part = scratch;
    r.mean = (float *)(r.part + m->s.samples * m->chunks * m->s.groups);
    r.scale = r.mean + rows;
    r.slope = r.scale + rows;
    r.level = r.slope + rows;
    r.rstd = r.level + rows;
    r.work = r.rstd + m->s.samples * m->s.groups;
    return r;
}

static size_t room_bytes(const norm *m)
{
    int64_t floats = m->s.samples * (m->columns * (4 + 2 * m->chunks) + m->s.groups);

    return (size_t)(m->s.samples * m->chunks * m->s.groups) * sizeof(moments) + (size_t)floats * sizeof(float);
}

/* A chunk as rows: `rows` whole ones and one of `rest` columns. */
typedef struct { int64_t sample, chunk, at, pixels, rows, rest; } piece;

static piece piece_of(const norm *m, int64_t item)
{
    int64_t sample = item / m->chunks, chunk = item % m->chunks, first = chunk * m->chunk;
    int64_t pixels = m->s.pixels - first < m->chunk ? m->s.pixels - first : m->chunk;

    return (piece){sample, chunk, (sample * m->s.pixels + first) * m->s.c, pixels, pixels / m->fold,
                   pixels % m->fold * m->s.c};
}

/* Sums over a group's channels, of all pixels in a row. */
static double group_sum(const norm *m, const float *columns, int64_t g)
{
    int64_t width = m->s.c / m->s.groups;
    double sum = 0.0;

    for (int64_t f = 0; f < m->fold; f++)
        for (int64_t i = 0; i < width; i++)
            sum += (double)columns[f * m->s.c + g * width + i];
    return sum;
}

/* columns = value, times each channel's number where there is one, for all columns of a group. */
static void spread(const norm *m, float *columns, int64_t g, float value, const float *times)
{
    int64_t width = m->s.c / m->s.groups;

    for (int64_t f = 0; f < m->fold; f++)
        for (int64_t i = g * width; i < (g + 1) * width; i++)
            columns[f * m->s.c + i] = times ? value * times[i] : value;
}

/* ---- moments ---- */

static void moments_part(const void *arg, int64_t from, int64_t to)
{
    const job *j = arg;
    const norm *m = j->m;
    const size_t row = (size_t)m->columns * sizeof(float);

    for (int64_t item = from; item < to; item++) {
        const piece p = piece_of(m, item);
        const float *x = j->x + p.at, *tail = x + p.rows * m->columns;
        double count = (double)(p.pixels * (m->s.c / m->s.groups));
        moments *part = j->r.part + item * m->s.groups;
        float *sum = j->r.work + 2 * item * m->columns, *mean = sum + m->columns;

        memset(sum, 0, row);
        m->simd->column_sums(sum, x, p.rows, m->columns, m->columns);
        m->simd->column_sums(sum, tail, 1, m->columns, p.rest);
        for (int64_t g = 0; g < m->s.groups; g++) {
            float about = (float)(group_sum(m, sum, g) / count);
            part[g].mean = (double)about;
            spread(m, mean, g, about, NULL);
        }
        memset(sum, 0, row);
        m->simd->column_squares(sum, x, mean, p.rows, m->columns, m->columns);
        m->simd->column_squares(sum, tail, mean, 1, m->columns, p.rest);
        for (int64_t g = 0; g < m->s.groups; g++)
            part[g].squares = group_sum(m, sum, g);
    }
}

/* Chan et al.: joins b, of nb numbers, to a, of na. */
static void join(moments *a, double na, const moments *b, double nb)
{
    double apart = b->mean - a->mean, n = na + nb;

    a->mean += apart * nb / n;
    a->squares += b->squares + apart * apart * na * nb / n;
}

/* Mean and squares of a whole sample's group. */
static moments joined(const job *j, int64_t sample, int64_t g)
{
    const norm *m = j->m;
    const moments *part = j->r.part + sample * m->chunks * m->s.groups + g;
    moments all = *part;
    double width = (double)(m->s.c / m->s.groups), done = (double)piece_of(m, 0).pixels * width;

    for (int64_t k = 1; k < m->chunks; k++) {
        double n = (double)piece_of(m, k).pixels * width;
        join(&all, done, &part[k * m->s.groups], n);
        done += n;
    }
    return all;
}

/* Mean and scale of one group's columns; without weights the scale is rstd alone. */
static void finish_group(const job *j, int64_t sample, int64_t g, float *rstd)
{
    const norm *m = j->m;
    const moments all = joined(j, sample, g);
    double count = (double)(m->s.pixels * (m->s.c / m->s.groups));

    *rstd = (float)(1.0 / sqrt(all.squares / count + (double)m->s.eps));
    spread(m, j->r.mean + sample * m->columns, g, (float)all.mean, NULL);
    spread(m, j->r.scale + sample * m->columns, g, *rstd, j->w);
}

/* Moments of all chunks, then rstd, and mean and scale of every sample's columns. */
static void find_moments(const job *j)
{
    const norm *m = j->m;

    cpu_for(m->s.samples * m->chunks, 2 * m->chunk * m->s.c, moments_part, j);
    for (int64_t n = 0; n < m->s.samples; n++)
        for (int64_t g = 0; g < m->s.groups; g++)
            finish_group(j, n, g, &j->r.rstd[n * m->s.groups + g]);
}

/* ---- forward ---- */

static void apply_part(const void *arg, int64_t from, int64_t to)
{
    const job *j = arg;
    const norm *m = j->m;

    for (int64_t item = from; item < to; item++) {
        const piece p = piece_of(m, item);
        int64_t row = p.sample * m->columns, tail = p.at + p.rows * m->columns;
        const float *mean = j->r.mean + row, *scale = j->r.scale + row, *bias = j->r.level;
        m->simd->norm_apply(j->out + p.at, j->x + p.at, mean, scale, bias, p.rows, m->columns, m->columns);
        m->simd->norm_apply(j->out + tail, j->x + tail, mean, scale, bias, 1, m->columns, p.rest);
        if (j->silu && j->dy)
            m->simd->silu_grad(j->out + p.at, j->out + p.at, j->dy + p.at, p.pixels * m->s.c);
        else if (j->silu)
            m->simd->silu(j->out + p.at, j->out + p.at, p.pixels * m->s.c);
    }
}

/* out = the norm; with silu, that of it, or where there is a dy its slope there times dy. */
static void apply(const job *j)
{
    const norm *m = j->m;

    find_moments(j);
    for (int64_t g = 0; g < m->s.groups; g++)
        spread(m, j->r.level, g, 1.0f, j->bias);
    cpu_for(m->s.samples * m->chunks, m->chunk * m->s.c, apply_part, j);
}

static job forward_of(const nn_call *c, bool silu)
{
    const norm *m = c->state;

    return (job){.m = m, .r = room_of(m, c->scratch), .x = c->in[0], .w = c->in[1], .bias = c->in[2], .out = c->out, .silu = silu};
}

static int run_group_norm(nn_backend *on, const nn_call *c)
{
    const job j = forward_of(c, false);

    (void)on;
    apply(&j);
    return 0;
}

static int run_group_norm_silu(nn_backend *on, const nn_call *c)
{
    const job j = forward_of(c, true);

    (void)on;
    apply(&j);
    return 0;
}

/* ---- gradients ---- */

static void dots_part(const void *arg, int64_t from, int64_t to)
{
    const job *j = arg;
    const norm *m = j->m;

    for (int64_t item = from; item < to; item++) {
        const piece p = piece_of(m, item);
        const float *mean = j->r.mean + p.sample * m->columns;
        int64_t tail = p.at + p.rows * m->columns;
        float *sum = j->r.work + 2 * item * m->columns, *with_x = sum + m->columns;

        memset(sum, 0, 2 * (size_t)m->columns * sizeof *sum);
        m->simd->column_dots(sum, with_x, j->x + p.at, j->dy + p.at, mean, p.rows, m->columns, m->columns);
        m->simd->column_dots(sum, with_x, j->x + tail, j->dy + tail, mean, 1, m->columns, p.rest);
    }
}

/* Sums over one sample of dy (which 0) or dy (x - mean) (which 1), of channel i. */
static double channel_total(const job *j, int64_t sample, int64_t which, int64_t i)
{
    const norm *m = j->m;
    const float *part = j->r.work + (2 * sample * m->chunks + which) * m->columns + i;
    double sum = 0.0;

    for (int64_t k = 0; k < m->chunks; k++)
        for (int64_t f = 0; f < m->fold; f++)
            sum += (double)part[2 * k * m->columns + f * m->s.c];
    return sum;
}

/* dx = rstd (f - m(f) - (x - mean) rstd^2 m(f (x - mean))): level and slope of one group. */
static void grad_group(const job *j, int64_t sample, int64_t g)
{
    const norm *m = j->m;
    int64_t width = m->s.c / m->s.groups;
    double count = (double)(m->s.pixels * width), rstd = (double)j->r.rstd[sample * m->s.groups + g];
    double f = 0.0, with_x = 0.0;

    for (int64_t i = g * width; i < (g + 1) * width; i++) {
        f += (double)j->w[i] * channel_total(j, sample, 0, i);
        with_x += (double)j->w[i] * channel_total(j, sample, 1, i);
    }
    spread(m, j->r.level + sample * m->columns, g, (float)(rstd * f / count), NULL);
    spread(m, j->r.slope + sample * m->columns, g, (float)(rstd * rstd * rstd * with_x / count), NULL);
}

static void grad_part(const void *arg, int64_t from, int64_t to)
{
    const job *j = arg;
    const norm *m = j->m;

    for (int64_t item = from; item < to; item++) {
        const piece p = piece_of(m, item);
        int64_t row = p.sample * m->columns, tail = p.at + p.rows * m->columns;
        const float *mean = j->r.mean + row, *scale = j->r.scale + row, *slope = j->r.slope + row;
        const float *level = j->r.level + row;
        m->simd->norm_grad(j->out + p.at, j->x + p.at, j->dy + p.at, mean, scale, slope, level, p.rows, m->columns,
                           m->columns);
        m->simd->norm_grad(j->out + tail, j->x + tail, j->dy + tail, mean, scale, slope, level, 1, m->columns, p.rest);
    }
}

/* Moments are found. */
static void grad_x(const job *j)
{
    const norm *m = j->m;
    int64_t items = m->s.samples * m->chunks, work = m->chunk * m->s.c;

    cpu_for(items, work, dots_part, j);
    for (int64_t n = 0; n < m->s.samples; n++)
        for (int64_t g = 0; g < m->s.groups; g++)
            grad_group(j, n, g);
    cpu_for(items, work, grad_part, j);
}

static int run_group_norm_grad_x(nn_backend *on, const nn_call *c)
{
    const norm *m = c->state;
    const job j = {.m = m, .r = room_of(m, c->scratch), .x = c->in[0], .w = c->in[1], .dy = c->in[2], .out = c->out};

    (void)on;
    find_moments(&j);
    grad_x(&j);
    return 0;
}

/* The slope behind the norm lies where the result goes, and is then what a norm's gradient has for dy. */
static int run_group_norm_silu_grad_x(nn_backend *on, const nn_call *c)
{
    const norm *m = c->state;
    job j = {.m = m, .r = room_of(m, c->scratch), .x = c->in[0], .w = c->in[1], .bias = c->in[3], .dy = c->in[2], .out = c->out,
             .silu = true};

    (void)on;
    apply(&j);
    j.dy = j.out;
    grad_x(&j);
    return 0;
}

static int run_group_norm_grad_w(nn_backend *on, const nn_call *c)
{
    const norm *m = c->state;
    const job j = {.m = m, .r = room_of(m, c->scratch), .x = c->in[0], .dy = c->in[1], .out = c->out};
    int64_t width = m->s.c / m->s.groups;

    (void)on;
    find_moments(&j);
    cpu_for(m->s.samples * m->chunks, m->chunk * m->s.c, dots_part, &j);
    for (int64_t i = 0; i < m->s.c; i++) {
        double dw = 0.0, dbias = 0.0;
        for (int64_t n = 0; n < m->s.samples; n++) {
            dw += channel_total(&j, n, 1, i) * (double)j.r.rstd[n * m->s.groups + i / width];
            dbias += channel_total(&j, n, 0, i);
        }
        j.out[i] = (float)dw;
        j.out[m->s.c + i] = (float)dbias;
    }
    return 0;
}

static int prepare_group(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    norm *m = NEW(norm);
    const norm_shape *s = &m->s;

    (void)on, (void)frozen, (void)e;
    c->state = m;
    m->simd = cpu_simd_best();
    m->s = norm_shape_of(c->y);
    m->fold = (ROW + s->c - 1) / s->c;
    m->fold = m->fold < s->pixels ? m->fold : s->pixels;
    m->columns = m->fold * s->c;
    m->chunk = (CHUNK + m->columns - 1) / m->columns * m->fold;
    m->chunk = m->chunk < s->pixels ? m->chunk : s->pixels;
    m->chunks = (s->pixels + m->chunk - 1) / m->chunk;
    c->scratch_bytes = room_bytes(m);
    return 0;
}

static void done(nn_call *c)
{
    free(c->state);
}

/* ---- */

/* Results may lie over x, and dx over x or dy: what is written at a place was read there just before. */
#define KERNEL(NAME, OVER)                                                                                   \
    static const nn_kernel NAME = {.name = "cpu." #NAME ".chunks", .over = (OVER), .takes = cpu_needs_f32,   \
                                   .prepare = prepare_group, .run = run_##NAME, .done = done};               \
    const nn_kernel *const cpu_##NAME[] = {&NAME, &cpu_ref_##NAME, NULL};

KERNEL(group_norm, 1)
KERNEL(group_norm_grad_x, 1 | 4)
KERNEL(group_norm_grad_w, 0)
KERNEL(group_norm_silu, 1)
KERNEL(group_norm_silu_grad_x, 0)
