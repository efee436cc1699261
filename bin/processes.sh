# shellcheck shell=sh
# Which processes are ours: looked up in /proc, or with ps where there is none (macOS).
# How to start and end one. Sourced by fast-try.sh, mqshutdown and the ctl scripts.

# Where Linux shows its processes. The tests put a made-up one here.
PROC=${LEDGERMQ_PROC:-/proc}

has_proc() {
    [ -r "$PROC/self/cmdline" ]
}

# command_line PID: its arguments, joined by blanks; nothing for a dead process or a zombie.
command_line() {
    if has_proc; then
        tr '\000' ' ' 2>/dev/null <"$PROC/$1/cmdline"
    else
        ps -ww -p "$1" -o stat= -o args= 2>/dev/null | sed -e '/^[^ ]*Z/d' -e 's/^[^ ]* *//'
    fi
}

# has_ended PID: true when it is dead or a zombie. While a process turns into its program it has no
# command line for an instant: look twice.
has_ended() {
    [ -z "$(command_line "$1")" ] || return 1
    if has_proc && [ ! -e "$PROC/$1" ]; then return 0; fi
    sleep 0.1
    [ -z "$(command_line "$1")" ]
}

# runs_python PID: true when its program is a Python, not a shell or an editor with our words in
# its arguments, and not Java.
runs_python() {
    if has_proc; then
        program=$(readlink "$PROC/$1/exe" 2>/dev/null)
    else
        program=$(ps -p "$1" -o comm= 2>/dev/null)
    fi
    case ${program##*/} in
    [Pp]ython*) return 0 ;;
    *) return 1 ;;
    esac
}

# is_module PID MODULE [CONF]: true when PID is "python -m MODULE", with "-c CONF" if given.
is_module() {
    case "$(command_line "$1") " in
    *" -m $2 "*"${3:+-c $3 }"*) runs_python "$1" ;;
    *) return 1 ;;
    esac
}

# is_command PID NAME: true when PID is the command that pip installs, "python .../bin/NAME".
is_command() {
    case "$(command_line "$1") " in
    *"/bin/$2 "*) runs_python "$1" ;;
    *) return 1 ;;
    esac
}

# list_pids: every process one may see.
list_pids() {
    if has_proc; then
        (cd "$PROC" && printf '%s\n' [0-9]*)
    else
        ps -A -o pid=
    fi
}

# pids_of broker|namesrv: every process of that kind, however it was started.
pids_of() {
    for pid in $(list_pids); do
        if is_module "$pid" "ledgermq.$1" || is_command "$pid" "mq$1"; then
            printf '%s\n' "$pid"
        fi
    done
}

# memory_mb PID: resident memory.
memory_mb() {
    if has_proc; then
        sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "$PROC/$1/status" 2>/dev/null
    else
        ps -p "$1" -o rss= 2>/dev/null
    fi | {
        read -r rss_kb || rss_kb=0
        printf '%s\n' "$((rss_kb / 1024))"
    }
}

# wait_gone SECONDS PID...: true when all of them have ended by then.
wait_gone() {
    gone_until=$(($(date +%s) + $1))
    shift
    for pid in "$@"; do
        until has_ended "$pid"; do
            [ "$(date +%s)" -lt "$gone_until" ] || return 1
            sleep 0.05
        done
    done
}

# start_detached LOG COMMAND...: begin a process that outlives this script and its terminal, what
# it says added to LOG; sets pid.
start_detached() {
    detached_log=$1
    shift
    detach=
    if command -v setsid >/dev/null 2>&1; then detach=setsid; fi
    $detach nohup "$@" </dev/null >>"$detached_log" 2>&1 &
    pid=$!
}

STOP_TIMEOUT_S=20

# end_process PID LABEL: SIGTERM, and kill -9 when that does not help in time.
end_process() {
    kill "$1" 2>/dev/null
    if ! wait_gone "$STOP_TIMEOUT_S" "$1"; then
        printf '%s\n' "$2 (pid $1) did not end within $STOP_TIMEOUT_S s: kill -9." >&2
        kill -9 "$1" 2>/dev/null
        wait_gone 5 "$1"
    fi
}
