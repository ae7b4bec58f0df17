/* Laws of cuBLASLt itself, where there is no device: it opens none and lists nothing then, but its descriptors are there, and they
 * are asked what our own code (cuda_gemm.c) made of them: every attribute is taken in the size that it has, what is not set is what
 * we take it for, and types, shapes, bias and C are a row of the table in cublasLtMatmul's description. For the products of SD 1.5's
 * step, and sizes that nothing divides. */
#include <cublasLt.h>

static cublasStatus_t asked(cublasLtHandle_t h, cublasLtMatmulDesc_t how, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                            cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t want, int most,
                            cublasLtMatmulHeuristicResult_t *found, int *n);
#define cublasLtMatmulAlgoGetHeuristic asked
#include "trainer/nn/cuda/cuda_gemm.c"
#undef cublasLtMatmulAlgoGetHeuristic

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "trainer/nn/nn.h"

/* ---- what cuda_gemm.c is linked with, and what is not called here ---- */

static cuda device;

cuda *cuda_current(void) { return &device; }
const char *cuda_needs_f32(const struct nn_node *y) { return (void)y, NULL; }
int cuda_half_leaf(nn_backend *b, nn_call *c, void **mem, err *e) { return (void)b, (void)c, (void)mem, err_set(e, ERR_DEVICE, "none"); }
int cuda_round(nn_backend *b, void **to, const void *from, int64_t n, err *e)
{
    return (void)b, (void)to, (void)from, (void)n, err_set(e, ERR_DEVICE, "none");
}
void cuda_round_done(nn_backend *b, const void *from) { (void)b, (void)from; }
int cuda_ran(cudaError_t rc) { return (int)rc; }
int cuda_took(const char *library, const char *why) { return (void)library, why != NULL; }
int cuda_search(nn_backend *b, const cuda_product *p, const cuda_algos *from, cublasLtMatmulAlgo_t *best, err *e)
{
    return (void)b, (void)p, (void)from, (void)best, err_set(e, ERR_DEVICE, "none");
}
cudaError_t k_cast(cudaStream_t s, void *out, cuda_float to, const void *x, cuda_float from, int64_t n)
{
    return (void)s, (void)out, (void)to, (void)x, (void)from, (void)n, cudaErrorNoDevice;
}
cudaError_t k_binary(cudaStream_t s, cuda_binary op, float *out, const float *a, const float *b, cuda_walk at, int64_t n)
{
    return (void)s, (void)op, (void)out, (void)a, (void)b, (void)at, (void)n, cudaErrorNoDevice;
}

/* ---- descriptors, read back ---- */

#define GET(of, d, name, to)                                                                                 \
    do {                                                                                                     \
        size_t size_ = 0;                                                                                    \
        assert_int_equal(cublasLt##of##GetAttribute(d, name, to, sizeof *(to), &size_), CUBLAS_STATUS_SUCCESS); \
        assert_int_equal(size_, sizeof *(to));                                                               \
    } while (0)

typedef struct { int32_t type, order, batch; uint64_t rows, cols; int64_t ld, apart; } matrix;

static matrix read_matrix(cublasLtMatrixLayout_t l)
{
    matrix m;

    GET(MatrixLayout, l, CUBLASLT_MATRIX_LAYOUT_TYPE, &m.type);
    GET(MatrixLayout, l, CUBLASLT_MATRIX_LAYOUT_ORDER, &m.order);
    GET(MatrixLayout, l, CUBLASLT_MATRIX_LAYOUT_ROWS, &m.rows);
    GET(MatrixLayout, l, CUBLASLT_MATRIX_LAYOUT_COLS, &m.cols);
    GET(MatrixLayout, l, CUBLASLT_MATRIX_LAYOUT_LD, &m.ld);
    GET(MatrixLayout, l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &m.batch);
    GET(MatrixLayout, l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &m.apart);
    assert_int_equal(m.order, CUBLASLT_ORDER_COL);
    assert_true((uint64_t)m.ld == m.rows && (uint64_t)m.apart == m.rows * m.cols);
    return m;
}

/* What is being asked for. */
static struct { int64_t batch, m, n, k; bool half; gemm_at at; int times; } now;

/* Of A, B and C, D by cuBLASLt's names: types that its table has with compute and scale in f32, and the bias that goes with them. */
static void check_types(cublasLtMatmulDesc_t how, int32_t from, int32_t to)
{
    int32_t compute, scale, pointers, bias_type;
    uint32_t epilogue;
    int64_t bias_apart;
    void *bias;

    GET(MatmulDesc, how, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, &compute);
    GET(MatmulDesc, how, CUBLASLT_MATMUL_DESC_SCALE_TYPE, &scale);
    GET(MatmulDesc, how, CUBLASLT_MATMUL_DESC_POINTER_MODE, &pointers);
    GET(MatmulDesc, how, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue);
    GET(MatmulDesc, how, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias);
    GET(MatmulDesc, how, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type);
    GET(MatmulDesc, how, CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, &bias_apart);
    assert_true(compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F && pointers == CUBLASLT_POINTER_MODE_HOST);
    assert_int_equal(from, now.half ? CUDA_R_16BF : CUDA_R_32F);
    assert_int_equal(to, now.at.narrow ? CUDA_R_16BF : CUDA_R_32F);
    assert_int_equal(epilogue, now.at.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT);
    if (now.at.bias)
        assert_true(bias == now.at.bias && bias_type == to && bias_apart == 0);
}

static void check_shapes(cublasLtMatmulDesc_t how, matrix a, matrix b, matrix d)
{
    int32_t ta, tb;

    GET(MatmulDesc, how, CUBLASLT_MATMUL_DESC_TRANSA, &ta);
    GET(MatmulDesc, how, CUBLASLT_MATMUL_DESC_TRANSB, &tb);
    assert_int_equal(d.rows, now.n);
    assert_int_equal(d.cols, now.m);
    assert_int_equal(ta == CUBLAS_OP_T ? a.cols : a.rows, now.n);
    assert_int_equal(ta == CUBLAS_OP_T ? a.rows : a.cols, now.k);
    assert_int_equal(tb == CUBLAS_OP_T ? b.cols : b.rows, now.k);
    assert_int_equal(tb == CUBLAS_OP_T ? b.rows : b.cols, now.m);
    assert_true(a.batch == now.batch && b.batch == now.batch && d.batch == now.batch && a.type == b.type);
}

static void check_wishes(cublasLtMatmulPreference_t want)
{
    const void *const place[] = {now.at.b, now.at.a, now.at.more ? now.at.more : now.at.y, now.at.y};
    uint64_t scratch;
    uint32_t align[4];

    GET(MatmulPreference, want, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &scratch);
    GET(MatmulPreference, want, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &align[0]);
    GET(MatmulPreference, want, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &align[1]);
    GET(MatmulPreference, want, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &align[2]);
    GET(MatmulPreference, want, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &align[3]);
    assert_int_equal(scratch, CUDA_LT_SCRATCH);
    for (int i = 0; i < 4; i++)
        assert_true((uintptr_t)place[i] % align[i] == 0 && (align[i] == 256 || (uintptr_t)place[i] % (2 * align[i]) != 0));
}

/* In the heuristic's place, which wants a device. */
static cublasStatus_t asked(cublasLtHandle_t h, cublasLtMatmulDesc_t how, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                            cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t want, int most,
                            cublasLtMatmulHeuristicResult_t *found, int *n)
{
    (void)h;
    assert_true(most == CUDA_LT_ALGOS && c == d);
    check_types(how, read_matrix(a).type, read_matrix(d).type);
    check_shapes(how, read_matrix(a), read_matrix(b), read_matrix(d));
    check_wishes(want);
    now.times++;
    found[0] = (cublasLtMatmulHeuristicResult_t){.state = CUBLAS_STATUS_SUCCESS};
    *n = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- products ---- */

/* biased: of a layer, whose weights lie as [n, k]. */
static const struct { int64_t batch, m, n, k; bool ta, tb, biased; } PRODUCTS[] = {
    {1, 32768, 320, 320, false, true, true},  {1, 32768, 2560, 320, false, true, true}, {1, 32768, 320, 1280, false, true, true},
    {1, 616, 320, 768, false, true, false},   {1, 616, 1280, 768, false, true, false},  {1, 8, 1280, 320, false, true, true},
    {1, 32768, 320, 320, false, false, false}, {1, 320, 768, 616, true, false, false},  {1, 616, 3072, 768, false, true, true},
    {1, 616, 768, 3072, false, true, true},   {8, 4096, 512, 4096, false, false, false}, {8, 4096, 4096, 512, false, true, false},
    {1, 7, 5, 3, false, true, true},          {3, 11, 13, 17, true, true, false},       {1, 1, 1, 1, false, false, false},
};

static nn_tensor product(nn_graph *g, size_t i)
{
    const int64_t batch = PRODUCTS[i].batch, m = PRODUCTS[i].m, n = PRODUCTS[i].n, k = PRODUCTS[i].k;
    const bool ta = PRODUCTS[i].ta, tb = PRODUCTS[i].tb;
    const int64_t am = ta ? k : m, ak = ta ? m : k, bk = tb ? n : k, bn = tb ? k : n;
    nn_tensor a = nn_input(g, "a", F32, batch > 1 ? NN_SHAPE(batch, am, ak) : NN_SHAPE(am, ak));
    nn_tensor b = nn_input(g, "b", F32, batch > 1 ? NN_SHAPE(batch, bk, bn) : NN_SHAPE(bk, bn));

    return PRODUCTS[i].biased ? nn_linear(g, a, b, nn_input(g, "bias", F32, NN_SHAPE(n))) : nn_matmul(g, a, b, ta, tb);
}

/* As it is made for a plan: sources in f32 or bf16, the result in f32 or, without a bias, in bf16; alone and added to a residual. */
static void make_all(size_t i, int left)
{
    const void *const at = (const void *)(uintptr_t)left;
    nn_graph *g = nn_graph_new();
    nn_tensor y = product(g, i);

    for (int how = 0; how < 6; how++) {
        const bool half = how >= 2, narrow = how >= 4, adds = how % 2;
        cuda_algos algos;
        gemm *made;
        if (narrow && PRODUCTS[i].biased)
            continue;
        now.batch = PRODUCTS[i].batch, now.m = PRODUCTS[i].m, now.n = PRODUCTS[i].n, now.k = PRODUCTS[i].k;
        now.half = half;
        now.at = (gemm_at){at, at, at, adds ? at : NULL, PRODUCTS[i].biased ? at : NULL, narrow};
        const bool ours = now.at.bias && left % BIAS_ALIGN; /* our kernel adds the bias */
        const gemm_at asks = now.at;
        if (ours)
            now.at.bias = NULL;
        assert_int_equal(gemm_make(&made, &algos, &device, y, half, asks), CUBLAS_STATUS_SUCCESS);
        assert_int_equal(made->biases, ours);
        gemm_free(made);
    }
    nn_graph_free(g);
}

static void a_product_is_told_as_its_library_has_it(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof PRODUCTS / sizeof *PRODUCTS; i++)
        for (int left = 4; left <= 256; left *= 4)
            make_all(i, left);
    assert_int_equal(now.times, 4 * 6 * sizeof PRODUCTS / sizeof *PRODUCTS - 4 * 2 * 7);
}

/* What a driver has to be there for. */
static void without_a_device_it_is_not_opened(void **unused)
{
    cublasLtHandle_t h;
    int n;

    (void)unused;
    if (cudaGetDeviceCount(&n) == cudaSuccess && n > 0)
        skip();
    assert_int_equal(cublasLtCreate(&h), CUBLAS_STATUS_NOT_INITIALIZED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_product_is_told_as_its_library_has_it),
        cmocka_unit_test(without_a_device_it_is_not_opened),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
