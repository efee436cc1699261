"""A peer that asks and does not read its answers costs a bounded amount of memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from ledgermq.remoting import connection as connection_module
from ledgermq.remoting import frame
from ledgermq.remoting.command import RemotingCommand, request, response
from ledgermq.remoting.connection import WRITE_HIGH_WATER_BYTES, Connection
from ledgermq.remoting.registry import ProcessorRegistry
from ledgermq.remoting.server import RemotingServer
from tests.support import until

NOW, LATER, LONG_REMARK, HUGE_HEADER = range(1, 5)
ANSWER = bytes(1 << 20)
# What kernel buffers of both sockets may take besides.
SOCKETS_BYTES = 40 << 20


class Peer:
    """Answers each request with a megabyte, at once or from a task."""

    def __init__(self) -> None:
        self.begun = 0
        registry = ProcessorRegistry()
        registry.add(NOW, self.now)
        registry.add(LATER, self.later)
        registry.add(LONG_REMARK, self.fail)
        registry.add(HUGE_HEADER, lambda _c, _r: response(0, ext={"x": "x" * (1 << 24)}))
        self.server = RemotingServer(registry, host="127.0.0.1")

    def now(self, *_: object) -> RemotingCommand:
        self.begun += 1
        return response(0, body=ANSWER)

    async def later(self, *_: object) -> RemotingCommand:
        self.begun += 1
        await asyncio.sleep(0)
        return response(0, body=ANSWER)

    def fail(self, *_: object) -> RemotingCommand:
        raise ValueError("\x00" * (1 << 20))

    @property
    def connection(self) -> Connection:
        (found,) = self.server.connections
        return found


@asynccontextmanager
async def asking(peer: Peer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    (port,) = await peer.server.start([0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await until(lambda: peer.server.connections, what="the connection")
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        await peer.server.close()
        await until(lambda: not peer.server.connections)


async def answer_of(reader: asyncio.StreamReader) -> RemotingCommand:
    size = int.from_bytes(await reader.readexactly(4))
    return frame.decode(await reader.readexactly(size))


def requests(code: int, count: int) -> bytes:
    return b"".join(frame.encode(RemotingCommand(code, opaque=i)) for i in range(count))


async def test_the_rest_of_a_chunk_waits_until_the_answers_before_it_are_taken() -> None:
    peer = Peer()
    async with asking(peer) as (reader, writer):
        writer.write(requests(NOW, 200))  # one chunk; 200 MiB of answers
        await until(lambda: peer.connection._waiting, what="requests that wait")
        assert peer.connection.backlog_bytes <= WRITE_HIGH_WATER_BYTES + 2 * len(ANSWER)
        assert peer.begun * len(ANSWER) <= SOCKETS_BYTES + WRITE_HIGH_WATER_BYTES
        answers = [(await answer_of(reader)).opaque for _ in range(200)]
        assert answers == list(range(200))
        assert not peer.connection._waiting


async def test_tasks_begin_as_their_forerunners_answers_are_taken() -> None:
    peer = Peer()
    async with asking(peer) as (reader, writer):
        total = connection_module.MAX_RUNNING * 3
        writer.write(requests(LATER, total))
        await until(lambda: not peer.connection._unclogged.is_set(), what="a clogged connection")
        for _ in range(20):
            await asyncio.sleep(0)
        most = connection_module.MAX_RUNNING + (SOCKETS_BYTES + WRITE_HIGH_WATER_BYTES) // (1 << 20)
        assert peer.begun <= most
        answers = {(await answer_of(reader)).opaque for _ in range(total)}
        assert answers == set(range(total))


async def test_tasks_that_never_began_leave_nothing_behind() -> None:
    """A warning about a coroutine that nobody awaited would fail this test."""
    peer = Peer()
    async with asking(peer) as (_, writer):
        writer.write(requests(LATER, connection_module.MAX_RUNNING * 3))
        await until(lambda: peer.connection._tasks, what="tasks")
        connection = peer.connection
        writer.transport.abort()
        await until(lambda: not connection._tasks, what="the tasks to end")


async def test_who_goes_on_asking_without_reading_is_dropped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The asking side reads on while it is clogged, so that its requests need a bound too."""
    monkeypatch.setattr(connection_module, "MAX_WAITING", 10)
    peer = Peer()
    async with asking(peer) as (_, writer):
        connection = peer.connection
        connection._reads_while_clogged = True
        writer.write(requests(NOW, 200))
        await until(lambda: connection._transport is None or connection._transport.is_closing())
        assert len(connection._waiting) <= 10
        writer.transport.abort()
        await until(lambda: connection.closed)
        assert not connection._waiting
    assert "does not read its answers" in caplog.text


@pytest.mark.parametrize("code", [LONG_REMARK, HUGE_HEADER])
async def test_answers_that_no_frame_could_carry(code: int) -> None:
    peer = Peer()
    async with asking(peer) as (reader, writer):
        writer.write(frame.encode(RemotingCommand(code, opaque=7)))
        answer = await answer_of(reader)
        assert (answer.code, answer.opaque) == (1, 7)
        assert 0 < len(answer.remark or "") < 2 * connection_module.MAX_REMARK_CHARS


async def test_a_request_with_a_header_of_megabytes_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    peer = Peer()
    async with asking(peer) as (reader, writer):
        writer.write(frame.encode(request(NOW, {"x": "x" * frame.MAX_REQUEST_HEADER_BYTES})))
        assert await reader.read() == b""
    assert "header of" in caplog.text
