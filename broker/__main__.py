"""`mqbroker`: options, boot line, signals."""

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ledgermq.compiled import PAIRS
from ledgermq.remoting.daemon import (
    DaemonParser,
    Voice,
    obey_java_opt,
    spare_memory,
    start_log,
    stop_signal,
)
from ledgermq.remoting.errors import CallerError, LedgerMQError

from .app import BrokerApp
from .config import BrokerConfig, Reading, items_to_print, read_config
from .config_lint import NOWHERE
from .config_machine import ThisMachine, check_in_use, check_machine

# By name: this module runs as "__main__" under `python -m`.
log = logging.getLogger("ledgermq.broker")

_USAGE = "usage: mqbroker [-c <arg>] [-h] [-m] [-n <arg>] [-p] [--check] [--bootstrap]"
_HELP = f"""{_USAGE}
 -c,--configFile <arg>       Broker config properties file
 -h,--help                   Print help
 -m,--printImportantConfig   Print important config item
 -n,--namesrvAddr <arg>      Name server address list, eg: '192.168.0.1:9876;192.168.0.2:9876'
 -p,--printConfigItem        Print all config item
    --check                  Look for mistakes in the configuration and on this machine, then end
    --bootstrap              This node may vote, whatever happened to its store; see below

A broker of its own:
 mqbroker -n localhost:9876                                    all defaults, store in ~/store
 mqbroker -n localhost:9876 -c conf/broker.conf                with a file
 mqbroker -c conf/2m-noslave/broker-a.properties -n 'a:9876;b:9876'   one of several masters
 nohup mqbroker -n localhost:9876 &                            goes on after the terminal closes
A group, which keeps several copies and elects its master:
 mqbroker -c conf/dledger/broker-n0.conf                       one member of it
Before the start:
 mqbroker --check -c conf/broker.conf      what is wrong, where, and the mend; exit code 0 or 1
 mqbroker -c conf/broker.conf -p           every key, its value, and where that is from
 mqbroker -c conf/broker.conf -p | grep fileReservedTime

A group's node with an empty or damaged store does not vote before a leader has brought it up to
date. When a majority of a group is like that, the group waits, because messages that got SEND_OK
may be gone. Bring the old stores back. If there are none, start a majority of the nodes with
--bootstrap, once: those with the best stores.
Log: broker.log in $ROCKETMQ_LOG_HOME, or in ~/logs/rocketmqlogs. Keys: docs/config.md.
"""


voice = Voice("mqbroker", log)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a broker until SIGTERM or SIGINT.

    Exit codes: 0 stopped, or nothing wrong found; 1 failed, or something found; 2 bad usage.
    """
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: Sequence[str]) -> int:
    if not voice.may_run():
        return 1
    parser = DaemonParser("mqbroker", _USAGE)
    parser.add_argument("--check", dest="check", action="store_true")
    parser.add_argument("--bootstrap", dest="bootstrap", action="store_true")
    options = parser.parse_args(arguments)
    if options.help:
        sys.stdout.write(_HELP)
        return 0
    try:
        warnings = obey_java_opt(os.environ)
        overrides = {"namesrvAddr": options.namesrv} if options.namesrv else {}
        path = Path(options.config) if options.config else None
        reading = read_config(path, overrides, os.environ)
        if options.check:
            return _check(reading, warnings, options.config)
        if options.print_all or options.print_important:
            voice.warn([*warnings, *_about_lines(reading)], logged=False)
            items = items_to_print(reading.config, important=not options.print_all)
            sys.stdout.write("".join(f"{item}\n" for item in items))
            return 0
        warnings += _refuse_mistakes(reading)
        start_log("broker.log", warnings)
        voice.warn(warnings)
        spare_memory()
        return asyncio.run(_serve(reading.config, bootstrap=options.bootstrap))
    except OSError as e:
        return voice.fail(f"{e.filename}: {e.strerror}" if e.filename else str(e))
    except LedgerMQError as e:
        return voice.fail(str(e))


def _about_lines(reading: Reading) -> list[str]:
    """What is wrong with something written; what is missing only matters to a start."""
    return [
        text for text in reading.warnings + reading.problems if not text.startswith(f"{NOWHERE}:")
    ]


def _refuse_mistakes(reading: Reading) -> list[str]:
    """The warnings of a start.

    Raises:
        CallerError: a line for each problem.
    """
    problems, warnings = check_machine(reading.config, reading.place, ThisMachine())
    problems = reading.problems + problems
    if problems:
        raise CallerError("\n".join(problems))
    return reading.warnings + warnings


def _check(reading: Reading, warnings: list[str], path: str | None) -> int:
    """Say all that is wrong, on stdout; the exit code."""
    machine = ThisMachine()
    found = check_machine(reading.config, reading.place, machine)
    in_use = check_in_use(reading.config, reading.place, machine)
    problems = [*reading.problems, *found.problems, *in_use]
    warnings = [*warnings, *reading.warnings, *found.warnings]
    lines = [f"problem: {p}" for p in problems] + [f"warning: {w}" for w in warnings]
    counts = _count(problems, "mistake") + (f", {_count(warnings, 'warning')}" if warnings else "")
    sys.stdout.write("".join(f"{line}\n" for line in [*lines, f"{path or 'defaults'}: {counts}"]))
    return 1 if problems else 0


def _count(found: list[str], what: str) -> str:
    return f"{len(found) or 'no'} {what}{'' if len(found) == 1 else 's'}"


async def _serve(config: BrokerConfig, *, bootstrap: bool) -> int:
    stopping = stop_signal()
    app = BrokerApp(config, bootstrap=bootstrap)
    await app.start()
    servers = ";".join(config.namesrv_addr)
    known = f" and name server is {servers}" if servers else ""
    sys.stdout.write(
        f"The broker[{config.broker_name}, {config.broker_ip1}:{config.listen_port}] boot success."
        f" serializeType=JSON{known}\n"
    )
    sys.stdout.flush()
    log.info("compiled twins in use: %d", len(PAIRS))
    # What lives now lives until the end: keep it out of every later collection.
    gc.collect()
    gc.freeze()
    app.failed.add_done_callback(lambda _: stopping.set())
    await stopping.wait()
    await app.stop()
    if app.failed.done():
        voice.complain(f"stopped: {app.failed.result()}")
        return 1
    log.info("stopped")
    return 0


if __name__ == "__main__":
    main()
