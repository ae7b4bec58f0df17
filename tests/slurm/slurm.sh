# A throw-away Slurm in a private folder, on ports of its own: controller, node daemons, munge key. To be sourced; needs root.
#   slurm_missing                        names what is not installed; empty: all is there
#   slurm_up DIR PARTITIONS NODES CPUS GPUS   NODES daemons n0, n1, ... on this machine, each pretending to CPUS cores
#   slurm_down DIR                       ends everything, and waits for it
# PARTITIONS: lines "PartitionName=..." as in slurm.conf. Sets SLURM_CONF. All waits are cut short: a requeued job starts
# again after 5 s (cred_expire), a silent node is down after 4 s.

slurm_missing() {
    local p
    for p in slurmctld slurmd sbatch srun munged; do
        command -v "$p" >/dev/null || PATH=$PATH:/usr/sbin command -v "$p" >/dev/null || printf '%s ' "$p"
    done
}

# A first port such that twenty in a row are nobody's.
slurm_ports() {
    local base taken
    while :; do
        base=$((10000 + RANDOM % 20000))
        taken=$(awk -v a="$base" 'FNR > 1 { split($2, p, ":"); q = strtonum("0x" p[2]); if (q >= a && q < a + 20) n++ } END { print n + 0 }' \
            /proc/net/tcp 2>/dev/null || echo 0)
        [ "$taken" != 0 ] || { echo "$base"; return; }
    done
}

slurm_conf() { # DIR NODES CPUS GPUS BASE
    local d=$1 base=$5 host gres=
    host=$(hostname)
    [ "$4" = 0 ] || gres=Gres=gpu:$4
    cat <<END
ClusterName=farm
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$base
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$d/munge.sock,cred_expire=5
StateSaveLocation=$d/state
SlurmdSpoolDir=$d/spool/%n
TmpFS=$d/tmp
SlurmctldPidFile=$d/ctld.pid
SlurmdPidFile=$d/%n.pid
SlurmctldLogFile=$d/log/ctld.log
SlurmdLogFile=$d/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=3
MinJobAge=3600
MessageTimeout=2
TCPTimeout=1
SlurmdTimeout=4
MpiDefault=none
GresTypes=gpu
END
    local i
    for ((i = 0; i < $2; i++)); do
        echo "NodeName=n$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((base + 1 + i)) CPUs=$3 RealMemory=2000 $gres State=UNKNOWN"
    done
}

# A daemon in a session of its own, in the foreground of that, so that the number kept is its own.
slurm_daemon() { # DIR NAME COMMAND...
    local d=$1 name=$2
    shift 2
    (setsid "$@" >"$d/log/$name.out" 2>&1 </dev/null & echo $! >"$d/run/$name")
}

slurm_up() {
    local d=$1 partitions=$2 nodes=$3 cpus=$4 gpus=$5 i
    PATH=$PATH:/usr/sbin
    mkdir -p "$d"/{state,spool,log,run,dev,tmp} && chmod 755 "$d" && chmod 700 "$d/state" || return 1
    export SLURM_CONF=$d/slurm.conf
    for ((i = 0; i < gpus; i++)); do # anything that is a character device will do
        mknod "$d/dev/nvidia$i" c 1 3 2>/dev/null || gpus=0
    done
    SLURM_GPUS=$gpus
    { slurm_conf "$d" "$nodes" "$cpus" "$gpus" "$(slurm_ports)"; echo "$partitions"; } >"$SLURM_CONF"
    [ "$gpus" = 0 ] || echo "NodeName=n[0-$((nodes - 1))] Name=gpu File=$d/dev/nvidia[0-$((gpus - 1))]" >"$d/gres.conf"
    (umask 077; head -c 128 /dev/urandom >"$d/munge.key")
    slurm_daemon "$d" munged munged --foreground --force --socket="$d/munge.sock" --key-file="$d/munge.key" \
        --pid-file="$d/munged.pid" --seed-file="$d/munge.seed" --log-file="$d/log/munged.log"
    for ((i = 0; i < 100; i++)); do [ ! -S "$d/munge.sock" ] || break; sleep 0.05; done
    slurm_daemon "$d" ctld slurmctld -D -i -f "$SLURM_CONF"
    for ((i = 0; i < nodes; i++)); do slurm_daemon "$d" "n$i" slurmd -D -N "n$i" -f "$SLURM_CONF"; done
    for ((i = 0; i < 300; i++)); do
        [ "$(sinfo -h -N -o '%N %T' 2>/dev/null | sort -u | grep -c idle)" != "$nodes" ] || return 0
        sleep 0.1
    done
    tail -n 5 "$d"/log/* >&2
    return 1
}

slurm_down() {
    local d=$1 p i
    scancel --me --signal=KILL --full 2>/dev/null
    scancel --me 2>/dev/null
    for ((i = 0; i < 60; i++)); do
        squeue -h -t RUNNING,COMPLETING 2>/dev/null | grep -q . || break
        sleep 0.1
    done
    for p in "$d"/run/*; do [ ! -e "$p" ] || kill -TERM "$(cat "$p")" 2>/dev/null; done
    for p in "$d"/run/*; do
        [ -e "$p" ] || continue
        for ((i = 0; i < 60; i++)); do kill -0 "$(cat "$p")" 2>/dev/null || break; sleep 0.05; done
        kill -KILL "$(cat "$p")" 2>/dev/null
    done
    true
}
