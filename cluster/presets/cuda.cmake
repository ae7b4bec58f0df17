# cmake -C cluster/presets/cuda.cmake -B build-cuda: as release, with the CUDA backend (nvcc, cuBLASLt, cuDNN)
include(${CMAKE_CURRENT_LIST_DIR}/release.cmake)
set(CFARM_CUDA ON CACHE STRING "")
