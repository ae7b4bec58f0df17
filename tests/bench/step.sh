#!/usr/bin/env bash
# Seconds per training step beside PyTorch, alternating in one call; a CSV on stdout (tests/bench/step.csv is one).
#   tests/bench/step.sh BENCH_STEP PYTHON MODEL_DIR H W [MODEL_DIR H W ...]
# PYTHON has torch, diffusers 0.21 and transformers. ROUNDS (3) of each; the minimum over rounds of each run's median.
set -euo pipefail
ours=$1 python=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
export OMP_WAIT_POLICY=passive
median() { sed -E 's/.*"step_s_median": ([0-9.]+).*/\1/'; }
echo "model,latents,batch,threads,conceptfarm_s,torch_s,ratio"
while [ $# -ge 3 ]; do
    for batch in 2 8; do
        for threads in 1 2; do
            a=99 b=99
            for _ in $(seq "${ROUNDS:-3}"); do
                x=$(OMP_NUM_THREADS=$threads "$ours" "$1" --size "$2" "$3" --batch $batch --threads $threads --steps 20 | median)
                y=$(OMP_NUM_THREADS=$threads "$python" "$here/bench_step.py" "$1" --size "$2" "$3" --batch $batch --threads $threads --steps 10 2>/dev/null | median)
                a=$(awk -v p="$a" -v q="$x" 'BEGIN { print q < p ? q : p }')
                b=$(awk -v p="$b" -v q="$y" 'BEGIN { print q < p ? q : p }')
            done
            echo "$(basename "$(dirname "$1")"),$2x$3,$batch,$threads,$a,$b,$(awk -v a="$a" -v b="$b" 'BEGIN { printf "%.1f", b / a }')"
        done
    done
    shift 3
done
