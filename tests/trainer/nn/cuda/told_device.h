#ifndef TOLD_DEVICE_H
#define TOLD_DEVICE_H
/* Devices that are not here: cuDNN, since 9.8, answers for one that it is told the properties of. Our own code asks it, with
 * told_attribute in place of cudnnBackendSetAttribute: where that gives a handle it gives the device's properties. */
#include <cudnn.h>
#include <stdbool.h>
#include <string.h>

#include "cluster/base/mem.h"

/* As cuDNN writes them; the last three are asked for since 9.28. */
static const struct { const char *name, *properties; } TOLD[] = {
    {"H200", "{\"deviceName\":\"NVIDIA H200\",\"cudaDeviceId\":0,\"deviceVer\":900,\"driverVer\":13000,\"multiProcessorCount\":132,"
             "\"smClockRateKHz\":1980000,\"memClockRateKHz\":3201000,\"l2CacheSize\":62914560,\"totalGlobalMem\":150754820096,"
             "\"maxSharedMemoryPerBlockOptin\":232448,\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],"
             "\"regsPerBlock\":65536,\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,\"reservedSharedMemoryPerBlock\":1024,"
             "\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,"
             "\"pciDeviceId\":0,\"isTccDriver\":0,\"supportCoopLaunch\":1,\"smCountOrigin\":0,\"memoryBusWidth\":6144,"
             "\"oversizedSharedMemoryPerBlock\":0}"},
    {"A100", "{\"deviceName\":\"NVIDIA A100-SXM4-80GB\",\"cudaDeviceId\":0,\"deviceVer\":800,\"driverVer\":13000,"
             "\"multiProcessorCount\":108,\"smClockRateKHz\":1410000,\"memClockRateKHz\":1593000,\"l2CacheSize\":41943040,"
             "\"totalGlobalMem\":85094694912,\"maxSharedMemoryPerBlockOptin\":166912,\"maxGridSize\":[2147483647,65535,65535],"
             "\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,"
             "\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,"
             "\"maxThreadsPerSM\":2048,\"pciDeviceId\":0,\"isTccDriver\":0,\"supportCoopLaunch\":1,\"smCountOrigin\":0,"
             "\"memoryBusWidth\":5120,\"oversizedSharedMemoryPerBlock\":0}"},
};

enum { TOLD_N = sizeof TOLD / sizeof *TOLD };

static cudnnBackendDescriptor_t told;

static cudnnStatus_t told_attribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                                    int64_t n, const void *values)
{
    const bool heuristics = name == CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH;

    if (name == CUDNN_ATTR_OPERATIONGRAPH_HANDLE)
        return CUDNN_STATUS_SUCCESS;
    if (name == CUDNN_ATTR_EXECUTION_PLAN_HANDLE)
        return cudnnBackendSetAttribute(d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &told);
    if (heuristics)
        CHECK(cudnnBackendSetAttribute(d, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &told) == CUDNN_STATUS_SUCCESS);
    return cudnnBackendSetAttribute(d, name, type, n, values);
}

static cudnnStatus_t told_make(size_t d)
{
    const char *text = TOLD[d].properties;

    CHECK(cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &told) == CUDNN_STATUS_SUCCESS);
    CHECK(cudnnBackendSetAttribute(told, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(text), text)
          == CUDNN_STATUS_SUCCESS);
    return cudnnBackendFinalize(told);
}

static void told_open(size_t d)
{
    CHECK(told_make(d) == CUDNN_STATUS_SUCCESS);
}

static void told_close(void)
{
    cudnnBackendDestroyDescriptor(told);
    told = NULL;
}
#endif
