#!/usr/bin/env bash
# `cfarm audit` on farms that are whole, running, killed; and on farms that were damaged or falsified, each in one way: it is found out,
# by the law it breaks, and by no other where no other is broken.
#   tests/cli/audit.sh BIN_DIR FAKE_DIR SOURCE_DIR
set -u
bin=$(cd "$1" && pwd) fake=$(cd "$2" && pwd) src=$(cd "$3" && pwd)
rows=$(cd "$(dirname "$0")" && pwd)/rows.sh
forge=$(cd "$(dirname "$0")" && pwd)/audit_forge.py
work=$(mktemp -d /tmp/cfarm-audit-XXXXXX)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 1
export CFARM_BACKOFF_MS=20
cfarm=$bin/cfarm
. "$rows"
farm() { CFARM_PROGRAMS=$fake "$cfarm" "$@"; }

# spoilt NAME STATUS REGEX: a copy of the farm `pets`, changed by the script on standard input, is audited.
spoilt() {
    rm -rf spoilt && cp -a pets spoilt
    if ! (cd spoilt && bash -e) >said 2>&1; then
        failed=$((failed + 1))
        printf 'FAIL %s could not be done: %s\n' "$1" "$(tail -n 3 said)"
        return
    fi
    row "$2" "$3" "$cfarm" audit spoilt
}
forged() { spoilt "$1" "$2" "$3" <<<"python3 '$forge' . \"$4\""; }

# ---- a farm of every end: done, done, quarantined, cancelled, on hold, merged ----
# a and b are long and go first, so that each begins on a slot of its own, none behind another.
cat >farm.yaml <<'END'
farm: pets
base: base
defaults: {images: x, class: dog, steps: 4}
limits: {retries: 2}
concepts:
 - {name: a, fake: {step_ms: 20}, steps: 60}
 - {name: b, fake: {step_ms: 20}, steps: 65}
 - {name: c, fake: {at: 1, does: nan}, priority: background}
 - {name: d, fake: {step_ms: 20}, steps: 3000}
 - {name: e, hold: yes}
merge: [{name: a+b, of: [a, b]}]
END
row 2 'usage: cfarm audit' "$cfarm" audit
row 2 'nothing' "$cfarm" audit nothing
: >log
farm train farm.yaml --workers 2 2>log &
for _ in $(seq 1500); do grep -q 'started concept d' log && break; sleep 0.01; done
row 0 'pets, running: 8 of 8 laws hold' "$cfarm" audit pets
row 0 'd: cancelled' "$cfarm" cancel pets d
for _ in $(seq 1500); do grep -q 'farm name pets end' log && break; sleep 0.01; done
wait
row 0 'pets, at rest: 8 of 8 laws hold' "$cfarm" audit pets
row 0 '"broken":0.*"law":"slots".*"holds":true' "$cfarm" audit pets --json
row 0 '^holds +bytes .*\(3 results\)' "$cfarm" audit pets

# ---- the journal's meaning ----
forged 'start and end are dropped' 3 'the log says that b was done; the journal does not' 'del r[at(DONE, 1)]; del r[at(START, 1)]'
forged 'done is dropped' 3 'b is done in jobs.jsonl and queued in the journal' 'del r[at(DONE, 1)]'
forged 'done twice' 3 'a was done 2 times' 'r.insert(at(DONE, 0), r[at(DONE, 0)])'
forged 'started after it was done' 3 'a was done, and was started again as attempt 2' \
    'r.append([0, START, dict(r[at(START, 0)][2], attempt=2)])'
forged 'an attempt is skipped' 3 'attempt 2 was started after attempt 0' 'r[at(START, 1)][2][\"attempt\"] = 2'
forged 'an old attempt answers' 3 'attempt 1 is said to have failed, and it was not under way' 'r[at(FAILED, 2, 1)][2][\"attempt\"] = 1'
# Both began together, on a slot that no one else was given.
together='r.insert(1 + at(START, 0), r.pop(at(START, 1))) if at(START, 0) < at(START, 1) else r.insert(1 + at(START, 1), r.pop(at(START, 0))); [r[at(START, k)][2].update(slots=[[0, 9]]) for k in (0, 1)]'
packed='[r[at(START, k)][2].update(pack=True) for k in (0, 1)]'
forged 'one slot, two masters' 3 'slot 9 of node .* was given to [ab] attempt 1 while [ab] attempt 1 had it' "$together"
forged 'one pack of two classes' 3 '^BROKEN +slots' "$together; $packed; r[at(SUBMIT, k=1)][2]['alike'] = 'two'"
forged 'a pack of one class' 0 '8 of 8 laws hold' "$together; $packed"
forged 'merged too early' 3 'a\+b was started before b, which it needs, was done' 'm = at(START, 5); r.insert(at(DONE, 1), r.pop(m))'
forged 'no reason' 3 'c is quarantined and nothing says why' 'r[at(FAILED, 2, -1)][2][\"text\"] = \"\"'
forged 'another hash' 3 '^BROKEN +bytes' 'r[at(DONE, 0)][2][\"sha256\"] = r[at(DONE, 1)][2][\"sha256\"]'
forged 'another length' 3 'its record says 7' 'r[at(DONE, 0)][2][\"bytes\"] = 7'
forged 'an order is forgotten' 3 'the log says that d was ordered to cancel; the journal has no such record' 'del r[at(CANCEL, 3)]'
forged 'a concept is forgotten' 3 'job 5, which was never submitted' 'del r[at(SUBMIT, k=5)]'
forged 'work that took no time' 3 'by the journal slots were at work for [0-9.]+ seconds' \
    'r[at(DONE, 1)][2][\"at\"] = \"2099\" + r[at(DONE, 1)][2][\"at\"][4:]'
forged 'nothing at all' 0 '8 of 8 laws hold' 'pass'

# ---- files ----
spoilt 'a flipped bit in the journal' 3 'BROKEN +journal' <<<'printf x | dd of=journal/000001.log bs=1 seek=200 conv=notrunc status=none'
row 3 'the others cannot be looked at' "$cfarm" audit spoilt
spoilt 'the end of the journal' 3 'the log says' <<<'truncate -s $(($(stat -c %s journal/000001.log) / 2)) journal/000001.log'
spoilt 'the journal' 3 'status.json is of epoch 1; the journal ends with epoch 0' <<<'rm journal/*'
spoilt 'bytes of a result' 3 'has not the bytes that its record names' <<<'f=$(mktemp); tr a-z A-Z <out/a.h5 >$f; cat $f >out/a.h5'
spoilt 'length of a result' 3 'a.h5 has [0-9]+ bytes; its record says' <<<'echo >>out/a.h5'
spoilt 'a result' 3 'a is done, and .*out/a.h5 is gone' <<<'rm out/a.h5'
spoilt 'an address' 3 'has lost its address' <<<'rm -r obj'
spoilt 'other bytes at the address' 3 'has not the bytes of its name' \
    <<<'o=$(find obj -samefile out/a.h5); rm $o; echo other >$o'
spoilt 'a file of somebody' 0 'by the way: out/z.h5 is nobody.s result' <<<'echo >out/z.h5'
spoilt 'a broken order' 3 'an order that was accepted cannot be carried out' <<<'echo "{" >spool/1.json'
spoilt 'an order that waits' 0 '1 orders wait' <<<"echo '{\"version\": 1, \"do\": \"retry\", \"names\": [\"c\"]}' >spool/1.json"
spoilt 'refused without a word' 3 'was refused without a reason' <<<'mkdir spool/refused; echo >spool/refused/1.json'
spoilt 'a falsified account' 3 'seconds of slots are accounted for; by the log' <<<"sed -i 's/\"train\":/&1000/' status.json"
spoilt 'less than nothing' 3 'load: no time stands there' <<<"sed -i 's/\"load\":/&-/' status.json"
spoilt 'a falsified table' 3 'c is done in jobs.jsonl and quarantined in the journal' <<<"sed -i '/\"c\"/s/quarantined/done/' jobs.jsonl"
spoilt 'a falsified end' 3 'ended with status 0, all done; the journal has 0 that are not and 1 that failed' <<<'echo 0 >exit'
spoilt 'a log without its end' 0 '8 of 8' <<<'sed -i "\$d" logs/events.jsonl; printf "{\"event\":\"do" >>logs/events.jsonl'

# ---- killed, and gone on with; gangs and packs ----
printf 'farm: herd\nbase: base\nlimits: {pack_max: 3}\ndefaults: {images: x, class: dog, steps: 8, fake: {step_ms: 10}}\nconcepts:\n' >herd.yaml
for i in $(seq 40); do echo " - {name: k$i}" >>herd.yaml; done
for _ in 1 2 3; do
    CFARM_PROGRAMS=$fake "$cfarm" train herd.yaml --workers 2 2>/dev/null & # no function, whose shell alone would be killed
    sleep 0.4
    kill -9 $! 2>/dev/null
    wait 2>/dev/null
    row 0 'farm in herd, .*: ([78]) of \1 laws hold' "$cfarm" audit herd
done
row 0 '40 of 40' env CFARM_PROGRAMS="$fake" "$cfarm" train herd.yaml --workers 2
row 0 'herd, at rest: 8 of 8 laws hold' "$cfarm" audit herd
# As a coordinator leaves them that is killed behind its last record: the next start, which has nothing to do, tells the end for it.
sed -i 's/"state":"done"/"state":"running"/; s/"done":40/"done":39,"queued":1/' herd/status.json
sed -i '1s/"state":"done"/"state":"queued"/' herd/jobs.jsonl
row 0 '"done":39' "$cfarm" status herd --json
row 0 'nothing to do: 40 of 40 done' env CFARM_PROGRAMS="$fake" "$cfarm" train herd.yaml --workers 2
row 0 '"state":"done".*"done":40' "$cfarm" status herd --json
row 0 'herd, at rest: 8 of 8 laws hold' "$cfarm" audit herd
row 0 '' python3 "$forge" herd 'assert any(o.get("pack") for _, t, o in r if t == START), "no pack was ever made"'

# ---- gangs that outlive their coordinator: on one node, and over two ----
# gangs NAME WORKERS LIMITS CONCEPTS LATE N: its coordinator dies when N gangs are under way. LATE: workers of a second agent, or nothing.
awaits() { for _ in $(seq 1500); do [ "$(grep -c "$1" log)" -ge "$2" ] && return; sleep 0.01; done; echo "FAIL $1 is not said"; cat log; exit 1; }
gangs() {
    printf 'farm: %s\nbase: base\nserve: true\nlimits: {%s}\ndefaults: {images: x, class: dog, steps: 200, fake: {step_ms: 10}}\nconcepts: [%s]\n' \
        "$1" "$3" "$4" >"$1.yaml"
    : >log
    CFARM_PROGRAMS=$fake "$cfarm" train "$1.yaml" --workers "$2" 2>log &
    host=$!
    if [ -n "$5" ]; then
        for _ in $(seq 1500); do [ -f "$1/door" ] && break; sleep 0.01; done
        CFARM_PROGRAMS=$fake "$cfarm" agent --join "$1" --workers "$5" 2>late &
        awaits ' workers ' 2
        for _ in $(seq 1500); do "$cfarm" status "$1" --json | grep -q '"free_slots":2' && break; sleep 0.02; done
        "$cfarm" release "$1" a >/dev/null
    fi
    awaits 'started concept' "$6"
    row 0 'running: 8 of 8 laws hold' "$cfarm" audit "$1"
    sleep 0.2
    kill -9 "$(pgrep -P "$host" -x cfarm)"
    awaits 'goes-on' "$6"
    row 0 'running: 8 of 8 laws hold' "$cfarm" audit "$1"
    awaits 'done concept' "$6"
    "$cfarm" drain "$1" >/dev/null
    wait
    row 0 "$1, at rest: 8 of 8 laws hold" "$cfarm" audit "$1"
}
# bent NAME STATUS REGEX EDIT: its journal, forged.
bent() {
    rm -rf bent && cp -a "$1" bent
    row 0 '' python3 "$forge" bent "$4"
    row "$2" "$3" "$cfarm" audit bent
}
taken='a = [o for _, t, o in r if t == ADOPT]; assert len(a) == %d and all(o["gang"] == 2 and len(o["slots"]) == 2 for o in a), a'
gangs two 4 'gang_max: 2' '{name: a}, {name: b}' '' 2
bent two 0 '8 of 8' "$(printf "$taken" 2)"
bent two 3 'slot [0-9] of node .* was given to [ab] attempt 1 while [ab] attempt 1 had it' \
    'r[at(ADOPT, k=1)][2]["slots"] = r[at(ADOPT, k=0)][2]["slots"]'
bent two 3 'attempt 2' 'r[at(ADOPT, k=0)][2]["attempt"] = 2'
gangs far 1 'gang_nodes: 2' '{name: a, hold: yes}' 1 1
bent far 0 '8 of 8' "$(printf "$taken" 1); assert len({node for node, slot in a[0]['slots']}) == 2, a"

# ---- trained once more, by the real worker ----
cp -r "$src/data/toyworld/subjects/mug" mug
printf 'farm: r\nbase: %s/data/toyworld/model\ndefaults: {steps: 2, batch: 2, class: mug, images: mug}\nconcepts: [{name: cup, token: <cup>}, {name: jug, token: <jug>, seed: 5}]\n' "$src" >r.yaml
row 0 'done 2 of 2' "$cfarm" train r.yaml --workers 1
row 0 'holds +again .*\(2 results\)' "$cfarm" audit r --again 2
row 0 '2 concepts are done: no more' "$cfarm" audit r --again 3
# A result that is whole in itself, published and recorded, and not what its settings give.
cat >swap.py <<'END'
import hashlib, os, sys
b = open("r/out/cup.h5", "rb").read()
b = b[:len(b) // 2] + bytes([b[len(b) // 2] ^ 1]) + b[len(b) // 2 + 1:]
new = hashlib.sha256(b).hexdigest()
os.makedirs("r/obj/" + new[:2], exist_ok=True)
os.remove("r/out/cup.h5")
open("r/out/cup.h5", "wb").write(b)
os.link("r/out/cup.h5", "r/obj/%s/%s.h5" % (new[:2], new))
text = open("r/jobs.jsonl").read()
old = text.split('"sha256":"')[1][:64]
open("r/jobs.jsonl", "w").write(text.replace(old, new))
print(new)
END
new=$(python3 swap.py)
row 0 '' python3 "$forge" r "r[at(DONE, 0)][2]['sha256'] = '$new'"
row 0 '8 of 8 laws hold' "$cfarm" audit r
row 3 'cup: trained again here it has sha256' "$cfarm" audit r --again 2
rm -r mug
row 3 'jug: it cannot be trained here' "$cfarm" audit r --again 2
rows_end audit
