#!/usr/bin/env bash
# A farm that is fed: concepts and orders reach it while it runs, rests, and after it was killed. With the worker that does
# as it is told (tests/scheduler/fake_worker.c).
#   tests/cli/feed.sh BIN_DIR FAKE_DIR
set -u
bin=$(cd "$1" && pwd)
fake=$(cd "$2" && pwd)
rows=$(cd "$(dirname "$0")" && pwd)/rows.sh
work=$(mktemp -d /tmp/cfarm-feed-XXXXXX)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 1
export CFARM_PROGRAMS=$fake CFARM_BACKOFF_MS=20
cfarm=$bin/cfarm
. "$rows"

# said REGEX: until the farm's log says so.
said() {
    for _ in $(seq 1500); do
        grep -qE -- "$1" log && { passed=$((passed + 1)); return; }
        sleep 0.01
    done
    failed=$((failed + 1))
    printf 'FAIL never said: %s\n%s\n' "$1" "$(tail -n 5 log)"
}

head='farm: pets\nbase: base\ndefaults: {images: x, class: dog, steps: 4}\n'
printf "${head}concepts:\n - {name: a, fake: {step_ms: 5}}\n" >farm.yaml
printf 'name\tsteps\nb\t5\nc\t6\na\t\tyes\n' >wrong.tsv
printf 'name\tsteps\tfake.step_ms\nb\t5\t\nc\t6\t\na\t\t5\n' >more.tsv
printf 'concepts: [{name: d, depends: b}]\nmerge: [{name: b+d, of: [b, d]}]\n' >more.yaml
printf 'concepts: [{name: e, broken: yes}]\n' >broken.yaml
printf 'concepts: [{name: e, depends: nobody}]\n' >stranger.yaml
printf 'name\tsteps\nb\t9\nf\t3\n' >changed.tsv

# ---- not there yet; resting ----
row 2 'pets' "$cfarm" add pets more.tsv
row 2 'no farm has run here' "$cfarm" add farm.yaml more.tsv
row 0 'end done done 1 of 1' "$cfarm" train farm.yaml --workers 1
row 2 'wrong.tsv:4:4' "$cfarm" add pets wrong.tsv
row 2 'e: broken' "$cfarm" add pets broken.yaml
row 2 'broken.yaml has mistakes; nothing was added' "$cfarm" add pets broken.yaml
row 2 'e needs nobody, which is neither in the farm nor in this piece' "$cfarm" add pets stranger.yaml
row 0 'accepted 2: b, c' "$cfarm" add pets more.tsv
row 0 'there already b: queued' "$cfarm" add pets more.tsv
row 0 'accepted 0' "$cfarm" add pets more.tsv
row 0 'takes it up at its next start' "$cfarm" cancel pets c
row 0 'c: cancelled already' "$cfarm" cancel pets c
row 2 'no such concept' "$cfarm" retry pets zebra
row 2 'nothing was ordered' "$cfarm" cancel pets b zebra
row 0 'done concept b' "$cfarm" train farm.yaml --workers 1   # the file does not name it; it stays
row 0 'nothing to do: 2 of 2 done' "$cfarm" train farm.yaml
row 0 'nothing to do: 2 of 2 done' "$cfarm" train pets         # by its folder
row 0 'a: done already: there is nothing to cancel' "$cfarm" cancel pets a
row 0 '"accepted":\["d","b\+d"\]' "$cfarm" add pets more.yaml --json
row 0 'end done done 4 of 4' "$cfarm" train pets
row 1 'refused b: it is done, and its settings changed \(steps: 5 became 9\)' "$cfarm" add farm.yaml changed.tsv
row 0 'end done done 5 of 5' "$cfarm" train pets
row 0 'c: back in the line; it was cancelled' "$cfarm" retry pets c
row 0 'end done done 6 of 6' "$cfarm" train pets
row 0 'there is nothing to end' "$cfarm" drain pets
row 0 '^c +done' "$cfarm" status pets c
row 2 'b[+]dd: no such concept; did you mean b[+]d' "$cfarm" status pets b+dd
row 0 '"alive":false,"orders_waiting":0,"jobs":\[\{"name":"a"' "$cfarm" status pets --json
row 0 'b\+d is done, by attempt 1' "$cfarm" why pets b+d
row 2 'zebra: no such concept' "$cfarm" why pets zebra
row 0 'order .*to cancel +name c|started +concept c' "$cfarm" logs pets c
row 0 '^farm pets: done' "$cfarm" top pets
row 0 '^\{.*"count":\{.*"slot_seconds":\{.*"alive":false,"orders_waiting":0\}$' "$cfarm" top pets --json

# ---- running ----
printf 'name\tsteps\tfake.step_ms\nslow\t4000\t20\nlate\t3\t\n' >work.tsv
printf 'name\tsteps\nr1\t3\nr2\t3\nheld\t2\n' >run.tsv
: >log
"$cfarm" train pets --serve --workers 1 2>log &
farm=$!
said 'agent node'
row 0 'the farm has taken it up' "$cfarm" add pets work.tsv
said 'added concepts 2'
said 'done concept late'
said 'started concept slow'
row 0 'accepted 3: r1, r2, held' "$cfarm" add pets run.tsv
row 0 'held: on hold' "$cfarm" hold pets held
row 0 'r1: background; it was normal' "$cfarm" priority pets background r1
row 0 'r1 waits in the line, as background: 1 before it' "$cfarm" why pets r1
row 0 '"state":"hold"' "$cfarm" why pets held --json
row 0 'slow is (assigned|training|loading) on|slow has been started' "$cfarm" why pets slow
row 0 'slow: cancelled' "$cfarm" cancel pets slow             # it runs
said 'done concept r2'
said 'done concept r1'
row 0 'held: released' "$cfarm" release pets held
said 'done concept held'
kill -0 $farm && passed=$((passed + 1))                        # all is done, and it stays
row 0 'slow: back in the line' "$cfarm" retry pets slow
said 'started concept slow attempt 2'
kill -9 $farm
wait $farm 2>/dev/null
printf 'concepts: [{name: f2}]\n' >f2.yaml
row 0 'accepted 1: f2' "$cfarm" add pets f2.yaml
row 0 'slow: cancelled' "$cfarm" cancel pets slow
row 0 'done concept f2' "$cfarm" train pets --workers 1
: >log
"$cfarm" train pets --serve --workers 1 2>log &
farm=$!
said 'agent node'
row 0 'taken' "$cfarm" drain pets --json
wait $farm
row 0 '^0$' echo $?
row 0 '^0$' cat pets/exit

# ---- held to the journal ----
row 0 '0 wrong, 0 repaired' "$cfarm" fsck pets
rm pets/out/a.h5
row 3 'a: .*out/a.h5 is gone, .* is whole: --repair links it' "$cfarm" fsck pets
row 0 '1 wrong, 1 repaired' "$cfarm" fsck --repair pets
row 0 '' test -s pets/out/a.h5
object=$(find pets/obj -samefile pets/out/b.h5)
rm "$object"
row 0 '1 wrong, 1 repaired' "$cfarm" fsck pets --repair
cp pets/out/b.h5 kept && printf 'X' | dd of="$object" bs=1 seek=3 conv=notrunc status=none
row 3 'b: .*is damaged: its bytes are not those that were published' "$cfarm" fsck --repair pets
cat kept >"$object"
rm -f pets/spool/refused/*
echo 'no order' >pets/spool/1.json
row 3 '1.json: no order: ' "$cfarm" fsck pets
rm pets/spool/1.json
mkdir -p pets/obj/ee pets/ckpt/a pets/ckpt/nobody
echo x >"pets/obj/ee/ee$(printf '%062d' 0).h5"
row 0 '3 things removed, 2 bytes' "$cfarm" gc pets
row 0 '0 wrong' "$cfarm" fsck farm.yaml
row 1 '' test -e pets/ckpt/a

# ---- a hook, and a limit ----
cat >hook.sh <<'END'
#!/bin/sh
echo "$1 $3 $CFARM_EVENT $CFARM_NAME $CFARM_WHY" >>"$CFARM_FARM/../news"
case $1 in done) sleep 100 ;; esac
END
chmod +x hook.sh
more='concepts: [{name: ok}, {name: bad, fake: {at: 1, does: refuse}}]\nnotify: {on: [quarantine, end], exec: hook.sh}\n'
printf "$head$more" | sed 's/farm: pets/farm: told/' >told.yaml
row 1 'end some failed' "$cfarm" train told.yaml --workers 1
row 0 '^quarantine bad quarantine bad a setting that cannot be$' cat news
row 0 '^end  end  some failed$' cat news
printf "$head$more" | sed 's/farm: pets/farm: nohook/; s/hook.sh/nothere.sh/' >nohook.yaml
row 2 'notify.exec: .*nothere.sh cannot be run: No such file' "$cfarm" train nohook.yaml
printf "${head}concepts: [{name: long, steps: 500, fake: {step_ms: 20}}]\nlimits: {time_limit: 3s}\n" |
    sed 's/farm: pets/farm: short/' >short.yaml
row 20 'time-limit.*' "$cfarm" train short.yaml --workers 1
row 0 '^20$' cat short/exit


# ---- a start that only carries out orders says how it ended ----
printf "${head}concepts: [{name: a}, {name: z, hold: yes}]\n" | sed 's/farm: pets/farm: left/' >left.yaml
row 0 'end done' "$cfarm" train left.yaml --workers 1
row 0 'z: cancelled' "$cfarm" cancel left z
rm left/exit
row 0 'nothing to do' "$cfarm" train left
row 0 '^0$' cat left/exit

# ---- a plan learns from the steps of a farm that runs ----
printf "${head}concepts: [{name: a, steps: 9000, fake: {step_ms: 20}}, {name: b, steps: 100}]\nlimits: {time_limit: 1h, workers: 1}\n" |
    sed 's/farm: pets/farm: brisk/' >brisk.yaml
row 0 '2 s for a sample .an assumption' "$cfarm" plan brisk.yaml
sed -i 's/steps: 100/steps: 10000/' brisk.yaml # behind a
"$cfarm" train brisk.yaml 2>log &
farm=$!
for _ in $(seq 1500); do grep -q '"sample_seconds":0.00' brisk/status.json 2>/dev/null && break; sleep 0.01; done
row 0 '1 slots, 0.00125 s for a sample .as the last steps took' "$cfarm" plan brisk.yaml
row 0 '^2 will finish, 0 will not' "$cfarm" plan brisk.yaml
row 0 '"by_steps":true' "$cfarm" plan brisk.yaml --json
kill -9 $farm
wait $farm 2>/dev/null
rows_end feed
