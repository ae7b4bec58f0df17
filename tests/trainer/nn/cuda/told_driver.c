/* What cuDNN and NVRTC look for in a driver before they compile an engine, for a machine without one: it says of everything that it is
 * no driver, as the toolkit's own stub does, but for modules, which it takes. So the engines that a device would have are listed and
 * compiled, and what nvcc's assembler says of them is heard; nothing runs. */
enum { NONE = 34 }; /* CUDA_ERROR_STUB_LIBRARY */

#define ANSWER(name, rc)                                                                                     \
    int name(void);                                                                                          \
    int name(void)                                                                                           \
    {                                                                                                        \
        return rc;                                                                                           \
    }
#define NO(name) ANSWER(name, NONE)
#define YES(name) ANSWER(name, 0)

NO(cuCtxGetCurrent)
NO(cuCtxGetDevice)
NO(cuCtxGetLimit)
NO(cuCtxPopCurrent)
NO(cuCtxPushCurrent)
NO(cuDeviceGet)
NO(cuDeviceGetAttribute)
NO(cuDeviceGetCount)
NO(cuDevicePrimaryCtxRelease)
NO(cuDevicePrimaryCtxReset)
NO(cuDevicePrimaryCtxRetain)
NO(cuDriverGetVersion)
NO(cuFuncGetAttribute)
NO(cuGetErrorName)
NO(cuGetErrorString)
NO(cuInit)
NO(cuKernelGetAttribute)
NO(cuLaunchCooperativeKernel)
NO(cuLaunchKernel)
NO(cuLaunchKernelEx)
NO(cuLibraryLoadFromFile)
NO(cuLinkAddData)
NO(cuLinkAddData_v2)
NO(cuLinkAddFile_v2)
NO(cuLinkComplete)
NO(cuLinkCreate)
NO(cuLinkCreate_v2)
NO(cuLinkDestroy)
NO(cuMemcpyDtoH_v2)
NO(cuModuleGetGlobal_v2)
NO(cuModuleLoadFatBinary)
NO(cuOccupancyMaxActiveBlocksPerMultiprocessor)
NO(cuOccupancyMaxPotentialClusterSize)
NO(cuStreamGetCtx)
NO(cuStreamSynchronize)
NO(cuTensorMapEncodeIm2col)
NO(cuTensorMapEncodeTiled)
YES(cuFuncSetAttribute)
YES(cuKernelSetAttribute)
YES(cuLibraryUnload)
YES(cuModuleUnload)

/* Something that is not NULL, of which nothing is asked. */
static int thing;

#define GIVES(name, ...)                                                                                     \
    int name(__VA_ARGS__);                                                                                   \
    int name(__VA_ARGS__)                                                                                    \
    {                                                                                                        \
        *out = &thing;                                                                                       \
        return 0;                                                                                            \
    }

GIVES(cuLibraryLoadData, void **out)
GIVES(cuModuleLoadData, void **out)
GIVES(cuModuleLoadDataEx, void **out)
GIVES(cuKernelGetFunction, void **out)
GIVES(cuLibraryGetKernel, void **out)
GIVES(cuModuleGetFunction, void **out)
