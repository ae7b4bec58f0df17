#!/usr/bin/env bash
# tests/bench/simulate.sh BUILD_DIR: farms of 1 to 10,240 GPUs and 10 to 100,000 concepts in virtual time, by the policy that is
# compiled into the farm, beside schedules that most people would write. Prints tests/bench/simulate.csv; some minutes.
set -euo pipefail
cfarm=$1/bin/cfarm

row() {
    what=$1
    shift
    "$cfarm" simulate --json "$@" | python3 -c '
import json, sys
what, o = sys.argv[1], json.load(sys.stdin)
w = o["slot_seconds"]
total = sum(w.values())
fixed, each = (x["ratio"] for x in o["others"])
out = [what, o["gpus"], o["concepts"], "%.1f" % o["bound"], "%.3f" % o["ratio"], "%.3f" % o["ratio_there"], "%.3f" % (o["mean"] / o["bound"]),
       "%.1f" % (100 * o["useful"])]
out += ["%.2f" % (100 * w[k] / total) for k in w]
out += ["%.3f" % fixed, "%.3f" % each, o["starts"], o["moves"], o["failures"], o["preemptions"], o["events"], "%.1f" % (1e6 * o["mind_seconds"] / o["events"])]
print(",".join(map(str, out)))' "$what"
}

cat <<'HEAD'
# tests/bench/simulate.sh BUILD_DIR; virtual time, step times of an H200 as assumed (scheduler/sim_times.c): no GPU was used.
# ratio: makespan over the least possible on GPUs that are all there from the start; there: over the least possible on those that were there
# in this run (less what was late, slow, taken, or had to start again); mean: mean completion over the first; useful and what follows in % of
# the GPUs' time;
# fixed, process: the ratio of gangs of 8 as they come, and of a process for each concept. mind_us: microseconds of a processor that the
# mind takes for each event; two shared cores, AMD Zen 4, while other programs ran.
farm,gpus,concepts,bound_s,ratio,there,mean,useful,train,load,reduce,resize,checkpoint,idle_no_work,idle_scheduler,lost,fixed,process,starts,moves,failures,taken,events,mind_us
HEAD
for gpus in 1 8 64 1024 10240; do
    for concepts in 10 100 1000 10000 100000; do
        row calm --gpus $gpus --concepts $concepts
    done
done
mixed="--mix custom-diffusion:7,lora:2,textual-inversion:1"
for size in "64 100" "64 1000" "1024 1000" "1024 10000"; do
    set -- $size
    row "three methods" --gpus "$1" --concepts "$2" $mixed
    row "a tenth is urgent" --gpus "$1" --concepts "$2" --urgent 0.1
    row "four owners" --gpus "$1" --concepts "$2" --owners 4
    row "a twentieth of the GPUs twice as slow" --gpus "$1" --concepts "$2" --slow 0.05
    row "a fault every 10 hours of a GPU" --gpus "$1" --concepts "$2" --mtbf 10
    row "a fault every 2 hours of a GPU" --gpus "$1" --concepts "$2" --mtbf 2
    row "nodes taken every 30 minutes" --gpus "$1" --concepts "$2" --preempt 30
    row "a fifth of the nodes comes late" --gpus "$1" --concepts "$2" --late 0.2
    row "all of this" --gpus "$1" --concepts "$2" $mixed --urgent 0.1 --owners 4 --slow 0.05 --mtbf 10 --preempt 30 --late 0.2
done
