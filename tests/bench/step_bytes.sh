#!/bin/sh
# Makes step_bytes.csv anew: what the step of SD 1.5 moves, by a plan for the CUDA backend over the stand-in; seconds of one core, no GPU.
#   tests/bench/step_bytes.sh BUILD > tests/bench/step_bytes.csv
set -eu
cd "$(dirname "$0")/../.."
cat <<'END'
# cfarm bench sd15 --parts bytes --backend cuda --compute bf16 --batch 8, planned over the stand-in (tests/bench/step_bytes.sh): Custom
# Diffusion's pass and its gradient at 512 x 512; AdamW is not in it. Bytes, FLOP and launches are counted off the plan; microseconds are
# reckoned of them (data sheets' peaks and bandwidths, 1.5 us a launch; no GPU has run it): the least that this plan may take.
END
CFARM_CUDA_PLUGIN=$1/tests/trainer/nn/cuda/standin/cfarm_cuda.so "$1/bin/cfarm" bench sd15 --parts bytes --backend cuda --compute bf16 --batch 8
