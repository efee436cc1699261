"""`mqbroker`: options, boot line, signals."""

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ledgermq.remoting.daemon import DaemonParser, Voice, start_log, stop_signal
from ledgermq.remoting.errors import LedgerMQError

from .app import BrokerApp
from .config import BrokerConfig, all_items, important_items, load_config

# By name: this module runs as "__main__" under `python -m`.
log = logging.getLogger("ledgermq.broker")

_USAGE = "usage: mqbroker [-c <arg>] [-h] [-m] [-n <arg>] [-p] [--bootstrap]"
_HELP = f"""{_USAGE}
 -c,--configFile <arg>       Broker config properties file
 -h,--help                   Print help
 -m,--printImportantConfig   Print important config item
 -n,--namesrvAddr <arg>      Name server address list, eg: '192.168.0.1:9876;192.168.0.2:9876'
 -p,--printConfigItem        Print all config item
    --bootstrap              This node may vote, whatever happened to its store; see below

Examples:
 mqbroker -c conf/dledger/broker-n0.conf                       one member of a group
 mqbroker -c conf/dledger/broker-n0.conf -n localhost:9876     with another name server
 nohup mqbroker -c conf/dledger/broker-n0.conf &               goes on after the terminal closes
A node with an empty or damaged store does not vote before a leader has brought it up to date. When
a majority of a group is like that, the group waits, because messages that got SEND_OK may be gone.
Bring the old stores back. If there are none, start a majority of the nodes with --bootstrap, once:
those with the best stores.
Log: broker.log in $ROCKETMQ_LOG_HOME, or in ~/logs/rocketmqlogs. Keys: docs/config.md.
"""


voice = Voice("mqbroker", log)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a broker until SIGTERM or SIGINT; exit codes: 0 stopped, 1 failed, 2 bad usage."""
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: Sequence[str]) -> int:
    if not voice.may_run():
        return 1
    parser = DaemonParser("mqbroker", _USAGE)
    parser.add_argument("--bootstrap", dest="bootstrap", action="store_true")
    options = parser.parse_args(arguments)
    if options.help:
        sys.stdout.write(_HELP)
        return 0
    try:
        overrides = {"namesrvAddr": options.namesrv} if options.namesrv else {}
        path = Path(options.config) if options.config else None
        to_print = options.print_all or options.print_important
        config, warnings = load_config(path, overrides, os.environ, to_print=to_print)
        if to_print:
            voice.warn(warnings, logged=False)
            items = all_items(config) if options.print_all else important_items(config)
            sys.stdout.write("".join(f"{item}\n" for item in items))
            return 0
        start_log("broker.log", warnings)
        voice.warn(warnings)
        return asyncio.run(_serve(config, bootstrap=options.bootstrap))
    except OSError as e:
        return voice.fail(f"{e.filename}: {e.strerror}" if e.filename else str(e))
    except LedgerMQError as e:
        return voice.fail(str(e))


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
