#!/bin/sh
# Starts and stops the broker of this folder. `broker-ctl.sh help` says everything.

here=$0
case $here in
*/*) ;;
*) [ -e "$here" ] || here=$(command -v -- "$here") ;;
esac
while [ -L "$here" ]; do
    link=$(readlink "$here")
    case $link in
    /*) here=$link ;;
    *) here=$(dirname "$here")/$link ;;
    esac
done
bin=$(CDPATH='' cd -- "$(dirname "$here")" && pwd) || exit 1

what=broker
kind=broker
boot_line='s/^The broker\[.*, \([^],]*\)\] boot success\. [^ ]*\( and name server is \)\{0,1\}\(.*\)/\1 \3/p'
. "$bin/ctl.sh"

usage() {
    cat <<END
usage: broker-ctl.sh start | stop | restart | status

  start [ARGUMENT]...    start a broker here and wait until it is up. Arguments go to mqbroker, e.g.
                         -n "192.168.0.11:9876;192.168.0.12:9876" -c broker-a.properties;
                         without any: -n \$NAMESRV_ADDR, or -n localhost:9876
  stop                   end it (SIGTERM) and wait until it is gone
  restart [ARGUMENT]...  both; without arguments with those of the last start
  status                 pid, address, registered or not

"Here" is the folder where this is typed: store/, logs/, nohup.out and broker.pid lie in it, so give
each broker a folder of its own. Other folders' brokers are left alone; mqshutdown stops them all.

Exit codes: 0 done (status: it runs), 1 failed, 2 wrong word, 3 no usable Python, 5 not running.
END
}

begin() {
    [ $# -gt 0 ] || set -- -n "${NAMESRV_ADDR:-localhost:9876}"
    start "$@"
}

describe_running() {
    [ -n "$servers" ] || say ", no name server known: give one with -n"
    for server in $(say "$servers" | tr ';' ' '); do
        printf ', %s with %s' "$("$python" -P "$bin/cluster.py" registered "$server" "$address")" \
            "$server"
    done
}

run_ctl "$@"
