#!/usr/bin/env bash
# For a machine with a GPU: builds with CUDA, runs every test labelled gpu, judges golden directories on the GPU, and
# times training steps on it. One line a part at the end; status 0: everything passed.
#   tests/bench/gpu.sh [FOLDER]     FOLDER for the build; default ./build-cuda of the repository
# GOLDEN="DIR ..."   directories of expected values   (default: the repository's own, and ../shared/golden/{tiny,odd})
# MODEL="DIR H W ..."  models to time, with the size of their latents (default: the golden directories', 8 x 8)
set -uo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:-$top/build-cuda}
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
shared=$top/../shared/golden
read -r -a golden <<<"${GOLDEN:-$top/tests/golden/own/subset $shared/tiny $shared/odd}"
read -r -a model <<<"${MODEL:-}"
export CTEST_OUTPUT_ON_FAILURE=1
failed=0
summary=()

# part NAME COMMAND...: runs it; keeps whether it passed and how long it took.
part() {
    local name=$1 begin=$SECONDS verdict=ok
    shift
    echo "== $name: $*"
    "$@" || { verdict="FAILED ($?)" && failed=1; }
    summary+=("$(printf '%-28s %-12s %4d s' "$name" "$verdict" $((SECONDS - begin)))")
}

build() {
    cmake -C "$top/cluster/presets/cuda.cmake" -S "$top" -B "$out" "$@" &&
        cmake --build "$out" -j "$(nproc)" --target cfarm_cuda test_every_kernel test_grad \
            test_cuda golden_check bench_step
}

# A skipped test is a failure here: this script is for machines where nothing has to be skipped.
gpu_tests() {
    local log=$out/gpu-tests.log
    ctest --test-dir "$out" -L gpu --no-tests=error | tee "$log" && ! grep -q 'Skipped' "$log"
}

command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
if command -v ninja >/dev/null; then part build build -G Ninja; else part build build; fi
[ "$failed" -eq 0 ] || { printf '%s\n' "${summary[@]}"; exit 1; }
part "tests labelled gpu" gpu_tests
for dir in "${golden[@]}"; do
    [ -d "$dir" ] || { summary+=("$(printf '%-28s not here' "golden $(basename "$dir")")"); continue; }
    part "golden $(basename "$dir")" "$out/bin/golden_check" "$dir" --backend cuda
    [ -n "${MODEL:-}" ] || [ ! -d "$dir/model" ] || model+=("$dir/model" 8 8)
done
for ((i = 0; i + 2 < ${#model[@]}; i += 3)); do
    part "step $(basename "$(dirname "${model[i]}")") ${model[i + 1]}x${model[i + 2]}" "$out/bin/bench_step" \
        "${model[i]}" --size "${model[i + 1]}" "${model[i + 2]}" --batch 8 --micro 8 --backend cuda
done
printf '\n'
printf '%s\n' "${summary[@]}"
exit "$failed"
