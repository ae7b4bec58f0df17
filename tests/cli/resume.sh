#!/usr/bin/env bash
# Trainings that go on inside their steps, with the real programs on the embedded model: workers killed one after another, the
# coordinator killed, a stop by TERM and a start with another number of workers, an agent that came later killed. Each
# farm ends with the bytes of an undisturbed run.
#   tests/cli/resume.sh BIN_DIR SOURCE_DIR
set -euo pipefail
bin=$(cd "$1" && pwd)
src=$(cd "$2" && pwd)
work=$(mktemp -d /tmp/cfarm-resume-XXXXXX)
started=()
finish() {
    for p in "${started[@]}"; do kill -9 "$p" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
PATH=$bin:$PATH
export CFARM_BACKOFF_MS=100 CFARM_CHECKPOINT_S=0
bad=0

farm() { # NAME
    printf 'farm: %s\nbase: %s/data/toyworld/model\ndefaults: {steps: 60, batch: 4, class: mug, images: %s/data/toyworld/subjects/mug, compute: f32}\nconcepts:\n' \
        "$1" "$src" "$src" >"$work/$1.yaml"
    for i in 1 2; do printf '  - {name: c%d, token: <c%d>, seed: %d}\n' "$i" "$i" "$i"; done >>"$work/$1.yaml"
}
begin() { # NAME ARGS...: in the background, as $pid
    local name=$1
    shift
    cfarm train "$work/$name.yaml" "$@" </dev/null >>"$work/$name.log" 2>&1 &
    pid=$!
    started+=("$pid")
}
tell() { echo "$1   $2"; [ "$1" = ok ] || bad=1; }
digest() { (cd "$work/$1/out" && sha256sum ./*.h5 | sort); }
same() { # WHAT NAME: the bytes of the calm farm, and it went on inside its steps
    if [ "$(digest "$2")" = "$(digest calm)" ]; then tell ok "$1: the bytes of an undisturbed run"; else tell FAIL "$1: other bytes"; cat "$work/$2.log"; fi
}
went_on() { grep -q 'goes on from step' "$work/$2.log" && tell ok "$1: inside its steps" || { tell FAIL "$1: begun anew"; cat "$work/$2.log"; }; }
children_of() { # AGENT PROGRAM
    for p in $(cat "/proc/$1/task/$1/children"); do
        case $(readlink "/proc/$p/exe" || true) in */"$2") echo "$p" ;; esac
    done
}
# Waits until one of the agent's checkpoints (u64 at byte 24: finished steps) is at that step. The worker writes one after each.
at_step() { # AGENT STEP
    for _ in $(seq 3000); do
        for fd in /proc/"$1"/fd/*; do
            case $(readlink "$fd") in *cfarm-checkpoint*)
                n=$(od -An -t u8 -j 24 -N 8 "$fd" 2>/dev/null | tr -d ' ') || n=
                [ "${n:-0}" -lt "$2" ] || return 0 ;;
            esac
        done
        sleep 0.01
    done
    tell FAIL "no checkpoint of step $2"
}

farm calm
cfarm train "$work/calm.yaml" --workers 2 </dev/null >"$work/calm.log" 2>&1

farm workers
begin workers --workers 2
for step in 5 12 20 30; do
    at_step "$pid" $step
    victims=$(children_of "$pid" cfarm-worker)
    kill -9 "${victims%%$'\n'*}"
done
wait "$pid" || tell FAIL 'workers that are killed: the farm ended with another status'
same 'workers that are killed' workers
went_on 'workers that are killed' workers

farm coordinator
begin coordinator --workers 2
for step in 5 20; do
    at_step "$pid" $step
    kill -9 $(children_of "$pid" cfarm)
done
wait "$pid" || tell FAIL 'a coordinator that is killed: the farm ended with another status'
same 'a coordinator that is killed' coordinator
[ "$(grep -c '"event":"started"' "$work/coordinator/logs/events.jsonl")" = 2 ] || tell FAIL 'a coordinator that is killed: something was begun anew'

farm notice
begin notice --workers 2
at_step "$pid" 10
kill -TERM "$pid"
status=0
wait "$pid" || status=$?
[ $status = 20 ] && tell ok 'notice: status 20' || tell FAIL "notice: status $status"
[ -n "$(ls "$work/notice/ckpt/c1")" ] && tell ok 'notice: kept on the disk' || tell FAIL 'notice: nothing kept'
cfarm train "$work/notice.yaml" --workers 1 </dev/null >>"$work/notice.log" 2>&1
same 'a stop by notice and another number of workers' notice
went_on 'a stop by notice' notice
[ -z "$(ls "$work/notice/ckpt")" ] || tell FAIL 'checkpoints of finished concepts are left'

farm late
begin late --workers 1
farmer=$pid
at_step "$farmer" 3
cfarm agent --join "$work/late" --workers 1 </dev/null >>"$work/late.log" 2>&1 &
pid=$!
started+=("$pid")
at_step "$pid" 10
kill -9 "$pid"
wait "$pid" 2>"$work/said" || true
wait "$farmer" || tell FAIL 'a late agent that is killed: the farm ended with another status'
same 'a late agent that is killed' late

left=$(find "$work" -name '*.tmp-*' -o -path '*/obj/*aside*')
[ -z "$left" ] || tell FAIL "half-written files are left: $left"
exit $bad
