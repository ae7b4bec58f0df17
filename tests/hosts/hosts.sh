# Pretend hosts on one machine: each a network and a name of its own on one bridge, all inside namespaces that vanish with
# this process. To be sourced by a script that has called hosts_enter first; needs root and iproute2.
#   hosts_enter "$0" "$@"     runs the script again inside; returns there. Status 77, with its reason, where it is not allowed
#   hosts_up DIR N            hosts h0, h1, ...; DIR keeps what is needed to reach them
#   hosts_exec HOST COMMAND...
#   hosts_pids HOST           its processes
#   hosts_cut HOST, hosts_join HOST   its cable pulled, and plugged in again
#   hosts_off HOST            without power: the cable first, so that no farewell leaves it
# Only network and name are apart: files, /dev/shm and process numbers are common to all hosts.

hosts_enter() {
    [ "${HOSTS_INSIDE:-}" != yes ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v ip >/dev/null; then
        echo 'skipped: pretend hosts need root and iproute2'
        exit 77
    fi
    if ! unshare --mount --net --uts --pid --fork --mount-proc sh -c 'ip link add cfprobe type veth peer name cfprobe2' 2>/dev/null; then
        echo 'skipped: this machine does not allow namespaces of one'"'"'s own (in a container: --cap-add SYS_ADMIN,NET_ADMIN)'
        exit 77
    fi
    HOSTS_INSIDE=yes exec unshare --mount --net --uts --pid --fork --kill-child --mount-proc "$@"
}

hosts_up() {
    HOSTS_DIR=$1
    local n=$2 i pid
    mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns || return 1
    {
        echo '127.0.0.1 localhost'
        for ((i = 0; i < n; i++)); do echo "10.77.0.$((10 + i)) h$i"; done
    } >"$HOSTS_DIR/hosts"
    mount --bind "$HOSTS_DIR/hosts" /etc/hosts && ip link set lo up && ip link add bridge0 type bridge && ip link set bridge0 up || return 1
    for ((i = 0; i < n; i++)); do
        ip netns add "h$i" && ip link add "v$i" type veth peer name eth0 netns "h$i" && ip link set "v$i" master bridge0 up &&
            ip -n "h$i" addr add "10.77.0.$((10 + i))/24" dev eth0 && ip -n "h$i" link set eth0 up && ip -n "h$i" link set lo up || return 1
        nsenter --net="/run/netns/h$i" unshare --uts sh -c "hostname h$i; echo \$\$ >$HOSTS_DIR/h$i.pid; exec sleep infinity" </dev/null >/dev/null 2>&1 &
        disown
    done
    for ((i = 0; i < n; i++)); do
        until pid=$(cat "$HOSTS_DIR/h$i.pid" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = sleep ]; do sleep 0.01; done
    done
    # What mpirun calls instead of ssh: AGENT [-option ...] HOST COMMAND...
    cat >"$HOSTS_DIR/agent" <<END
#!/bin/bash
while [ "\${1#-}" != "\$1" ]; do shift; done
host=\$1
shift
exec nsenter -t "\$(cat $HOSTS_DIR/\$host.pid)" --net --uts -- sh -c "\$*" </dev/null
END
    chmod +x "$HOSTS_DIR/agent"
}

hosts_exec() {
    local host=$1
    shift
    nsenter -t "$(cat "$HOSTS_DIR/$host.pid")" --net --uts -- "$@"
}

# What mpirun needs to find the hosts; a lost one is noticed after some seconds instead of minutes (oob_tcp_keepalive).
hosts_environment() {
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_plm=rsh OMPI_MCA_plm_rsh_agent=$HOSTS_DIR/agent
    export OMPI_MCA_plm_rsh_no_tree_spawn=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
    export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader,tcp
    export OMPI_MCA_btl_tcp_if_include=eth0 OMPI_MCA_oob_tcp_if_include=eth0
    export OMPI_MCA_oob_tcp_keepalive_time=2 OMPI_MCA_oob_tcp_keepalive_intvl=1 OMPI_MCA_oob_tcp_keepalive_probes=2
}

hosts_pids() { ip netns pids "$1" | grep -vx "$(cat "$HOSTS_DIR/$1.pid")"; }
hosts_cut() { ip link set "v${1#h}" down; }
hosts_join() { ip link set "v${1#h}" up; }
hosts_off() {
    hosts_cut "$1"
    for _ in 1 2 3; do hosts_pids "$1" | xargs -r kill -KILL 2>/dev/null; sleep 0.02; done
}
