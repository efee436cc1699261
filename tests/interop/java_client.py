"""The official Java client and the Java `mqadmin`, as blocking calls."""

import json
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from tests.interop import jvm
from tests.support import wait_until

# A client learns of a topic made after its start by polling the route (an option of each step) and
# then by its next rebalance: every 20 s, and from 5.x on 1 s after its start, unless these
# properties of the client say otherwise.
REBALANCE = [
    "-Drocketmq.client.rebalance.waitInterval=500",
    "-Drocketmq.client.rebalance.minInterval=100",
]
ADMIN_TIMEOUT_S = 60
LOGBACK = """<configuration>
  <appender name="none" class="ch.qos.logback.core.helpers.NOPAppender"/>
  <root level="OFF"><appender-ref ref="none"/></root>
</configuration>
"""

Event = dict[str, Any]


class JavaClientError(AssertionError):
    """A driver failed; the text is all it printed."""


class Report:
    """What a driver printed: one event per line, other lines kept as text.

    Attributes:
        output: all of it.
        events: the events in order.
        dialled: remote ports the client was connected to (Linux; empty elsewhere).
    """

    def __init__(self, output: str, dialled: Iterable[int] = ()) -> None:
        self.output = ""
        self.dialled = frozenset(dialled)
        self.events: list[Event] = []
        for line in output.splitlines(keepends=True):
            self.add(line)

    def add(self, line: str) -> None:
        """One line more."""
        self.output += line
        if line.startswith('{"event":'):
            self.events.append(json.loads(line))

    def of(self, event: str, step: str) -> list[Event]:
        """The events of one kind that one step printed.

        Raises:
            JavaClientError: that step threw.
        """
        mine = [e for e in list(self.events) if e["step"] == step]
        if any(e["event"] == "failed" for e in mine):
            raise JavaClientError(f"step {step} failed:\n{self.output}")
        return [e for e in mine if e["event"] == event]

    def bodies(self, event: str, step: str) -> list[str]:
        """Their bodies, sorted."""
        return sorted(e["body"] for e in self.of(event, step))


class JavaClient:
    """The client of one version, talking to one cluster.

    Args:
        version: a released version, such as "4.9.5".
        name_server: "host:port", or several joined by ";".
        home: an empty folder for its logs.
    """

    def __init__(self, version: str, name_server: str, home: Path) -> None:
        self.version = version
        self.name_server = name_server
        self.home = home

    def run(self, *steps: str, timeout_s: float = 90.0) -> Report:
        """Run the steps in one JVM; a step that threw does not stop the next ones.

        Raises:
            JavaClientError: the JVM broke down, or did not end in time.
        """
        with self.running(*steps) as process, DialWatch(process.pid) as watch:
            try:
                output, _ = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                output = process.communicate()[0] + f"\nkilled after {timeout_s} s"
        if process.returncode:
            raise JavaClientError(f"client {self.version}, {steps}:\n{output}")
        return Report(output, watch.seen)

    @contextmanager
    def session(self) -> "Iterator[Session]":
        """One JVM that takes its steps while the block runs."""
        with self.running("-", stdin=subprocess.PIPE) as process:
            yield Session(process)

    @contextmanager
    def running(
        self, *steps: str, stdin: int = subprocess.DEVNULL
    ) -> Iterator[subprocess.Popen[str]]:
        """The JVM with the steps, ended when the block ends."""
        process = subprocess.Popen(
            self._argv(steps),
            env=jvm.environment(),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            _end(process)

    def _argv(self, steps: tuple[str, ...]) -> list[str]:
        classes = jvm.driver_classes(self.version)
        libraries = jvm.class_path(self.version, "rocketmq-client")
        argv = ["java", *jvm.QUICK_FLAGS, *jvm.isolation(self.home), *REBALANCE]
        argv += ["-cp", f"{classes}:{libraries}", "interop.Driver", self.name_server]
        return [*argv, *steps]


class Session:
    """A JVM that is told step after step; steps run side by side.

    Attributes:
        report: what the steps have printed so far; it grows.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.report = Report("")
        self._process = process
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def begin(self, step: str) -> None:
        """Start a step and go on; its label must be new."""
        self._say(step)

    def end(self, label: str, timeout_s: float = 30.0) -> None:
        """Tell a step that goes on by itself to end, and wait for that."""
        self._say(f"stop {label}")
        self.wait(label, timeout_s)

    def run(self, step: str, timeout_s: float = 60.0) -> None:
        """A step from start to end."""
        self.begin(step)
        name, *options = step.split(",")
        labels = [option.removeprefix("as=") for option in options if option.startswith("as=")]
        self.wait(labels[0] if labels else name, timeout_s)

    def wait(self, label: str, timeout_s: float = 30.0) -> None:
        """Until a step has ended."""
        self.until(
            lambda: any(e["event"] == "end" and e["step"] == label for e in self.report.events),
            timeout_s,
            f"the end of step {label}",
        )

    def until(self, predicate: Callable[[], object], timeout_s: float, what: str) -> None:
        """Until `predicate()` is true.

        Raises:
            JavaClientError: it is not in time, or the JVM has ended; with all that was printed.
        """

        def met() -> object:
            return self._process.poll() is not None or predicate()

        try:
            wait_until(met, timeout_s, what)
        except JavaClientError:
            raise
        except AssertionError as e:
            raise JavaClientError(f"{e}\n{self.report.output}") from None
        if not predicate():
            raise JavaClientError(f"the JVM ended before {what}:\n{self.report.output}")

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with suppress(ValueError):  # closed under our hands at the end
            for line in self._process.stdout:
                self.report.add(line)


class DialWatch:
    """Sees which remote ports a process was connected to while the block ran.

    Reads the kernel's tables (Linux only) every 50 ms; a client keeps its connections far longer.
    """

    _ESTABLISHED = "01"

    def __init__(self, pid: int) -> None:
        self.seen: set[int] = set()
        self._descriptors = Path(f"/proc/{pid}/fd")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        if self._descriptors.exists():
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.ident:
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            sockets = self._sockets()
            for table in ("/proc/net/tcp", "/proc/net/tcp6"):
                for line in Path(table).read_text("ascii").splitlines()[1:]:
                    fields = line.split()
                    if fields[3] == self._ESTABLISHED and fields[9] in sockets:
                        self.seen.add(int(fields[2].rpartition(":")[2], 16))

    def _sockets(self) -> set[str]:
        """Inodes of the process's sockets; empty when it is gone."""
        inodes = set()
        with suppress(OSError):
            for descriptor in self._descriptors.iterdir():
                with suppress(FileNotFoundError):
                    target = str(descriptor.readlink())
                    if target.startswith("socket:["):
                        inodes.add(target[8:-1])
        return inodes


def mqadmin(version: str, name_server: str, home: Path, *lines: str) -> list[str]:
    """Run lines such as "topicRoute -t T" by the Java `mqadmin`; what each of them printed.

    One JVM runs them all. The tool reports its errors only as text.
    """
    conf = home / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    for name in ("logback_tools.xml", "rmq.tools.logback.xml"):
        (conf / name).write_text(LOGBACK, "utf-8")
    libraries = f"{jvm.driver_classes(version)}:{jvm.class_path(version, 'rocketmq-tools')}"
    argv = ["java", *jvm.QUICK_FLAGS, *jvm.isolation(home), f"-Drocketmq.home.dir={home}"]
    argv += ["-cp", libraries, "interop.Admin", *(f"{line} -n {name_server}" for line in lines)]
    done = subprocess.run(
        argv,
        check=False,
        env=jvm.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=ADMIN_TIMEOUT_S,
    )
    *outputs, rest = done.stdout.split("==== end\n")
    if len(outputs) != len(lines):
        raise JavaClientError(f"mqadmin {version} ended early, status {done.returncode}:\n{rest}")
    return outputs


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
