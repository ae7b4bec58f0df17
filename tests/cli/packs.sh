#!/usr/bin/env bash
# Packs in the farm, with the real programs on the embedded model: a farm that packs four concepts on its one worker ends with the
# bytes of one that trains them one after another; a worker that dies with its pack, and one that is killed when a
# concept is done, lose nothing that was finished and disturb no bytes; a cancelled one harms nobody.
#   tests/cli/packs.sh BIN_DIR SOURCE_DIR
set -euo pipefail
bin=$(cd "$1" && pwd)
src=$(cd "$2" && pwd)
work=$(mktemp -d /tmp/cfarm-packs-XXXXXX)
trap 'rm -rf "$work"' EXIT
PATH=$bin:$PATH
export CFARM_BACKOFF_MS=100 CFARM_CHECKPOINT_S=0
bad=0
ok() { echo "ok   $1"; }
wrong() { echo "FAIL $1"; bad=1; }

# farm NAME PACK_MAX: six concepts of different lengths and rates, in one class
farm() {
    {
        printf 'farm: %s\nbase: %s/data/toyworld/model\nlimits: {pack_max: %s, workers: 1}\n' "$1" "$src" "$2"
        printf 'defaults: {batch: 1, class: mug, images: %s/data/toyworld/subjects/mug}\nconcepts:\n' "$src"
        for i in 1 2 3 4 5 6; do
            printf '  - {name: c%d, token: <c%d>, seed: %d, steps: %d, lr: %de-5}\n' "$i" "$i" "$i" $((8 + 4 * i)) "$i"
        done
    } >"$work/$1.yaml"
}
run() { timeout 300 cfarm train "$work/$1.yaml" </dev/null >>"$work/$1.log" 2>&1; }
digest() { (cd "$work/$1/out" && sha256sum ./*.h5 | sort); }
same() { # WHAT FARM
    if [ "$(digest "$2")" = "$(digest solo)" ]; then ok "$1: the bytes of solo training"; else
        wrong "$1: other bytes"; tail -20 "$work/$2.log"; fi
}
packed() { grep -c '"event":"started".*"pack":1' "$work/$1/logs/events.jsonl" || true; }

farm solo auto
run solo
[ "$(packed solo)" = 0 ] || wrong 'pack_max: auto packs on a CPU'

farm four 4
cfarm plan "$work/four.yaml" | grep -q 'up to 4 of one class share a worker' || wrong 'the plan does not tell of packs'
cfarm plan "$work/solo.yaml" | grep -q 'packs: none (pack_max: auto; nothing is measured' || wrong 'the plan does not tell why there are none'
run four
[ "$(packed four)" -ge 4 ] || wrong "only $(packed four) were packed"
same 'a pack of four' four

farm tight auto # 64 workers share a hundredth of the memory: two at once have no room
sed -i 's/workers: 1/workers: 64, memory: 1%/' "$work/tight.yaml"
cfarm bench --packs "$work/tight.yaml" >"$work/tight.txt" || wrong 'nothing was measured where memory is scarce'
grep -q '2 at once: would take [0-9]* MiB, and a worker has' "$work/tight.txt" || wrong 'what has no room is not told'
cfarm plan "$work/tight.yaml" | grep -q "packs: none .* 2 at once would take [0-9]* MiB of a worker's" || wrong 'the plan does not tell of memory'

farm told auto # what is measured decides, whichever way; the bytes are the same
cfarm bench --packs "$work/told.yaml" >"$work/told.txt" || wrong 'nothing was measured'
grep -q '2 at once: .* steps a second' "$work/told.txt" || wrong 'the measurement tells no steps a second'
cfarm plan "$work/told.yaml" | grep -q 'pack_max: auto; measured on .*: 1 at once .* 2 at once' || wrong 'the plan does not tell what was measured'
sed -i 's/"most": *[0-9]*/"most": 2/; s/"gain": *[0-9.]*/"gain": 1.02/' "$work/told/packs.json"
cfarm plan "$work/told.yaml" | grep -q 'packs: none' || wrong 'a gain of 2 % is packed for'
sed -i 's/"gain": *[0-9.]*/"gain": 1.5/' "$work/told/packs.json"
cfarm plan "$work/told.yaml" | grep -q 'up to 3 of one class' || wrong 'a gain of half is not packed for'
run told
[ "$(packed told)" -ge 2 ] || wrong "only $(packed told) were packed where it was measured to pay"
same 'packs that were measured to pay' told

farm dies 4
CFARM_FAULT=worker.step:20:kill run dies & # each worker in its twentieth step, until nobody is left to be packed
wait $! || true
grep -q 'is tried again alone' "$work/dies/logs/events.jsonl" || wrong 'no pack died'
run dies || cfarm train "$work/dies.yaml" --retry </dev/null >>"$work/dies.log" 2>&1
same 'a pack whose worker dies' dies

farm late 4
cfarm train "$work/late.yaml" </dev/null >"$work/late.log" 2>&1 &
pid=$!
for _ in $(seq 600); do [ -n "$(ls "$work/late/out/" 2>/dev/null)" ] && break; sleep 0.02; done
first=$(ls "$work/late/out/" | head -1)
before=$(stat -c %i "$work/late/out/$first")
for p in /proc/[0-9]*; do
    case $(readlink "$p/fd/1" 2>/dev/null) in "$work"/late/logs/*) kill -9 "${p#/proc/}" || true ;; esac
done
wait $pid || wrong 'the farm whose worker was killed did not end well'
[ "$(stat -c %i "$work/late/out/$first")" = "$before" ] || wrong 'a finished concept was made again'
same 'a worker killed when one was done' late

farm less 4
sed -i 's/steps: 32/steps: 4000/' "$work/less.yaml"
cfarm train "$work/less.yaml" </dev/null >"$work/less.log" 2>&1 &
pid=$!
for _ in $(seq 600); do grep -q '"started".*"c6"' "$work/less/logs/events.jsonl" 2>/dev/null && break; sleep 0.05; done
cfarm cancel "$work/less.yaml" c6 >>"$work/less.log" 2>&1 || wrong 'it was not cancelled'
wait $pid || wrong 'the farm with a cancelled concept did not end well'
[ ! -e "$work/less/out/c6.h5" ] || wrong 'the cancelled one was published'
if [ "$(digest less)" = "$(digest solo | grep -v '/c6\.')" ]; then ok 'one cancelled: the others have the bytes of solo training'; else
    wrong 'one cancelled: other bytes'; tail -20 "$work/less.log"; fi
grep -q '"event":"failed"' "$work/less/logs/events.jsonl" && wrong 'cancelling one failed another'
exit $bad
