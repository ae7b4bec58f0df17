#!/usr/bin/env bash
# What is set aside of a concept that failed for good, and `cfarm replay` from it: with a stand-in for the worker, then with the
# real one, whose picture is damaged after it was accepted.
#   tests/cli/replay.sh BIN_DIR FAKE_DIR SOURCE_DIR
set -euo pipefail
bin=$(cd "$1" && pwd) fake=$(cd "$2" && pwd) src=$(cd "$3" && pwd)
work=$(mktemp -d /tmp/cfarm-replay-XXXXXX)
farmer=
trap '[ -z "$farmer" ] || kill -9 $farmer 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
PATH=$bin:$PATH
export CFARM_BACKOFF_MS=20
bad=0
tell() { echo "$1   $2"; [ "$1" = ok ] || bad=1; }
is() { # WHAT STATUS REGEX COMMAND...
    local what=$1 status=$2 regex=$3 text got=0
    shift 3
    text=$("$@" 2>&1 </dev/null) || got=$?
    if [ $got = "$status" ] && grep -qE -- "$regex" <<<"$text"; then tell ok "$what"; else tell FAIL "$what: status $got: $text"; fi
}
until_true() { for _ in $(seq 1500); do "$@" >/dev/null 2>&1 && return; sleep 0.02; done; tell FAIL "never: $*"; exit 1; }

mkdir x && echo one >x/1.png
printf 'farm: f\nbase: base\ndefaults: {images: x, class: dog, steps: 3, seed: 7}\nlimits: {retries: 2}\nconcepts:\n - {name: bad, fake: {at: 1, does: nan}}\n - {name: good}\n' >f.yaml
CFARM_PROGRAMS=$fake cfarm train f.yaml --workers 1 >train.log 2>&1 || true
kept=f/quarantine/bad
is 'only what failed is set aside' 0 '^bad$' ls -A f/quarantine
is 'the failure, the attempt, the seed' 0 '^nan 2 7 job 1$' python3 -c "
import json; o = json.load(open('$kept/failure.json'))
print('nan' if 'not a number' in o['text'] else o['text'], o['attempt'], o['seed'], o['blame'], len(o['pictures']))"
is 'its pictures by their bytes' 0 "$(sha256sum <x/1.png | cut -d' ' -f1)" cat $kept/failure.json
is 'a log' 0 '' test -f $kept/log.txt
is 'a farm of one, by the farm again' 0 'farm bad in .*: 1 concepts' env CFARM_PROGRAMS="$fake" cfarm plan $kept/farm.yaml
is 'a concept that did not fail' 2 'nothing is set aside' cfarm replay f good
is 'a name that leaves the folder' 2 'no name' cfarm replay f ../f
is 'no name' 2 'usage: cfarm replay' cfarm replay f
printf '#!/bin/sh\necho "$2 $3"; exit 7\n' >cfarm-worker && chmod +x cfarm-worker
is 'the status is the worker'\''s' 7 'quarantine/bad/farm.yaml bad' env CFARM_PROGRAMS="$work" cfarm replay f bad
is 'gc keeps what is still out' 0 '' sh -c "cfarm gc f && test -d $kept"
cfarm retry f bad >/dev/null
sed -i 's/does: nan/does: none/' f.yaml
is 'gc removes what is tried again' 0 '' sh -c "cfarm cancel f bad && CFARM_PROGRAMS=$fake cfarm train f.yaml --workers 1; cfarm gc f && test ! -e $kept"

# ---- the real worker ----
cp -r "$src/data/toyworld/subjects/mug" mug
printf 'farm: r\nbase: %s/data/toyworld/model\nserve: yes\nlimits: {retries: 1}\ndefaults: {steps: 2, batch: 2, class: mug, images: mug}\nconcepts: [{name: cup, token: <cup>, hold: yes}]\n' "$src" >r.yaml
cfarm train r.yaml --workers 1 </dev/null >real.log 2>&1 &
farmer=$!
until_true test -s r/status.json
picture=$(ls mug/*.png | head -n 1)
cp "$picture" whole.png
truncate -s 60 "$picture"
cfarm release r cup >/dev/null
until_true test -d r/quarantine/cup
cfarm drain r >/dev/null || true
wait $farmer || true
farmer=
is 'the real worker fails again, for the same reason' 1 "$(basename "$picture"): " cfarm replay r cup
grep -q "$(basename "$picture")" r/quarantine/cup/failure.json && tell ok 'the reason stands there' || tell FAIL 'the reason is not there'
cp whole.png "$picture"
is 'and trains once the picture is whole' 0 '' cfarm replay r cup cup.h5
test -s cup.h5 && tell ok 'to a concept file' || tell FAIL 'no concept file'
exit $bad
