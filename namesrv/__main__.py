"""`mqnamesrv`: options, boot line, signals."""

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ledgermq.remoting.daemon import DaemonParser, Voice, obey_java_opt, start_log, stop_signal
from ledgermq.remoting.errors import CallerError
from ledgermq.remoting.properties import DEFAULT, with_source

from .app import NamesrvApp
from .config import NamesrvConfig, load

# By name: this module runs as "__main__" under `python -m`.
log = logging.getLogger("ledgermq.namesrv")

_USAGE = "usage: mqnamesrv [-c <arg>] [-h] [-n <arg>] [-p]"
_HELP = f"""{_USAGE}
 -c,--configFile <arg>      Name server config properties file
 -h,--help                  Print help
 -m,--printImportantConfig  Print important config items
 -n,--namesrvAddr <arg>     Accepted as upstream does; a name server needs no other one
 -p,--printConfigItem       Print all config items

Examples:
 mqnamesrv                                listen on port 9876
 mqnamesrv -c conf/dledger/namesrv.conf   with listenPort = 9877 in that file
 nohup mqnamesrv -c conf/dledger/namesrv.conf &   go on after the terminal is closed
 mqnamesrv -c conf/dledger/namesrv.conf -p   every key, its value, and where that is from
Log: namesrv.log in $ROCKETMQ_LOG_HOME, or in ~/logs/rocketmqlogs.
"""
_IMPORTANT = ("listenPort", "bindAddress", "kvConfigPath", "configStorePath")


voice = Voice("mqnamesrv", log)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a name server until SIGTERM or SIGINT; exit codes: 0 stopped, 1 failed, 2 bad usage."""
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: Sequence[str]) -> int:
    if not voice.may_run():
        return 1
    options = DaemonParser("mqnamesrv", _USAGE).parse_args(arguments)
    if options.help:
        sys.stdout.write(_HELP)
        return 0
    try:
        java = obey_java_opt(os.environ)
        config, warnings = _configure(options.config)
        warnings += java
        if options.namesrv:
            warnings.append("-n has no effect: name servers do not know one another")
        if options.print_all or options.print_important:
            voice.warn(warnings, logged=False)
            _print_items(config, important_only=not options.print_all)
            return 0
        start_log("namesrv.log", warnings)
        voice.warn(warnings)
        asyncio.run(_serve(NamesrvApp(config)))
    except CallerError as e:
        return voice.fail(str(e))
    return 0


def _configure(path: str | None) -> tuple[NamesrvConfig, list[str]]:
    return (NamesrvConfig(), []) if path is None else load(Path(path))


def _print_items(config: NamesrvConfig, *, important_only: bool) -> None:
    for key, value in config.items().items():
        if not important_only or key in _IMPORTANT:
            source = config.sources.get(key, DEFAULT)
            sys.stdout.write(f"{with_source(key, value, source)}\n")


async def _serve(app: NamesrvApp) -> None:
    stopping = stop_signal()
    await app.start()
    sys.stdout.write(f"The Name Server boot success. serializeType=JSON, address {app.address}\n")
    sys.stdout.flush()
    await stopping.wait()
    await app.stop()


if __name__ == "__main__":
    main()
