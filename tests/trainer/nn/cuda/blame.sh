#!/usr/bin/env bash
# Laws of gpu_all, over programs that only say what they were called with: what fails is tried again with one thing after another left
# out, and its first error is told; what does not end is ended, and the rest still runs; figures get their verdict; all within the budget.
#
#   blame.sh GPU_ALL
set -euo pipefail
gpu_all=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

fail() { echo "blame.sh: $*"; exit 1; }
says() { grep -qE -- "$1" <<<"$table" || fail "nothing says: $1 in: $table"; }

mkdir "$dir/bin" "$dir/golden"
program() { printf '#!/bin/bash\n%s\n' "$2" >"$dir/bin/$1" && chmod +x "$dir/bin/$1"; }
dry() { table=$(env OUT="$dir/out" GOLDEN="$dir/golden" "$@" "$gpu_all" dry "$dir/bin"); }

# A library that computes something wrong, and a program that listens to nobody.
program golden_check 'case $*,${CFARM_WITHOUT:-} in *" bf16 "*--only*grad*) echo "9 judged, 1 failed, 0 not built" ;; *,*cudnn*) echo "3 judged, 0 failed, 0 not built" ;;
    *) echo "FAIL      unet/eps 1.0"; echo "FAIL      vae/mean 1.0"; exit 1 ;; esac'
program cfarm-sample '[ -z "${CFARM_WITHOUT:-}${CFARM_CUDA_GRAPHS:-}${CFARM_CUDA_SEARCH:-}" ] || exit 1; trap "" TERM; while :; do sleep 1; done'
program test_grad 'echo fine'
from=$SECONDS
! dry PARTS='golden sample grad' SAMPLE=5 KEEP=0 BLAME=60 BUDGET=120 || fail 'what is wrong is no failure'
[ $((SECONDS - from)) -lt 180 ] || fail "it took $((SECONDS - from)) s of 120"
says '^golden golden +FAILED \(1\)'
says '^ +CFARM_CUDA_GRAPHS=0 +FAILED'
says '^ +CFARM_WITHOUT=cudnn +ok'
says '^ +CFARM_WITHOUT=cublaslt +FAILED'
says '^  golden golden: FAIL +unet/eps'
says '^    gradients in bf16 +9 judged, 1 failed'
says '^pictures at once +CUT at 5 s'
says '^gradients +ok'

# A measured step: of 8 pictures in 30 ms, and kernels' rates of it.
program cfarm-worker 'cat <<"J"
{"model":"sd15","parts":[{"part":"step","seconds":0.03,"gflop":13309.6,"ready_seconds":1.5,"plan_bytes":4000000000,"weight_bytes":2000000000,"device_bytes":6050000000,"ops":[{"kernel":"cuda.attention.flash_bf16","result":"[8,4096,320]","calls":5,"seconds":0.002,"gflop":860.0},{"kernel":"cuda.attention.flash_bf16","result":"[8,1024,640]","calls":5,"seconds":0.1,"gflop":100.0},{"kernel":"cuda.attention_grad.flash_bf16","result":"[9]","calls":5,"seconds":0.006,"gflop":2150.0},{"kernel":"cuda.conv2d.cudnn_bf16","result":"[8]","calls":9,"seconds":0.01,"gflop":6000.0},{"kernel":"cuda.conv2d_grad_x.cudnn_bf16","result":"[8]","calls":9,"seconds":0.01,"gflop":6000.0}]},{"part":"vae","seconds":0.016,"ready_seconds":0.25}],"peak_gflops":780000.0}
J'
dry PARTS='step' || fail "figures that miss are a failure: $table"
says 'G2 MFU of the step +must met +44.86 '
says 'G1 a concept, reckoned +aim met +9.5 s'
says 'G1c from cold, reckoned +aim met +11.25 s'
says 'G7 attention d=40 +aim met +430 TFLOP'
says 'G7 and its gradient +must met +376.2 '
says 'G8 convolutions +must met +76.92 '

# cuDNN's attention beside ours, shape by shape: a gradient that it declines is ours again, in brackets.
program test_flash '[ "$CFARM_CUDA_ATTENTION" = cudnn ]'
program cfarm-worker 'case ${CFARM_CUDA_ATTENTION:-own} in own) p=flash g=flash t=0.2 u=0.8 ;; cudnn) p=cudnn g=flash t=0.1 u=0.8 ;; *) p=cudnn g=cudnn t=0.1 u=0.4 ;; esac
cat <<J
{"model":"sd15","parts":[{"part":"step","seconds":0.03,"ops":[{"kernel":"cuda.attention.${p}_bf16","result":"[8,4096,320]","calls":2,"seconds":$t,"gflop":40000},{"kernel":"cuda.attention_grad.${g}_bf16","result":"[9]","calls":2,"seconds":$u,"gflop":80000},{"kernel":"cuda.attention.${p}_bf16","result":"[8,4096,320]","calls":1,"seconds":0.01,"gflop":100}]}]}
J'
dry PARTS='step attention' || fail "attention is a failure: $table"
says "^attention of cuDNN's +ok"
says '^    TFLOP/s \[8,4096,320\] +20000 GFLOP: ours 200 and 100, cuDNN 400 and \(100\), atomics 200$'
says '^    TFLOP/s \[8,4096,320\] +100 GFLOP: ours 10 and -, cuDNN 10 and -'

dry PARTS='step attention' CFARM_CUDA_ATTENTION=wgmma || fail "attention is a failure: $table"
says '20000 GFLOP: ours 400 and 200 \(mma.sync 200 and 100\), cuDNN 400 and \(100\), atomics 200$'

# One that says nothing gives no figures, and the rest runs.
program cfarm-worker 'echo "cuda:0: out of memory" >&2; exit 1'
! dry PARTS='step grad' BLAME=0 || fail 'no figure is no failure'
says '^  step bf16: cuda:0: out of memory'
says 'G1 a concept, reckoned +no figure'
says '^gradients +ok'
