# shellcheck shell=sh
# Which nodes a cluster of fast-try.sh has, their settings and configuration files. Sourced by it.

# --- settings -----------------------------------------------------------------------------------

require_port() {
    case $2 in
    '' | *[!0-9]* | ??????*) ;;
    *) [ "$2" -ge 1 ] && [ "$2" -le 65500 ] && return 0 ;;
    esac
    fail "$EXIT_USAGE" "$1=$2 is not a port: a number from 1 to 65500, please."
}

read_settings() {
    NAMESRV_PORT=${NAMESRV_PORT:-9876}
    BROKER_PORT=${BROKER_PORT:-30911}
    DLEDGER_PORT=${DLEDGER_PORT:-40911}
    STORE_ROOT=${STORE_ROOT:-/tmp/rmqstore}
    HOST=${HOST:-127.0.0.1}
    MODE=dledger
    case $STORE_ROOT in
    /*) ;;
    *) STORE_ROOT=$PWD/$STORE_ROOT ;;
    esac
    STORE_ROOT=${STORE_ROOT%/}
    [ -n "$STORE_ROOT" ] || fail "$EXIT_USAGE" "STORE_ROOT=/ would fill the root folder."
    require_port NAMESRV_PORT "$NAMESRV_PORT"
    require_port BROKER_PORT "$BROKER_PORT"
    require_port DLEDGER_PORT "$DLEDGER_PORT"
    run=$STORE_ROOT/run
    # A person's settings for other clusters must not reach this one's processes.
    unset NAMESRV_ADDR JAVA_OPT LEDGERMQ_USER_HOME
    export ROCKETMQ_HOME="$root"
}

SETTINGS="MODE NAMESRV_PORT BROKER_PORT DLEDGER_PORT HOST"

save_settings() {
    for setting in $SETTINGS; do
        eval "printf '%s=%s\n' $setting \"\$$setting\""
    done >"$run/cluster"
}

# What runs keeps the settings that it was started with.
load_settings() {
    [ -f "$run/cluster" ] || return 0
    # shellcheck disable=SC2034  # eval reads value
    while IFS='=' read -r setting value; do
        case " $SETTINGS " in
        *" $setting "*) eval "$setting=\$value" ;;
        esac
    done <"$run/cluster"
}

# --- nodes: a name is n0 (group RaftNode00) or RaftNode01-n0 ------------------------------------

node_names() {
    say n0 n1 n2
    if [ "$MODE" = two-groups ]; then say RaftNode01-n0 RaftNode01-n1 RaftNode01-n2; fi
}

# describe NAME: sets group, self (n0), first (number of its group's first node), port, raft_port,
# store, module, conf and log for a node or the name server.
describe() {
    log=$STORE_ROOT/logs/$1
    module=ledgermq.broker
    conf=$STORE_ROOT/conf/broker-$1.conf
    case $1 in
    namesrv)
        module=ledgermq.namesrv
        conf=$STORE_ROOT/conf/namesrv.conf
        port=$NAMESRV_PORT
        return
        ;;
    RaftNode01-*) group=RaftNode01 first=3 ;;
    *) group=RaftNode00 first=0 ;;
    esac
    self=${1##*-}
    place=${self#n}
    port=$((BROKER_PORT + 10 * (first + place)))
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

require_running() {
    find_running || fail "$EXIT_NOT_RUNNING" "Nothing runs in $STORE_ROOT. Start it: $(me start)"
}

# me COMMAND...: how to type the next command from here.
me() {
    if [ "$STORE_ROOT" != /tmp/rmqstore ]; then printf 'STORE_ROOT="%s" ' "$STORE_ROOT"; fi
    printf '%s %s' "$(at_home fast-try.sh)" "$*"
}

# at_home FILE: the path of a file of ours, as one would type it here.
at_home() {
    if [ "$PWD" = "$root" ]; then
        printf './%s' "$1"
    else
        printf '"%s/%s"' "$root" "$1"
    fi
}

# --- configuration files ------------------------------------------------------------------------

write_conf() {
    describe "$1"
    if [ "$1" = namesrv ]; then namesrv_conf; else broker_conf; fi >"$conf" || exit "$EXIT_FAILED"
}

namesrv_conf() {
    cat <<END
# Written by fast-try.sh at each start.
listenPort=$port
kvConfigPath=$STORE_ROOT/namesrv/kvConfig.json
configStorePath=$STORE_ROOT/namesrv/namesrv.properties
END
}

broker_conf() {
    cat <<END
# Written by fast-try.sh at each start; EXTRA_CONF adds lines.
brokerClusterName=RaftCluster
brokerName=$group
brokerIP1=$HOST
listenPort=$port
namesrvAddr=$HOST:$NAMESRV_PORT
storePathRootDir=$store
enableDLegerCommitLog=true
dLegerGroup=$group
dLegerPeers=$(peers)
dLegerSelfId=$self
flushDiskType=SYNC_FLUSH
END
    if [ -n "${EXTRA_CONF:-}" ]; then say "$EXTRA_CONF"; fi
}

peers() {
    for place in 0 1 2; do
        printf 'n%s-%s:%s' "$place" "$HOST" "$((DLEDGER_PORT + first + place))"
        [ "$place" = 2 ] || printf ';'
    done
}
