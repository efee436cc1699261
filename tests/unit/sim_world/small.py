"""A world with one or two machines, and the little that tests ask of it."""

import asyncio
from pathlib import Path
from typing import Any

from tests.sim.world import Process, SimDisk, World

FILE = Path("/store/file")
PORT = 100


def one(seed: int = 1) -> tuple[World, Process]:
    """A world with one running process."""
    world = World(seed)
    return world, world.machine("a").boot()


def two(seed: int = 1) -> tuple[World, Process, Process]:
    """A world with two."""
    world = World(seed)
    return world, world.machine("a").boot(), world.machine("b").boot()


def make_file(process: Process, content: bytes = b"", path: Path = FILE) -> int:
    """A durable file with durable content; its descriptor."""
    disk = process.disk
    disk.make_folder(path.parent)
    fd = disk.open(path, create=True)
    disk.pwrite(fd, content, 0)
    disk.fdatasync(fd)
    disk.sync_folder(path.parent)
    return fd


def shown(disk: SimDisk, path: Path = FILE) -> bytes | None:
    """What a new process would read."""
    node = disk.names.find(path)
    return None if node is None else node.cache.read(0, 1 << 20)


class Ear(asyncio.Protocol):
    """Keeps all that happens to a connection."""

    def __init__(self, process: Process | None = None) -> None:
        self.process = process
        self.transport: Any = None
        self.chunks: list[bytes] = []
        self.times_us: list[int] = []
        self.heard_bytes = 0
        self.lost: list[Exception | None] = []
        self.pressure: list[str] = []

    @property
    def heard(self) -> bytes:
        return b"".join(self.chunks)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.chunks.append(data)
        self.heard_bytes += len(data)
        if self.process is not None:
            self.times_us.append(self.process.world.now_us)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)

    def pause_writing(self) -> None:
        self.pressure.append("pause")

    def resume_writing(self) -> None:
        self.pressure.append("resume")


class Pair:
    """A connection from `near` to `far`."""

    def __init__(self, near: Process, far: Process, port: int = PORT) -> None:
        self.near, self.far = Ear(near), Ear(far)
        self.world = near.world
        far.spawn(far.loop.create_server(lambda: self.far, "0.0.0.0", port))
        self.world.run(1000)
        self.dialling = near.spawn(
            near.loop.create_connection(lambda: self.near, far.machine.host, port)
        )
        assert self.world.run_until(self.is_up, 1_000_000)
        self.dialling.result()
        self._process = near

    def is_up(self) -> bool:
        return self.dialling.done() and self.far.transport is not None

    def send(self, data: bytes) -> None:
        self._process.call(self.near.transport.write, data)
