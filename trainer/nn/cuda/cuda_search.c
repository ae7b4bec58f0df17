/* The choice of an algorithm by trial: all candidates multiply the same made-up factors in memory of the trial's own (nothing
 * of a plan's is touched), each result is summed up in a number, and of those whose number is the first's the fastest wins.
 * An algorithm that adds in another order (split along k, or streamed) differs somewhere in some thousand sums of numbers of
 * many sizes; one with other tiles or stages does not. */
#include "trainer/nn/cuda/cuda_search.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "trainer/nn/cuda/cuda_kernels.h"

/* Rounds, since a device's clock rises at first; below LEAST multiplications a call costs its launch, whoever makes it. */
enum { RUNS = 3, ROUNDS = 2, LEAST = 1 << 24 };

struct cuda_found {
    struct cuda_product_key key;
    cublasLtMatmulAlgo_t algo;
};

typedef struct {
    size_t left_bytes, right_bytes, out_bytes, bias_bytes, more_bytes;
    void *mem;
    char *left, *right, *out, *bias, *more, *work;
    uint64_t *sums; /* CUDA_SUMS of each candidate */
    cudaEvent_t from, to;
} trial;

typedef struct {
    bool runs;
    uint64_t sum;
    float ms; /* of the fastest round */
} outcome;

/* ---- what was found before ---- */

static const struct cuda_found *find(const cuda *c, const struct cuda_product_key *key)
{
    for (size_t i = 0; i < c->found_n; i++)
        if (memcmp(&c->found[i].key, key, sizeof *key) == 0)
            return &c->found[i];
    return NULL;
}

static void remember(cuda *c, const struct cuda_product_key *key, const cublasLtMatmulAlgo_t *algo)
{
    c->found = mem_grow(c->found, c->found_n + 1, sizeof *c->found);
    c->found[c->found_n++] = (struct cuda_found){*key, *algo};
}

/* ---- a trial ---- */

static void close_trial(nn_backend *b, trial *t)
{
    if (t->from)
        cudaEventDestroy(t->from);
    if (t->to)
        cudaEventDestroy(t->to);
    if (t->mem)
        b->release(b, t->mem);
}

static size_t lay_out(trial *t, const struct cuda_product_key *k)
{
    const size_t wide = k->half ? 2 : 4;

    t->left_bytes = cuda_aligned((int64_t)wide * k->batch * k->n * k->k);
    t->right_bytes = cuda_aligned((int64_t)wide * k->batch * k->m * k->k);
    t->out_bytes = cuda_aligned(4 * k->batch * k->m * k->n);
    t->bias_bytes = cuda_aligned(4 * k->n);
    t->more_bytes = k->adds ? t->out_bytes : 0;
    return t->left_bytes + t->right_bytes + t->out_bytes + t->bias_bytes + t->more_bytes + CUDA_LT_SCRATCH
           + CUDA_LT_ALGOS * CUDA_SUMS * sizeof *t->sums;
}

/* What is read lies first, so that one call makes it up. */
static void place(trial *t)
{
    t->left = t->mem;
    t->right = t->left + t->left_bytes;
    t->bias = t->right + t->right_bytes;
    t->more = t->bias + t->bias_bytes;
    t->out = t->more + t->more_bytes;
    t->work = t->out + t->out_bytes;
    t->sums = (uint64_t *)(t->work + CUDA_LT_SCRATCH);
}

static int open_trial(nn_backend *b, trial *t, err *e)
{
    const cuda *c = cuda_of(b);

    place(t);
    TRY(cuda_told(c, cudaEventCreateWithFlags(&t->from, cudaEventDefault), "a search's clock", e));
    TRY(cuda_told(c, cudaEventCreateWithFlags(&t->to, cudaEventDefault), "a search's clock", e));
    const int64_t words = (t->out - t->left) / 4;
    return cuda_told(c, k_made_up(c->stream, (uint32_t *)t->left, words), "a search's factors", e);
}

static bool multiply(const cuda *c, const cuda_product *p, const trial *t, const cublasLtMatmulAlgo_t *algo)
{
    const float one = 1.0f, by = p->key.adds ? 1.0f : 0.0f;

    return cublasLtMatmul(c->gemm, p->how, &one, t->left, p->left, t->right, p->right, &by, p->key.adds ? t->more : t->out, p->out,
                          t->out, p->out, algo, t->work, CUDA_LT_SCRATCH, c->stream)
           == CUBLAS_STATUS_SUCCESS;
}

/* Its result, over what is no number, summed up into its place of t->sums. */
static int run_once(const cuda *c, const cuda_product *p, const trial *t, const cuda_algos *from, int i, bool *runs, err *e)
{
    TRY(cuda_told(c, cudaMemsetAsync(t->out, 0xff, t->out_bytes, c->stream), "a search", e));
    *runs = multiply(c, p, t, &from->list[i].algo);
    cudaGetLastError(); /* of an algorithm that was refused */
    if (!*runs)
        return 0;
    return cuda_told(c, k_sum_words(c->stream, t->sums + i * CUDA_SUMS, (const uint32_t *)t->out, (int64_t)t->out_bytes / 4),
                     "a search", e);
}

static int take_time(const cuda *c, const cuda_product *p, const trial *t, const cublasLtMatmulAlgo_t *algo, float *ms, err *e)
{
    float took = 0.0f;

    TRY(cuda_told(c, cudaEventRecord(t->from, c->stream), "a search", e));
    for (int i = 0; i < RUNS; i++)
        if (!multiply(c, p, t, algo))
            return err_set(e, ERR_DEVICE, "%s: an algorithm of cuBLASLt ran once and not again", c->name);
    TRY(cuda_told(c, cudaEventRecord(t->to, c->stream), "a search", e));
    TRY(cuda_told(c, cudaEventSynchronize(t->to), "a search", e));
    TRY(cuda_told(c, cudaEventElapsedTime(&took, t->from, t->to), "a search", e));
    *ms = took < *ms ? took : *ms;
    return 0;
}

static int read_sums(nn_backend *b, const trial *t, outcome *tried, int n, err *e)
{
    uint64_t sums[CUDA_LT_ALGOS][CUDA_SUMS];

    TRY(b->read(b, sums, t->sums, sizeof sums, e));
    for (int i = 0; i < n; i++)
        for (int k = 0; k < CUDA_SUMS; k++)
            tried[i].sum += sums[i][k];
    return 0;
}

static int try_all(nn_backend *b, const cuda_product *p, const trial *t, const cuda_algos *from, outcome *tried, err *e)
{
    const cuda *c = cuda_of(b);

    for (int i = 0; i < from->n; i++) {
        tried[i] = (outcome){.ms = 1e30f};
        TRY(run_once(c, p, t, from, i, &tried[i].runs, e));
    }
    TRY(read_sums(b, t, tried, from->n, e));
    for (int r = 0; r < ROUNDS; r++)
        for (int i = 0; i < from->n; i++)
            if (tried[i].runs)
                TRY(take_time(c, p, t, &from->list[i].algo, &tried[i].ms, e));
    return 0;
}

/* ---- the choice ---- */

static int choose(const outcome *tried, int n)
{
    int first = 0, best;

    while (first < n - 1 && !tried[first].runs)
        first++;
    best = first;
    for (int i = first + 1; i < n; i++)
        if (tried[i].runs && tried[i].sum == tried[first].sum && tried[i].ms < tried[best].ms)
            best = i;
    return best;
}

static void show(const struct cuda_product_key *k, const outcome *tried, int n, int best)
{
    fprintf(stderr, "cuda: product %" PRId64 " x [%" PRId64 ",%" PRId64 "] times [%" PRId64 ",%" PRId64 "], %s%s%s%s%s: algorithm %d of",
            k->batch, k->m, k->k, k->k, k->n, k->half ? "bf16" : "f32", k->ta ? ", first turned" : "", k->tb ? ", second turned" : "",
            k->biased ? ", bias" : "", k->adds ? ", and a sum" : "", best);
    for (int i = 0; i < n; i++)
        if (!tried[i].runs)
            fprintf(stderr, " refused");
        else
            fprintf(stderr, " %.1f%s", (double)tried[i].ms * 1e3 / RUNS, tried[i].sum == tried[best].sum ? "" : "(other bits)");
    fprintf(stderr, " us\n");
}

/* The trial's bias stands in for the product's, which may hold anything yet. */
static cublasStatus_t set_bias(const cuda_product *p, const void *bias)
{
    return p->bias ? cublasLtMatmulDescSetAttribute(p->how, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias)
                   : CUBLAS_STATUS_SUCCESS;
}

static int try_in(nn_backend *b, const cuda_product *p, trial *t, const cuda_algos *from, cublasLtMatmulAlgo_t *best, err *e)
{
    outcome tried[CUDA_LT_ALGOS];
    cuda *c = cuda_of(b);

    TRY(open_trial(b, t, e));
    if (set_bias(p, t->bias) != CUBLAS_STATUS_SUCCESS)
        return err_set(e, ERR_DEVICE, "%s: cuBLASLt does not take a bias", c->name);
    int rc = try_all(b, p, t, from, tried, e);
    if (set_bias(p, p->bias) != CUBLAS_STATUS_SUCCESS)
        rc = rc ? rc : err_set(e, ERR_DEVICE, "%s: cuBLASLt does not take a bias", c->name);
    if (rc != 0)
        return rc;
    const int k = choose(tried, from->n);
    *best = from->list[k].algo;
    remember(c, &p->key, best);
    if (c->search == CUDA_SEARCH_SHOWN)
        show(&p->key, tried, from->n, k);
    return 0;
}

static bool is_large(const struct cuda_product_key *k)
{
    return (double)k->batch * (double)k->m * (double)k->n * (double)k->k >= LEAST;
}

int cuda_search(nn_backend *b, const cuda_product *p, const cuda_algos *from, cublasLtMatmulAlgo_t *best, err *e)
{
    const struct cuda_product_key *k = &p->key;
    cuda *c = cuda_of(b);
    const struct cuda_found *before = find(c, k);
    trial t = {0};
    err full;

    *best = before ? before->algo : from->list[0].algo;
    if (before || c->search == CUDA_SEARCH_OFF || from->n < 2 || !is_large(k) || cuda_recording(c))
        return 0;
    b->turn(b, true);
    int rc = 0;
    if (b->alloc(b, &t.mem, lay_out(&t, k), &full) == 0)
        rc = try_in(b, p, &t, from, best, e);
    close_trial(b, &t);
    b->turn(b, false);
    return rc;
}
