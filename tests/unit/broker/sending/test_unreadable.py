"""Header fields that nobody can read cost the one who sent them, and no other client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from ledgermq.broker.forward import Gate
from ledgermq.remoting import frame
from ledgermq.remoting.command import response
from ledgermq.remoting.registry import ProcessorRegistry
from ledgermq.remoting.server import RemotingServer
from tests.support import until
from tests.support.brokers import HOST, Brokers, pull_request
from tests.unit.broker.sending.frames import plain, whole


def unreadable(code: int) -> bytes:
    """A request whose fields are no plain values, with its length."""
    data = whole(b'{"code":%d,"extFields":{"a":"PG","b":{}},"flag":0,"opaque":7}' % code)
    return len(data).to_bytes(4) + data


class Member:
    """What a gate asks of a node that does not lead."""

    takes_appends = leads_surely = False
    leader_address: str | None = None


@asynccontextmanager
async def serving(registry: ProcessorRegistry) -> AsyncIterator[tuple[RemotingServer, int]]:
    server = RemotingServer(registry, host=HOST)
    (port,) = await server.start([0])
    try:
        yield server, port
    finally:
        await server.close()
        await until(lambda: not server.connections, what="the connections' end")


async def test_what_is_held_beside_it_still_finds_its_leader() -> None:
    handlers = ProcessorRegistry()
    handlers.add(310, lambda _c, r: response(0, body=r.body))
    member = Member()
    gate = Gate(cast(Any, member))
    guarded = gate.guard(handlers, frozenset({310}))
    async with serving(handlers) as (_, leader), serving(guarded) as (server, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        closed, other = await asyncio.open_connection(HOST, port)
        other.write(unreadable(310))
        assert await closed.read() == b"", "it costs its own connection"
        good = plain(b"good")
        writer.write(len(good).to_bytes(4) + good)
        await until(lambda: gate.holding, what="the good send to be held")
        try:
            member.leader_address = f"{HOST}:{leader}"
            async with asyncio.timeout(5):
                size = int.from_bytes(await reader.readexactly(4))
                answer = frame.decode(await reader.readexactly(size))
            assert (answer.code, answer.opaque, answer.body) == (0, 9, b"good")
            await until(lambda: len(server.connections) == 1, what="the other's connection to end")
        finally:
            for one in (writer, other):
                one.transport.abort()
            await gate.close()


async def test_a_broker_closes_the_connection_it_came_by_and_serves_all_others(
    tmp_path: Path,
) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        for n, code in enumerate((10, 310, 320, 11)):
            reader, writer = await asyncio.open_connection(HOST, app.config.listen_port)
            writer.write(unreadable(code))
            async with asyncio.timeout(5):
                assert await reader.read() == b"", code
            writer.close()
            assert await group.send("T") == n
            reply = await group.ask(app, pull_request("T", 0))
            assert reply.code == 0
        assert not app.failed.done()
