"""`mqnamesrv`: options, boot line, signals."""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ledgermq.remoting import logs
from ledgermq.remoting.errors import CallerError

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
 mqnamesrv -c conf/namesrv.conf           with listenPort = 9877 in that file
 nohup mqnamesrv -c conf/namesrv.conf &   go on after the terminal is closed
Log: namesrv.log in $ROCKETMQ_LOG_HOME, or in ~/logs/rocketmqlogs.
"""
_IMPORTANT = ("listenPort", "bindAddress", "kvConfigPath", "configStorePath")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]  # (exits, as the base does)
        """Report a wrong command line."""
        self.exit(2, f"mqnamesrv: {message}\n{_USAGE}\nTry: mqnamesrv -h\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a name server until SIGTERM or SIGINT; exit codes: 0 stopped, 1 failed, 2 bad usage."""
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: Sequence[str]) -> int:
    if not __debug__:
        _complain("python -O removes the checks of this program's invariants; start it without -O")
        return 1
    options = _parser().parse_args(arguments)
    if options.help:
        sys.stdout.write(_HELP)
        return 0
    try:
        config, warnings = _configure(options.config)
        if options.namesrv:
            warnings.append("-n has no effect: name servers do not know one another")
        if options.print_all or options.print_important:
            _warn(warnings)
            _print_items(config, important_only=not options.print_all)
            return 0
        _start_log(warnings)
        _warn(warnings)
        asyncio.run(_serve(NamesrvApp(config)))
    except CallerError as e:
        _complain(str(e))
        log.error("%s", e)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mqnamesrv", add_help=False, allow_abbrev=False)
    parser.add_argument("-c", "--configFile", dest="config")
    parser.add_argument("-h", "--help", dest="help", action="store_true")
    parser.add_argument("-m", "--printImportantConfig", dest="print_important", action="store_true")
    parser.add_argument("-n", "--namesrvAddr", dest="namesrv")
    parser.add_argument("-p", "--printConfigItem", dest="print_all", action="store_true")
    return parser


def _configure(path: str | None) -> tuple[NamesrvConfig, list[str]]:
    return (NamesrvConfig(), []) if path is None else load(Path(path))


def _print_items(config: NamesrvConfig, *, important_only: bool) -> None:
    for key, value in config.items().items():
        if not important_only or key in _IMPORTANT:
            sys.stdout.write(f"{key}={value}\n")


def _start_log(warnings: list[str]) -> None:
    """Log to the file; without one the name server still runs."""
    try:
        logs.setup("namesrv.log")
    except OSError as e:
        warnings.append(
            f"no log file: {e.strerror}: {e.filename}. Set ROCKETMQ_LOG_HOME to a folder that"
            " this user can write"
        )


async def _serve(app: NamesrvApp) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await app.start()
    sys.stdout.write(f"The Name Server boot success. serializeType=JSON, address {app.address}\n")
    sys.stdout.flush()
    await stopping.wait()
    await app.stop()


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        _complain(f"warning: {warning}")
        log.warning("%s", warning)


def _complain(text: str) -> None:
    sys.stderr.write(f"mqnamesrv: {text}\n")


if __name__ == "__main__":
    main()
