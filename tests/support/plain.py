"""A broker without a group inside this process: a real store, real sockets, one event loop.

    async with PlainBroker(tmp_path) as broker:
        await broker.create_topic("T")
        assert await broker.send("T", b"x") == 0

`crash` ends it as `kill -9` would: nothing is flushed, marked or said. `copy` opens the files of
the running broker, as they are at this very moment, as a broker of its own.
"""

import asyncio
import errno
import os
import shutil
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from ledgermq.broker.app import BrokerApp
from ledgermq.broker.config import BrokerConfig
from ledgermq.broker.engine import EngineEvents
from ledgermq.broker.plain.master import Master
from ledgermq.dledger.disk import Disk, OsDisk
from ledgermq.dledger.host import Host
from ledgermq.remoting.client import RemotingClient
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import RemotingCommand, request
from ledgermq.remoting.headers.topic import CreateTopicRequest
from ledgermq.remoting.message import MessageExt, decode_records
from tests.support.brokers import HOST, pull_request, send_request
from tests.support.cluster import reserve_port

# Small files, so that a few messages fill several of them.
SMALL: dict[str, Any] = {
    "mapped_file_size_commit_log": 64 << 10,
    "mapped_file_size_consume_queue": 200,
    "max_hash_slot_num": 64,
    "max_index_num": 256,
}
# Files of a size that never changes: there is always room in them.
_IN_PLACE = ("/life", "/checkpoint")


def plain_config(folder: Path, **more: Any) -> BrokerConfig:
    """Configuration of a broker on its own; `more` wins."""
    values: dict[str, Any] = {
        "broker_name": "broker-a",
        "broker_ip1": HOST,
        "store_path_root_dir": folder,
        **SMALL,
        **more,
    }
    if "listen_port" not in values:
        values["listen_port"] = reserve_port(-2)
    return BrokerConfig(**values)


class PlainApp(BrokerApp):
    """The broker, on a disk that a test has brought.

    Attributes:
        master: its engine.
    """

    def __init__(self, config: BrokerConfig, disk: Disk) -> None:
        self._disk = disk
        super().__init__(config)

    def _make_master(self) -> Master:
        events = EngineEvents(
            on_ready=self._on_ready,
            on_applied=self._on_applied,
            on_change=self._on_change,
            on_stop=self._fail,
        )
        self.master = Master(self.config, events, replace(Host(), disk=self._disk))
        return self.master


class PlainBroker:
    """One broker; `more` are BrokerConfig fields.

    Attributes:
        disk: of this machine unless given.
        app: of the present life.
    """

    def __init__(self, folder: Path, *, disk: Disk | None = None, **more: Any) -> None:
        self.folder = folder / "store"
        self.disk = disk or OsDisk()
        self.client = RemotingClient()
        self.app: PlainApp
        self._more = {"listen_port": reserve_port(-2), **more}
        self._running: list[PlainApp] = []
        self._copies: list[PlainBroker] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        for copy in self._copies:
            await copy.__aexit__()
        for app in self._running:
            await crash(app)

    @property
    def master(self) -> Master:
        """The engine of the present life."""
        return self.app.master

    async def start(self, **more: Any) -> PlainApp:
        """Start it (again); `more` changes its configuration from now on."""
        self._more.update(more)
        self.app = PlainApp(plain_config(self.folder, **self._more), self.disk)
        await self.app.start()
        self._running.append(self.app)
        return self.app

    async def stop(self) -> None:
        """Stop it as SIGTERM does."""
        self._running.remove(self.app)
        await self.app.stop()

    async def crash(self) -> None:
        """End it as `kill -9` does."""
        self._running.remove(self.app)
        await crash(self.app)

    async def restart(self, *, kill: bool = False, **more: Any) -> PlainApp:
        """Stop or kill it, and start it again."""
        await (self.crash() if kill else self.stop())
        return await self.start(**more)

    async def copy(self, suffix: str = "copy", **more: Any) -> "PlainBroker":
        """A broker made of the files as they are now: what a kill would leave."""
        other = PlainBroker(
            self.folder.parent / suffix, **self._more | {"listen_port": reserve_port(-2)} | more
        )
        shutil.copytree(self.folder, other.folder)
        self._copies.append(other)
        await other.start()
        return other

    async def ask(self, command: RemotingCommand, timeout_ms: int = 8000) -> RemotingCommand:
        """One request."""
        return await self.client.request(self.app.config.address, command, timeout_ms)

    async def done(self, code: int, fields: dict[str, str], body: bytes = b"") -> RemotingCommand:
        """One request that must be obeyed."""
        reply = await self.ask(request(code, fields, body))
        assert reply.code == 0, reply.remark
        return reply

    async def create_topic(self, name: str, queues: int = 1) -> None:
        """Create or change a topic."""
        header = CreateTopicRequest(
            topic=name,
            default_topic="TBW102",
            read_queue_nums=queues,
            write_queue_nums=queues,
            perm=6,
            topic_filter_type="SINGLE_TAG",
            topic_sys_flag=0,
            order=False,
        )
        await self.done(RequestCode.UPDATE_AND_CREATE_TOPIC, header.to_ext())

    async def delete_topic(self, name: str) -> None:
        """Delete a topic."""
        await self.done(RequestCode.DELETE_TOPIC_IN_BROKER, {"topic": name})

    async def create_group(self, name: str) -> None:
        """Create a consumer group."""
        body = b'{"groupName":"%s"}' % name.encode()
        await self.done(RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, {}, body)

    async def commit(self, offset: int, group: str = "CG", topic: str = "T") -> None:
        """Say how far a group is in queue 0."""
        fields = {"consumerGroup": group, "topic": topic, "queueId": "0"}
        await self.done(RequestCode.UPDATE_CONSUMER_OFFSET, fields | {"commitOffset": str(offset)})

    async def send(self, topic: str, body: bytes = b"x", queue_id: int = 0, **more: Any) -> int:
        """Send a message that must be accepted; its queue offset."""
        reply = await self.ask(send_request(topic, body, queue_id, **more))
        assert reply.code == 0, reply.remark
        return int(reply.ext["queueOffset"])

    async def fill(self, count: int, topic: str = "T", queue_id: int = 0) -> list[bytes]:
        """Send so many numbered messages of 1 KiB and a bit; their bodies."""
        bodies = [b"%s-%d-%d-" % (topic.encode(), queue_id, i) + bytes(1024) for i in range(count)]
        for body in bodies:
            await self.send(topic, body, queue_id)
        return bodies

    async def pull(self, topic: str, offset: int = 0, queue_id: int = 0) -> RemotingCommand:
        """One pull that does not wait."""
        return await self.ask(pull_request(topic, offset, queue_id=queue_id))

    async def pull_all(self, topic: str = "T", queue_id: int = 0) -> list[MessageExt]:
        """Every message of a queue, from its begin on; their offsets are dense."""
        begin = offset = self.app.reader.min_offset(topic, queue_id)
        found: list[MessageExt] = []
        while True:
            reply = await self.pull(topic, offset, queue_id)
            if reply.code:
                assert reply.code in (19, 21), (reply.code, reply.remark)
                break
            found += decode_records(reply.body)
            offset = found[-1].queue_offset + 1
        assert [m.queue_offset for m in found] == list(range(begin, begin + len(found)))
        return found

    async def bodies(self, topic: str = "T", queue_id: int = 0) -> list[bytes]:
        """What the messages of a queue say."""
        return [m.body for m in await self.pull_all(topic, queue_id)]


async def crash(app: PlainApp) -> None:
    """Drop a broker without a goodbye; only what the operating system would free is freed."""
    master = app.master
    for timer in [*app._timers.values(), app.polling._timer]:
        if timer is not None:
            timer.cancel()
    await kill_master(master)
    for task in app.registrar._tasks:
        task.cancel()
    await asyncio.gather(*app.registrar._tasks, return_exceptions=True)
    for connection in list(app._listener.connections):
        if connection._transport is not None:
            connection._transport.abort()
    await app._listener.close()
    await app.gate.close()
    await app.registrar._client.close()


async def kill_master(master: Master) -> None:
    """The same for an engine without listeners."""
    node, keeper, dispatcher = master.node, master._keeper, master.dispatcher
    master._stopped = True
    node.halt("crashed")
    node._offsets.clear()
    tasks = [
        master._keeping,
        master._retention._task,
        master.index._task if master.index else None,
        dispatcher._task,
        *master._trimming,
        *node._saving,
    ]
    keeper.stop()
    for task in tasks:
        if task is not None:
            task.cancel()
    await asyncio.gather(*(t for t in tasks if t is not None), return_exceptions=True)
    dispatcher._stopped = True
    with suppress(OSError):
        master._close_files()


class Held(OsDisk):
    """A disk that can be made slow, full or broken, by the paths that contain a text.

    Attributes:
        room: so many bytes more can be written (zeros need none, nor what is written in place
            only); None: any number.
        rewrites: blocks that a file has need no room either.
        broken: fdatasync of such a file fails.
        syncs: paths of the syncs that succeeded.
    """

    def __init__(self) -> None:
        super().__init__()
        self.room: int | None = None
        self.rewrites = False
        self.broken = ""
        self.syncs: list[str] = []
        self.waiting = 0
        self._held = ""
        self._open = threading.Event()
        self._open.set()
        self._paths: dict[int, str] = {}

    def hold(self, part: str = "commitlog") -> None:
        """Let no fdatasync of such a file end before `release`; others that were held go on."""
        before, self._open = self._open, threading.Event()
        self._held = part
        before.set()

    def release(self) -> None:
        """Go on."""
        self._held = ""
        self._open.set()

    def open(self, path: Path, *, create: bool = False) -> int:
        fd = super().open(path, create=create)
        self._paths[fd] = str(path)
        return fd

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:  # type: ignore[override]
        in_place = self._paths[fd].endswith(_IN_PLACE) or (
            self.rewrites and os.lseek(fd, offset, os.SEEK_HOLE) >= offset + len(data)
        )
        if self.room is not None and any(data) and not in_place:
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data = data[: self.room]
            self.room -= len(data)
        return os.pwrite(fd, data, offset)

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        path = self._paths[fd]
        gate = self._open
        if self._held and self._held in path:
            self.waiting += 1
            gate.wait(30)
        if self.broken and self.broken in path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(fd)
        self.syncs.append(path)
