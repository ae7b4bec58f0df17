# cmake -C cluster/presets/dev.cmake -B build-dev: address and undefined-behaviour sanitizers, warnings are errors
set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "")
set(CMAKE_C_FLAGS "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer" CACHE STRING "")
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O1 -g" CACHE STRING "")
set(CFARM_WERROR ON CACHE BOOL "")
