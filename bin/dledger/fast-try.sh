#!/bin/sh
# The same as fast-try.sh at the top, at the place where RocketMQ's guides call it.

here=$0
while [ -L "$here" ]; do
    link=$(readlink "$here")
    case $link in
    /*) here=$link ;;
    *) here=$(dirname "$here")/$link ;;
    esac
done
exec sh "$(dirname "$here")/../../fast-try.sh" "$@"
