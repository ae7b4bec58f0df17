#ifndef STANDIN_NCCL_H
#define STANDIN_NCCL_H
/* What the CUDA backend calls of NCCL, for the stand-in (standin.h). */
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    ncclSuccess,
    ncclUnhandledCudaError,
    ncclInvalidArgument,
    ncclInvalidUsage,
    ncclRemoteError,
    ncclInProgress
} ncclResult_t;
typedef enum { ncclFloat32, ncclBfloat16 } ncclDataType_t;
typedef enum { ncclSum } ncclRedOp_t;
typedef struct standin_nccl *ncclComm_t;
typedef struct { char internal[128]; } ncclUniqueId;
typedef struct { int blocking; } ncclConfig_t;
#define NCCL_CONFIG_INITIALIZER {1}

ncclResult_t ncclGetUniqueId(ncclUniqueId *out);
ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int ranks, ncclUniqueId id, int rank, ncclConfig_t *how);
ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *out);
ncclResult_t ncclCommAbort(ncclComm_t c);
ncclResult_t ncclCommFinalize(ncclComm_t c);
ncclResult_t ncclCommDestroy(ncclComm_t c);
ncclResult_t ncclAllReduce(const void *from, void *to, size_t n, ncclDataType_t type, ncclRedOp_t op, ncclComm_t c,
                           cudaStream_t s);
const char *ncclGetErrorString(ncclResult_t rc);

#ifdef __cplusplus
}
#endif
#endif
