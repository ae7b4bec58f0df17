#!/usr/bin/env bash
# Others on the same machine: another user sees how a farm stands and can touch nothing of it; two farms work side by side, and the
# end of one is nothing to the other. With stand-ins for the programs (tests/scheduler). The rows of another user need root.
#   tests/cli/neighbours.sh BIN_DIR FAKE_DIR
set -u
bin=$(cd "$1" && pwd)
fake=$(cd "$2" && pwd)
rows=$(cd "$(dirname "$0")" && pwd)/rows.sh
work=$(mktemp -d /tmp/cfarm-neighbours-XXXXXX)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 1
export CFARM_PROGRAMS=$fake CFARM_BACKOFF_MS=20
cfarm=$bin/cfarm
. "$rows"

farm() { # NAME STEP_MS: six concepts of the same names in each
    printf 'farm: %s\nbase: base\ndefaults: {images: x, class: dog, steps: 20, fake: {step_ms: %d}}\nconcepts:\n' "$1" "$2"
    printf ' - {name: c%d}\n' 1 2 3 4 5 6
}
until_true() { for _ in $(seq 1500); do "$@" >/dev/null 2>&1 && return; sleep 0.02; done; row 0 '' "$@"; }

# ---- two farms at once -------------------------------------------------------------------------------------------------
farm one 60 >one.yaml
farm two 10 >two.yaml
"$cfarm" train one.yaml --workers 2 >one.log 2>&1 </dev/null &
first=$!
"$cfarm" train two.yaml --workers 2 >two.log 2>&1 </dev/null &
second=$!
until_true grep -q '"event":"done"' one/logs/events.jsonl
until_true grep -q '"event":"started"' two/logs/events.jsonl
row 3 'one.* is running already' "$cfarm" train one.yaml
kill -KILL $first
wait $second
row 0 '^0$' cat two/exit
row 0 '6' sh -c 'ls two/out | wc -l'
row 1 '' grep '"event":"failed"' two/logs/events.jsonl
row 0 'end done done 6 of 6' "$cfarm" train one.yaml --workers 2
row 0 '^6$' grep -c '"event":"done"' one/logs/events.jsonl

# ---- another user ------------------------------------------------------------------------------------------------------
[ "$(id -u)" = 0 ] && command -v setpriv >/dev/null || { echo 'not as root, or without setpriv: no row of another user'; rows_end neighbours; }
mkdir bin && cp "$cfarm" bin/ && chmod 755 . bin
other="setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all bin/cfarm"
farm seen 100 >seen.yaml
printf 'name\nlate\n' >more.tsv
"$cfarm" train seen.yaml --workers 1 --serve >seen.log 2>&1 </dev/null &
home=$!
until_true grep -q '"event":"started"' seen/logs/events.jsonl
until_true test -s seen/status.json
row 0 'farm seen: running' $other status seen
row 0 '"running"' $other status seen --json
row 0 'c[1-6]' $other status seen c1 c2 c3 c4 c5 c6
row 0 '' $other why seen c1
row 0 '' $other logs seen c1
row 2 'door: .*[Pp]ermission denied' $other agent --join seen
row 3 'spool/.*[Pp]ermission denied' $other add seen more.tsv
row 3 'spool/.*[Pp]ermission denied' $other cancel seen c6
row 3 'spool/.*[Pp]ermission denied' $other drain seen
row 1 '' sh -c 'find seen/spool -name "*.json" | grep .'
row 0 'c6: cancelled' "$cfarm" cancel seen c1 c2 c3 c4 c5 c6
row 0 '' "$cfarm" drain seen
wait $home
row 0 '^0$' cat seen/exit
rows_end neighbours
