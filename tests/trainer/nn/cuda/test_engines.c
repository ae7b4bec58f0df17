/* Laws of cuDNN itself, where there is no device: since 9.8 it answers for one that it is told the properties of, and makes plans
 * for it. For every convolution of SD 1.5 at 512 x 512 pixels, forward and backward, of one picture, of 8 and of 16, an H200 and an
 * A100 have an engine on tensor cores that needs no compiling; in f32 there is one that keeps f32; and both have them for channels and
 * sides that nothing divides, as the golden models' are. It is our own code that asks (cuda_conv.c, cuda_dnn.c), but for the handle,
 * in whose place it gives the properties. */
#include <cudnn.h>

#if CUDNN_VERSION < 90800
#include <stdio.h>

int main(void)
{
    puts("skipped: this cuDNN knows no device but one that is there; 9.8 does");
    return 77;
}
#else

#include "tests/trainer/nn/cuda/told_device.h"
#define cudnnBackendSetAttribute told_attribute
#include "trainer/nn/cuda/cuda_conv.c"
#include "trainer/nn/cuda/cuda_dnn.c"
#undef cudnnBackendSetAttribute

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

/* ---- what cuda_conv.c is linked with, and what is not called here ---- */

cuda *cuda_current(void) { return NULL; }
const char *cuda_needs_f32(const struct nn_node *y) { return (void)y, NULL; }
int cuda_half_leaf(nn_backend *b, nn_call *c, void **mem, err *e) { return (void)b, (void)c, (void)mem, err_set(e, ERR_DEVICE, "none"); }
int cuda_round(nn_backend *b, void **to, const void *from, int64_t n, err *e)
{
    return (void)b, (void)to, (void)from, (void)n, err_set(e, ERR_DEVICE, "none");
}
void cuda_round_done(nn_backend *b, const void *from) { (void)b, (void)from; }
int cuda_ran(cudaError_t rc) { return (int)rc; }
int cuda_took(const char *library, const char *why) { return (void)library, why != NULL; }
cudaError_t k_cast(cudaStream_t s, void *out, cuda_float to, const void *x, cuda_float from, int64_t n)
{
    return (void)s, (void)out, (void)to, (void)x, (void)from, (void)n, cudaErrorNoDevice;
}
cudaError_t k_binary(cudaStream_t s, cuda_binary op, float *out, const float *a, const float *b, cuda_walk at, int64_t n)
{
    return (void)s, (void)op, (void)out, (void)a, (void)b, (void)at, (void)n, cudaErrorNoDevice;
}
cudaError_t k_add_two(cudaStream_t s, float *out, const float *a, const float *b, int64_t width, const float *c, cuda_walk at, int64_t n)
{
    return (void)s, (void)out, (void)a, (void)b, (void)width, (void)c, (void)at, (void)n, cudaErrorNoDevice;
}
cudaError_t k_widen(cudaStream_t s, float *out, const uint16_t *a, const float *b, int64_t width, const float *c, cuda_walk at, int64_t n)
{
    return (void)s, (void)out, (void)a, (void)b, (void)width, (void)c, (void)at, (void)n, cudaErrorNoDevice;
}

/* ---- SD 1.5 ---- */

/* Of the UNet (trained: gradients, too), the VAE's encoder and its decoder. before, after: padding. */
static const struct { bool trained; int64_t side, c, o, k, stride, before, after; } CONVS[] = {
    {true, 64, 4, 320, 3, 1, 1, 1},       {true, 64, 320, 320, 3, 1, 1, 1},     {true, 64, 320, 320, 1, 1, 0, 0},
    {true, 64, 320, 320, 3, 2, 1, 1},     {true, 64, 640, 320, 3, 1, 1, 1},     {true, 64, 640, 320, 1, 1, 0, 0},
    {true, 64, 960, 320, 3, 1, 1, 1},     {true, 64, 960, 320, 1, 1, 0, 0},     {true, 64, 640, 640, 3, 1, 1, 1},
    {true, 64, 320, 4, 3, 1, 1, 1},       {true, 32, 320, 640, 3, 1, 1, 1},     {true, 32, 320, 640, 1, 1, 0, 0},
    {true, 32, 640, 640, 3, 1, 1, 1},     {true, 32, 640, 640, 1, 1, 0, 0},     {true, 32, 640, 640, 3, 2, 1, 1},
    {true, 32, 960, 640, 3, 1, 1, 1},     {true, 32, 1280, 640, 3, 1, 1, 1},    {true, 32, 1920, 640, 3, 1, 1, 1},
    {true, 32, 1920, 640, 1, 1, 0, 0},    {true, 32, 1280, 1280, 3, 1, 1, 1},   {true, 16, 640, 1280, 3, 1, 1, 1},
    {true, 16, 640, 1280, 1, 1, 0, 0},    {true, 16, 1280, 1280, 3, 1, 1, 1},   {true, 16, 1280, 1280, 1, 1, 0, 0},
    {true, 16, 1280, 1280, 3, 2, 1, 1},   {true, 16, 1920, 1280, 3, 1, 1, 1},   {true, 16, 2560, 1280, 3, 1, 1, 1},
    {true, 16, 2560, 1280, 1, 1, 0, 0},   {true, 8, 1280, 1280, 3, 1, 1, 1},    {true, 8, 1280, 1280, 1, 1, 0, 0},
    {true, 8, 2560, 1280, 3, 1, 1, 1},    {true, 8, 2560, 1280, 1, 1, 0, 0},    {false, 512, 3, 128, 3, 1, 1, 1},
    {false, 512, 128, 128, 3, 1, 1, 1},   {false, 512, 128, 128, 3, 2, 0, 1},   {false, 256, 128, 256, 3, 1, 1, 1},
    {false, 256, 128, 256, 1, 1, 0, 0},   {false, 256, 256, 256, 3, 1, 1, 1},   {false, 256, 256, 256, 3, 2, 0, 1},
    {false, 128, 256, 512, 3, 1, 1, 1},   {false, 128, 512, 512, 3, 1, 1, 1},   {false, 128, 512, 512, 3, 2, 0, 1},
    {false, 64, 512, 512, 3, 1, 1, 1},    {false, 64, 512, 8, 3, 1, 1, 1},      {false, 64, 8, 8, 1, 1, 0, 0},
    {false, 64, 4, 4, 1, 1, 0, 0},        {false, 64, 4, 512, 3, 1, 1, 1},      {false, 256, 512, 512, 3, 1, 1, 1},
    {false, 256, 512, 256, 3, 1, 1, 1},   {false, 512, 256, 256, 3, 1, 1, 1},   {false, 512, 256, 128, 3, 1, 1, 1},
    {false, 512, 256, 128, 1, 1, 0, 0},   {false, 512, 128, 3, 3, 1, 1, 1},
};

static struct cuda_conv_key key_of_row(size_t i, nn_op_id op, bool half, int64_t batch)
{
    const int64_t side = CONVS[i].side, after = CONVS[i].after, before = CONVS[i].before,
                  out = (side + before + after - CONVS[i].k) / CONVS[i].stride + 1;

    return (struct cuda_conv_key){.op = op, .half = half,
                                  .at = {batch, side, side, CONVS[i].c, CONVS[i].o, CONVS[i].k, CONVS[i].k, out, out, CONVS[i].stride,
                                         before, before, after, after}};
}

static const nn_op_id OPS[] = {NN_OP_conv2d, NN_OP_conv2d_grad_x, NN_OP_conv2d_grad_w};
enum { OP_N = 3, BATCHES = 3 };
static const int64_t BATCH[BATCHES] = {1, 8, 16};

static void is_ready(cuda *on, size_t d, struct cuda_conv_key key)
{
    const struct cuda_conv *v = find(on, &key);

    if (!v || !v->plan || v->as.compiled || (key.half && !v->as.cores))
        fail_msg("%s, %s: operation %d of %lld times %lld x %lld pixels, %lld to %lld channels: %s", TOLD[d].name, key.half ? "bf16" : "f32",
                 (int)(key.op == OPS[1]) + 2 * (key.op == OPS[2]), (long long)key.at.n, (long long)key.at.h, (long long)key.at.w, (long long)key.at.c,
                 (long long)key.at.o, v && v->plan ? "a slow one" : "none");
}

static void all_of_sd15_are_ready(bool half)
{
    for (size_t d = 0; d < TOLD_N; d++) {
        cuda on = {0};
        told_open(d);
        for (int b = 0; b < BATCHES; b++)
            for (size_t i = 0; i < sizeof CONVS / sizeof *CONVS; i++)
                for (int k = 0; k < (CONVS[i].trained ? OP_N : 1); k++)
                    is_ready(&on, d, key_of_row(i, OPS[k], half, BATCH[b]));
        cuda_convs_free(&on);
        told_close();
    }
}

static void every_convolution_of_bf16_has_an_engine_on_tensor_cores_that_is_ready(void **unused)
{
    (void)unused;
    all_of_sd15_are_ready(true);
}

static void every_convolution_in_f32_has_an_engine_that_is_ready(void **unused)
{
    (void)unused;
    all_of_sd15_are_ready(false);
}

/* Of 2 samples with windows of 1 and 3. */
static void numbers_that_nothing_divides_have_one_too(void **unused)
{
    static const int64_t CHANNELS[][2] = {{4, 20}, {20, 28}, {3, 8}, {5, 7}, {32, 4}}, SIDES[] = {3, 5, 6, 9};
    enum { PAIRS = sizeof CHANNELS / sizeof *CHANNELS, SIDES_N = sizeof SIDES / sizeof *SIDES, ALL = PAIRS * SIDES_N * OP_N * 2 * 2 };

    (void)unused;
    for (size_t d = 0; d < TOLD_N; d++) {
        cuda on = {0};
        told_open(d);
        for (int i = 0; i < ALL; i++) {
            const int64_t side = SIDES[i % SIDES_N], *c = CHANNELS[i / SIDES_N % PAIRS], k = i / SIDES_N / PAIRS % 2 ? 3 : 1;
            const int rest = i / SIDES_N / PAIRS / 2;
            is_ready(&on, d, (struct cuda_conv_key){.op = OPS[rest % OP_N], .half = rest / OP_N,
                                                    .at = {2, side, side, c[0], c[1], k, k, side, side, 1, k / 2, k / 2, k / 2, k / 2}});
        }
        cuda_convs_free(&on);
        told_close();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_convolution_of_bf16_has_an_engine_on_tensor_cores_that_is_ready),
        cmocka_unit_test(every_convolution_in_f32_has_an_engine_that_is_ready),
        cmocka_unit_test(numbers_that_nothing_divides_have_one_too),
    };

    cudnnStatus_t there = told_make(0);
    told_close();
    if (there == CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED) {
        puts("skipped: a library of this cuDNN does not load; of 9.28 one wants a driver's");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
