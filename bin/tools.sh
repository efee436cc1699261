#!/bin/sh
# Runs the example programs by the names that RocketMQ's guides use.

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

# Guides have you set the JVM's memory here. There is no JVM: such a line changes nothing.
# shellcheck disable=SC2269  # the line that guides edit
JAVA_OPT="${JAVA_OPT}"

. "$bin/python-run.sh"

name=${1:-}
[ $# -eq 0 ] || shift
case $name in
org.apache.rocketmq.example.quickstart.Producer) run_file examples/quickstart_producer.py "$@" ;;
org.apache.rocketmq.example.quickstart.Consumer) run_file examples/quickstart_consumer.py "$@" ;;
org.apache.rocketmq.tools.command.MQAdminStartup) run_module ledgermq.admin.mqadmin "$@" ;;
esac
fail 2 "tools.sh knows these names, not '$name':" \
    "  org.apache.rocketmq.example.quickstart.Producer" \
    "  org.apache.rocketmq.example.quickstart.Consumer" \
    "It cannot run Java classes."
