#!/usr/bin/env bash
# One mpirun over several hosts (network namespaces): the concepts are spread over them, or one concept is, a host that dies or
# whose cable is pulled costs its own work and nothing else, and the results are those of one machine. Skipped, with its reason, where namespaces are not allowed.
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
        printf 'defaults: {steps: %d, batch: 4, class: mug, images: %s/data/toyworld/subjects/mug}\nlimits: {threads: 1, workers: %s}\n' "$3" "$src" "${workers:-1}"
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

# A cable is pulled for longer than a lease: the host's concept goes on at the other, and the host comes back when it is plugged in.
# Most of this is waiting, so it is done beside what follows, with a host that nobody else has.
cable_pulled() {
    farm cut 2 400
    farm uncut 2 400
    hosts_exec h0 cfarm train "$work/uncut.yaml" >"$work/uncut.log" 2>&1 </dev/null || fail 'two long ones on one host'
    hosts_exec h0 timeout -k 5 180 cfarm train "$work/cut.yaml" --open --serve >"$work/cut.log" 2>&1 </dev/null &
    home=$!
    for _ in $(seq 300); do [ -f "$work/cut/door" ] && break; sleep 0.1; done
    hosts_exec h3 timeout -k 5 180 cfarm agent --join "$work/cut" --workers 1 >"$work/cut-agent.log" 2>&1 </dev/null &
    away=$!
    said() { for _ in $(seq 600); do grep -Eq "$1" "$work/cut/logs/events.jsonl" 2>/dev/null && return; sleep 0.1; done; fail "nobody said $1"; }
    said '"event":"started".*"node":"h3"'
    hosts_cut h3
    said '"event":"suspect".*"node":"h3"'
    said '"event":"agent-lost".*"node":"h3".*its lease ran out'
    hosts_join h3
    for _ in $(seq 600); do [ "$(grep -c '"event":"agent","node":"h3"' "$work/cut/logs/events.jsonl")" = 2 ] && break; sleep 0.1; done
    [ "$(grep -c '"event":"agent","node":"h3"' "$work/cut/logs/events.jsonl")" = 2 ] || fail 'the host did not come back'
    for _ in $(seq 600); do [ "$(grep -c '"event":"done"' "$work/cut/logs/events.jsonl")" = 2 ] && break; sleep 0.1; done
    hosts_exec h0 cfarm drain "$work/cut.yaml" >/dev/null
    wait $home || fail "the farm of the pulled cable: status $?: $(tail -n 5 "$work/cut.log")"
    wait $away || fail "the agent of the pulled cable: status $?: $(tail -n 5 "$work/cut-agent.log")"
    same "a cable was pulled: $(places cut)" cut uncut
}
(bad=0; cable_pulled; exit $bad) >"$work/cable.said" 2>&1 &
cable=$!

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

# One concept over two hosts, and what it does when one of them dies.
farm one 1 120
workers=2 farm pair 1 120
workers='1, gang_nodes: 2' farm wide 1 120
workers='1, gang_nodes: 2' farm torn 1 120
gang() { sed -n 's/.*"event":"started".*"gang":\([0-9]*\).*/\1/p' "$work/$1/logs/events.jsonl" | tr '\n' ' '; }
for name in one pair; do
    hosts_exec h0 cfarm train "$work/$name.yaml" >"$work/$name.log" 2>&1 </dev/null || fail "$name on one host"
done
over 'h0 h1' cfarm train "$work/wide.yaml" >"$work/wide.log" 2>&1 || fail "a gang over two hosts: status $?: $(tail -n 3 "$work/wide.log")"
[ "$(gang one)$(gang pair)$(gang wide)" = '1 2 2 ' ] || fail "gangs of $(gang one), $(gang pair) and $(gang wide), not of 1, 2 and 2"
same 'a gang of two on one host' pair one
same 'a gang of two over two hosts' wide one

hosts_exec h0 timeout -k 5 180 "$src/cluster/launch/again" mpirun --host h0,h1 -N 1 "$bin/cfarm" train "$work/torn.yaml" </dev/null >"$work/torn.log" 2>&1 &
launcher=$!
for _ in $(seq 600); do grep -q '"step":[1-9]' "$work/torn/jobs.jsonl" 2>/dev/null && break; sleep 0.1; done
[ "$(gang torn)" = '2 ' ] || fail "a gang of $(gang torn) that was to be torn"
hosts_pids h1 | xargs -r kill -KILL
wait $launcher || fail "a host of a gang was lost: status $?: $(tail -n 5 "$work/torn.log")"
same "a gang that lost a host, and went on alone ($(gang torn))" torn one
[ ! -e "$work/wide/gang" ] && [ ! -e "$work/torn/gang" ] || fail 'a meeting place of a gang was left'

wait $cable || bad=1
cat "$work/cable.said"
exit $bad
