#!/usr/bin/env bash
# What the farm itself costs, with a worker that does nothing (tests/scheduler/fake_worker.c): a plan of many concepts, the
# status over them, the gap between two concepts on one warm slot, and from `cfarm add` to the first step.
# The plan is made by the real worker as well, on the embedded model; 100,000 concepts want more disk than machines have free,
# so that part lies in a file system of memory, which root can make.
#   tests/bench/farm.sh BUILD_DIR [CONCEPTS] >tests/bench/farm.csv
# Ratio: against the plainest thing that does as much, in the same run.
set -eu
bin=$(cd "$1/bin" && pwd) toy=$(cd "$(dirname "$0")/../../data/toyworld" && pwd) n=${2:-100000}
CFARM_PROGRAMS=$(cd "$1/fake" && pwd)
export CFARM_PROGRAMS
work=$(mktemp -d /tmp/cfarm-bench-XXXXXX)
trap 'kill $(jobs -p) 2>/dev/null || true; umount "$work/wide" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.4f", b - a }'; }
row() { awk -v w="$1" -v s="$2" -v b="$3" -v v="$4" 'BEGIN { printf "%s,%s,%s,%s,%.2f\n", w, s, b, v, s / v }'; }
until_true() { for _ in $(seq 60000); do "$@" >/dev/null 2>&1 && return; sleep 0.001; done; echo "never: $*" >&2; exit 1; }
quick() { awk -F'"' -v e="$1" 'index($0, "\"event\":\"" e "\"") { c++ } END { exit c < '"$2"' }' "$3/logs/events.jsonl"; }
# each FARM N: seconds from the first start to the last end, over N concepts.
each() {
    awk -F'"time":"' -v n="$2" '/"started"|"done"/ { split(substr($2, 12, 12), h, ":"); s = h[1] * 3600 + h[2] * 60 + h[3]; if (!a) a = s; b = s }
        END { printf "%.5f", (b - a) / n }' "$1/logs/events.jsonl"
}

head='base: base\ndefaults: {steps: 1, images: x, class: dog}\n'
{
    printf 'name\tseed\n'
    awk -v n="$n" 'BEGIN { for (i = 1; i <= n; i++) printf "c%06d\t%d\n", i, i }'
} >t.tsv
printf "farm: big\n${head}concepts: [{from: t.tsv}]\n" >big.yaml
echo "what,seconds,baseline,baseline_seconds,ratio"

t=$(now); "$CFARM_PROGRAMS/cfarm-worker" --check big.yaml >/dev/null; base=$(since "$t")
t=$(now); "$bin/cfarm" plan big.yaml >/dev/null; plan=$(since "$t"); row "plan of $n concepts from a table" "$plan" "the worker's check alone" "$base"

mkdir wide
if mount -t tmpfs -o size=$((n / 50 + 16))g cfarm-bench wide 2>/dev/null; then
    awk -F'\t' 'NR == 1 { print $0 "\ttoken" } NR > 1 { print $0 "\t<" $1 ">" }' t.tsv >wide/t.tsv
    printf 'farm: real\nbase: %s/model\ndefaults: {steps: 1, batch: 1, class: mug, images: %s/subjects/mug}\nconcepts: [{from: t.tsv}]\n' "$toy" "$toy" >wide/real.yaml
    t=$(now); CFARM_PROGRAMS=$bin "$bin/cfarm" plan wide/real.yaml >/dev/null
    row "plan by the real worker of $n concepts that share a folder of pictures" "$(since "$t")" "plan by a worker that looks at nothing" "$plan"
else
    echo 'no plan by the real worker: a file system of memory cannot be mounted here' >&2
fi

"$bin/cfarm" train big.yaml --workers 1 >/dev/null 2>&1 &
farm=$!
until_true test -s big/jobs.jsonl
kill -TERM $farm
wait $farm || true
t=$(now); cat big/jobs.jsonl >/dev/null; base=$(since "$t")
t=$(now); "$bin/cfarm" status big >/dev/null; row "status over $n concepts" "$(since "$t")" "cat of the table" "$base"
t=$(now); "$bin/cfarm" status big --json >/dev/null; row "status --json over $n concepts" "$(since "$t")" "cat of the table" "$base"

# One slot, concepts of one step of a millisecond: what is left of each is the gap.
printf "farm: gap\n${head}concepts: [{from: g.tsv}]\n" >gap.yaml
head -n 201 t.tsv >g.tsv
"$bin/cfarm" train gap.yaml --workers 1 >/dev/null 2>&1
gap=$(awk -v s="$(each gap 200)" 'BEGIN { printf "%.5f", s - 0.001 }')
t=$(now); for i in $(seq 50); do dd if=/dev/zero of=plain bs=100 count=1 conv=fsync status=none; done
base=$(awk -v s="$(since "$t")" 'BEGIN { printf "%.5f", s / 50 }')
row 'gap between two concepts on one warm slot' "$gap" 'one file written and synced' "$base"

# The same by the real worker, a step of two pictures at 64x64 and a result of 0.13 MB each.
{ printf 'name\tseed\ttoken\n'; for i in $(seq 100); do printf 'r%d\t%d\t<r%d>\n' "$i" "$i" "$i"; done; } >r.tsv
printf 'farm: short\nbase: %s/model\ndefaults: {steps: 1, batch: 2, class: mug, images: %s/subjects/mug}\nconcepts: [{from: r.tsv}]\n' "$toy" "$toy" >short.yaml
CFARM_PROGRAMS=$bin "$bin/cfarm" train short.yaml --workers 1 >/dev/null 2>&1
row 'a concept of one step by the real worker; 100 one after another' "$(each short 100)" 'the gap above' "$gap"

# A farm that waits for work: from the command to the first step, and to the end of the command.
printf "farm: fed\n${head}concepts: [{name: first}]\n" >fed.yaml
printf 'name\nadded\n' >a.tsv
"$bin/cfarm" train fed.yaml --workers 1 --serve >/dev/null 2>&1 &
farm=$!
until_true quick done 1 fed
t=$(now); "$bin/cfarm" add fed a.tsv >/dev/null; base=$(since "$t")
until_true quick done 2 fed
row 'from add to the end of a concept of one step' "$(since "$t")" 'the add itself' "$base"
"$bin/cfarm" drain fed >/dev/null
wait $farm || true
