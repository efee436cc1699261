"""What the two server programs share: command line, warnings, log file, signals."""

import argparse
import asyncio
import ctypes
import logging
import re
import signal
import sys
from collections.abc import Iterable, MutableMapping
from typing import NoReturn

from . import logs

# As upstream's scripts pass it: a folder may hold blanks, the next option begins with a dash.
_USER_HOME = re.compile(r"(?:^|(?<=\s))-Duser\.home=(.*?)(?=\s+-|\s*$)")

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_ARENA_MAX = -1, -8
_KEPT_FREE_BYTES = 256 << 10


class DaemonParser(argparse.ArgumentParser):
    """The options of upstream's servers: -c -h -m -n -p."""

    def __init__(self, prog: str, usage: str) -> None:
        super().__init__(prog=prog, add_help=False, allow_abbrev=False)
        self._usage_line = usage
        self.add_argument("-c", "--configFile", dest="config")
        self.add_argument("-h", "--help", dest="help", action="store_true")
        self.add_argument(
            "-m", "--printImportantConfig", dest="print_important", action="store_true"
        )
        self.add_argument("-n", "--namesrvAddr", dest="namesrv")
        self.add_argument("-p", "--printConfigItem", dest="print_all", action="store_true")

    def error(self, message: str) -> NoReturn:
        """Report a wrong command line; exit code 2."""
        self.exit(2, f"{self.prog}: {message}\n{self._usage_line}\nTry: {self.prog} -h\n")


class Voice:
    """Speaks to the person at the terminal, as `prog`, and to the log."""

    def __init__(self, prog: str, log: logging.Logger) -> None:
        self._prog = prog
        self._log = log

    def complain(self, text: str) -> None:
        """One line on stderr."""
        sys.stderr.write(f"{self._prog}: {text}\n")

    def fail(self, reason: str) -> int:
        """Say why the program ends; its exit code."""
        self.complain(reason)
        if logging.getLogger().handlers:  # else it would come out on stderr once more
            self._log.error("%s", reason)
        return 1

    def warn(self, warnings: Iterable[str], *, logged: bool = True) -> None:
        """Show warnings; `logged` False where no log file was opened."""
        for warning in warnings:
            self.complain(f"warning: {warning}")
            if logged:
                self._log.warning("%s", warning)

    def may_run(self) -> bool:
        """False, with the reason said, under `python -O`: assertions guard the invariants."""
        if not __debug__:
            self.complain(
                "python -O removes the checks of this program's invariants; start it without -O"
            )
        return __debug__


def obey_java_opt(env: MutableMapping[str, str]) -> list[str]:
    """Do with JAVA_OPT what bin/ does, for a program that was started without it.

    -Duser.home=FOLDER moves the store and the logs: it sets HOME and LEDGERMQ_USER_HOME. The rest
    is for a JVM.

    Returns:
        A warning when there was something else.
    """
    options = env.pop("JAVA_OPT", "")
    if home := _USER_HOME.search(options):
        env["HOME"] = env["LEDGERMQ_USER_HOME"] = home[1]
    rest = " ".join(_USER_HOME.sub("", options).split())
    if not rest:
        return []
    return [f"JAVA_OPT is ignored, there is no JVM (only -Duser.home= is read): {rest}"]


def spare_memory() -> bool:
    """Have the C library keep less of what was freed; before threads are started.

    By default glibc gives each thread a heap of its own and gives little of them back. Here one
    thread at a time runs Python, so that one heap is enough: under load a broker holds some 3 MB
    less; see docs/performance.md.

    Returns:
        False where the C library is another one: nothing is lost but that memory.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return all([mallopt(_M_ARENA_MAX, 1), mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE_BYTES)])


def start_log(file_name: str, warnings: list[str]) -> None:
    """Log to the file; without one the program still runs, and `warnings` gets a line."""
    try:
        logs.setup(file_name)
    except OSError as e:
        warnings.append(
            f"no log file: {e.strerror}: {e.filename}. Set ROCKETMQ_LOG_HOME to a folder that"
            " this user can write"
        )


def stop_signal() -> asyncio.Event:
    """Set by SIGTERM or SIGINT; call it within the running loop."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping
