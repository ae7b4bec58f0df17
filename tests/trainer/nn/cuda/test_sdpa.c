/* Laws of cuDNN's attention, where there is no device (told_device.h): for every attention of SD 1.5 and 2 at 512 x 512 pixels, of
 * UNet, VAE and text encoder, batches of 8, it has an engine on tensor cores for the pass on an H200 and an A100; for the gradient one
 * that keeps its bits and takes less than a GiB for heads of up to 128, and of 160 on an H200, but for 4096 queries and as many keys,
 * which take more; by atomics those, too. All are compiled when they are asked for. It is our own code that asks (cuda_sdpa.c,
 * cuda_dnn.c), over a driver that takes their code and runs nothing (told_driver.c).
 *
 *   test_sdpa           the laws
 *   test_sdpa show      a line for each: scratch, and the seconds that compiling took */
#include <cudnn.h>

#if CUDNN_VERSION < 91900
#include <stdio.h>

int main(void)
{
    puts("skipped: what is held here is what cuDNN 9.19 has");
    return 77;
}
#else

#include "tests/trainer/nn/cuda/told_device.h"
#define cudnnBackendSetAttribute told_attribute
#include "trainer/nn/cuda/cuda_sdpa.c"
#include "trainer/nn/cuda/cuda_dnn.c"
#undef cudnnBackendSetAttribute

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "cluster/base/clock.h"

/* ---- what cuda_sdpa.c is linked with, and what is not called here ---- */

cuda *cuda_current(void) { return NULL; }
bool cuda_narrows(const struct nn_node *y) { return y != NULL; }
bool cuda_has_head(int64_t d) { return d > 0; }
const char *cuda_takes_attention(const struct nn_node *y) { return (void)y, NULL; }
size_t cuda_rounded_bytes(const nn_call *c, unsigned wanted) { return (void)c, (void)wanted, 0; }
void cuda_tell_rounded(nn_call *c, unsigned wanted) { (void)c, (void)wanted; }
cudaError_t cuda_round_sources(nn_backend *b, const nn_call *c, unsigned wanted, uint16_t *half[CUDA_ROUNDINGS])
{
    return (void)b, (void)c, (void)wanted, (void)half, cudaErrorNoDevice;
}
size_t cuda_kept_bytes(const nn_call *c) { return (void)c, 0; }
int cuda_keep(nn_backend *b, struct cuda_kept **out, const nn_call *c, err *e) { return (void)b, (void)out, (void)c, err_set(e, ERR_DEVICE, "none"); }
int cuda_kept_by(nn_backend *b, struct cuda_kept **out, const nn_call *c, err *e) { return (void)b, (void)out, (void)c, err_set(e, ERR_DEVICE, "none"); }
void cuda_let_go(struct cuda_kept *k) { (void)k; }
int cuda_ran(cudaError_t rc) { return (int)rc; }
int cuda_took(const char *library, const char *why) { return (void)library, why != NULL; }
cudaError_t k_cast(cudaStream_t s, void *out, cuda_float to, const void *x, cuda_float from, int64_t n)
{
    return (void)s, (void)out, (void)to, (void)x, (void)from, (void)n, cudaErrorNoDevice;
}
cudaError_t k_sums_of_logs(cudaStream_t s, float *out, const float *logs, int64_t heads, int64_t tq)
{
    return (void)s, (void)out, (void)logs, (void)heads, (void)tq, cudaErrorNoDevice;
}
cudaError_t k_logs_of_sums(cudaStream_t s, float *out, const float *sums, int64_t heads, int64_t tq)
{
    return (void)s, (void)out, (void)sums, (void)heads, (void)tq, cudaErrorNoDevice;
}

/* ---- SD 1.5 and SD 2 ---- */

static const struct { int64_t heads, tq, tk, d; bool causal; } SHAPES[] = {
    {8, 4096, 4096, 40, false}, {8, 4096, 77, 40, false},   {8, 1024, 1024, 80, false}, {8, 1024, 77, 80, false},
    {8, 256, 256, 160, false},  {8, 256, 77, 160, false},   {8, 64, 64, 160, false},    {8, 64, 77, 160, false},
    {5, 4096, 4096, 64, false}, {5, 4096, 77, 64, false},   {10, 1024, 1024, 64, false}, {10, 1024, 77, 64, false},
    {20, 256, 256, 64, false},  {20, 256, 77, 64, false},   {20, 64, 64, 64, false},    {20, 64, 77, 64, false},
    {12, 77, 77, 64, true},     {16, 77, 77, 64, true},     {1, 4096, 4096, 512, false},
};
enum { SHAPE_N = sizeof SHAPES / sizeof *SHAPES };
typedef enum { PASS, GRADIENT, ATOMICS, KINDS } kind;
static const char *const KIND[] = {"pass", "gradient", "gradient by atomics"};
static bool shown;

static bool expected(size_t device, size_t i, kind k)
{
    if (k == PASS)
        return true;
    if (SHAPES[i].d > (strcmp(TOLD[device].name, "A100") == 0 ? 128 : 256))
        return false;
    return k == ATOMICS || SHAPES[i].tq * SHAPES[i].tk < 4096 * 4096;
}

static void has_what_is_expected(cuda *on, size_t device, size_t i, kind k)
{
    const struct cuda_sdpa_key key = {k != PASS, k == ATOMICS, 8, SHAPES[i].heads, SHAPES[i].tq, SHAPES[i].tk, SHAPES[i].d, SHAPES[i].causal};
    const double from = clock_s();
    const struct cuda_sdpa *v = find(on, &key);

    if (shown)
        printf("%s, %lld heads of %lld, %lld queries, %lld keys: %s %s, %.1f MiB, %.2f s\n", TOLD[device].name, (long long)key.heads,
               (long long)key.d, (long long)key.tq, (long long)key.tk, KIND[k], v ? "taken" : "none", v ? (double)v->scratch / 1048576.0 : 0.0,
               clock_s() - from);
    if ((v != NULL) != expected(device, i, k))
        fail_msg("%s: %s of %lld heads of %lld, %lld queries, %lld keys: %s", TOLD[device].name, KIND[k], (long long)key.heads,
                 (long long)key.d, (long long)key.tq, (long long)key.tk, v ? "an engine" : "none");
}

static void attention_of_bf16_has_the_engines_that_the_table_says(void **unused)
{
    (void)unused;
    for (size_t d = 0; d < TOLD_N; d++) {
        cuda on = {0};
        told_open(d);
        for (size_t i = 0; i < SHAPE_N; i++)
            for (kind k = PASS; k < KINDS; k++)
                if (shown || k != ATOMICS || SHAPES[i].tq == 4096)
                    has_what_is_expected(&on, d, i, k);
        cuda_sdpas_free(&on);
        told_close();
    }
}

static void what_there_is_no_engine_for_is_asked_once(void **unused)
{
    const struct cuda_sdpa_key key = {.n = 1, .heads = 1, .tq = 64, .tk = 64, .d = 12};
    cuda on = {0};

    (void)unused;
    told_open(0);
    assert_null(find(&on, &key)); /* heads of 12 */
    assert_null(find(&on, &key));
    assert_true(on.sdpas && !on.sdpas->next); /* and is not asked for again */
    cuda_sdpas_free(&on);
    told_close();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_of_bf16_has_the_engines_that_the_table_says),
        cmocka_unit_test(what_there_is_no_engine_for_is_asked_once),
    };

    shown = argc > 1 && strcmp(argv[1], "show") == 0;
    if (!dlopen(TOLD_DRIVER, RTLD_NOW | RTLD_GLOBAL)) {
        printf("%s\n", dlerror());
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
