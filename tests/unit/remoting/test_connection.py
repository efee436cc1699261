"""Connections, server and client over real loopback sockets."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from ledgermq.remoting import connection as connection_module
from ledgermq.remoting import frame
from ledgermq.remoting.client import RemotingClient
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.command import RemotingCommand, request, response
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import (
    CallerError,
    ConnectError,
    ConnectionLostError,
    PeerError,
    RequestTimeoutError,
)
from ledgermq.remoting.registry import ProcessorRegistry
from ledgermq.remoting.server import RemotingServer
from tests.support import until

ECHO, LATER, NEVER, FAIL, REFUSE, ASYNC_FAIL, BIG, CALL_BACK = range(1, 9)
TIMEOUT_MS = 10_000


class Peer:
    """A server whose handlers cover every way to answer."""

    def __init__(self) -> None:
        self.registry = ProcessorRegistry()
        self.seen: list[int] = []
        self.held: list[tuple[Connection, RemotingCommand]] = []
        self.cancelled = 0
        self.closed: list[Connection] = []
        self.server = RemotingServer(
            self.registry, host="127.0.0.1", on_close=self.closed.append, max_frame_bytes=1 << 20
        )
        self.address = ""
        for code, handler in (
            (ECHO, self.echo),
            (LATER, self.later),
            (NEVER, self.never),
            (FAIL, self.fail),
            (REFUSE, self.refuse),
            (ASYNC_FAIL, self.async_fail),
            (BIG, self.big),
            (CALL_BACK, self.call_back),
        ):
            self.registry.add(code, handler)

    async def start(self) -> None:
        (port,) = await self.server.start([0])
        self.address = f"127.0.0.1:{port}"

    def echo(self, _: Connection, command: RemotingCommand) -> RemotingCommand:
        self.seen.append(command.opaque)
        return response(0, ext=command.ext, body=command.body)

    def later(self, connection: Connection, command: RemotingCommand) -> None:
        self.held.append((connection, command))

    async def never(self, *_: object) -> RemotingCommand:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled += 1
        raise AssertionError

    def fail(self, *_: object) -> RemotingCommand:
        raise ValueError("broken inside")

    def refuse(self, *_: object) -> RemotingCommand:
        raise PeerError(ResponseCode.NO_PERMISSION, "not for you")

    async def async_fail(self, _: Connection, command: RemotingCommand) -> RemotingCommand | None:
        if command.body == b"refuse":
            raise PeerError(ResponseCode.TOPIC_NOT_EXIST, "no topic")
        if command.body == b"none":
            self.seen.append(command.opaque)
            return None
        raise KeyError("lost")

    def big(self, _: Connection, command: RemotingCommand) -> RemotingCommand:
        self.seen.append(command.opaque)
        return response(0, body=bytes(256 << 10))

    async def call_back(self, connection: Connection, command: RemotingCommand) -> RemotingCommand:
        asked = await connection.request(request(ECHO, body=command.body), TIMEOUT_MS)
        return response(0, body=asked.body + b"!")


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    started = Peer()
    await started.start()
    yield started
    await started.server.close()
    await until(lambda: not started.server.connections, what="the server's connections to close")


@pytest.fixture
async def client() -> AsyncIterator[RemotingClient]:
    registry = ProcessorRegistry()
    registry.add(ECHO, lambda _, command: response(0, body=b"client " + command.body))
    made = RemotingClient(registry)
    yield made
    await made.close()


class Raw:
    """A bare socket to the peer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def read(self) -> RemotingCommand:
        size = int.from_bytes(await self.reader.readexactly(4))
        return frame.decode(await self.reader.readexactly(size))

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


@pytest.fixture
async def raw(peer: Peer) -> AsyncIterator[Raw]:
    host, port = peer.address.split(":")
    opened = Raw(*await asyncio.open_connection(host, int(port)))
    yield opened
    await opened.close()


# --- requests and replies ---------------------------------------------------------------------


async def test_a_request_gets_its_reply(peer: Peer, client: RemotingClient) -> None:
    answer = await client.request(peer.address, request(ECHO, {"k": "v"}, b"body"), TIMEOUT_MS)
    assert (answer.code, answer.ext, answer.body) == (0, {"k": "v"}, b"body")
    assert answer.is_response


async def test_pipelined_requests_may_be_answered_out_of_order(
    peer: Peer, client: RemotingClient
) -> None:
    first = asyncio.create_task(client.request(peer.address, request(LATER, body=b"1"), TIMEOUT_MS))
    second = asyncio.create_task(
        client.request(peer.address, request(LATER, body=b"2"), TIMEOUT_MS)
    )
    await until(lambda: len(peer.held) == 2, what="both requests to arrive")
    assert len(peer.server.connections) == 1

    for connection, command in reversed(peer.held):
        connection.reply(command, response(0, body=b"to " + command.body))
    assert (await second).body == b"to 2"
    assert (await first).body == b"to 1"


async def test_hundreds_in_one_write_are_all_answered_in_order(peer: Peer, raw: Raw) -> None:
    sent = [request(ECHO, body=str(n).encode()) for n in range(300)]
    raw.writer.write(b"".join(frame.encode(c) for c in sent))
    got = [await raw.read() for _ in sent]
    assert [(c.opaque, c.body) for c in got] == [(c.opaque, c.body) for c in sent]


async def test_a_binary_client_is_answered(peer: Peer) -> None:
    client = RemotingClient(serialize_type=frame.SerializeType.ROCKETMQ)
    answer = await client.request(peer.address, request(ECHO, {"k": "v"}), TIMEOUT_MS)
    assert answer.ext == {"k": "v"}
    await client.close()


async def test_one_way_requests_get_no_reply_whatever_the_outcome(peer: Peer, raw: Raw) -> None:
    for code in (ECHO, FAIL, REFUSE, ASYNC_FAIL, 999):
        raw.writer.write(frame.encode(RemotingCommand(code, opaque=code, flag=2)))
    raw.writer.write(frame.encode(RemotingCommand(ECHO, opaque=77)))
    assert (await raw.read()).opaque == 77
    assert peer.seen == [ECHO, 77]


async def test_the_client_sends_one_way(peer: Peer, client: RemotingClient) -> None:
    command = request(ECHO)
    await client.oneway(peer.address, command)
    await until(lambda: peer.seen == [command.opaque], what="the request to arrive")
    assert command.is_oneway


async def test_an_unknown_code_is_3(peer: Peer, client: RemotingClient) -> None:
    answer = await client.request(peer.address, request(4711), TIMEOUT_MS)
    assert answer.code == ResponseCode.REQUEST_CODE_NOT_SUPPORTED
    assert answer.remark == " request type 4711 not supported"


@pytest.mark.parametrize(
    ("code", "body", "expected", "remark"),
    [
        pytest.param(FAIL, b"", 1, "ValueError: broken inside", id="error"),
        pytest.param(REFUSE, b"", 16, "not for you", id="refusal"),
        pytest.param(ASYNC_FAIL, b"", 1, "KeyError: 'lost'", id="error in a task"),
        pytest.param(ASYNC_FAIL, b"refuse", 17, "no topic", id="refusal in a task"),
    ],
)
async def test_a_failing_handler_answers(
    peer: Peer, client: RemotingClient, code: int, body: bytes, expected: int, remark: str
) -> None:
    answer = await client.request(peer.address, request(code, body=body), TIMEOUT_MS)
    assert answer.code == expected
    if expected == ResponseCode.SYSTEM_ERROR:
        # Whoever reads it learns where to look, not only what Python said.
        assert "its log has the details" in (answer.remark or "")
        assert remark in (answer.remark or "")
    else:
        assert answer.remark == remark
    # And the connection goes on.
    assert (await client.request(peer.address, request(ECHO), TIMEOUT_MS)).code == 0
    assert len(peer.server.connections) == 1


async def test_an_error_is_logged_a_refusal_is_not(
    peer: Peer, client: RemotingClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        await client.request(peer.address, request(REFUSE), TIMEOUT_MS)
        assert not caplog.records
        await client.request(peer.address, request(FAIL), TIMEOUT_MS)
    (record,) = caplog.records
    assert "request 4 from 127.0.0.1:" in record.message


async def test_a_task_that_answers_nothing_sends_nothing(peer: Peer, raw: Raw) -> None:
    raw.writer.write(frame.encode(RemotingCommand(ASYNC_FAIL, body=b"none", opaque=5)))
    await until(lambda: peer.seen == [5], what="the handler to run")
    raw.writer.write(frame.encode(RemotingCommand(ECHO, opaque=6)))
    assert (await raw.read()).opaque == 6


async def test_the_server_asks_the_client_on_the_same_connection(
    peer: Peer, client: RemotingClient
) -> None:
    answer = await client.request(peer.address, request(CALL_BACK, body=b"x"), TIMEOUT_MS)
    assert answer.body == b"client x!"
    assert len(peer.server.connections) == 1


async def test_both_sides_may_use_the_same_opaque(peer: Peer, raw: Raw) -> None:
    raw.writer.write(frame.encode(RemotingCommand(LATER, opaque=1)))
    await until(lambda: peer.held, what="the request to arrive")
    connection, held = peer.held[0]
    asked = asyncio.create_task(connection.request(RemotingCommand(NEVER, opaque=1), TIMEOUT_MS))
    question = await raw.read()
    assert (question.opaque, question.is_response) == (1, False)
    connection.reply(held, response(0, body=b"mine"))
    assert (await raw.read()).body == b"mine"
    assert not asked.done()
    raw.writer.write(frame.encode(RemotingCommand(0, body=b"yours", opaque=1, flag=1)))
    assert (await asked).body == b"yours"


# --- waiting in vain --------------------------------------------------------------------------


async def test_a_request_times_out_and_its_late_reply_is_dropped(
    peer: Peer, client: RemotingClient
) -> None:
    with pytest.raises(RequestTimeoutError, match=r"to request 2 within \d+ ms") as caught:
        await client.request(peer.address, request(LATER), 50)
    assert caught.value.address == peer.address
    ((connection, command),) = peer.held
    connection.reply(command, response(0))
    assert (await client.request(peer.address, request(ECHO), TIMEOUT_MS)).code == 0


async def test_a_cancelled_request_leaves_nothing_behind(
    peer: Peer, client: RemotingClient
) -> None:
    command = request(LATER)
    waiting = asyncio.create_task(client.request(peer.address, command, TIMEOUT_MS))
    await until(lambda: peer.held, what="the request to arrive")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    # The number is free again.
    connection = client.peek(peer.address)
    assert connection
    again = await connection.request(RemotingCommand(ECHO, opaque=command.opaque), TIMEOUT_MS)
    assert again.code == 0


async def test_a_lost_connection_fails_what_is_pending(peer: Peer, client: RemotingClient) -> None:
    waiting = [
        asyncio.create_task(client.request(peer.address, request(LATER), TIMEOUT_MS))
        for _ in range(3)
    ]
    await until(lambda: len(peer.held) == 3, what="the requests to arrive")
    peer.held[0][0].close("the test says so")
    for one in waiting:
        with pytest.raises(ConnectionLostError, match="lost: closed by the other side"):
            await one
    # The next request opens a new one.
    assert (await client.request(peer.address, request(ECHO), TIMEOUT_MS)).code == 0


async def test_a_lost_connection_cancels_the_handlers_tasks(peer: Peer, raw: Raw) -> None:
    raw.writer.write(frame.encode(RemotingCommand(NEVER, opaque=1)))
    raw.writer.write(frame.encode(RemotingCommand(ECHO, opaque=2)))
    await raw.read()
    await raw.close()
    await until(lambda: peer.cancelled == 1, what="the handler to be cancelled")
    assert len(peer.closed) == 1
    assert not peer.server.connections


async def test_a_closed_connection_refuses_and_swallows(peer: Peer, client: RemotingClient) -> None:
    connection = await client.connect(peer.address)
    connection.close()
    await until(lambda: connection.closed, what="the connection to close")
    with pytest.raises(ConnectionLostError, match="already closed"):
        await connection.request(request(ECHO), TIMEOUT_MS)
    connection.send(request(ECHO))
    connection.close("again")
    assert not peer.seen


async def test_a_number_in_use_is_refused(peer: Peer, client: RemotingClient) -> None:
    connection = await client.connect(peer.address)
    connection.call(RemotingCommand(LATER, opaque=9), TIMEOUT_MS, lambda _: None)
    with pytest.raises(CallerError, match="opaque 9 is in use"):
        await connection.request(RemotingCommand(LATER, opaque=9), TIMEOUT_MS)


async def test_what_is_queued_leaves_before_the_close(peer: Peer, raw: Raw) -> None:
    raw.writer.write(frame.encode(RemotingCommand(LATER, opaque=3)))
    await until(lambda: peer.held, what="the request to arrive")
    connection, command = peer.held[0]
    connection.reply(command, response(0, body=b"last words"))
    connection.close()
    assert (await raw.read()).body == b"last words"
    assert await raw.reader.read() == b""


# --- bad peers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", "over the limit", id="HTTP"),
        pytest.param((1 << 21).to_bytes(4), "over the limit", id="oversized"),
        pytest.param(b"\0\0\0\x04\x09\0\0\0", "unknown header serialisation 9", id="marker"),
        pytest.param(b"\0\0\0\x06\0\0\0\x02[]", "not a command", id="header"),
        pytest.param(b"\0\0\0\0", "no room", id="empty frame"),
    ],
)
async def test_garbage_closes_that_connection_only(
    peer: Peer,
    client: RemotingClient,
    raw: Raw,
    data: bytes,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await client.request(peer.address, request(ECHO), TIMEOUT_MS)
    raw.writer.write(data)
    assert await raw.reader.read() == b""
    (record,) = caplog.records
    assert reason in record.message
    assert len(peer.server.connections) == 1
    assert (await client.request(peer.address, request(ECHO), TIMEOUT_MS)).code == 0


async def test_who_does_not_read_is_not_served_further(peer: Peer, raw: Raw) -> None:
    # 64 KiB a request, 256 KiB a reply: far more than the sockets and the limit hold.
    total = 120
    asked = frame.encode(RemotingCommand(BIG, body=bytes(64 << 10)))
    raw.writer.write(asked * total)
    await until(lambda: peer.server.connections, what="the connection")
    (connection,) = peer.server.connections
    transport = connection._transport
    assert transport
    await until(lambda: not transport.is_reading(), what="reading to stop")
    assert transport.get_write_buffer_size() > connection_module.WRITE_HIGH_WATER_BYTES
    assert len(peer.seen) < total

    for _ in range(total):
        await raw.read()
    assert len(peer.seen) == total
    assert transport.is_reading()


async def test_too_many_tasks_answer_busy(
    peer: Peer, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "MAX_TASKS", 2)
    for opaque in (1, 2, 3):
        raw.writer.write(frame.encode(RemotingCommand(NEVER, opaque=opaque)))
    answer = await raw.read()
    assert (answer.opaque, answer.code) == (3, ResponseCode.SYSTEM_BUSY)
    assert "[OVERLOAD]" in (answer.remark or "")


# --- server and client ------------------------------------------------------------------------


async def test_a_port_that_is_taken_is_named(peer: Peer) -> None:
    port = int(peer.address.rpartition(":")[2])
    second = RemotingServer(ProcessorRegistry(), host="127.0.0.1")
    with pytest.raises(CallerError, match=rf"cannot listen on 127\.0\.0\.1:{port}.*lsof -i:{port}"):
        await second.start([0, port])


async def test_a_server_on_two_ports() -> None:
    server = RemotingServer(Peer().registry, host="127.0.0.1")
    ports = await server.start([0, 0])
    client = RemotingClient()
    for port in ports:
        assert (await client.request(f"127.0.0.1:{port}", request(ECHO), TIMEOUT_MS)).code == 0
    await client.close()
    await server.close()
    with pytest.raises(ConnectError, match=rf"connect to 127\.0\.0\.1:{ports[0]} failed"):
        await client.connect(f"127.0.0.1:{ports[0]}")


async def test_idle_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledgermq.remoting.server._IDLE_CHECK_S", 0.01)
    server = RemotingServer(Peer().registry, host="127.0.0.1", idle_close_ms=-1)
    (port,) = await server.start([0])
    client = RemotingClient()
    connection = await client.connect(f"127.0.0.1:{port}")
    await until(lambda: connection.closed, what="the idle connection to close")
    await server.close()


async def test_a_connection_is_opened_once_for_many(peer: Peer, client: RemotingClient) -> None:
    found = await asyncio.gather(*(client.connect(peer.address) for _ in range(10)))
    assert len(set(found)) == 1
    assert client.peek(peer.address) is found[0]
    assert found[0].remote == peer.address
    await until(lambda: peer.server.connections, what="the server to see it")
    assert len(peer.server.connections) == 1
    (accepted,) = peer.server.connections
    assert accepted.remote == found[0].local


async def test_a_lost_connection_is_reported_and_forgotten(peer: Peer) -> None:
    lost: list[str] = []
    client = RemotingClient(on_close=lambda address, _: lost.append(address))
    await client.request(peer.address, request(ECHO), TIMEOUT_MS)
    for connection in list(peer.server.connections):
        connection.close()
    await until(lambda: lost == [peer.address], what="the loss to be reported")
    assert client.peek(peer.address) is None
    await client.close()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        pytest.param("127.0.0.1", "an address is host:port", id="no port"),
        pytest.param(":9876", "an address is host:port", id="no host"),
        pytest.param("127.0.0.1:x", "an address is host:port", id="port is no number"),
        pytest.param("127.0.0.1:70000", "an address is host:port", id="port too high"),
        pytest.param("127.0.0.1:²", "an address is host:port", id="port is no decimal"),
        pytest.param("127.0.0.1:" + "9" * 5000, "an address is host:port", id="endless port"),
        pytest.param("a" * 70 + ".example:1", "too long", id="label too long"),
        pytest.param("a\0b:1", "null", id="no host's name"),
    ],
)
async def test_a_bad_address_is_a_connect_error(
    client: RemotingClient, address: str, reason: str
) -> None:
    with pytest.raises(ConnectError, match=reason) as caught:
        await client.request(address, request(ECHO), TIMEOUT_MS)
    assert caught.value.address == address


async def test_a_connection_that_does_not_open_in_time(
    client: RemotingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = hold_connecting(monkeypatch)
    with pytest.raises(ConnectError, match="no connection within 20 ms"):
        await client.connect("127.0.0.1:1", 20)
    assert started.is_set()


async def test_closing_the_client_fails_who_waits_for_a_connection(
    client: RemotingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = hold_connecting(monkeypatch)
    waiting = asyncio.create_task(client.connect("127.0.0.1:1"))
    await started.wait()
    await client.close()
    with pytest.raises(ConnectError, match="this client has been closed"):
        await waiting


async def test_who_is_cancelled_while_connecting_stays_cancelled(
    client: RemotingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = hold_connecting(monkeypatch)
    waiting = asyncio.create_task(client.connect("127.0.0.1:1"))
    await started.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def hold_connecting(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Connections never open from now on; the event says that one was begun."""
    started = asyncio.Event()

    async def hold(*_: object) -> None:
        started.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", hold)
    return started


async def test_time_spent_on_connecting_counts(
    peer: Peer, client: RemotingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.connect(peer.address)
    times = iter([0.0])
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: next(times, 5.0))
    with pytest.raises(RequestTimeoutError):
        await client.request(peer.address, request(ECHO), 1000)
    monkeypatch.undo()
    assert not peer.seen


def test_a_code_has_one_handler() -> None:
    registry = ProcessorRegistry()
    registry.add(1, lambda *_: None)
    assert registry.get(1)
    assert registry.get(2) is None
    with pytest.raises(CallerError, match="request code 1 has a handler already"):
        registry.add(1, lambda *_: None)


async def test_an_answer_may_be_any_awaitable(
    peer: Peer, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[asyncio.Future[RemotingCommand | None]] = []

    def promise(*_: object) -> asyncio.Future[RemotingCommand | None]:
        answers.append(asyncio.get_running_loop().create_future())
        return answers[-1]

    peer.registry.add(100, promise)
    monkeypatch.setattr(connection_module, "MAX_TASKS", 1)
    raw.writer.write(b"".join(frame.encode(RemotingCommand(100, opaque=n)) for n in (1, 2)))
    assert (await raw.read()).code == ResponseCode.SYSTEM_BUSY
    answers[0].set_result(response(0, body=b"kept"))
    answer = await raw.read()
    assert (answer.opaque, answer.body) == (1, b"kept")


async def test_a_reply_to_one_who_has_just_given_up_is_dropped(
    peer: Peer, client: RemotingClient
) -> None:
    connection = await client.connect(peer.address)
    replies: list[object] = []
    connection.call(RemotingCommand(LATER, opaque=8), TIMEOUT_MS, replies.append)
    await until(lambda: peer.held, what="the request to arrive")
    ((server_side, command),) = peer.held
    server_side.reply(command, response(0, body=b"one"))
    server_side.reply(command, response(0, body=b"two"))
    await until(lambda: replies, what="the reply")
    await connection.request(request(ECHO), TIMEOUT_MS)
    (reply,) = replies
    assert isinstance(reply, RemotingCommand)
    assert reply.body == b"one"
