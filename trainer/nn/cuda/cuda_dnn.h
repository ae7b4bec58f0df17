#ifndef CUDA_DNN_H
#define CUDA_DNN_H
/* cuDNN's graph API, its C backend of descriptors, as convolutions (cuda_conv.c) and attention (cuda_sdpa.c) use it: descriptors
 * are made, an engine is found for a graph that computes as is promised, and its plan is run. */
#include <cudnn.h>
#include <stdbool.h>
#include <stdint.h>

typedef cudnnBackendDescriptor_t desc;

/* Hands a refusal up, as TRY does. */
#define DNN(call)                                                                                            \
    do {                                                                                                     \
        cudnnStatus_t rc_ = (call);                                                                          \
        if (rc_ != CUDNN_STATUS_SUCCESS)                                                                     \
            return rc_;                                                                                      \
    } while (0)

typedef struct {
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int64_t n;
    const void *values;
} attribute;

/* A descriptor of this kind with these attributes, finished. *out may be set after a failure too: forget it. */
cudnnStatus_t dnn_make(desc *out, cudnnBackendDescriptorType_t kind, const attribute *list, int n);
#define MAKE(out, kind, list) dnn_make(out, kind, list, (int)(sizeof(list) / sizeof *(list)))
void dnn_forget(desc *d);

enum { DNN_ALIGN = 16 }; /* bytes: every tensor that a plan places, and every piece of the trained block, has 64 */

/* What an engine must be: of sources in bf16 (else f32 throughout), on tensor cores, or whatever; one that is compiled first may
 * be taken. It gives the same bits each time, or it is none. */
typedef struct { bool half, cores, compiled; } dnn_wanted;

/* The first engine of what cuDNN expects to be fast, then of what works for most, that is as wanted and can be made ready;
 * scratch: bytes that a run needs. */
cudnnStatus_t dnn_plan(desc *plan, int64_t *scratch, desc graph, cudnnHandle_t handle, dnn_wanted wanted);

/* Runs it on the handle's stream: where the tensors of these names lie. */
cudnnStatus_t dnn_execute(cudnnHandle_t handle, desc plan, const int64_t ids[], const void *const places[], int64_t n, void *scratch);
/* A kernel's answer (cuda_took). */
int dnn_took(cudnnStatus_t rc);
#endif
