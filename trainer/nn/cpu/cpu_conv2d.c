/* conv2d and its gradients by tiles, for maps that oneDNN's start-up costs more than their arithmetic.
 *
 * What is read is copied once with its zeros around it, so that every output pixel reads kh runs of kw * c neighbouring
 * numbers at the same distances from its own corner: the pixels are rows of a product. The gradient of x is such a
 * convolution too, of dy spread out by the stride, with the kernels turned round. The gradient of w has a row per
 * weight (r,s,c), whose numbers are the pixels that meet it. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_dnnl.h"
#include "trainer/nn/cpu/cpu_shapes.h"
#include "trainer/nn/cpu/cpu_tiles.h"

/* A map [n,h,w,c] inside one of [n,H,W,c] that is zero elsewhere: pixel (i,j) stands at (top + i * spread, left +
 * j * spread), or falls outside. */
typedef struct { int64_t n, h, w, c, H, W, top, left, spread, fit; } frame;   /* fit: columns of the map inside */

static void frame_fit(frame *f)
{
    int64_t fit = f->left >= f->W ? 0 : (f->W - f->left + f->spread - 1) / f->spread;

    f->fit = fit < f->w ? fit : f->w;
}

static int64_t frame_floats(const frame *f)
{
    return f->n * f->H * f->W * f->c;
}

/* The frame would hold the map and nothing else. */
static bool frame_idle(const frame *f)
{
    return f->top == 0 && f->left == 0 && f->spread == 1 && f->H == f->h && f->W == f->w;
}

typedef struct { const frame *f; const float *x; float *to; } fill_job;

/* One row of the frame: the map's row x, or NULL for a row of zeros. */
static void fill_row(const frame *f, float *row, const float *x)
{
    const int64_t c = f->c, end = f->left + f->fit * f->spread;

    if (!x || f->spread > 1)
        memset(row, 0, (size_t)(f->W * c) * sizeof *row);
    if (!x)
        return;
    if (f->spread > 1) {
        for (int64_t k = 0; k < f->fit; k++)
            memcpy(row + (f->left + k * f->spread) * c, x + k * c, (size_t)c * sizeof *row);
        return;
    }
    memset(row, 0, (size_t)(f->left * c) * sizeof *row);
    memcpy(row + f->left * c, x, (size_t)(f->fit * c) * sizeof *row);
    memset(row + end * c, 0, (size_t)((f->W - end) * c) * sizeof *row);
}

/* Rows from..to-1 of the frame, of all samples' rows. */
static void fill_part(const void *arg, int64_t from, int64_t to)
{
    const fill_job *j = arg;
    const frame *f = j->f;
    int64_t n = from / f->H, y = from % f->H;

    for (int64_t r = from; r < to; r++) {
        int64_t far = y - f->top, i = far >= 0 && f->spread > 1 ? far / f->spread : far;
        bool there = far >= 0 && i * f->spread == far && i < f->h;
        fill_row(f, j->to + r * f->W * f->c, there ? j->x + (n * f->h + i) * f->w * f->c : NULL);
        if (++y == f->H) {
            y = 0;
            n++;
        }
    }
}

static const float *fill(const frame *f, const float *x, float *scratch)
{
    const fill_job j = {f, x, scratch};

    if (frame_idle(f))
        return x;
    cpu_for(f->n * f->H, f->W * f->c, fill_part, &j);
    return scratch;
}

/* ---- forward and gradient of x ---- */

typedef struct {
    conv_shape v;
    frame f;
    tiles t;
    int64_t *at;     /* where each output pixel's corner lies in the frame */
    float *panels;   /* frozen kernels; NULL: made in scratch */
    bool back;       /* gradient of x */
} conv;

/* Kernels [o,kh,kw,c] as the right factor: k = (r,s,c), n = o; turned round for the gradient: k = (r,s,o), n = c. */
static void pack(const conv *m, float *panels, const float *w)
{
    const conv_shape *v = &m->v;
    int64_t taps = v->kh * v->kw, k = taps * v->o;

    if (!m->back) {
        tiles_pack_all(panels, w, taps * v->c, v->o, 1, taps * v->c);
        return;
    }
    memset(panels, 0, (size_t)tiles_floats(k, v->c) * sizeof *panels);
    for (int64_t t = 0; t < taps; t++)
        for (int64_t o = 0; o < v->o; o++)
            for (int64_t c = 0; c < v->c; c++)
                panels[(c / SIMD_LANES * k + t * v->o + o) * SIMD_LANES + c % SIMD_LANES] =
                    w[(o * taps + taps - 1 - t) * v->c + c];
}

static void look_forward(conv *m)
{
    const conv_shape *v = &m->v;

    m->f = (frame){v->n, v->h, v->w, v->c, (v->oh - 1) * v->stride + v->kh, (v->ow - 1) * v->stride + v->kw, v->top,
                   v->left, 1, 0};
    /* A map that ends past the last pixel read is read in place: its own rows are the frame's. */
    if (v->top == 0 && v->left == 0 && m->f.H <= v->h && m->f.W <= v->w) {
        m->f.H = v->h;
        m->f.W = v->w;
    }
    frame_fit(&m->f);
    m->t.n = v->o;
    m->t.m = v->n * v->oh * v->ow;
}

static void look_back(conv *m)
{
    const conv_shape *v = &m->v;

    m->f = (frame){v->n, v->oh, v->ow, v->o, v->h + v->kh - 1, v->w + v->kw - 1, v->kh - 1 - v->top,
                   v->kw - 1 - v->left, v->stride, 0};
    frame_fit(&m->f);
    m->t.n = v->c;
    m->t.m = v->n * v->h * v->w;
}

static int64_t *corners(const conv *m)
{
    const conv_shape *v = &m->v;
    int64_t h = m->back ? v->h : v->oh, w = m->back ? v->w : v->ow, stride = m->back ? 1 : v->stride;
    int64_t *at = NEW_N(int64_t, m->t.m);

    for (int64_t p = 0; p < m->t.m; p++) {
        int64_t n = p / (h * w), i = p / w % h, j = p % w;
        at[p] = ((n * m->f.H + i * stride) * m->f.W + j * stride) * m->f.c;
    }
    return at;
}

static size_t conv_scratch(const conv *m, bool frozen)
{
    int64_t floats = tiles_panels(m->t.n) * SIMD_LANES;

    floats += frozen ? 0 : tiles_floats(m->t.taps * m->t.depth, m->t.n);
    floats += frame_idle(&m->f) ? 0 : frame_floats(&m->f);
    return (size_t)floats * sizeof(float);
}

static int prepare(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    conv *m = NEW(conv);
    const conv_shape *v = &m->v;
    void *mem;

    (void)on;
    c->state = m;
    m->v = conv_shape_of(c->y);
    m->back = c->y->op->id == NN_OP_conv2d_grad_x;
    m->t = (tiles){.simd = cpu_simd_best(), .taps = v->kh, .step = 1, .out_next = SIMD_LANES};
    (m->back ? look_back : look_forward)(m);
    m->t.tap_step = m->f.W * m->f.c;
    m->t.depth = v->kw * m->f.c;
    m->t.ld = m->t.n;
    m->t.at = m->at = corners(m);
    c->scratch_bytes = conv_scratch(m, frozen[1]);
    c->own_bytes = frozen[1] ? (size_t)tiles_floats(m->t.taps * m->t.depth, m->t.n) * sizeof(float) : 0;
    if (!frozen[1] || c->sizing)
        return 0;
    TRY(mem_big(&mem, c->own_bytes, "kernels laid out for products", e));
    m->panels = mem;
    pack(m, m->panels, c->in[1]);
    return 0;
}

static int run(nn_backend *on, const nn_call *c)
{
    const conv *m = c->state;
    float *start = c->scratch, *panels = start + tiles_panels(m->t.n) * SIMD_LANES;
    float *room = panels + (m->panels ? 0 : tiles_floats(m->t.taps * m->t.depth, m->t.n));
    tiles t = m->t;

    (void)on;
    if (c->in[2])
        t.start = memcpy(start, c->in[2], (size_t)t.n * sizeof *start);
    if (!m->panels)
        pack(m, panels, c->in[1]);
    t.panels = m->panels ? m->panels : panels;
    t.a = fill(&m->f, c->in[0], room);
    t.out = c->out;
    tiles_run_all(&t);
    return 0;
}

static void done(nn_call *c)
{
    conv *m = c->state;

    free(m->panels);
    free(m->at);
    free(m);
}

/* ---- gradient of w ---- */

/* each: numbers of a word, 1 or (in bf16) 2: neighbouring pixels of a row. */
static int prepare_w_as(nn_call *c, int each)
{
    conv *m = NEW(conv);
    const conv_shape *v = &m->v;

    c->state = m;
    m->v = conv_shape_of(c->y);
    m->t = (tiles){.simd = each == 2 ? cpu_simd_pairs() : cpu_simd_best(), .out_next = SIMD_LANES};
    look_forward(m);
    m->t.n = m->t.ld = v->o;
    m->t.m = v->kh * v->kw * v->c;
    m->t.taps = v->oh;
    m->t.tap_step = v->stride * m->f.W * v->c;
    m->t.depth = (v->ow + each - 1) / each;
    m->t.step = each * v->stride * v->c;
    m->t.at = m->at = NEW_N(int64_t, m->t.m);
    for (int64_t i = 0; i < m->t.m; i++)
        m->at[i] = i / (v->kw * v->c) * m->f.W * v->c + i % (v->kw * v->c);
    c->scratch_bytes = conv_scratch(m, false) + (size_t)(m->t.m * m->t.n) * sizeof(float);
    if (each == 2)
        c->scratch_bytes += (size_t)(m->f.H * m->f.W * v->c) * sizeof(float);
    return 0;
}

static int prepare_w(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    (void)on, (void)frozen, (void)e;
    return prepare_w_as(c, 1);
}

static int prepare_w_pairs(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    (void)on, (void)frozen, (void)e;
    return prepare_w_as(c, 2);
}

/* A word of each pixel of a sample's frame x and the next that a kernel's weight meets. The word of a row's last pixel holds
 * one of another row; dy has a zero there. */
static const float *pair_pixels(const conv *m, const float *x, float *words)
{
    const int64_t next = m->v.stride * m->v.c, all = m->f.H * m->f.W * m->v.c, whole = all > next ? all - next : 0;

    cpu_simd_pairs()->pair(words, x, x + next, whole);
    cpu_simd_pairs()->pair(words + whole, x + whole, x + whole, all - whole);
    return words;
}

static int run_w(nn_backend *on, const nn_call *c)
{
    const conv *m = c->state;
    const conv_shape *v = &m->v;
    const bool pairs = m->t.depth != v->ow || m->t.step != v->stride * v->c;
    tiles t = m->t;
    float *turned = c->scratch, *panels = turned + t.m * t.n, *words = panels + tiles_floats(v->oh * m->t.depth, v->o);
    const float *x = fill(&m->f, c->in[0], words + (pairs ? m->f.H * m->f.W * v->c : 0));

    (void)on;
    t.panels = panels;
    t.out = turned; /* [r,s,c][o] */
    for (int64_t n = 0; n < v->n; n++, x += m->f.H * m->f.W * v->c) {
        const float *dy = (const float *)c->in[1] + n * v->oh * v->ow * v->o;
        if (pairs)
            tiles_pack_pairs_all(panels, dy, v->oh, v->ow, v->o);
        else
            tiles_pack_all(panels, dy, v->oh * v->ow, v->o, v->o, 1);
        t.a = pairs ? pair_pixels(m, x, words) : x;
        t.add = n > 0;
        tiles_run_all(&t);
    }
    for (int64_t o = 0; o < t.n; o++)
        for (int64_t i = 0; i < t.m; i++)
            ((float *)c->out)[o * t.m + i] = turned[i * t.n + o];
    return 0;
}

/* ---- */

static bool large(const struct nn_node *y)
{
    const conv_shape v = conv_shape_of(y);

    return v.n * v.oh * v.ow * v.o * v.kh * v.kw * v.c / y->pack >= TILES_MOST;
}

static const char *takes(const struct nn_node *y)
{
    return large(y) ? "oneDNN is faster from a million products on" : cpu_needs_f32(y);
}

/* The frame of a gradient begins kh - 1 - top rows before the map. */
static const char *takes_grad_x(const struct nn_node *y)
{
    const conv_shape v = conv_shape_of(y);

    return v.top >= v.kh || v.left >= v.kw ? "needs less padding than the kernel is wide" : takes(y);
}

static const char *takes_w_pairs(const struct nn_node *y)
{
    return cpu_simd_pairs() ? cpu_needs_f32(y) : "this processor, or the compiler this was built by, has no products of bf16";
}

static const nn_kernel by_tiles = {
    .name = "cpu.conv2d.tiles", .takes = takes, .prepare = prepare, .run = run, .done = done};
static const nn_kernel grad_x_by_tiles = {
    .name = "cpu.conv2d_grad_x.tiles", .takes = takes_grad_x, .prepare = prepare, .run = run, .done = done};
/* At any size: oneDNN's bits depend here on the number of threads. */
static const nn_kernel grad_w_by_tiles = {
    .name = "cpu.conv2d_grad_w.tiles", .takes = cpu_needs_f32, .prepare = prepare_w, .run = run_w, .done = done};

static const nn_kernel grad_w_by_pairs = {
    .name = "cpu.conv2d_grad_w.pairs", .takes = takes_w_pairs, .prepare = prepare_w_pairs, .run = run_w, .done = done};

const nn_kernel *const cpu_conv2d[] = {&by_tiles, &cpu_dnnl_conv2d, &cpu_ref_conv2d, NULL};
const nn_kernel *const cpu_conv2d_grad_x[] = {&grad_x_by_tiles, &cpu_dnnl_conv2d_grad_x, &cpu_ref_conv2d_grad_x, NULL};
const nn_kernel *const cpu_conv2d_grad_w[] = {&grad_w_by_tiles, &cpu_ref_conv2d_grad_w, NULL};
const nn_kernel *const cpu_conv2d_in_bf16[] = {&by_tiles, &cpu_dnnl_conv2d_bf16, &cpu_ref_conv2d, NULL};
const nn_kernel *const cpu_conv2d_grad_x_in_bf16[] = {&grad_x_by_tiles, &cpu_dnnl_conv2d_grad_x_bf16, &cpu_dnnl_conv2d_grad_x,
                                                      &cpu_ref_conv2d_grad_x, NULL};
const nn_kernel *const cpu_conv2d_grad_w_in_bf16[] = {&grad_w_by_pairs, &grad_w_by_tiles, &cpu_ref_conv2d_grad_w, NULL};
