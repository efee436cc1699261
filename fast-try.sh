#!/bin/sh
# A whole deployment on this machine: one name server, and one broker, two, or groups of three
# that elect their leader.
# `./fast-try.sh help` says everything.

here=$0
while [ -L "$here" ]; do
    link=$(readlink "$here")
    case $link in
    /*) here=$link ;;
    *) here=$(dirname "$here")/$link ;;
    esac
done
root=$(CDPATH='' cd -- "$(dirname "$here")" && pwd) || exit 1

. "$root/bin/python-env.sh"
. "$root/bin/processes.sh"
. "$root/bin/fast-try/settings.sh"
. "$root/bin/fast-try/nodes.sh"
. "$root/bin/fast-try/confs.sh"
. "$root/bin/fast-try/launch.sh"

EXIT_USAGE=2
EXIT_PORT_TAKEN=4
EXIT_NOT_RUNNING=5

usage() {
    cat <<END
usage: fast-try.sh COMMAND

  start [DEPLOYMENT]   a name server and the brokers of one of:
      dledger            three brokers n0 n1 n2, one group that elects its leader (the default)
      two-groups         the same and a second group: RaftNode01-n0 to RaftNode01-n2
      single             one broker, broker-a, on a plain commitlog
      2m-noslave         two such masters, broker-a and broker-b, that share the load
  status               role, pid, port and memory of each process
  kill-leader [GROUP]  kill -9 the leader, say when, and who leads next
  restart NODE         stop (if it runs) and start one node, or namesrv
  logs [NODE] [-f]     the last lines of all logs, or of one; -f follows
  stop                 stop everything, the data stays
  clean [--yes]        remove the data, configuration and logs; asks first
  help                 this text

Environment (kept for the other commands until stop; only STORE_ROOT must be given again):
  NAMESRV_PORT   name server, default 9876
  BROKER_PORT    first broker, default 30911, without a group 10911; +10 per broker (each also
                 listens on its port - 2)
  DLEDGER_PORT   first node's Raft port, default 40911, +1 per node
  STORE_ROOT     folder for data, conf/, logs/ and pid files, default /tmp/rmqstore
  EXTRA_CONF     lines added to each broker's configuration at start
  HOST           the address that brokers tell to clients, default 127.0.0.1
  PYTHON         a Python of 3.11 or newer, default: the first that works
  LEDGERMQ_VENV  folder of the virtual environment, default .venv beside this file
  LEDGERMQ_COMPILE=1  build the faster, compiled parts too, from now on; needs gcc and the
                      headers of Python and zlib; 0: no longer

Exit codes:
  0    done (start: it runs; status: all processes run)
  1    failed: a process ended, no leader or master in time, another deployment runs, a folder
       not writable, clean not confirmed
  2    wrong command, argument or setting
  3    no usable Python, or pip failed
  4    a port is taken
  5    not running (status: not all of it)
  130  interrupted; what start had begun is stopped again
END
}

start() {
    [ $# -le 1 ] || fail "$EXIT_USAGE" "start takes one deployment, not '$*'."
    asked=${1:-dledger}
    case " $DEPLOYMENTS " in
    *" $asked "*) MODE=$asked ;;
    *) fail "$EXIT_USAGE" "start takes one of: $DEPLOYMENTS; not '$asked'." ;;
    esac
    begin_start
    if find_running && ! join_running; then
        say "It runs already (name server $HOST:$NAMESRV_PORT). To stop it: $(me stop)"
        status
        return
    fi
    check_ports
    save_settings
    start_all
    trap - INT TERM HUP
    show_cluster
}

# join_running, after find_running: what runs keeps its settings, and a second group may come to
# the first; any other deployment must be stopped first. False when nothing is missing.
join_running() {
    mode_before=$MODE
    case $MODE:$asked in
    dledger:two-groups) MODE=two-groups ;;
    two-groups:dledger | "$asked:$asked") ;;
    *) other_deployment_runs ;;
    esac
    split_nodes
    [ -n "$missing" ] || return 1
    say "Running already:$running. Starting:$missing."
}

other_deployment_runs() {
    fail "$EXIT_FAILED" "The deployment '$MODE' runs in $STORE_ROOT:$running." \
        "To start '$asked' in its place, first: $(me stop)" \
        "To start '$asked' beside it, give it a STORE_ROOT and ports of its own:" \
        "  $(at_home fast-try.sh) help" \
        "To bring back what '$MODE' lacks: $(me start "$MODE")"
}

show_cluster() {
    "$python" -P -m ledgermq.admin.mqadmin clusterList -n "$HOST:$NAMESRV_PORT"
    if has_group; then next="$(me kill-leader)"; else next="$(me status)"; fi
    cat <<END

Logs: $STORE_ROOT/logs
Next: $(at_home bin/mqadmin) sendMessage -n $HOST:$NAMESRV_PORT -t TopicTest -p "Hello RocketMQ"
      $next
      $(me stop)
END
}

# stop_process NAME
stop_process() {
    pid_of "$1"
    [ -n "$pid" ] || return 0
    end_process "$pid" "$1"
    rm -f "$run/$1.pid"
}

# stop_together NAMES
stop_together() {
    for name in $1; do
        pid_of "$name"
        if [ -n "$pid" ]; then kill "$pid" 2>/dev/null; fi
    done
    for name in $1; do stop_process "$name"; done
}

stop() {
    find_running || {
        say "Nothing runs in $STORE_ROOT."
        rm -f "$run"/*.pid
        return 0
    }
    # Leaders after their followers, or they hand over to each other in turn. The name server last,
    # so that all can say goodbye to it.
    ask_roles
    leaders='' followers=''
    for name in $(node_names); do
        describe "$name"
        if [ "$(role_of "$port")" = leader ]; then
            leaders="$leaders $name"
        else
            followers="$followers $name"
        fi
    done
    for turn in "$followers" "$leaders" namesrv; do stop_together "$turn"; done
    rm -f "$run"/*.pid
    say "Stopped:$running. The data is kept in $STORE_ROOT; to remove it: $(me clean)"
}

# ask_roles: sets registered, lines "PORT BROKER_ID"; nothing when no name server answers.
ask_roles() {
    registered=
    if [ -x "$python" ]; then
        registered=$("$python" -P "$root/bin/cluster.py" roles "$HOST:$NAMESRV_PORT" 2>/dev/null)
    fi
}

# role_of PORT, after ask_roles
role_of() {
    say "$registered" | {
        while read -r at id; do
            if [ "$at" = "$1" ]; then
                role_of_id "$id"
                return
            fi
        done
        say "not registered"
    }
}

# role_of_id BROKER_ID
role_of_id() {
    if [ "$1" != 0 ]; then
        say "follower ($1)"
    elif has_group; then
        say leader
    else
        say master
    fi
}

status() {
    registered=
    if find_running_or_last; then ask_roles; fi
    printf '%-15s %-15s %-8s %-6s %s\n' NODE ROLE PID PORT MEMORY
    for name in namesrv $(node_names); do
        pid_of "$name"
        role="name server"
        if [ "$name" != namesrv ]; then role=$(role_of "$port"); fi
        if [ -n "$pid" ]; then
            printf '%-15s %-15s %-8s %-6s %s MB\n' "$name" "$role" "$pid" "$port" "$(memory_mb "$pid")"
        else
            printf '%-15s %-15s %-8s %-6s %s\n' "$name" down - "$port" -
        fi
    done
    [ -z "$missing" ] || return "$EXIT_NOT_RUNNING"
}

restart() {
    load_settings
    [ $# -eq 1 ] || fail "$EXIT_USAGE" "restart needs a node, one of: namesrv $(node_names)"
    require_node "$1"
    again=$name
    require_running
    begin_start
    stop_process "$again"
    missing=$again
    check_ports
    describe "$again"
    # Lines that a person added to the file stay, unless EXTRA_CONF says something new.
    if [ ! -f "$conf" ] || [ -n "${EXTRA_CONF:-}" ]; then write_conf "$again"; fi
    launch "$again"
    set --
    if [ "$again" != namesrv ]; then set -- "$group=$port"; fi
    but=
    if ! wait_registered 10 10 "$@"; then
        but=", but is not registered: $(me logs "$again")"
        if has_group; then but=", but its group has no leader: start another node"; fi
    fi
    trap - INT TERM HUP
    pid_of "$again"
    say "$again runs again, pid $pid$but."
}

kill_leader() {
    require_running
    has_group || no_leader_here
    wanted=${1:-RaftNode00}
    set --
    for name in $running; do
        [ "$name" != namesrv ] || continue
        pid_of "$name"
        if [ "$group" = "$wanted" ]; then set -- "$@" "$port=$pid=$name"; fi
    done
    [ $# -gt 0 ] || fail "$EXIT_NOT_RUNNING" "No node of group $wanted runs here."
    "$python" -P "$root/bin/cluster.py" kill-leader "$HOST:$NAMESRV_PORT" "$wanted" "$@" ||
        exit "$EXIT_FAILED"
    say "To start it again: $(me restart NODE)"
}

no_leader_here() {
    victim=$(node_names | sed 's/ .*//')
    pid_of "$victim"
    fail "$EXIT_USAGE" "'$MODE' has no leader: no broker takes over when another dies." \
        "To see one die:    kill -9 ${pid:-PID}    ($victim)" \
        "What is left:      $(me status)" \
        "To bring it back:  $(me restart "$victim")" \
        "A leader has:      $(me start dledger), after $(me stop)"
}

logs() {
    follow='' only='' lines=10
    for word in "$@"; do
        case $word in
        -f) follow=-f ;;
        *)
            load_settings
            require_node "$word"
            only=$name lines=40
            ;;
        esac
    done
    set --
    for file in "$STORE_ROOT"/logs/*/*.log; do
        [ -z "$only" ] || [ "${file%/*}" = "$STORE_ROOT/logs/$only" ] || continue
        if [ -s "$file" ]; then set -- "$@" "$file"; fi
    done
    [ $# -gt 0 ] || fail "$EXIT_FAILED" "No logs in $STORE_ROOT/logs/$only yet."
    tail -n "$lines" $follow -- "$@"
}

clean() {
    case ${1:-} in
    '' | --yes) ;;
    *) fail "$EXIT_USAGE" "clean takes --yes or nothing, not '$1'." ;;
    esac
    [ -d "$run" ] || { say "Nothing of fast-try.sh in $STORE_ROOT." && return; }
    find_running && say "It runs in $STORE_ROOT:$running. It would be stopped first."
    if [ "${1:-}" != --yes ]; then
        printf 'Remove all messages, configuration and logs in %s? [y/N] ' "$STORE_ROOT"
        read -r answer || answer=
        case $answer in
        y | Y | yes | YES) ;;
        *) fail "$EXIT_FAILED" "Nothing removed." ;;
        esac
    fi
    stop >/dev/null
    for MODE in $DEPLOYMENTS; do
        for name in $(node_names); do remove_node "$name"; done
    done
    remove_node namesrv
    rm -f "$run/cluster"
    for folder in run conf logs ''; do rmdir "$STORE_ROOT/$folder" 2>/dev/null; done
    say "Removed what fast-try.sh had made in $STORE_ROOT."
}

# remove_node NAME: only what start made, STORE_ROOT can be a folder with other things in it. A
# store goes when its configuration file is there.
remove_node() {
    describe "$1"
    [ -f "$conf" ] || return 0
    if [ "$1" = namesrv ]; then
        rm -f "$STORE_ROOT/namesrv/kvConfig.json" "$STORE_ROOT/namesrv/namesrv.properties"
        rmdir "$STORE_ROOT/namesrv" 2>/dev/null
    else
        rm -rf "$store"
    fi
    rm -rf "$log" "$conf"
}

# --- main ---------------------------------------------------------------------------------------

command=${1:-help}
[ $# -eq 0 ] || shift
read_settings
case $command in
start | status | stop | restart | logs | clean) "$command" "$@" ;;
kill-leader) kill_leader "$@" ;;
help | -h | --help) usage ;;
*)
    usage >&2
    fail "$EXIT_USAGE" "" "There is no command '$command'."
    ;;
esac
