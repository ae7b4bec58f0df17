#!/usr/bin/env bash
# Farms under a real Slurm, brought up for this test on this machine: one job, preemption, the end of the time, a node that dies,
# an agent that dies under mpirun, a job that is cancelled, an array of agents that join a farm and are preempted. After each: every concept was published exactly once, with
# the bytes of a farm that nothing disturbed. Without Slurm, or not as root, the test is skipped (status 77).
#   tests/slurm/slurm_test.sh BIN_DIR SOURCE_DIR
set -uo pipefail
bin=$(cd "$1" && pwd)
src=$(cd "$2" && pwd)
. "$src/tests/slurm/slurm.sh"
missing=$(slurm_missing)
[ -z "$missing" ] || { echo "skipped: Slurm is not installed here ($missing)"; exit 77; }
[ "$(id -u)" = 0 ] || { echo "skipped: a Slurm of one's own needs root"; exit 77; }
work=$(mktemp -d /tmp/cfs-XXXXXX) # short: Slurm's sockets live below it
cluster=$work/s
export CFARM_TEST=$work # marks every process that a farm starts
export CFARM_BACKOFF_MS=200 CFARM_DRAIN_S=1
PATH=$bin:$PATH
bad=0

ok() { echo "ok   $1 ($SECONDS s)"; }
fail() { echo "FAIL $1"; bad=1; }

# The processes of the farms that still run, each with its command line.
marked() {
    local p
    for p in $(grep -lsz "^CFARM_TEST=$work\$" /proc/[0-9]*/environ | cut -d/ -f3); do
        case $(tr '\0' ' ' 2>/dev/null </proc/"$p"/cmdline) in
        *cfarm* | *slurmstepd* | *mpirun* | srun*) [ "$p" = $$ ] || ps -o pid=,args= -p "$p" | grep -v slurm_test.sh ;;
        esac
    done
}

finish() {
    slurm_down "$cluster"
    local left
    left=$(marked)
    [ -z "$left" ] || { fail "processes were left behind:"; echo "$left"; echo "$left" | cut -d' ' -f1 | xargs -r kill -KILL; }
    if [ "$bad" != 0 ]; then
        tail -n 15 "$work"/*/logs/slurm-*.log "$cluster/log/ctld.log"
    fi
    rm -rf "$work"
    exit "$bad"
}
trap 'bad=1; finish' INT TERM

farm() { # NAME CONCEPTS STEPS: a farm file; the same concepts in each, so that their results can be compared
    {
        printf 'farm: %s\nbase: %s/data/toyworld/model\n' "$1" "$src"
        printf 'defaults: {steps: %d, batch: 4, class: mug, images: %s/data/toyworld/subjects/mug}\nlimits: {threads: 1, workers: 2}\n' "$3" "$src"
        printf 'concepts:\n'
        for i in $(seq "$2"); do printf '  - {name: c%d, token: <c%d>, seed: %d}\n' "$i" "$i" "$i"; done
    } >"$work/$1.yaml"
}

submit() { # NAME OPTION...: the job's number
    local name=$1
    shift
    cfarm submit "$work/$name.yaml" "$@" 2>&1 | sed -n 's/^job \([0-9]*\):.*/\1/p' || true
}
state() { squeue -h -j "$1" -o %T 2>/dev/null | sort -u | tr '\n' ' '; }
until_done() { # JOB SECONDS: it has left the queue
    for _ in $(seq $(($2 * 5))); do
        case $(state "$1") in '' | 'COMPLETED ') return 0 ;; esac
        sleep 0.2
    done
    fail "job $1 is still $(state "$1")after $2 s"
    return 1
}
until_file() { # PATTERN SECONDS
    for _ in $(seq $(($2 * 10))); do
        compgen -G "$1" >/dev/null && return 0
        sleep 0.1
    done
    fail "$1 did not come within $2 s"
    return 1
}
restarts() { scontrol -o show job "$1" | grep -o 'Restarts=[0-9]*' | cut -d= -f2 | sort -n | tail -n 1; } # of an array, the most
until_restarted() { # JOB SECONDS
    for _ in $(seq $(($2 * 10))); do [ "$(restarts "$1")" -lt 1 ] || return 0; sleep 0.1; done
    fail "job $1 was not queued again within $2 s"
    return 1
}

whole() { # WHAT NAME REFERENCE: each concept is there, published once, with the reference's bytes
    local dones
    dones=$(grep -c '"event":"done"' "$work/$2/logs/events.jsonl")
    if [ "$(cd "$work/$2/out" && sha256sum ./*.h5)" != "$(cd "$work/$3/out" && sha256sum ./*.h5)" ]; then
        fail "$1: other results than an undisturbed farm's"
    elif [ "$dones" != "$(ls "$work/$2/out" | wc -l)" ] || [ "$(cat "$work/$2/exit")" != 0 ]; then
        fail "$1: $dones times done, exit status $(cat "$work/$2/exit")"
    else
        ok "$1: every concept once, with the bytes of an undisturbed farm"
    fi
}

# ---- what a farm must survive ----------------------------------------------------------------------------------------

one_job() {
    local job
    job=$(submit one --partition low --gpus "$SLURM_GPUS" --time 10 --sbatch --ntasks-per-node=2)
    until_done "$job" 60 || return
    whole 'one job, two ranks met by PMIx' one calm
}

cancelled() { # whoever cancels a job does not want it back
    local job
    job=$(submit cancel --partition low)
    until_file "$work/cancel/out/*.h5" 180 || return
    scancel "$job"
    for _ in $(seq 100); do case $(state "$job") in *CANCEL* | '') break ;; esac; sleep 0.1; done
    sleep 1
    [ "$(restarts "$job")" = 0 ] && ! squeue -h -j "$job" -t PENDING,RUNNING 2>/dev/null | grep -q . || fail "a cancelled job came back"
    ok 'a cancelled job stays away'
}

preempted() {
    local low
    low=$(submit preempt --partition low)
    until_file "$work/preempt/out/*.h5" 180 || return
    sbatch -p high -n 2 -o /dev/null --wrap 'sleep 1' >/dev/null
    until_restarted "$low" 120 || return
    until_done "$low" 240 || return
    whole 'preempted and queued again' preempt long
}

agent_killed() { # the loop inside the job starts mpirun again
    local job
    # n0 is no host's name, so mpirun would look for it in vain: it is told that it is alone.
    job=$(OMPI_MCA_ras=^slurm OMPI_MCA_plm=isolated submit mpi --partition low --mpirun)
    until_file "$work/mpi/out/*.h5" 180 || return
    kill -KILL "$(sed -n 's/.*pid \([0-9]*\).*/\1/p' "$work/mpi/epoch")"
    until_done "$job" 240 || return
    grep -q 'started again' "$work"/mpi/logs/slurm-*.log || fail 'the loop in the job started nothing again'
    whole 'mpirun, its agent killed' mpi long
}

out_of_time() { # one concept can never end: so the time does, whenever within a minute Slurm's warning comes
    local job
    echo '  - {name: huge, token: <huge>, seed: 9, steps: 1000000}' >>"$work/limit.yaml"
    job=$(submit limit --partition time --time 4)
    until_restarted "$job" 150 || return
    cfarm cancel "$work/limit.yaml" huge >/dev/null
    until_done "$job" 150 || return
    grep -q 'the time is nearly over' "$work"/limit/logs/slurm-*.log || fail 'no warning came before the end of the time'
    whole 'out of time and queued again' limit long
}

node_lost() { # the daemon, and all that ran under it
    local job node daemon
    job=$(submit node --partition pair)
    until_file "$work/node/out/*.h5" 180 || return
    node=$(squeue -h -j "$job" -o %N)
    daemon=$(cat "$cluster/run/$node")
    # From above to below, so that nobody lives to tell of the others' end.
    kill -KILL "$daemon"
    pgrep -f "slurmstepd: \[$job\." | xargs -r kill -KILL
    grep -lsz "^SLURM_JOB_ID=$job\$" $(grep -lsz "^CFARM_TEST=$work\$" /proc/[0-9]*/environ) | cut -d/ -f3 | xargs -r kill -KILL
    rm -rf "$cluster/tmp"/spmix_appdir_*_"$job".* # each real node has a folder of its own for these
    until_done "$job" 240 || return
    [ "$(restarts "$job")" -ge 1 ] || fail 'the job was not queued again'
    whole "node $node lost" node long
}

came() { grep -c '"event":"agent",' "$work/array/logs/events.jsonl" 2>/dev/null; }
until_came() { # N SECONDS: so many agents in all
    for _ in $(seq $(($2 * 10))); do [ "$(came)" -lt "$1" ] || return 0; sleep 0.1; done
    fail "$(came) agents came within $2 s, not $1"
}

array_of_agents() { # a farm elsewhere; what one of the array trained goes on, and so does it when its node is free again
    local job home
    timeout -k 5 300 cfarm train "$work/array.yaml" --serve --open >"$work/array.log" 2>&1 </dev/null &
    home=$!
    until_file "$work/array/door" 180 || return
    job=$(submit array --partition scavenger --array 0-1)
    until_came 3 180 || return
    sbatch -p urgent -w n4 -n 2 -o /dev/null --wrap 'sleep 1' >/dev/null
    until_restarted "$job" 120 || return
    until_came 4 180 || return
    for _ in $(seq 900); do [ "$(ls "$work/array/out" | wc -l)" -lt 8 ] || break; sleep 0.1; done
    cfarm drain "$work/array.yaml" >/dev/null
    wait $home || fail "the farm that the array joined: status $?: $(tail -n 3 "$work/array.log")"
    until_done "$job" 30 || return
    whole 'an array of agents, one of them preempted' array long
}

# ---- all of it, four at a time ---------------------------------------------------------------------------------------

slurm_up "$cluster" 'PartitionName=low Nodes=n0 Default=YES PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes=n0 PriorityTier=10 PreemptMode=OFF
PartitionName=time Nodes=n1 PreemptMode=OFF
PartitionName=pair Nodes=n2,n3 PreemptMode=OFF
PartitionName=scavenger Nodes=n4,n5 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes=n4,n5 PriorityTier=10 PreemptMode=OFF' 6 2 2 || { fail 'Slurm did not come up'; finish; }
ok "Slurm is up, with $SLURM_GPUS GPUs a node"
for f in calm one; do farm $f 4 30; done
for f in long cancel preempt mpi limit node array; do farm $f 8 150; done
for f in calm long; do cfarm train "$work/$f.yaml" >/dev/null 2>&1 </dev/null || fail "the undisturbed farm $f"; done
ok 'the undisturbed farms'

part() { # several at once, each with words and a verdict of its own
    "$@" >"$work/said.$1" 2>&1
    echo "$bad" >"$work/bad.$1"
}
part out_of_time &
part node_lost &
part array_of_agents &
for f in one_job cancelled preempted agent_killed; do part $f; done
wait %1 %2 %3
cat "$work"/said.*
grep -q 1 "$work"/bad.* && bad=1
finish
