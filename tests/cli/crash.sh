#!/usr/bin/env bash
# Killed on purpose, with the real programs on the embedded model: a worker that dies in its third step, a gang whose member
# dies, a whole job killed half way. Each time the farm, run again where needed, ends with the bytes of an undisturbed run.
#   tests/cli/crash.sh BIN_DIR SOURCE_DIR
set -euo pipefail
bin=$(cd "$1" && pwd)
src=$(cd "$2" && pwd)
work=$(mktemp -d /tmp/cfarm-crash-XXXXXX)
trap 'rm -rf "$work"' EXIT
PATH=$bin:$PATH
export CFARM_BACKOFF_MS=100
bad=0

# farm NAME CONCEPTS: a farm file with that many concepts
farm() {
    {
        printf 'farm: %s\nbase: %s/data/toyworld/model\ndefaults: {steps: 8, batch: 4, class: mug, images: %s/data/toyworld/subjects/mug}\nconcepts:\n' \
            "$1" "$src" "$src"
        for i in $(seq "$2"); do printf '  - {name: c%d, token: <c%d>, seed: %d}\n' "$i" "$i" "$i"; done
    } >"$work/$1.yaml"
}
digest() { (cd "$work/$1/out" && sha256sum ./*.h5 | sort); }
same() { # WHAT FARM REFERENCE
    if [ "$(digest "$2")" = "$(digest "$3")" ]; then echo "ok   $1: the bytes of an undisturbed run"; else
        echo "FAIL $1: other bytes"; bad=1; fi
}
orphans() { # WHAT: no process writes to a log of ours any more
    sleep 1
    for p in /proc/[0-9]*; do
        case $(readlink "$p/fd/1" 2>/dev/null) in
        "$work"/*/logs/*) echo "FAIL $1: process ${p#/proc/} was left behind"; bad=1; kill -9 "${p#/proc/}" || true ;;
        esac
    done
}
# dies NAME STEP N: each worker process dies in that step of its life, until N attempts have failed: mishap upon mishap waits
dies() {
    local said=$work/$1/logs/events.jsonl
    CFARM_FAULT=worker.step:$2:kill timeout 12 mpirun -np 2 cfarm train "$work/$1.yaml" </dev/null >"$work/$1.log" 2>&1 &
    while kill -0 $! 2>/dev/null && [ "$(grep -s '"event":"failed"' "$said" | wc -l)" -lt "$3" ]; do sleep 0.1; done
    kill -TERM $! 2>/dev/null || true
    wait $! || true
    grep -q '"event":"failed"' "$said" || { echo "FAIL no worker of $1 died"; bad=1; }
}
run() { mpirun -np 2 cfarm train "$work/$1.yaml" </dev/null >>"$work/$1.log" 2>&1; }

farm calm 3
run calm

farm worker 3
dies worker 3 3
run worker || cfarm train "$work/worker.yaml" --retry >>"$work/worker.log" 2>&1 </dev/null
same 'workers that die' worker calm

farm single 1
run single
farm gang 1
dies gang 5 1
run gang || cfarm train "$work/gang.yaml" --retry >>"$work/gang.log" 2>&1 </dev/null
same 'a gang whose members die' gang single

farm job 3
setsid mpirun -np 2 cfarm train "$work/job.yaml" </dev/null >"$work/job.log" 2>&1 &
for _ in $(seq 100); do [ -n "$(ls "$work/job/out/"*.h5 2>/dev/null)" ] && break; sleep 0.1; done
pkill -9 -f "cfarm train $work/job.yaml" || true
wait || true
orphans 'a job killed half way'
run job
same 'a job killed half way' job calm
again=$(cfarm train "$work/job.yaml" 2>&1)
case $again in *'nothing to do'*) echo "ok   a finished farm does nothing" ;; *) echo "FAIL a finished farm said: $again"; bad=1 ;; esac
left=$(find "$work" -name '*.tmp-*' -o -path '*/obj/*aside*')
[ -z "$left" ] || { echo "FAIL half-written files are left: $left"; bad=1; }
orphans 'at the end'
exit $bad
