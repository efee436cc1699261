"""NATS with JetStream: three servers in a cluster, streams in files with three replicas.

Usage:

    with nats.cluster(folder, sync_always=True) as peer:
        peer.create_stream("S", ["bench.>"])
        ...  # publish to bench.x at peer.servers; the stream's leader answers each with its number
"""

import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.support.ports import reserve_port

from . import HOST, PeerError, Processes

START_TIMEOUT_S = 30.0
_SHOWN_CHARS = 2000
READY_STREAM, READY_SUBJECT = "READY", "ready"
# `compress`, `max_*` and all else as by default; without `sync_interval` a file is synced every two
# minutes.
_CONF = """\
server_name: {name}
listen: "{host}:{port}"
log_file: "{folder}/nats.log"
jetstream {{
  store_dir: "{folder}/store"
  {sync}
}}
cluster {{
  name: bench
  listen: "{host}:{cluster_port}"
  routes: [{routes}]
}}
"""


class Connection:
    """One connection of NATS's text protocol, for requests one after the other.

    Raises:
        OSError: nobody listens, or the server closed it.
    """

    def __init__(self, address: str, timeout_s: float = 5.0) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout_s)
        self._reader = self._socket.makefile("rb")
        self._inbox = f"_INBOX.{os.getpid()}.{id(self)}.{time.monotonic_ns()}"
        self._number = 0
        hello = {"verbose": False, "pedantic": False, "lang": "python", "version": "0"}
        options = json.dumps(hello | {"protocol": 1, "headers": True, "no_responders": True})
        self._say(f"CONNECT {options}\r\nSUB {self._inbox}.* 1\r\n".encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self._socket.close()

    def request(self, subject: str, payload: bytes = b"") -> bytes:
        """One request; its answer.

        Raises:
            PeerError: nobody answers for that subject.
        """
        self._number += 1
        inbox = f"{self._inbox}.{self._number}"
        self._say(
            b"PUB %s %s %d\r\n%s\r\n" % (subject.encode(), inbox.encode(), len(payload), payload)
        )
        while True:
            to, headers, answer = self._message()
            if to != inbox:
                continue  # of a request that was given up
            if headers.startswith(b"NATS/1.0 503"):
                raise PeerError(f"nobody answers for {subject}")
            return answer

    def _say(self, data: bytes) -> None:
        self._socket.sendall(data)

    def _message(self) -> tuple[str, bytes, bytes]:
        """Subject, headers and payload of the next message; pings are answered."""
        while True:
            line = self._reader.readline()
            if not line:
                raise ConnectionError("the server closed the connection")
            word, *rest = line.decode().split()
            if word == "PING":
                self._say(b"PONG\r\n")
            elif word == "-ERR":
                raise ConnectionError(line.decode().strip())
            elif word in ("MSG", "HMSG"):
                # MSG subject sid [reply] size; HMSG subject sid [reply] headers total
                size = int(rest[-1])
                headers = int(rest[-2]) if word == "HMSG" else 0
                data = self._reader.read(size + 2)[:size]
                return rest[0], data[:headers], data[headers:]


class NatsGroup:
    """Three servers.

    Args:
        folder: everything they write goes here.
        binary: nats-server.
        sync_always: fsync before an answer (`sync_interval: always`).

    Attributes:
        servers: addresses of all three, joined by ",".
        start_s: seconds from the start of the first process to the first message that a stream
            with three replicas has acknowledged.
    """

    def __init__(self, folder: Path, binary: Path, *, sync_always: bool = False) -> None:
        self.name = f"nats group {'sync always' if sync_always else 'async'}"
        self.start_s = 0.0
        self._folder = folder
        self._binary = binary
        self._sync = "sync_interval: always" if sync_always else ""
        self._addresses = {f"n{i}": f"{HOST}:{reserve_port()}" for i in range(3)}
        self._cluster_ports = {name: reserve_port() for name in self._addresses}
        self._processes = Processes()

    @property
    def servers(self) -> str:
        """Addresses of all of them, joined by ","."""
        return ",".join(self._addresses.values())

    @property
    def processes(self) -> Mapping[str, int]:
        """Process id by name."""
        return self._processes.running

    def leader(self) -> str:
        """Name of the server that leads the newest stream.

        Raises:
            PeerError: none does.
        """
        streams = self._api("STREAM.LIST").get("streams") or []
        newest: dict[str, Any] = max(streams, key=lambda s: str(s.get("created")), default={})
        return self.stream_leader(str(newest.get("config", {}).get("name")))

    def leader_address(self) -> str:
        """Where it listens."""
        return self._addresses[self.leader()]

    def stream_leader(self, stream: str) -> str:
        """Name of the server that leads a stream.

        Raises:
            PeerError: none does.
        """
        info = self._api(f"STREAM.INFO.{stream}")
        leader = info.get("cluster", {}).get("leader")
        if not leader:
            raise PeerError(f"stream {stream} has no leader: {info}")
        return str(leader)

    def create_stream(self, stream: str, subjects: Iterable[str]) -> None:
        """Create a stream of files with three replicas.

        Raises:
            PeerError: it was refused.
        """
        config = {
            "name": stream,
            "subjects": list(subjects),
            "storage": "file",
            "num_replicas": 3,
            "retention": "limits",
            "discard": "old",
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": -1,
            "max_age": 0,
        }
        answer = self._api(f"STREAM.CREATE.{stream}", config)
        if "error" in answer:
            raise PeerError(f"stream {stream} was refused: {answer['error']}")

    def kill9(self, name: str) -> None:
        """Kill a process, and wait until it is gone."""
        self._processes.kill9(name)

    def restart(self, name: str) -> None:
        """Start a process that was killed again, and wait until it listens."""
        self._spawn(name)
        self._until(lambda: name in self._listening(), "listening again")

    def __enter__(self) -> Self:
        begin = time.monotonic()
        try:
            for name in self._addresses:
                self._spawn(name)
            self._until(self._took_a_message, "ready")
        except BaseException:
            self._processes.kill_all()
            raise
        self.start_s = time.monotonic() - begin
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        story = self._story()
        self._processes.kill_all()
        if story and error is None:
            raise PeerError(story)
        if story and error is not None:
            error.add_note(story)

    def _spawn(self, name: str) -> None:
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        conf = folder / "nats.conf"
        port = self._addresses[name].rpartition(":")[2]
        others = [p for n, p in self._cluster_ports.items() if n != name]
        routes = ", ".join(f'"nats://{HOST}:{p}"' for p in others)
        text = _CONF.format(
            name=name,
            host=HOST,
            port=port,
            folder=folder,
            sync=self._sync,
            cluster_port=self._cluster_ports[name],
            routes=routes,
        )
        conf.write_text(text, "utf-8")
        argv = [str(self._binary), "-c", str(conf)]
        self._processes.start(name, argv, folder / "stdout.log")

    def _took_a_message(self) -> bool:
        """Whether the first stream exists, and a message to it was acknowledged."""
        with suppress(OSError, PeerError, ValueError):
            if not self._has_ready_stream():
                self.create_stream(READY_STREAM, [READY_SUBJECT])
            with Connection(self._some_address(), 2.0) as connection:
                return "seq" in json.loads(connection.request(READY_SUBJECT, b"x"))
        return False

    def _has_ready_stream(self) -> bool:
        return "error" not in self._api(f"STREAM.INFO.{READY_STREAM}")

    def _api(self, call: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        payload = json.dumps(body).encode() if body else b""
        with Connection(self._some_address()) as connection:
            answer: dict[str, Any] = json.loads(connection.request(f"$JS.API.{call}", payload))
        return answer

    def _some_address(self) -> str:
        """Of a server that runs; any of them passes a request on."""
        running = self._processes.running
        return next(a for name, a in self._addresses.items() if name in running)

    def _listening(self) -> set[str]:
        found = set()
        for name, address in self._addresses.items():
            with suppress(OSError), Connection(address, 1.0):
                found.add(name)
        return found

    def _until(self, met: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + START_TIMEOUT_S
        while not met():
            late = f"{self.name} is not {what}" if time.monotonic() > end else ""
            if story := self._story(late):
                raise PeerError(story)
            time.sleep(0.01)

    def _story(self, what: str = "") -> str:
        """What and who has failed, with the ends of the logs; empty when nothing has."""
        failed = [what, *self._processes.ended()] if what else self._processes.ended()
        if not failed:
            return ""
        logs = sorted(self._folder.glob("*/*.log"))
        tails = [f"{path}:\n{path.read_text('utf-8')[-_SHOWN_CHARS:]}" for path in logs]
        return "\n".join([f"{self.name}: {', '.join(failed)}", *tails])


def cluster(folder: Path, *, sync_always: bool = False) -> NatsGroup:
    """Three servers, of a binary that is built where there is none yet."""
    from bench import tools  # noqa: PLC0415 - needs Go

    return NatsGroup(folder, tools.build_nats(tools.cache()), sync_always=sync_always)
