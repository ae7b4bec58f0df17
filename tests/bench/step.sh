#!/usr/bin/env bash
# Seconds per training step beside PyTorch, alternating in one call; a CSV on stdout (tests/bench/step.csv is one).
#   tests/bench/step.sh BENCH_STEP "PYTHON ..." MODEL_DIR H W [MODEL_DIR H W ...]
# Each PYTHON has torch, diffusers 0.21 and transformers. ROUNDS (5) of each; a row tells the median over rounds of the runs'
# medians, the median of the peak resident memory, and how often that time our f32 fits into it. BATCHES ("1"), THREADS ("2"),
# STEPS (10) and COMPUTES ("f32 bf16") may be set. Our threads wait as `cfarm` has it, PyTorch's in its own way, which is its faster
# one where the cores are at rest.
set -euo pipefail
ours=$1 pythons=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
field() { sed -nE "s/.*\"$1\": ([0-9.]+).*/\1/p"; }
median() { sort -g | awk '{ x[NR] = $1 } END { print NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'; }
version() { [ "$1" = ours ] && echo conceptfarm || echo "torch $("$1" -c 'import torch; print(torch.__version__)')"; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
echo "model,latents,batch,threads,program,compute,step_s,resident_mib,over_ours_f32"
while [ $# -ge 3 ]; do
    for batch in ${BATCHES:-1}; do
        for threads in ${THREADS:-2}; do
            rm -f "$tmp"/*
            for _ in $(seq "${ROUNDS:-5}"); do
                for compute in ${COMPUTES:-f32 bf16}; do
                    n=0
                    for program in ours $pythons; do
                        command=(env OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=1000 "$ours")
                        [ "$program" = ours ] || command=("$program" "$here/bench_step.py")
                        said=$(OMP_NUM_THREADS=$threads "${command[@]}" "$1" --size "$2" "$3" --batch "$batch" --threads "$threads" \
                            --steps "${STEPS:-10}" --compute "$compute" 2>/dev/null) || said= # torch 1.13's autocast has no attention for it
                        field step_s_median <<<"$said" >>"$tmp/$n.$compute.s"
                        field resident_mib <<<"$said" >>"$tmp/$n.$compute.mib"
                        n=$((n + 1))
                    done
                done
            done
            base=$(median <"$tmp/0.f32.s")
            n=0
            for program in ours $pythons; do
                for compute in ${COMPUTES:-f32 bf16}; do
                    [ -s "$tmp/$n.$compute.s" ] || continue
                    s=$(median <"$tmp/$n.$compute.s")
                    echo "$(basename "$1"),$2x$3,$batch,$threads,$(version "$program"),$compute,$s,$(median <"$tmp/$n.$compute.mib"),$(awk -v a="$base" -v b="$s" 'BEGIN { printf "%.2f", b / a }')"
                done
                n=$((n + 1))
            done
        done
    done
    shift 3
done
