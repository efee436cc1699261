# shellcheck shell=sh
# Which nodes each deployment of fast-try.sh has, and which of them run. Sourced by it.
#
# A node's name is broker-a (a master alone), n0 (of group RaftNode00) or RaftNode01-n0.

DEPLOYMENTS="single 2m-noslave dledger two-groups"

node_names() {
    case $MODE in
    single) say broker-a ;;
    2m-noslave) say broker-a broker-b ;;
    dledger) say n0 n1 n2 ;;
    two-groups) say n0 n1 n2 RaftNode01-n0 RaftNode01-n1 RaftNode01-n2 ;;
    esac
}

# has_group: true when the deployment's brokers elect leaders.
has_group() {
    case $MODE in
    dledger | two-groups) return 0 ;;
    *) return 1 ;;
    esac
}

# describe NAME: sets port, module, conf and log for a node or the name server; for a node also
# group (its broker name), store, raft_port (empty for a master), and for a member of a group
# self (n0) and first (number of its group's first node).
describe() {
    log=$STORE_ROOT/logs/$1
    module=ledgermq.broker
    conf=$STORE_ROOT/conf/broker-${1#broker-}.conf
    raft_port=
    case $1 in
    namesrv)
        module=ledgermq.namesrv
        conf=$STORE_ROOT/conf/namesrv.conf
        port=$NAMESRV_PORT
        ;;
    broker-a) describe_master "$1" 0 ;;
    broker-b) describe_master "$1" 1 ;;
    RaftNode01-*) describe_member RaftNode01 3 "${1##*-}" ;;
    *) describe_member RaftNode00 0 "$1" ;;
    esac
}

# Ten apart, since a broker also takes its port - 2, and its port + 1 belongs to its slaves.
describe_master() {
    group=$1
    port=$((${BROKER_PORT:-10911} + 10 * $2))
    store=$STORE_ROOT/$1
}

describe_member() {
    group=$1 first=$2 self=$3
    place=${self#n}
    port=$((${BROKER_PORT:-30911} + 10 * (first + place)))
    raft_port=$((DLEDGER_PORT + first + place))
    store=$STORE_ROOT/node$((first / 3))$place
}

# require_node NAME: sets name, or fails.
require_node() {
    name=${1#RaftNode00-}
    for known in namesrv $(node_names); do
        if [ "$known" = "$name" ]; then return; fi
    done
    fail "$EXIT_USAGE" "No node is called '$1'. Known:" "  namesrv $(node_names)"
}

# pid_of NAME: sets pid, empty unless that process runs. A pid file can be older than the last
# boot, its number be another program's: the command line decides.
pid_of() {
    describe "$1"
    pid=
    [ -f "$run/$1.pid" ] || return 0
    read -r pid <"$run/$1.pid" || pid=
    case $pid in
    '' | *[!0-9]*) pid= ;;
    *) is_module "$pid" "$module" "$conf" || pid= ;;
    esac
}

# split_nodes: sets running and missing, lists of names.
split_nodes() {
    running='' missing=''
    for name in namesrv $(node_names); do
        pid_of "$name"
        if [ -n "$pid" ]; then running="$running $name"; else missing="$missing $name"; fi
    done
}

# find_running: split_nodes with the settings of what runs; when nothing does, with those asked
# for, and false. asked_MODE keeps what was asked for.
find_running() {
    for setting in $SETTINGS; do eval "asked_$setting=\$$setting"; done
    load_settings
    split_nodes
    [ -n "$running" ] && return 0
    for setting in $SETTINGS; do eval "$setting=\$asked_$setting"; done
    split_nodes
    return "$EXIT_NOT_RUNNING"
}

# find_running_or_last: when nothing runs, the nodes are those of the last deployment here.
find_running_or_last() {
    find_running && return
    load_settings
    split_nodes
    return "$EXIT_NOT_RUNNING"
}

require_running() {
    find_running_or_last || fail "$EXIT_NOT_RUNNING" \
        "Nothing runs in $STORE_ROOT. Start it: $(me start "$MODE")"
}
