#!/usr/bin/env bash
# What is left of a farm's work when a worker is killed every 15 s: 8 workers, 24 concepts of 200 steps, with the worker that
# sleeps a step away (tests/scheduler/fake_worker.c), so that neither cores nor other programs decide. Goodput: the steps that
# count, in seconds, over the seconds that eight workers had; beside it the same farm undisturbed.
#   tests/bench/goodput.sh BUILD_DIR [SECONDS-BETWEEN-KILLS] >tests/bench/goodput.csv
set -euo pipefail
build=$(cd "$1" && pwd)
every=${2:-15}
work=$(mktemp -d /tmp/cfarm-goodput-XXXXXX)
trap 'rm -rf "$work"' EXIT
export CFARM_PROGRAMS=$build/fake
steps=200 step_ms=100 concepts=24 workers=8

# run NAME: the seconds from the first start to the last end
run() {
    {
        printf 'farm: %s\nbase: base\ndefaults: {images: x, class: dog, steps: %d, leaves: 1, fake: {step_ms: %d}}\nlimits: {gang_max: 1}\nconcepts:\n' \
            "$1" $steps $step_ms
        for i in $(seq $concepts); do printf '  - {name: c%d, seed: %d}\n' "$i" "$i"; done
    } >"$work/$1.yaml"
    "$build/bin/cfarm" train "$work/$1.yaml" --workers $workers >"$work/$1.log" 2>&1 </dev/null &
    agent=$!
    kills=0
    if [ "$1" = killed ]; then
        while sleep "$every" && kill -0 $agent 2>/dev/null; do
            kill -KILL "$(pgrep -P $agent -x cfarm-worker | shuf -n 1)" && kills=$((kills + 1))
        done
    fi
    wait $agent
    sed -n 's/.*"event":"farm".*"seconds":\([0-9.]*\).*/\1/p' "$work/$1/logs/events.jsonl"
}

echo "# tests/bench/goodput.sh BUILD $every: $workers workers, $concepts concepts of $steps steps of $step_ms ms; a random worker killed every $every s"
echo 'farm,kills,seconds,goodput'
for name in calm killed; do
    run "$name" >"$work/seconds"
    awk -v n=$name -v k="$kills" -v s="$(cat "$work/seconds")" -v w=$workers -v useful=$((concepts * steps * step_ms)) \
        'BEGIN { printf "%s,%d,%.2f,%.4f\n", n, k, s, useful / 1000 / w / s }'
done
