/* The stand-in's cuBLASLt: matrices by columns, products as plain loops in double, the bias epilogue. It takes what the table in
 * cublasLtMatmul's description has of our types, and refuses at the call what the real one would: places less aligned than the search
 * was told, a leading dimension that is too short, a bias in a type that does not go with the result or less aligned than that which
 * the search saw, a C that is laid out otherwise than D, scratch that is less than was spoken of or no multiple of 256 bytes.
 * Its list of algorithms is what a careless search would fall for (standin_lt_algo). */
#include <cstring>
#include <vector>

#include <cublasLt.h>

#include "tests/trainer/nn/cuda/standin/standin.h"

extern "C" {
#include "cluster/base/dtype.h"
}

struct standin_lt {
    int nothing;
};

struct standin_lt_desc {
    cudaDataType_t scale;
    cublasOperation_t turned[2] = {CUBLAS_OP_N, CUBLAS_OP_N};
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    const void *bias = nullptr;
    cudaDataType_t bias_type = CUDA_R_32F;
    bool bias_typed = false;
};

struct standin_lt_layout {
    cudaDataType_t type;
    int64_t rows, cols, ld, apart = 0;
    int32_t batch = 1;
};

struct standin_lt_want {
    size_t work = 0;
    uint32_t align[4] = {256, 256, 256, 256};
};

namespace {

float value(const void *at, cudaDataType_t type, int64_t i)
{
    return type == CUDA_R_32F ? ((const float *)at)[i] : f32_of_bf16(((const uint16_t *)at)[i]);
}

void put(void *at, cudaDataType_t type, int64_t i, double x)
{
    if (type == CUDA_R_32F)
        ((float *)at)[i] = (float)x;
    else
        ((uint16_t *)at)[i] = bf16_of_f32((float)x);
}

int64_t place(const standin_lt_layout &l, bool turned, int64_t row, int64_t col)
{
    return turned ? row * l.ld + col : col * l.ld + row;
}

/* Rows (of the first factor) or columns (of the second), each in one piece. */
std::vector<float> in_pieces(const void *at, const standin_lt_layout &l, int64_t from, bool turned, int64_t n, int64_t k, bool rows)
{
    std::vector<float> out((size_t)(n * k));

    for (int64_t i = 0; i < n; i++)
        for (int64_t t = 0; t < k; t++)
            out[(size_t)(i * k + t)] = value(at, l.type, from + (rows ? place(l, turned, i, t) : place(l, turned, t, i)));
    return out;
}

double dot(const float *a, const float *b, int64_t k, bool split)
{
    double sum[8] = {0.0};

    for (int64_t t = 0; t < k; t++)
        sum[t % 8] += (double)a[t] * (double)b[t];
    if (split)
        return (float)(sum[0] + sum[1] + sum[2] + sum[3]) + (float)(sum[4] + sum[5] + sum[6] + sum[7]);
    return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

void multiply(standin_lt_desc d, float alpha, const void *a, standin_lt_layout la, const void *b, standin_lt_layout lb,
              float beta, const void *c, void *out, standin_lt_layout lo, bool split)
{
    bool ta = d.turned[0] == CUBLAS_OP_T, tb = d.turned[1] == CUBLAS_OP_T;
    int64_t k = ta ? la.rows : la.cols;

    for (int64_t n = 0; n < lo.batch; n++) {
        const std::vector<float> left = in_pieces(a, la, n * la.apart, ta, lo.rows, k, true),
                                 right = in_pieces(b, lb, n * lb.apart, tb, lo.cols, k, false);
        for (int64_t j = 0; j < lo.cols; j++)
            for (int64_t i = 0; i < lo.rows; i++) {
                double sum = dot(left.data() + i * k, right.data() + j * k, k, split);
                int64_t at = n * lo.apart + place(lo, false, i, j);
                sum = alpha * sum + (beta != 0.0f ? beta * value(c, lo.type, at) : 0.0);
                if (d.epilogue == CUBLASLT_EPILOGUE_BIAS)
                    sum += (double)value(d.bias, d.bias_type, i);
                put(out, lo.type, at, sum);
            }
    }
}

bool fits(const standin_lt_desc &d, const standin_lt_layout &a, const standin_lt_layout &b, const standin_lt_layout &o)
{
    bool ta = d.turned[0] == CUBLAS_OP_T, tb = d.turned[1] == CUBLAS_OP_T;

    return (ta ? a.cols : a.rows) == o.rows && (tb ? b.rows : b.cols) == o.cols
           && (ta ? a.rows : a.cols) == (tb ? b.cols : b.rows) && a.ld >= a.rows && b.ld >= b.rows && o.ld >= o.rows
           && a.batch == o.batch && b.batch == o.batch && a.type == b.type
           && (o.type == a.type || o.type == CUDA_R_32F);
}

/* C, apart from D: of its type and shape. */
bool alike(const standin_lt_layout &c, const standin_lt_layout &d)
{
    return c.type == d.type && c.rows == d.rows && c.cols == d.cols && c.batch == d.batch && c.ld >= c.rows;
}

bool aligned(const void *at, uint32_t to)
{
    return (uintptr_t)at % to == 0;
}

template <typename T> cublasStatus_t set(T *to, const void *value, size_t bytes)
{
    if (bytes != sizeof *to)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

} // namespace

/* Of a call, as events tell it: so far apart that nothing which really happens beside it counts. */
static const double SECONDS[STANDIN_LT_ALGOS] = {3000.0, 1.0, 0.0, 0.0, 0.0, 1000.0, 5000.0};
int standin_lt_calls[STANDIN_LT_ALGOS];
int standin_lt_wide, standin_lt_lists;

size_t cublasLtGetVersion(void)
{
    return 0;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    *out = new standin_lt;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t h)
{
    delete h;
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasLtGetStatusString(cublasStatus_t rc)
{
    static const char *const TEXT[] = {"success", "invalid value", "not supported", "not initialized"};

    return TEXT[rc];
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t, cudaDataType_t scale)
{
    *out = new standin_lt_desc{scale};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    delete d;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t which,
                                              const void *value, size_t bytes)
{
    switch (which) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(&d->turned[0], value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(&d->turned[1], value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(&d->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(&d->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: d->bias_typed = true; return set(&d->bias_type, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType_t type, uint64_t rows,
                                          uint64_t cols, int64_t ld)
{
    *out = new standin_lt_layout{type, (int64_t)rows, (int64_t)cols, ld};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    delete l;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t which,
                                                const void *value, size_t bytes)
{
    return which == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT ? set(&l->batch, value, bytes) : set(&l->apart, value, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    *out = new standin_lt_want;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    delete p;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t which, const void *value,
                                                    size_t bytes)
{
    if (which == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
        return set(&p->work, value, bytes);
    return set(&p->align[which - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t out, cublasLtMatmulPreference_t want, int most,
                                              cublasLtMatmulHeuristicResult_t *found, int *n)
{
    *n = 0;
    standin_lt_lists++;
    if (standin_lt_wide && out->type != CUDA_R_32F)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    /* A bias is of the result's type unless it is told; a null one cannot be looked for. */
    if (d->epilogue == CUBLASLT_EPILOGUE_BIAS
        && (!d->bias || (uintptr_t)d->bias % 16 || d->bias_type != out->type || (!d->bias_typed && out->type != CUDA_R_32F)))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!fits(*d, *a, *b, *out) || !alike(*c, *out) || d->scale != CUDA_R_32F)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (standin_plain() || most < 1)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    for (; *n < STANDIN_LT_ALGOS && *n < most; ++*n) {
        cublasLtMatmulHeuristicResult_t *f = &found[*n];
        f->algo.which = (standin_lt_algo)*n;
        f->algo.work = want->work + (f->algo.which == STANDIN_LT_GREEDY);
        memcpy(f->algo.align, want->align, sizeof want->align);
        f->algo.align[4] = d->epilogue == CUBLASLT_EPILOGUE_BIAS ? (uint32_t)(((uintptr_t)d->bias | 256) & -((uintptr_t)d->bias | 256)) : 1;
        f->workspaceSize = f->algo.work;
        f->state = f->algo.which == STANDIN_LT_VOID ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb, const void *beta,
                              const void *c, cublasLtMatrixLayout_t lc, void *out, cublasLtMatrixLayout_t lout,
                              const cublasLtMatmulAlgo_t *algo, void *work, size_t bytes, cudaStream_t s)
{
    const float by[] = {*(const float *)alpha, *(const float *)beta};
    const standin_lt_desc how = *d;
    const standin_lt_layout left = *la, right = *lb, made = *lout;
    const standin_lt_algo which = algo->which;

    standin_lt_calls[which]++;
    if (standin_refuses())
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (which == STANDIN_LT_REFUSES || which == STANDIN_LT_GREEDY || which == STANDIN_LT_VOID)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!alike(*lc, made) || !aligned(work, 256))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (bytes < algo->work || !fits(how, left, right, made) || !aligned(a, algo->align[0]) || !aligned(b, algo->align[1])
        || !aligned(c, algo->align[2]) || !aligned(out, algo->align[3])
        || (how.epilogue == CUBLASLT_EPILOGUE_BIAS && !aligned(how.bias, algo->align[4])))
        return CUBLAS_STATUS_INVALID_VALUE;
    cudaError_t rc = standin_do(s, [=] {
        if (bytes)
            memset(work, 0xff, bytes < 4096 ? bytes : 4096); /* an algorithm may use it as it likes */
        multiply(how, by[0], a, left, b, right, by[1], c, out, made, which == STANDIN_LT_SPLIT);
        standin_spend(SECONDS[which]);
    });
    return rc == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}
