/* Attention: what a node says, as the arguments of our kernels. In bf16 its sources are rounded into scratch and go to the
 * kernels on tensor cores; what a pass keeps for its gradient, a number for each query of each head, lies in memory of that
 * call's own. */
#include <limits.h>
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "trainer/nn/cpu/cpu_shapes.h"
#include "trainer/nn/cuda/cuda_attend.h"

const char *cuda_takes_attention(const struct nn_node *y)
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

CUDA_LIST(attention, .takes = cuda_takes_attention, .run = run_attention);
CUDA_LIST(attention_grad, .takes = cuda_takes_attention, .prepare = prepare_attention_grad, .run = run_attention_grad);

/* ---- what a pass keeps: log-sums, found again by its node and the place of its result ---- */

size_t cuda_kept_bytes(const nn_call *c)
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

int cuda_keep(nn_backend *b, struct cuda_kept **out, const nn_call *c, err *e)
{
    struct cuda_kept *k = kept_find(cuda_of(b), c->y, c->out);

    if (!k) {
        void *sums;
        TRY(b->alloc(b, &sums, cuda_kept_bytes(c), e));
        k = NEW(struct cuda_kept);
        *k = (struct cuda_kept){.next = cuda_of(b)->kept, .on = b, .y = c->y, .at = c->out, .sums = sums};
        cuda_of(b)->kept = k;
    }
    k->users++;
    *out = k;
    return 0;
}

/* Its pass is a call before it, prepared already: its `takes` saw to that. */
int cuda_kept_by(nn_backend *b, struct cuda_kept **out, const nn_call *grad, err *e)
{
    struct cuda_kept *k = kept_find(cuda_of(b), grad->y->src[3], grad->in[3]);

    if (!k)
        return err_set(e, ERR_DEVICE, "its pass in bf16 has kept nothing");
    k->users++;
    *out = k;
    return 0;
}

void cuda_let_go(struct cuda_kept *k)
{
    struct cuda_kept **at;

    if (!k || --k->users > 0)
        return;
    for (at = &cuda_of(k->on)->kept; *at != k;)
        at = &(*at)->next;
    *at = k->next;
    k->on->release(k->on, k->sums);
    free(k);
}

/* ---- on tensor cores, of sources rounded to bf16 ---- */

/* Those of Stable Diffusion's models, and of small ones. */
bool cuda_has_head(int64_t d)
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

    return cuda_has_head(d) || d == CUDA_HEAD_MOST ? cuda_takes_attention(y) : "needs heads of 8, 16, 32, 40, 64, 80, 160 or 512";
}

static const char *takes_wgmma(const struct nn_node *y)
{
    return k_flash_hopper_has(att_shape_of(y).d) ? cuda_takes_attention(y) : "needs heads of 40, 64, 80 or 160";
}

static const char *takes_flash_grad(const struct nn_node *y)
{
    if (y->src[3]->op->id != NN_OP_attention || y->src[3]->exact)
        return "needs a pass in bf16 before it";
    return cuda_has_head(att_shape_of(y).d) ? cuda_takes_attention(y) : "needs heads of 8, 16, 32, 40, 64, 80 or 160";
}

enum { WANTS = 1 | 2 | 4 | 16 }; /* of its sources in bf16 */

static bool is_wanted(const nn_call *c, unsigned wanted, int i)
{
    return c->y->src[i] && wanted >> i & 1;
}

static bool is_there(const nn_call *c, int i)
{
    return c->narrow_in >> i & 1;
}

size_t cuda_rounded_bytes(const nn_call *c, unsigned wanted)
{
    size_t bytes = 0;

    for (int i = 0; i < 5; i++)
        if (is_wanted(c, wanted, i) && !is_there(c, i))
            bytes += cuda_aligned(2 * nn_count(c->y->src[i]->shape));
    return bytes;
}

/* All of them are one launch. */
void cuda_tell_rounded(nn_call *c, unsigned wanted)
{
    const int before = c->launches;

    for (int i = 0; i < 5; i++)
        if (is_wanted(c, wanted, i) && !is_there(c, i))
            cuda_tell_rounding(c, nn_count(c->y->src[i]->shape));
    c->launches = before + (c->launches > before);
}

/* And a gradient's dots and its two kernels. */
static void tell_traffic(nn_call *c)
{
    cuda_tell_rounded(c, WANTS);
    c->launches += c->y->src[3] ? 2 : 0;
    if (c->y->src[3]) /* dy, which dots and sums need, is read once more */
        c->beside += (double)nn_bytes(c->y->src[4]) / (is_there(c, 4) ? 2 : 1);
}

cudaError_t cuda_round_sources(nn_backend *b, const nn_call *c, unsigned wanted, uint16_t *half[CUDA_ROUNDINGS])
{
    cuda_roundings s = {0};
    char *at = c->scratch;
    int k = 0;

    for (int i = 0; i < 5; i++) {
        if (!is_wanted(c, wanted, i))
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

static const char *takes_wgmma_grad(const struct nn_node *y)
{
    return k_flash_hopper_grad_has(att_shape_of(y).d) ? takes_flash_grad(y) : "needs heads of 40, 64 or 80";
}

typedef cudaError_t flash_pass(cudaStream_t s, cuda_att at, void *y, bool half, float *sums, const uint16_t *q, const uint16_t *k,
                               const uint16_t *v);

static int prepare_flash(nn_backend *b, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    struct cuda_kept *k = NULL;

    (void)frozen;
    c->scratch_bytes = cuda_rounded_bytes(c, WANTS);
    c->own_bytes = cuda_kept_bytes(c);
    tell_traffic(c);
    if (c->sizing)
        return 0;
    TRY(cuda_keep(b, &k, c, e));
    c->state = k;
    return 0;
}

static int run_pass(nn_backend *b, const nn_call *c, flash_pass *pass)
{
    const struct cuda_kept *k = c->state;
    uint16_t *half[CUDA_ROUNDINGS];
    cudaError_t rc = cuda_round_sources(b, c, WANTS, half);

    return cuda_ran(rc == cudaSuccess ? pass(cuda_stream(b), att_of(c), c->out, c->narrow, k->sums, half[0], half[1], half[2]) : rc);
}

static int run_flash(nn_backend *b, const nn_call *c)
{
    return run_pass(b, c, k_flash);
}

static int run_wgmma(nn_backend *b, const nn_call *c)
{
    return run_pass(b, c, k_flash_hopper);
}

/* Scratch: rounded sources, then D of every query. */
static int prepare_flash_grad(nn_backend *b, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    struct cuda_kept *k = NULL;

    (void)frozen;
    c->scratch_bytes = cuda_rounded_bytes(c, WANTS) + cuda_kept_bytes(c);
    tell_traffic(c);
    if (c->sizing)
        return 0;
    TRY(cuda_kept_by(b, &k, c, e));
    c->state = k;
    return 0;
}

typedef cudaError_t flash_slopes(cudaStream_t s, cuda_att at, void *dq, void *dk, void *dv, bool half, const uint16_t *q,
                                 const uint16_t *k, const uint16_t *v, const uint16_t *dy, cuda_source y, cuda_source dy_wide,
                                 const float *sums, float *dots);

static int run_slopes(nn_backend *b, const nn_call *c, flash_slopes *make)
{
    const struct cuda_kept *k = c->state;
    slopes d = slopes_of(c);
    float *dots = (float *)((char *)c->scratch + cuda_rounded_bytes(c, WANTS));
    uint16_t *half[CUDA_ROUNDINGS];
    cudaError_t rc = cuda_round_sources(b, c, WANTS, half);

    if (rc == cudaSuccess)
        rc = make(cuda_stream(b), att_of(c), d.q, d.k, d.v, c->narrow, half[0], half[1], half[2], half[3],
                  (cuda_source){.at = c->in[3], .half = is_there(c, 3)}, (cuda_source){.at = c->in[4], .half = is_there(c, 4)}, k->sums, dots);
    return cuda_ran(rc);
}

static int run_flash_grad(nn_backend *b, const nn_call *c)
{
    return run_slopes(b, c, k_flash_grad);
}

static int run_wgmma_grad(nn_backend *b, const nn_call *c)
{
    return run_slopes(b, c, k_flash_hopper_grad);
}

static void let_go(nn_call *c)
{
    cuda_let_go(c->state);
    c->state = NULL;
}

static const nn_kernel wgmma = {.name = "cuda.attention.flash_wgmma", .takes_narrow = 7, .narrows = cuda_narrows, .halves = true,
                                .takes = takes_wgmma, .prepare = prepare_flash, .run = run_wgmma, .done = let_go};
static const nn_kernel flash = {
    .name = "cuda.attention.flash_bf16", .takes_narrow = 7, .narrows = cuda_narrows, .halves = true, .takes = takes_flash, .prepare = prepare_flash, .run = run_flash, .done = let_go};
static const nn_kernel flash_grad = {.name = "cuda.attention_grad.flash_bf16", .takes_narrow = 7, .takes_half = 8 | 16, .narrows = cuda_narrows, .halves = true,
                                     .takes = takes_flash_grad,
                                     .prepare = prepare_flash_grad, .run = run_flash_grad, .done = let_go};

static const nn_kernel wgmma_grad = {.name = "cuda.attention_grad.flash_wgmma", .takes_narrow = 7, .takes_half = 8 | 16, .narrows = cuda_narrows,
                                     .halves = true, .takes = takes_wgmma_grad, .prepare = prepare_flash_grad, .run = run_wgmma_grad,
                                     .done = let_go};

const nn_kernel *const cuda_attention_dnn[] = {&cuda_dnn_attention, &flash, &attention_plain, NULL};
const nn_kernel *const cuda_attention_grad_dnn[] = {&cuda_dnn_attention_grad, &flash_grad, &attention_grad_plain, NULL};
const nn_kernel *const cuda_attention_wgmma[] = {&wgmma, &flash, &attention_plain, NULL};
const nn_kernel *const cuda_attention_grad_wgmma[] = {&wgmma_grad, &flash_grad, &attention_grad_plain, NULL};
const nn_kernel *const cuda_attention_bf16[] = {&flash, &attention_plain, NULL};
const nn_kernel *const cuda_attention_grad_bf16[] = {&flash_grad, &attention_grad_plain, NULL};
