"""`mqbroker`: options, boot line, signals."""

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ledgermq.remoting import logs
from ledgermq.remoting.errors import LedgerMQError

from .app import BrokerApp
from .config import BrokerConfig, all_items, important_items, load_config

# By name: this module runs as "__main__" under `python -m`.
log = logging.getLogger("ledgermq.broker")

_USAGE = "usage: mqbroker [-c <arg>] [-h] [-m] [-n <arg>] [-p]"
_HELP = f"""{_USAGE}
 -c,--configFile <arg>       Broker config properties file
 -h,--help                   Print help
 -m,--printImportantConfig   Print important config item
 -n,--namesrvAddr <arg>      Name server address list, eg: '192.168.0.1:9876;192.168.0.2:9876'
 -p,--printConfigItem        Print all config item

Examples:
 mqbroker -c conf/dledger/broker-n0.conf                       one member of a group
 mqbroker -c conf/dledger/broker-n0.conf -n localhost:9876     with another name server
 nohup mqbroker -c conf/dledger/broker-n0.conf &               goes on after the terminal closes
Log: broker.log in $ROCKETMQ_LOG_HOME, or in ~/logs/rocketmqlogs. Keys: docs/config.md.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]  # (exits, as the base does)
        """Report a wrong command line."""
        self.exit(2, f"mqbroker: {message}\n{_USAGE}\nTry: mqbroker -h\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a broker until SIGTERM or SIGINT; exit codes: 0 stopped, 1 failed, 2 bad usage."""
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
        overrides = {"namesrvAddr": options.namesrv} if options.namesrv else {}
        path = Path(options.config) if options.config else None
        to_print = options.print_all or options.print_important
        config, warnings = load_config(path, overrides, os.environ, to_print=to_print)
        if to_print:
            _warn(warnings, logged=False)
            items = all_items(config) if options.print_all else important_items(config)
            sys.stdout.write("".join(f"{item}\n" for item in items))
            return 0
        _start_log(warnings)
        _warn(warnings)
        return asyncio.run(_serve(config))
    except OSError as e:
        return _failed(f"{e.filename}: {e.strerror}" if e.filename else str(e))
    except LedgerMQError as e:
        return _failed(str(e))


def _failed(reason: str) -> int:
    _complain(reason)
    log.error("%s", reason)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mqbroker", add_help=False, allow_abbrev=False)
    parser.add_argument("-c", "--configFile", dest="config")
    parser.add_argument("-h", "--help", dest="help", action="store_true")
    parser.add_argument("-m", "--printImportantConfig", dest="print_important", action="store_true")
    parser.add_argument("-n", "--namesrvAddr", dest="namesrv")
    parser.add_argument("-p", "--printConfigItem", dest="print_all", action="store_true")
    return parser


def _start_log(warnings: list[str]) -> None:
    """Log to the file; without one the broker still runs."""
    try:
        logs.setup("broker.log")
    except OSError as e:
        warnings.append(
            f"no log file: {e.strerror}: {e.filename}. Set ROCKETMQ_LOG_HOME to a folder that"
            " this user can write"
        )


async def _serve(config: BrokerConfig) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    app = BrokerApp(config)
    await app.start()
    servers = ";".join(config.namesrv_addr)
    known = f" and name server is {servers}" if servers else ""
    sys.stdout.write(
        f"The broker[{config.broker_name}, {config.broker_ip1}:{config.listen_port}] boot success."
        f" serializeType=JSON{known}\n"
    )
    sys.stdout.flush()
    # What lives now lives until the end: keep it out of every later collection.
    gc.collect()
    gc.freeze()
    app.failed.add_done_callback(lambda _: stopping.set())
    await stopping.wait()
    await app.stop()
    if app.failed.done():
        _complain(f"stopped: {app.failed.result()}")
        return 1
    log.info("stopped")
    return 0


def _warn(warnings: list[str], *, logged: bool = True) -> None:
    for warning in warnings:
        _complain(f"warning: {warning}")
        if logged:
            log.warning("%s", warning)


def _complain(text: str) -> None:
    sys.stderr.write(f"mqbroker: {text}\n")


if __name__ == "__main__":
    main()
