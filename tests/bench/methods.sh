#!/usr/bin/env bash
# Every method at Stable Diffusion 1.5's shape, as a table:  methods.sh BUILD [RUNNER...] >tests/bench/methods.csv
# Seconds are of all cores together (on two idle ones a step takes half of them), so that a busy machine tells the same; give
# OMP_WAIT_POLICY=passive, or waiting counts, too. PLAN=plan: without running a step.
set -euo pipefail
bench=$1/bin/bench_methods
shift
echo "settings,trained,file_bytes,core_seconds_per_step_256px,resident_gb_256px,training_state_gb,plan_gb_256px,plan_gb_512px,papers"
for ((i = 0; ; i++)); do
    "$@" "$bench" $i ${PLAN:-} || { [ $? = 2 ] && break; exit 1; }
done
