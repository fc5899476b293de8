#!/usr/bin/env bash
# A real Slurm cluster on this one Debian machine: every node in a network of its own.
#
#   cluster.sh start  FOLDER      installs what is missing, starts or completes the cluster, waits for its nodes
#   cluster.sh status FOLDER      exit code 0 when every daemon lives and every node is up
#   cluster.sh stop   FOLDER      ends everything that belongs to it; FOLDER stays, with its logs
#   . FOLDER/env.sh               then sbatch, squeue, sacct and the like talk to it
#
# Needs root. Nothing outside of FOLDER is touched but packages, a bridge and the network namespaces of
# the nodes, which carry the bridge's name. Each slurmd lives in a namespace that is joined to the host by
# the bridge alone: 127.0.0.1 of the host is not theirs, and `ip link set BRIDGE-n1 down` cuts a cable.
#
# Chosen by environment, when FOLDER is new:
#   CLUSTER_NODES=2 CLUSTER_CPUS=16 CLUSTER_MEMORY=64000 (MiB)    made-up nodes; keep their jobs small
#   CLUSTER_ACCOUNTING=yes    no: without MariaDB and slurmdbd, as some sites have it
#   CLUSTER_STRICT=no         yes: limits are enforced at submission, by association and by QOS
#   CLUSTER_USER=             an account of this machine that may submit CLUSTER_MAX_SUBMIT=2 jobs at once
#   CLUSTER_PACKAGES=         further packages of Debian that jobs need, such as openmpi-bin
#   CLUSTER_NODE_TIMEOUT=60   seconds until a silent node is down; a busy machine loses nodes below 30
set -euo pipefail

say() { printf 'cluster: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

VERB=${1:-}
[ $# -eq 2 ] || die 'usage: cluster.sh start|status|stop FOLDER'
[ "$(id -u)" = 0 ] || die 'needs root'
mkdir -p "$2"
FOLDER=$(cd "$2" && pwd -P)
RUN=$FOLDER/run
export SLURM_CONF=$FOLDER/slurm.conf
exec 9>"$FOLDER/.lock"
flock -w 120 9 || die "another call holds $FOLDER/.lock"

# ---- small tools -------------------------------------------------------------------------------

alive() { # PIDFILE NAME: a process of that name; PID 1 of a container may never reap a zombie
    local pid
    pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] || return 1
    awk -v name="$2" '/^Name:/ {found = $2 == name} /^State:/ {dead = $2 == "Z" || $2 == "X"}
        END {exit !(found && !dead)}' "/proc/$pid/status" 2>/dev/null
}

within() { # SECONDS COMMAND...: until it succeeds
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
}

listens() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

end_daemon() { # PIDFILE NAME SECONDS
    if alive "$1" "$2"; then
        kill "$(cat "$1")" 2>/dev/null || true
        within "$3" eval "! alive '$1' '$2'" || kill -9 "$(cat "$1")" 2>/dev/null || true
    fi
    rm -f "$1"
}

nodes() { sed -n 's/^NodeName=\([^ ]*\) .*/\1/p' "$SLURM_CONF"; }
bridge() { cat "$RUN/bridge"; }

# ---- packages ----------------------------------------------------------------------------------

install_packages() {
    local wanted=(slurmctld slurmd slurm-client munge iproute2) further=() missing=() name guard=
    [ "$1" = no ] || wanted+=(slurmdbd slurm-wlm-mysql-plugin mariadb-server)
    read -ra further <<<"${CLUSTER_PACKAGES:-}"
    wanted+=("${further[@]}")
    for name in "${wanted[@]}"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        # The packages would start daemons of their own, with no configuration.
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
        guard=yes
    fi
    export DEBIAN_FRONTEND=noninteractive
    local options=(-o DPkg::Lock::Timeout=300 -qq)
    if ! { apt-get "${options[@]}" update && apt-get "${options[@]}" install -y --no-install-recommends "${missing[@]}"; } \
        >"$FOLDER/packages.log" 2>&1 9>&-; then
        [ -z "$guard" ] || rm -f /usr/sbin/policy-rc.d
        die "the packages cannot be installed: $(tail -3 "$FOLDER/packages.log")"
    fi
    [ -z "$guard" ] || rm -f /usr/sbin/policy-rc.d
}

# ---- network -----------------------------------------------------------------------------------

make_bridge() { # the first free number is ours: the kernel refuses a second link of one name
    local number
    for number in $(seq 1 200); do
        if ip link add "ldg$number" type bridge 2>/dev/null; then
            ip address add "10.213.$number.1/24" dev "ldg$number"
            ip link set "ldg$number" up
            echo "ldg$number" >"$RUN/bridge"
            echo "10.213.$number" >"$RUN/network"
            echo $((16800 + 2 * number)) >"$RUN/port"
            return 0
        fi
    done
    die 'no bridge can be made (ip link add ldg1 type bridge)'
}

join_node() { # NAME NUMBER: a namespace with one cable to the bridge
    local space
    space="$(bridge)-$1"
    [ ! -e "/run/netns/$space" ] || return 0
    ip netns add "$space"
    ip link add "$space" type veth peer name eth0 netns "$space"
    ip link set "$space" master "$(bridge)" up
    ip -n "$space" link set lo up
    ip -n "$space" address add "$(cat "$RUN/network").$((10 + $2))/24" dev eth0
    ip -n "$space" link set eth0 up
}

# ---- configuration -----------------------------------------------------------------------------

write_configuration() {
    local accounting=$1 strict=$2 count=${CLUSTER_NODES:-2} cpus=${CLUSTER_CPUS:-16}
    local memory=${CLUSTER_MEMORY:-64000} host address number port
    host=$(hostname -s)
    port=$(cat "$RUN/port")
    address=$(cat "$RUN/network").1
    (
        umask 077
        head -c 1024 /dev/urandom >"$RUN/munge.key"
        head -c 18 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$RUN/database.password"
    )
    for number in 0 1 2 3; do
        # A GPU without a device file counts as none.
        [ -e "$FOLDER/devices/gpu$number" ] || mknod "$FOLDER/devices/gpu$number" c 1 3
    done
    echo "NodeName=n[1-$count] Name=gpu Type=a100 File=$FOLDER/devices/gpu[0-3]" >"$FOLDER/gres.conf"
    if slurmd -V | grep -qE ' (2[0-2]\.|23\.02)'; then
        : >"$FOLDER/cgroup.conf"
    else
        echo CgroupPlugin=disabled >"$FOLDER/cgroup.conf"
    fi
    {
        cat <<CONF
ClusterName=lab
SlurmctldHost=$host($address)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits as long as a credential lives, by default two minutes.
AuthInfo=socket=$RUN/munge.socket,cred_expire=15
# slurmctld and slurmdbd listen on every address: ports of their own let several clusters live at once.
SlurmctldPort=$port
MpiDefault=none
MailProg=/bin/true
# Neither control groups nor systemd: processes are found by walking /proc, memory is looked at each 5 s.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
SwitchType=switch/none
SlurmctldPidFile=$RUN/slurmctld.pid
SlurmdPidFile=$RUN/slurmd.%n.pid
SlurmdSpoolDir=$FOLDER/spool/%n
StateSaveLocation=$FOLDER/state
SlurmctldLogFile=$FOLDER/log/slurmctld.log
SlurmdLogFile=$FOLDER/log/slurmd.%n.log
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,batch_sched_delay=0,sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PriorityType=priority/multifactor
DefMemPerCPU=100
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
SlurmdTimeout=${CLUSTER_NODE_TIMEOUT:-60}
MessageTimeout=30
KillWait=15
CompleteWait=0
MinJobAge=300
MaxArraySize=1001
MaxJobCount=20000
SlurmdParameters=config_overrides
CONF
        if [ "$accounting" = yes ]; then
            cat <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$address
AccountingStoragePort=$((port + 1))
# Under munge this names the socket for talks with slurmdbd; AuthInfo is not used there.
AccountingStoragePass=$RUN/munge.socket
AccountingStorageTRES=gres/gpu
CONF
        else
            echo AccountingStorageType=accounting_storage/none
        fi
        if [ "$strict" = yes ]; then
            echo EnforcePartLimits=ALL
            echo AccountingStorageEnforce=associations,limits,qos
        fi
        for number in $(seq "$count"); do
            echo "NodeName=n$number NodeHostname=$host NodeAddr=$(cat "$RUN/network").$((10 + number))" \
                "CPUs=$cpus Sockets=2 CoresPerSocket=$((cpus / 2)) ThreadsPerCore=1 RealMemory=$memory Gres=gpu:a100:4"
        done
        echo 'PartitionName=main Nodes=ALL Default=YES MaxTime=1-00:00:00 DefaultTime=00:10:00 PriorityTier=10 State=UP'
        echo 'PartitionName=urgent Nodes=ALL MaxTime=1:00:00 PriorityTier=100 PreemptMode=OFF State=UP'
        echo 'PartitionName=single Nodes=n1 MaxNodes=1 MaxTime=1:00:00 PriorityTier=10 State=UP'
        echo 'PartitionName=closed Nodes=ALL State=DOWN'
    } >"$SLURM_CONF.new"
    mv "$SLURM_CONF.new" "$SLURM_CONF"
    if [ "$accounting" = yes ]; then
        (
            umask 077
            cat >"$FOLDER/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$RUN/munge.socket
DbdHost=$host
DbdAddr=$address
DbdPort=$((port + 1))
SlurmUser=root
LogFile=$FOLDER/log/slurmdbd.log
PidFile=$RUN/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=$address
StorageUser=slurm
StoragePass=$(cat "$RUN/database.password")
StorageLoc=slurm_acct_db
CommitDelay=1
CONF
        )
    fi
    echo "export SLURM_CONF='$SLURM_CONF' CLUSTER_ADDRESS='$address' CLUSTER_BRIDGE='$(bridge)'" >"$FOLDER/env.sh"
}

# ---- daemons -----------------------------------------------------------------------------------

start_munge() {
    alive "$RUN/munged.pid" munged || {
        rm -f "$RUN"/munge.socket* "$RUN/munged.pid"
        munged --force --socket="$RUN/munge.socket" --key-file="$RUN/munge.key" --pid-file="$RUN/munged.pid" \
            --log-file="$FOLDER/log/munged.log" --seed-file="$RUN/munged.seed" 2>>"$FOLDER/log/start.log" 9>&- ||
            die "munged does not start: $(tail -1 "$FOLDER/log/start.log")"
    }
    within 10 munge -S "$RUN/munge.socket" -n || die 'munged does not answer'
}

query() { mariadb --no-defaults -uroot --socket="$RUN/mariadb.socket" "$@"; }

start_accounting() {
    local address
    address=$(cat "$RUN/network").1
    if ! alive "$RUN/mariadb.pid" mariadbd; then
        [ -d "$FOLDER/database/mysql" ] ||
            mariadb-install-db --no-defaults --user=root --datadir="$FOLDER/database" --skip-test-db \
                --auth-root-authentication-method=normal >"$FOLDER/log/mariadb-install.log" 2>&1 9>&- ||
            die "no MariaDB can be made: $(tail -1 "$FOLDER/log/mariadb-install.log")"
        setsid mariadbd --no-defaults --user=root --datadir="$FOLDER/database" --socket="$RUN/mariadb.socket" \
            --pid-file="$RUN/mariadb.pid" --bind-address="$address" --skip-name-resolve \
            --innodb-buffer-pool-size=64M --innodb-flush-log-at-trx-commit=0 --innodb-lock-wait-timeout=900 \
            --log-error="$FOLDER/log/mariadb.log" </dev/null >/dev/null 2>&1 9>&- &
        within 60 query -e 'SELECT 1' || die 'MariaDB does not start (log/mariadb.log)'
    fi
    query -e "CREATE DATABASE IF NOT EXISTS slurm_acct_db;
        CREATE USER IF NOT EXISTS slurm@'$address' IDENTIFIED BY '$(cat "$RUN/database.password")';
        GRANT ALL ON slurm_acct_db.* TO slurm@'$address';"
    alive "$RUN/slurmdbd.pid" slurmdbd || (cd "$FOLDER/log" && slurmdbd 9>&-) || die 'slurmdbd does not start (log/slurmdbd.log)'
    within 60 timeout 10 sacctmgr -n list cluster || die "slurmdbd does not answer: $(tail -1 "$FOLDER/log/slurmdbd.log")"
    # slurmctld leaves at its first start when the database does not know its cluster.
    timeout 20 sacctmgr -nP list cluster format=cluster | grep -qx lab ||
        timeout 20 sacctmgr -iQ add cluster lab >>"$FOLDER/log/start.log" 2>&1 || die 'the cluster cannot be added'
}

add_people() {
    timeout 20 sacctmgr -nP list account format=account | grep -qx science && return 0
    {
        sacctmgr -iQ add account science
        sacctmgr -iQ add qos long
        sacctmgr -iQ add user root account=science defaultaccount=science
        if [ -n "${CLUSTER_USER:-}" ]; then
            sacctmgr -iQ add user "$CLUSTER_USER" account=science maxsubmitjobs="${CLUSTER_MAX_SUBMIT:-2}"
        fi
    } >>"$FOLDER/log/start.log" 2>&1 || die 'accounts cannot be added (log/start.log)'
}

start_slurm() {
    local name
    alive "$RUN/slurmctld.pid" slurmctld || slurmctld 2>>"$FOLDER/log/start.log" 9>&- || die 'slurmctld does not start (log/slurmctld.log)'
    within 30 listens "$(cat "$RUN/network").1" "$(cat "$RUN/port")" || die "slurmctld does not listen: $(tail -1 "$FOLDER/log/slurmctld.log")"
    for name in $(nodes); do
        join_node "$name" "${name#n}"
        alive "$RUN/slurmd.$name.pid" slurmd && continue
        mkdir -p "$FOLDER/spool/$name"
        # Not `ip netns exec`: that would also hide the control groups of the machine.
        nsenter --net="/run/netns/$(bridge)-$name" slurmd -N "$name" 2>>"$FOLDER/log/start.log" 9>&- ||
            die "slurmd $name does not start (log/slurmd.$name.log)"
    done
}

nodes_are_up() {
    local total up
    total=$(nodes | wc -w)
    up=$(timeout 10 sinfo -hN -p main -o '%N %T' 2>/dev/null | grep -cE ' (idle|mixed|allocated|completing)$') || true
    [ "$up" -ge "$total" ]
}

start() {
    local accounting=${CLUSTER_ACCOUNTING:-yes} strict=${CLUSTER_STRICT:-no}
    [ "$strict" = no ] || accounting=yes
    if [ -s "$SLURM_CONF" ]; then
        accounting=no
        [ ! -s "$FOLDER/slurmdbd.conf" ] || accounting=yes
    fi
    install_packages "$accounting"
    umask 022
    mkdir -p "$RUN" "$FOLDER"/{log,state,spool,devices} && mkdir -p -m 700 "$FOLDER/database"
    chmod 755 "$FOLDER"
    if [ -s "$RUN/bridge" ] && ! ip link show "$(bridge)" >/dev/null 2>&1; then
        ip link add "$(bridge)" type bridge
        ip address add "$(cat "$RUN/network").1/24" dev "$(bridge)"
        ip link set "$(bridge)" up
    fi
    [ -s "$RUN/bridge" ] || make_bridge
    [ -s "$SLURM_CONF" ] || write_configuration "$accounting" "$strict"
    start_munge
    [ "$accounting" = no ] || start_accounting
    [ "$strict" = no ] || add_people
    start_slurm
    within 60 nodes_are_up || {
        sinfo -N -l >&2 || true
        die "nodes are not up: $(tail -2 "$FOLDER/log/slurmctld.log")"
    }
}

stop() {
    [ -s "$SLURM_CONF" ] || return 0
    local name pid space
    # No new start first, or a job of the queue takes the place of each that is ended.
    end_daemon "$RUN/slurmctld.pid" slurmctld 10
    for name in $(nodes); do
        end_daemon "$RUN/slurmd.$name.pid" slurmd 5
        space="$(bridge)-$name"
        [ -e "/run/netns/$space" ] || continue
        # Whatever is left in a node's network is a job of it or its keeper.
        for pid in $(ip netns pids "$space"); do kill -9 "$pid" 2>/dev/null || true; done
        ip netns delete "$space" || true
        ip link delete "$space" 2>/dev/null || true
    done
    end_daemon "$RUN/slurmdbd.pid" slurmdbd 10
    end_daemon "$RUN/mariadb.pid" mariadbd 30
    end_daemon "$RUN/munged.pid" munged 5
    ip link delete "$(bridge)" 2>/dev/null || true
}

status() {
    [ -s "$SLURM_CONF" ] || die "there is no cluster in $FOLDER"
    alive "$RUN/slurmctld.pid" slurmctld || die 'slurmctld does not run'
    nodes_are_up || die "nodes are not up: $(sinfo -hN -o '%N %T %E' | tr '\n' ';')"
}

case $VERB in
start | stop | status) "$VERB" ;;
*) die "$VERB is not start, status or stop" ;;
esac
