#!/bin/sh
# Runs a broker; called by mqbroker.

# Guides have you set the JVM's memory here. There is no JVM: such a line changes nothing, only
# -Duser.home=FOLDER is read.
# shellcheck disable=SC2269  # the line that guides edit
JAVA_OPT="${JAVA_OPT}"

bin=$(CDPATH='' cd -- "$(dirname "$0")" && pwd) || exit 1
. "$bin/python-run.sh"
read_user_home "$bin/../conf/logback_broker.xml"
run_module "$@"
