# shellcheck shell=sh
# Starts processes for fast-try.sh, all or none. Sourced by it.

START_TIMEOUT_S=60

make_folders() {
    for folder in run conf logs namesrv; do
        mkdir -p "$STORE_ROOT/$folder" 2>/dev/null && [ -w "$STORE_ROOT/$folder" ] || fail \
            "$EXIT_FAILED" "Cannot write in $STORE_ROOT/$folder; it may belong to another user." \
            "Choose another folder: STORE_ROOT=\$HOME/rmqstore $(at_home fast-try.sh) start"
    done
}

check_ports() {
    set --
    for name in $missing; do
        describe "$name"
        set -- "$@" "$port=$name"
        if [ "$name" != namesrv ]; then set -- "$@" "$((port - 2))=$name, for old clients"; fi
        if [ -n "$raft_port" ]; then set -- "$@" "$raft_port=$name, Raft"; fi
    done
    # In the background, since a trap runs at once only while the shell waits.
    "$python" -I -S "$root/bin/ports.py" "$HOST" "$@" >&2 &
    watcher=$!
    wait "$watcher" && return
    case $? in
    4) fail "$EXIT_PORT_TAKEN" "Stop that program, or choose other ports with NAMESRV_PORT," \
        "BROKER_PORT, DLEDGER_PORT: $(at_home fast-try.sh) help" ;;
    *) exit "$EXIT_FAILED" ;;
    esac
}

# launch NAME: start one process; sets pid.
launch() {
    describe "$1"
    mkdir -p "$log" || exit "$EXIT_FAILED"
    : >"$log/stdout.log" || exit "$EXIT_FAILED"
    start_detached "$log/stdout.log" \
        env ROCKETMQ_LOG_HOME="$log" "$python" -P -m "$module" -c "$conf"
    started="$started $1:$pid"
    say "$pid" >"$run/$1.pid"
}

# They are our children, so their pids cannot be another program's yet.
undo_start() {
    trap '' INT TERM HUP
    undo_pids=
    for pair in $started; do
        undo_pids="$undo_pids ${pair##*:}"
        rm -f "$run/${pair%:*}.pid"
    done
    # shellcheck disable=SC2086  # lists of pids
    {
        kill $watcher $! $undo_pids
        wait_gone 3 $undo_pids || kill -9 $undo_pids
    } 2>/dev/null
    if [ -n "$mode_before" ]; then
        MODE=$mode_before
        save_settings
    fi
    drop_lock "$run/start.lock"
}

interrupted() {
    undo_start
    warn "" "Interrupted: what was started is stopped again."
    exit 130
}

give_up() {
    undo_start
    fail "$EXIT_FAILED" "$@" "All that this start had begun is stopped again."
}

# ended_early: sets name to a started process that is gone.
ended_early() {
    for pair in $started; do
        name=${pair%:*}
        if has_ended "${pair##*:}"; then return 0; fi
    done
    return 1
}

# wait_registered LEADER_S FOLLOWER_S GROUP=PORT...: true when each group has a leader or master in
# time; then the ports get FOLLOWER_S more to be registered. Gives up when a started process ends.
wait_registered() {
    "$python" -P "$root/bin/cluster.py" wait "$HOST:$NAMESRV_PORT" "$@" &
    watcher=$!
    until has_ended "$watcher"; do
        if ended_early; then
            describe "$name"
            warn "$name ended during the start. Its last words:"
            tail -n 12 "$log/stdout.log" >&2
            give_up "Its log folder: $log"
        fi
        sleep 0.1
    done
    wait "$watcher"
}

start_all() {
    set --
    for name in $missing; do
        write_conf "$name"
        launch "$name"
    done
    for name in $(node_names); do
        describe "$name"
        set -- "$@" "$group=$port"
    done
    wait_registered "$START_TIMEOUT_S" 2 "$@" ||
        give_up "No $(role_of_id 0) within $START_TIMEOUT_S s. Logs: $STORE_ROOT/logs"
}

# begin_start: everything that a start or restart needs before its first process.
begin_start() {
    ensure_venv
    make_folders
    started='' watcher='' mode_before=''
    trap 'drop_lock "$run/start.lock"' EXIT
    trap interrupted INT TERM HUP
    take_lock "$run/start.lock"
}
