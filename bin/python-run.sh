# shellcheck shell=sh
# How the scripts in bin/ run our Python. Sourced; the caller sets `bin`, this folder.
#
# Read from the environment:
#   ROCKETMQ_HOME      the checkout to run, default the folder above bin/
#   JAVA_OPT           only -Duser.home=FOLDER: where ~/store, ~/logs and ~/namesrv lie instead
#   ROCKETMQ_LOG_HOME  the log folder itself

above=$(CDPATH='' cd -- "$bin/.." && pwd) || exit 1
root=${ROCKETMQ_HOME:-$above}
if [ ! -f "$root/ledgermq/__init__.py" ]; then
    # A machine that had Java's RocketMQ often has its folder in /etc/profile.
    printf 'ROCKETMQ_HOME=%s is no ledgermq; using %s.\n' "$root" "$above" >&2
    root=$above
fi
ROCKETMQ_HOME=$root
export ROCKETMQ_HOME

. "$bin/python-env.sh"
ensure_venv

# read_user_home LOGBACK_FILE: obey -Duser.home, and a log folder that a guide had written into
# the logback file.
read_user_home() {
    options=" ${JAVA_OPT:-}"
    case $options in
    *" -Duser.home="*)
        HOME=${options#*" -Duser.home="}
        HOME=${HOME%% -*}
        HOME=${HOME%"${HOME##*[! ]}"}
        LEDGERMQ_USER_HOME=$HOME
        export HOME LEDGERMQ_USER_HOME
        options="${options%%" -Duser.home="*}${options#*" -Duser.home=$HOME"}"
        ;;
    esac
    if [ -n "$(printf '%s' "$options" | tr -d ' ')" ]; then
        warn "JAVA_OPT is ignored, there is no JVM (only -Duser.home= is read):$options"
    fi
    # All said and done: a program that finds it would say it again.
    unset JAVA_OPT
    # shellcheck disable=SC2016  # the file holds ${user.home} literally
    log_home=$(sed -n 's/.*name="LOG_HOME" value="\([^"$]*\)".*/\1/p' "$1" 2>/dev/null)
    if [ -n "$log_home" ]; then export ROCKETMQ_LOG_HOME="${ROCKETMQ_LOG_HOME:-$log_home}"; fi
}

# run_module NAME ARGUMENT...: become that Python program, so that it has this shell's pid. -P: a
# file of the user in this folder, called like one of ours, is not imported.
run_module() {
    exec "$python" -P -m "$@"
}

run_file() {
    run_path=$root/$1
    shift
    exec "$python" -P "$run_path" "$@"
}
