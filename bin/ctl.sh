# shellcheck shell=sh
# What namesrv-ctl.sh and broker-ctl.sh do. Sourced by them; they set
#   bin        this folder
#   what       "name server" or "broker", for people
#   kind       namesrv or broker: mq$kind is started, $kind.pid and $kind.args lie in this folder
#   boot_line  a sed program: nohup.out's line of a finished start -> "HOST:PORT NAME_SERVERS"
# and define describe_running, which adds to status what only that kind has.
#
# This folder is the one where the command is typed: data, logs, nohup.out and the two files lie
# here, so that each folder has a process of its own, as in RocketMQ's guides.

root=$(CDPATH='' cd -- "$bin/.." && pwd) || exit 1
. "$bin/python-env.sh"
. "$bin/processes.sh"

EXIT_USAGE=2
EXIT_NOT_RUNNING=5

START_TIMEOUT_S=60

pid_file=$PWD/$kind.pid
args_file=$PWD/$kind.args
out=$PWD/nohup.out

# find_pid: sets pid, empty unless this folder's process runs. The number in the file may be
# another program's by now, or that of another folder's broker.
find_pid() {
    pid=
    [ -f "$pid_file" ] || return 1
    read -r pid <"$pid_file" || pid=
    case $pid in
    '' | *[!0-9]*) pid= ;;
    *) is_ours "$pid" || pid= ;;
    esac
    [ -n "$pid" ]
}

is_ours() {
    is_module "$1" "ledgermq.$kind" || return 1
    ! has_proc || [ "$(readlink "$PROC/$1/cwd")" = "$(pwd -P)" ]
}

# booted_at FROM_BYTE: sets address and servers to what the last start said since then; false when
# it has not said so yet.
booted_at() {
    booted=$(tail -c "+$(($1 + 1))" "$out" 2>/dev/null | sed -n "$boot_line" | tail -n 1)
    address=${booted%% *}
    servers=${booted#"$address"}
    servers=${servers# }
    [ -n "$booted" ]
}

start() {
    if find_pid; then
        say "It runs already."
        status
        return
    fi
    ensure_venv
    case " ${JAVA_OPT:-}" in
    *" -Duser.home="*) ;;
    *) export JAVA_OPT="${JAVA_OPT:+$JAVA_OPT }-Duser.home=$PWD" ;;
    esac
    : >>"$out" || fail "$EXIT_FAILED" "Cannot write in $PWD. Start it in a folder of your own."
    size_before=$(wc -c <"$out")
    start_detached "$out" sh "$bin/mq$kind" "$@"
    trap interrupted INT TERM HUP
    say "$pid" >"$pid_file"
    keep_args "$@"
    wait_for_boot
    trap - INT TERM HUP
    status
}

keep_args() {
    for word in "$@"; do say "$word"; done >"$args_file"
}

wait_for_boot() {
    boot_until=$(($(date +%s) + START_TIMEOUT_S))
    until booted_at "$size_before"; do
        if has_ended "$pid"; then
            warn "The $what ended during the start. Its last words:"
            tail -c "+$((size_before + 1))" "$out" | tail -n 12 >&2
            forget
            exit "$EXIT_FAILED"
        fi
        if [ "$(date +%s)" -ge "$boot_until" ]; then
            end_process "$pid" "the $what"
            forget
            fail "$EXIT_FAILED" "The $what did not start within $START_TIMEOUT_S s. See $out"
        fi
        sleep 0.1
    done
}

interrupted() {
    trap '' INT TERM HUP
    end_process "$pid" "the $what"
    forget
    warn "" "Interrupted: what was started is stopped again."
    exit 130
}

forget() {
    rm -f "$pid_file" "$args_file"
}

stop() {
    if find_pid; then
        end_process "$pid" "the $what"
        say "Stopped the $what of this folder, pid $pid."
    else
        say "No $what of this folder runs."
    fi
    forget
}

# restart keeps the arguments of what runs, unless others are given.
restart() {
    if [ $# -eq 0 ] && [ -f "$args_file" ]; then
        while IFS= read -r word; do set -- "$@" "$word"; done <"$args_file"
    fi
    stop
    begin "$@"
}

status() {
    if ! find_pid; then
        say "No $what of this folder runs."
        return "$EXIT_NOT_RUNNING"
    fi
    if booted_at 0; then
        say "The $what of this folder runs: pid $pid, $address$(describe_running)"
    else
        say "The $what of this folder runs: pid $pid. Its address stood in nohup.out, which is gone."
    fi
}

# refuse_more WORD...: stop and status take no further arguments.
refuse_more() {
    [ $# -eq 0 ] || fail "$EXIT_USAGE" "$(usage)" "" "stop and status take no more words, not '$*'."
}

run_ctl() {
    command=${1:-}
    [ $# -eq 0 ] || shift
    case $command in
    start) begin "$@" ;;
    restart) restart "$@" ;;
    stop | status) refuse_more "$@" && "$command" ;;
    help | -h | --help) usage ;;
    *)
        usage >&2
        exit "$EXIT_USAGE"
        ;;
    esac
}
