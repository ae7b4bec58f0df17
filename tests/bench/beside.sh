#!/usr/bin/env bash
# Many short concepts on the embedded model, two at once: by the farm, by GNU parallel and by Slurm's sbatch, which both start
# `cfarm-worker --train` for each. Seconds a concept, all in one run; what is not installed is left out and said.
#   tests/bench/beside.sh BUILD_DIR [CONCEPTS] >tests/bench/beside.csv
set -eu
bin=$(cd "$1/bin" && pwd) src=$(cd "$(dirname "$0")/../.." && pwd) n=${2:-40}
work=$(mktemp -d /tmp/cfarm-beside-XXXXXX)
up=
. "$src/tests/slurm/slurm.sh"
trap '[ -z "$up" ] || slurm_down "$work/slurm" || true; rm -rf "$work"' EXIT
cd "$work"
PATH=$bin:$PATH:/usr/sbin
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive OPENBLAS_NUM_THREADS=1
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.4f", b - a }'; }
row() { awk -v w="$1" -v s="$2" -v f="$farm" -v n="$n" 'BEGIN { printf "%s,%d,%.3f,%.4f,%.2f\n", w, n, s, s / n, s / f }'; }
whole() { [ "$(find "$1" -name '*.h5' | wc -l)" = "$n" ] || { echo "$1: not all concepts are there" >&2; exit 1; }; }

{
    echo "farm: many"
    echo "base: $src/data/toyworld/model"
    echo "limits: {workers: 2, pack_max: 1, gang_max: 1}"
    echo "defaults: {steps: 2, batch: 2, class: mug, compute: f32, images: $src/data/toyworld/subjects/mug}"
    echo "concepts:"
    for i in $(seq "$n"); do echo "  - {name: c$i, token: <c$i>, seed: $i}"; done
} >many.yaml
seq -f 'c%g' "$n" >names
mkdir by-parallel by-slurm
echo 'by,concepts,seconds,seconds_per_concept,ratio_to_the_farm'

t=$(now); cfarm train many.yaml </dev/null >farm.log 2>&1; farm=$(since "$t")
whole many/out
row 'cfarm train, two slots' "$farm"

if command -v parallel >/dev/null; then
    t=$(now); parallel --will-cite -j 2 cfarm-worker --train many.yaml '{}' 'by-parallel/{}.h5' <names >parallel.log 2>&1
    row 'GNU parallel -j 2, a process each' "$(since "$t")"
    whole by-parallel
else
    echo 'GNU parallel is not installed: left out' >&2
fi

missing=$(slurm_missing)
if [ -z "$missing" ] && [ "$(id -u)" = 0 ]; then
    up=1
    slurm_up "$work/slurm" 'PartitionName=all Nodes=n0 Default=YES State=UP' 1 2 0
    t=$(now)
    while read -r name; do
        sbatch --parsable -n 1 -o "$work/$name.log" --wrap "$bin/cfarm-worker --train $work/many.yaml $name $work/by-slurm/$name.h5" >/dev/null
    done <names
    while [ -n "$(squeue -h)" ]; do sleep 0.1; done
    row 'sbatch, a job each on two cores' "$(since "$t")"
    whole by-slurm
else
    echo "sbatch is left out: ${missing:-only root can bring a Slurm up; }not there" >&2
fi
