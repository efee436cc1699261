"""Bytes that no client would send, while a producer's sends all succeed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ledgermq.broker.app import BrokerApp
from ledgermq.remoting import frame
from ledgermq.remoting.client import RemotingClient
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import RemotingCommand, request
from tests.support import until
from tests.support.brokers import HOST, Brokers, pull_all, pull_request, send_request


@asynccontextmanager
async def producing(group: Brokers) -> AsyncIterator[BrokerApp]:
    """A producer of its own connection; at least 20 sends before the end, all accepted."""
    await group.create_topic("T")
    app = await group.leader()
    client = RemotingClient()
    replies: list[RemotingCommand] = []
    stop = False

    async def produce() -> None:
        while not stop or len(replies) < 20:
            replies.append(await client.request(app.config.address, send_request("T"), 5000))

    task = asyncio.create_task(produce())
    try:
        yield app
    finally:
        stop = True
        await task
        await client.close()
    assert {r.code for r in replies} == {0}
    assert len(await pull_all(group, "T")) == len(replies)
    assert not app.failed.done()


async def opened(app: BrokerApp) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, app.config.listen_port)


GOOD = frame.encode(send_request("T"))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="HTTP"),
        pytest.param(b"\xff" * 4000, id="all ones"),
        pytest.param(bytes(4000), id="all zeros"),
        pytest.param(
            ((16 << 20) + 1).to_bytes(4) + b"\0\0\0\x05hello", id="frame of 16 MiB and more"
        ),
        pytest.param((20).to_bytes(4) + (5000).to_bytes(4) + bytes(16), id="header past the frame"),
        pytest.param((20).to_bytes(4) + (16).to_bytes(4) + b"{not json at all", id="no JSON"),
        pytest.param((20).to_bytes(4) + b"\x09\0\0\x10" + bytes(16), id="unknown serialisation"),
    ],
)
async def test_garbage_closes_its_connection_only(tmp_path: Path, data: bytes) -> None:
    async with Brokers(tmp_path) as group, producing(group) as app:
        reader, writer = await opened(app)
        writer.write(data)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_half_a_frame_and_then_silence_or_a_close(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group, producing(group) as app:
        _, silent = await opened(app)
        silent.write(GOOD[:-3])
        _, closing = await opened(app)
        closing.write(GOOD[:50])
        await closing.drain()
        closing.close()
        await until(lambda: len(app._listener.connections) == 3)  # the silent one stays
        silent.close()


async def test_an_unknown_code_is_refused_with_3(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group, producing(group) as app:
        reply = await group.ask(app, request(9999))
        assert reply.code == 3
        assert "9999" in (reply.remark or "")
        # Not served yet, known upstream.
        assert (await group.ask(app, request(RequestCode.END_TRANSACTION))).code == 3


@pytest.mark.parametrize(
    "code",
    [10, 310, 320, 11, 361, 14, 15, 17, 29, 30, 31, 32, 33, 36, 34, 38, 41, 42, 200, 202, 207, 215],
)
async def test_requests_without_fields_and_body_are_answered(tmp_path: Path, code: int) -> None:
    async with Brokers(tmp_path) as group:
        app = await group.leader()
        for body in (b"", b"{", b"[1]", b"\xff\xff"):
            reply = await group.ask(app, request(code, {}, body), 3000)
            assert reply.code != 0, (code, body)
            assert reply.remark
        assert await group.send("T") == 0
        assert not app.failed.done()


async def test_a_client_that_never_reads_is_not_served_without_end(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("Big")
        for _ in range(4):
            await group.send("Big", b"b" * 250_000)
        async with producing(group) as app:
            known = set(app._listener.connections)
            _, writer = await opened(app)
            await until(lambda: len(app._listener.connections) > len(known))
            [connection] = app._listener.connections - known
            pull = frame.encode(pull_request("Big", 0, max_msg_nums=1))
            transport = connection._transport
            assert transport is not None
            for _ in range(400):  # 100 MB of answers
                writer.write(pull)
                await asyncio.sleep(0)
            await until(lambda: not transport.is_reading(), what="a connection that is not read")
            assert transport.get_write_buffer_size() < 40 << 20
            writer.transport.abort()
            await until(lambda: connection not in app._listener.connections)


async def test_a_thousand_connections_come_and_go(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group, producing(group) as app:
        for _ in range(20):
            found = await asyncio.gather(*(opened(app) for _ in range(50)))
            for i, (_, writer) in enumerate(found):
                if i % 3 == 0:
                    writer.write(GOOD[: i + 4])
                (writer.close if i % 2 else writer.transport.abort)()
        # What stays: the producer's and the one that made the topic.
        await until(lambda: len(app._listener.connections) == 2)
