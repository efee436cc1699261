# shellcheck shell=sh
# The settings of a deployment of fast-try.sh: read from the environment, kept while it runs.
# Sourced by it.

require_port() {
    case $2 in
    '' | *[!0-9]* | ??????*) ;;
    *) [ "$2" -ge 1 ] && [ "$2" -le 65500 ] && return 0 ;;
    esac
    fail "$EXIT_USAGE" "$1=$2 is not a port: a number from 1 to 65500, please."
}

# BROKER_PORT stays empty unless it is given: its default depends on the deployment.
read_settings() {
    NAMESRV_PORT=${NAMESRV_PORT:-9876}
    BROKER_PORT=${BROKER_PORT:-}
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
    if [ -n "$BROKER_PORT" ]; then require_port BROKER_PORT "$BROKER_PORT"; fi
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
