#!/usr/bin/env bash
# cluster/launch/acceptance.sbatch under a real Slurm, brought up for this test: two nodes of two GPUs each, which the CPU plays. Queued by
# sbatch, its ranks started by srun, it prints PASS; on nodes whose GPUs it was not given it fails. Skipped (77) as slurm_test.sh.
#   tests/slurm/acceptance_test.sh BIN_DIR SOURCE_DIR PLUGIN
set -uo pipefail
bin=$(cd "$1" && pwd)
src=$(cd "$2" && pwd)
plugin=$3
. "$src/tests/slurm/slurm.sh"
missing=$(slurm_missing)
[ -z "$missing" ] || { echo "skipped: Slurm is not installed here ($missing)"; exit 77; }
[ "$(id -u)" = 0 ] || { echo "skipped: a Slurm of one's own needs root"; exit 77; }
work=$(mktemp -d /tmp/cfs-XXXXXX)
trap 'slurm_down "$work/s"; rm -rf "$work"' EXIT
slurm_up "$work/s" 'PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP' 2 4 2 || { echo 'no Slurm comes up'; exit 1; }
[ "$SLURM_GPUS" = 2 ] || { echo 'skipped: no pretended GPUs here'; exit 77; }

# The nodes are one machine, so the second one's GPUs are called by numbers of their own.
mkdir "$work/bin"
cat >"$work/bin/cfarm-worker" <<W
#!/bin/sh
CUDA_VISIBLE_DEVICES=\$((SLURM_NODEID * 2 + CUDA_VISIBLE_DEVICES)) exec "$bin/cfarm-worker" "\$@"
W
chmod +x "$work/bin/cfarm-worker"

export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive OPENBLAS_NUM_THREADS=1 CFARM_CUDA_PLUGIN=$plugin CFARM_NCCL=$plugin STANDIN_CUDA=devices=4
export BIN=$work/bin WORK=$work RESOLUTION=32 STEPS=1 MIB=1 ROUNDS=2 TIMEOUT=30 SLACK=300 VICTIM_AFTER=10
SIZES='1 2 4' sbatch --wait --nodes=2 --ntasks-per-node=2 --gpus-per-node=2 --output="$work/job.log" "$src/cluster/launch/acceptance.sbatch" >"$work/sbatch.log" 2>&1
status=$?
cat "$work/job.log"
[ $status = 0 ] && grep -qx PASS "$work/job.log" || { echo "sbatch ended with status $status"; cat "$work/sbatch.log"; exit 1; }
grep -q 'a killed rank: 3 of 3 others said so' "$work/job.log" || { echo 'who noticed is not told'; exit 1; }
