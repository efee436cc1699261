#!/bin/sh
# Starts and stops the name server of this folder. `namesrv-ctl.sh help` says everything.

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

what="name server"
kind=namesrv
boot_line='s/^The Name Server boot success.*address //p'
. "$bin/ctl.sh"

usage() {
    cat <<END
usage: namesrv-ctl.sh start | stop | restart | status

  start [ARGUMENT]...    start a name server here and wait until it is up. Arguments go to
                         mqnamesrv, e.g. -c namesrv.conf
  stop                   end it (SIGTERM) and wait until it is gone
  restart [ARGUMENT]...  both; without arguments with those of the last start
  status                 pid and port

"Here" is the folder where this is typed: namesrv/, logs/, nohup.out and namesrv.pid lie in it.
Other folders' name servers are left alone; mqshutdown stops them all.

Exit codes: 0 done (status: it runs), 1 failed, 2 wrong word, 3 no usable Python, 5 not running.
END
}

begin() {
    start "$@"
}

describe_running() {
    :
}

run_ctl "$@"
