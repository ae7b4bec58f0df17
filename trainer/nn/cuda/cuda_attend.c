/* Attention: what a node says, as the arguments of our kernels. In bf16 its sources are rounded into scratch and go to the
 * kernels on tensor cores; what a pass keeps for its gradient, a number for each query of each head, lies in memory of that
 * call's own. */
#include <limits.h>
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "trainer/nn/cpu/cpu_shapes.h"
#include "trainer/nn/cuda/cuda.h"
#include "trainer/nn/cuda/cuda_kernels.h"

static const char *takes_attention(const struct nn_node *y)
{
    att_shape s = att_shape_of(y);

    if (s.d > CUDA_HEAD_MOST)
        return "needs heads at most 512 wide";
    if (s.n * s.heads > CUDA_ATT_GRID_MOST || s.tq > INT_MAX / 2 || s.tk > INT_MAX / 2 || s.c > INT_MAX / 2)
        return "needs at most 65535 heads of all samples together";
    return cuda_needs_f32(y);
}

static cuda_att att_of(const nn_call *c)
{
    att_shape s = att_shape_of(c->y);

    return (cuda_att){(int)s.n, (int)s.heads, (int)s.tq, (int)s.tk, (int)s.d, (int)s.c, s.causal};
}

/* Where the gradients lie in the one result. */
typedef struct { void *q, *k, *v; } slopes;

static slopes slopes_of(const nn_call *c)
{
    const int64_t bytes = c->narrow ? 2 : 4;
    char *k = (char *)c->out + bytes * nn_count(c->y->src[0]->shape);

    return (slopes){c->out, k, k + bytes * nn_count(c->y->src[1]->shape)};
}

/* ---- plain, in f32 ---- */

static int run_attention(nn_backend *b, const nn_call *c)
{
    return cuda_ran(k_attention(cuda_stream(b), att_of(c), c->out, c->in[0], c->in[1], c->in[2]));
}

static int prepare_attention_grad(nn_backend *b, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    att_shape s = att_shape_of(c->y);

    (void)b, (void)frozen, (void)e;
    c->scratch_bytes = (size_t)(CUDA_ATT_STATS * s.n * s.heads * s.tq) * sizeof(float);
    return 0;
}

static int run_attention_grad(nn_backend *b, const nn_call *c)
{
    slopes d = slopes_of(c);

    return cuda_ran(k_attention_grad(cuda_stream(b), att_of(c), d.q, d.k, d.v, c->in[0], c->in[1], c->in[2], c->in[3], c->in[4],
                                     c->scratch));
}

CUDA_LIST(attention, .takes = takes_attention, .run = run_attention);
CUDA_LIST(attention_grad, .takes = takes_attention, .prepare = prepare_attention_grad, .run = run_attention_grad);

/* ---- what a pass keeps: log-sums, found again by its node and the place of its result ---- */

struct cuda_kept {
    struct cuda_kept *next;
    nn_backend *on;
    const struct nn_node *y;
    const void *at;
    void *sums;
    int users; /* calls: the pass, and its gradients */
};

static size_t kept_bytes(const nn_call *c)
{
    att_shape s = att_shape_of(c->y);

    return (size_t)(s.n * s.heads * CUDA_FLASH_ROWS(s.tq)) * sizeof(float);
}

static struct cuda_kept *kept_find(const cuda *c, const struct nn_node *y, const void *at)
{
    struct cuda_kept *k = c->kept;

    while (k && (k->y != y || k->at != at))
        k = k->next;
    return k;
}

/* The same pass prepared once more finds it while a gradient still has it. */
static int keep(nn_backend *b, nn_call *c, err *e)
{
    struct cuda_kept *k = kept_find(cuda_of(b), c->y, c->out);

    if (!k) {
        void *sums;
        TRY(b->alloc(b, &sums, kept_bytes(c), e));
        k = NEW(struct cuda_kept);
        *k = (struct cuda_kept){.next = cuda_of(b)->kept, .on = b, .y = c->y, .at = c->out, .sums = sums};
        cuda_of(b)->kept = k;
    }
    k->users++;
    c->state = k;
    return 0;
}

static void let_go(nn_call *c)
{
    struct cuda_kept *k = c->state, **at;

    c->state = NULL;
    if (!k || --k->users > 0)
        return;
    for (at = &cuda_of(k->on)->kept; *at != k;)
        at = &(*at)->next;
    *at = k->next;
    k->on->release(k->on, k->sums);
    free(k);
}

/* ---- on tensor cores, of sources rounded to bf16 ---- */

/* Heads that there are kernels for: those of Stable Diffusion's models, and of small ones. */
static bool has_head(int64_t d)
{
    static const int HEADS[] = {8, 16, 32, 40, 64, 80, 160};

    for (size_t i = 0; i < sizeof HEADS / sizeof *HEADS; i++)
        if (d == HEADS[i])
            return true;
    return false;
}

static const char *takes_flash(const struct nn_node *y)
{
    int64_t d = att_shape_of(y).d;

    return has_head(d) || d == CUDA_HEAD_MOST ? takes_attention(y) : "needs heads of 8, 16, 32, 40, 64, 80, 160 or 512";
}

static const char *takes_flash_grad(const struct nn_node *y)
{
    if (y->src[3]->op->id != NN_OP_attention || y->src[3]->exact)
        return "needs a pass in bf16 before it";
    return has_head(att_shape_of(y).d) ? takes_attention(y) : "needs heads of 8, 16, 32, 40, 64, 80 or 160";
}

/* Sources 0 .. 2, and 4 of a gradient, are wanted in bf16. */
static bool is_wanted(const nn_call *c, int i)
{
    return c->y->src[i] && i != 3;
}

static bool is_there(const nn_call *c, int i)
{
    return c->narrow_in >> i & 1;
}

/* Bytes of scratch for those that are not yet. */
static size_t rounded_bytes(const nn_call *c)
{
    size_t bytes = 0;

    for (int i = 0; i < 5; i++)
        if (is_wanted(c, i) && !is_there(c, i))
            bytes += cuda_aligned(2 * nn_count(c->y->src[i]->shape));
    return bytes;
}

/* All of them in one launch; and a gradient's dots and its two kernels. */
static void tell_traffic(nn_call *c)
{
    const int before = c->launches;

    for (int i = 0; i < 5; i++)
        if (is_wanted(c, i) && !is_there(c, i))
            cuda_tell_rounding(c, nn_count(c->y->src[i]->shape));
    c->launches = before + (c->launches > before) + (c->y->src[3] ? 2 : 0);
    if (c->y->src[3]) /* dy, which dots and sums need, is read once more */
        c->beside += (double)nn_bytes(c->y->src[4]) / (is_there(c, 4) ? 2 : 1);
}

/* Rounds them; half: where they lie, in order. */
static cudaError_t round_sources(nn_backend *b, const nn_call *c, uint16_t *half[CUDA_ROUNDINGS])
{
    cuda_roundings s = {0};
    char *at = c->scratch;
    int k = 0;

    for (int i = 0; i < 5; i++) {
        if (!is_wanted(c, i))
            continue;
        half[k++] = is_there(c, i) ? (uint16_t *)(uintptr_t)c->in[i] : (uint16_t *)at;
        if (is_there(c, i))
            continue;
        int64_t n = nn_count(c->y->src[i]->shape);
        s.from[s.count] = c->in[i];
        s.to[s.count] = (uint16_t *)at;
        s.n[s.count++] = n;
        at += cuda_aligned(2 * n);
    }
    return s.count > 0 ? k_round(cuda_stream(b), s) : cudaSuccess;
}

static int prepare_flash(nn_backend *b, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    (void)frozen;
    c->scratch_bytes = rounded_bytes(c);
    c->own_bytes = kept_bytes(c);
    tell_traffic(c);
    return c->sizing ? 0 : keep(b, c, e);
}

static int run_flash(nn_backend *b, const nn_call *c)
{
    const struct cuda_kept *k = c->state;
    uint16_t *half[CUDA_ROUNDINGS];
    cudaError_t rc = round_sources(b, c, half);

    return cuda_ran(rc == cudaSuccess ? k_flash(cuda_stream(b), att_of(c), c->out, c->narrow, k->sums, half[0], half[1], half[2]) : rc);
}

/* Scratch: rounded sources, then D of every query. Its pass is a call before it, prepared already: takes_flash_grad saw to
 * that. */
static int prepare_flash_grad(nn_backend *b, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    (void)frozen;
    c->scratch_bytes = rounded_bytes(c) + kept_bytes(c);
    tell_traffic(c);
    if (c->sizing)
        return 0;
    struct cuda_kept *k = kept_find(cuda_of(b), c->y->src[3], c->in[3]);
    if (!k)
        return err_set(e, ERR_DEVICE, "its pass in bf16 has kept nothing");
    k->users++;
    c->state = k;
    return 0;
}

static int run_flash_grad(nn_backend *b, const nn_call *c)
{
    const struct cuda_kept *k = c->state;
    slopes d = slopes_of(c);
    float *dots = (float *)((char *)c->scratch + rounded_bytes(c));
    uint16_t *half[CUDA_ROUNDINGS];
    cudaError_t rc = round_sources(b, c, half);

    if (rc == cudaSuccess)
        rc = k_flash_grad(cuda_stream(b), att_of(c), d.q, d.k, d.v, c->narrow, half[0], half[1], half[2], half[3],
                          (cuda_source){.at = c->in[3], .half = is_there(c, 3)}, (cuda_source){.at = c->in[4], .half = is_there(c, 4)}, k->sums,
                          dots);
    return cuda_ran(rc);
}

static const nn_kernel flash = {
    .name = "cuda.attention.flash_bf16", .takes_narrow = 7, .narrows = cuda_narrows, .halves = true, .takes = takes_flash, .prepare = prepare_flash, .run = run_flash, .done = let_go};
static const nn_kernel flash_grad = {.name = "cuda.attention_grad.flash_bf16", .takes_narrow = 7, .takes_half = 8 | 16, .narrows = cuda_narrows, .halves = true,
                                     .takes = takes_flash_grad,
                                     .prepare = prepare_flash_grad, .run = run_flash_grad, .done = let_go};

const nn_kernel *const cuda_attention_bf16[] = {&flash, &attention_plain, NULL};
const nn_kernel *const cuda_attention_grad_bf16[] = {&flash_grad, &attention_grad_plain, NULL};
