#!/usr/bin/env bash
# One mpirun over several hosts (network namespaces): the concepts are spread over them, a host that dies costs its own work
# and nothing else, and the results are those of one machine. Skipped, with its reason, where namespaces are not allowed.
#   tests/hosts/hosts_test.sh BIN_DIR SOURCE_DIR
set -uo pipefail
bin=$(cd "$1" && pwd)
src=$(cd "$2" && pwd)
. "$src/tests/hosts/hosts.sh"
hosts_enter "$0" "$bin" "$src"
work=$(mktemp -d /tmp/cfh-XXXXXX)
trap 'rm -rf "$work"' EXIT
hosts_up "$work" 4 || { echo 'FAIL the hosts did not come up'; exit 1; }
hosts_environment
export CFARM_BACKOFF_MS=100 CFARM_SILENCE_S=60 CFARM_STILL_S=60
PATH=$bin:$PATH
bad=0

ok() { echo "ok   $1 ($SECONDS s)"; }
fail() { echo "FAIL $1"; bad=1; }

farm() { # NAME CONCEPTS STEPS [MORE-OF-EACH-CONCEPT]
    {
        printf 'farm: %s\nbase: %s/data/toyworld/model\n' "$1" "$src"
        printf 'defaults: {steps: %d, batch: 4, class: mug, images: %s/data/toyworld/subjects/mug}\nlimits: {threads: 1, workers: 1}\n' "$3" "$src"
        printf 'concepts:\n'
        for i in $(seq "$2"); do printf '  - {name: c%d, token: <c%d>, seed: %d%s}\n' "$i" "$i" "$i" "${4:-}"; done
    } >"$work/$1.yaml"
}
digest() { (cd "$work/$1/out" && sha256sum ./*.h5); }
same() { # WHAT NAME REFERENCE
    if [ "$(digest "$2")" = "$(digest "$3")" ]; then ok "$1: the bytes of one machine"; else fail "$1: other bytes than one machine's"; fi
}
places() { sed -n 's/.*"event":"started".*"node":"\([^"]*\)".*/\1/p' "$work/$1/logs/events.jsonl" | sort | uniq -c | tr -s ' \n' ' '; }
over() { # HOSTS NAME...: a launcher on the first host
    local hosts=$1
    shift
    hosts_exec h0 timeout -k 5 120 mpirun --host "${hosts// /,}" -N 1 "$@" </dev/null
}

farm calm 8 120
hosts_exec h0 cfarm train "$work/calm.yaml" >"$work/calm.log" 2>&1 </dev/null || fail 'one machine'

for hosts in 'h0 h1' 'h0 h1 h2 h3'; do
    n=$(wc -w <<<"$hosts")
    farm "on$n" 8 120 # long enough that the slowest host to warm up finds some left
    over "$hosts" cfarm train "$work/on$n.yaml" >"$work/on$n.log" 2>&1 || fail "$n hosts: status $?: $(tail -n 3 "$work/on$n.log")"
    [ "$(places "on$n" | wc -w)" = $((2 * n)) ] || fail "$n hosts: the concepts went to $(places "on$n")"
    same "$n hosts, concepts and where they were trained: $(places "on$n")" "on$n" calm
done

# A host dies in the middle of its work, with its processes; the launcher, in recovery mode, goes on without it.
farm lost 6 100
farm long 6 100
hosts_exec h0 cfarm train "$work/long.yaml" >"$work/long.log" 2>&1 </dev/null || fail 'one machine, longer'
hosts_exec h0 timeout -k 5 180 "$src/cluster/launch/again" mpirun --host h0,h1,h2 -N 1 "$bin/cfarm" train "$work/lost.yaml" </dev/null >"$work/lost.log" 2>&1 &
launcher=$!
for _ in $(seq 300); do grep -q '"event":"started".*"node":"h2"' "$work/lost/logs/events.jsonl" 2>/dev/null && break; sleep 0.1; done
sleep 0.5
hosts_pids h2 | xargs -r kill -KILL
wait $launcher || fail "a host was lost: status $?: $(tail -n 5 "$work/lost.log")"
grep -q '"event":"agent-lost".*"node":"h2"' "$work/lost/logs/events.jsonl" || fail 'nobody noticed that a host was lost'
same "a host was lost: $(places lost)" lost long
[ "$(grep -c '"event":"done"' "$work/lost/logs/events.jsonl")" = 6 ] || fail 'a concept was done twice'
exit $bad
