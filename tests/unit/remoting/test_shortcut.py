"""A registry's shortcut: it is shown all frames, in turn, while requests are served at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.remoting import frame
from ledgermq.remoting.command import RESPONSE_FLAG, RemotingCommand, response
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import FrameError
from ledgermq.remoting.header_json import decode_ext
from ledgermq.remoting.headers.pull import PullMessageRequest
from ledgermq.remoting.headers.send import SendMessageRequestV2
from ledgermq.remoting.registry import HandlerResult, ProcessorRegistry
from ledgermq.remoting.server import RemotingServer
from tests.support import until

SHORT, LONG, LATER = 1, 2, 3
SENDS = (10, 310, 320)


class Transport:
    """A socket in memory."""

    def __init__(self) -> None:
        self.written = b""
        self.is_reading = True
        self.closing = False

    def set_write_buffer_limits(self, high: int) -> None:
        assert high > 0

    def get_extra_info(self, _name: str) -> tuple[str, int]:
        return "10.0.0.9", 5000

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True


class Side:
    """A connection, and what became of each frame, in order."""

    def __init__(self, *, has_shortcut: bool = True, **more: Any) -> None:
        self.events: list[tuple[str, int]] = []
        self.shown: list[bytes] = []
        self.registry = ProcessorRegistry()
        if has_shortcut:
            self.registry.shortcut = self.shortcut
        for code in (SHORT, LONG, 11, *SENDS):
            self.registry.add(code, self.handle)
        self.transport = Transport()
        self.connection = Connection(self.registry, **more)
        self.connection.connection_made(cast(Any, self.transport))

    def shortcut(self, connection: Connection, frames: list[bytes], at: int) -> int:
        """Take up to three short ones in a row."""
        assert connection is self.connection
        for n in range(at, min(at + 3, len(frames))):
            self.shown.append(frames[n])
            command = frame.decode(frames[n])
            if command.code != SHORT:
                return n
            self.events.append(("short", command.opaque))
        return min(at + 3, len(frames))

    def handle(self, _: Connection, command: RemotingCommand) -> HandlerResult:
        if command.code in SENDS:
            SendMessageRequestV2.of(command)
        if command.code == 11:
            PullMessageRequest.of(command)
        self.events.append(("long", command.opaque))
        return None


def framed(code: int, opaque: int, **more: Any) -> bytes:
    return frame.encode(RemotingCommand(code, opaque=opaque, **more))


FRAMES = st.lists(st.sampled_from([SHORT, SHORT, LONG]), min_size=1, max_size=12)


@given(FRAMES, st.lists(st.integers(0, 2000), max_size=6))
def test_every_frame_is_shown_in_order_with_the_others(codes: list[int], cuts: list[int]) -> None:
    side = Side()
    wire = [framed(code, n, body=bytes(n)) for n, code in enumerate(codes)]
    stream, at = b"".join(wire), 0
    for end in [*sorted(c % (len(stream) + 1) for c in cuts), len(stream)]:
        side.connection.data_received(stream[at:end])
        at = end
    assert [*dict.fromkeys(side.shown)] == [data[4:] for data in wire]
    assert len(side.shown) <= 2 * len(wire), "time that grows with the square"
    wanted = [("short" if code == SHORT else "long", n) for n, code in enumerate(codes)]
    assert side.events == wanted
    assert not side.transport.closing


def test_what_it_leaves_goes_on_as_if_it_were_not_there() -> None:
    settled: list[Any] = []
    for has_shortcut in (True, False):
        side = Side(has_shortcut=has_shortcut)
        side.connection._pending[4] = (settled.append, 1 << 60, LONG, 1)
        side.connection.data_received(
            framed(LONG, 3) + framed(0, 4, flag=RESPONSE_FLAG, remark="an answer")
        )
        assert side.events == [("long", 3)]
        assert settled.pop().remark == "an answer"
        assert len(side.shown) == (2 if has_shortcut else 0)


@pytest.mark.parametrize("reads_on", [False, True], ids=["a server", "the side that asks"])
async def test_none_is_shown_while_the_other_side_is_clogged_or_requests_wait(
    reads_on: bool,
) -> None:
    side = Side(reads_while_clogged=reads_on)
    side.connection.data_received(framed(SHORT, 1))
    side.connection.pause_writing()
    assert side.transport.is_reading is reads_on
    side.connection.data_received(framed(SHORT, 2) + framed(LONG, 3))
    assert side.events == [("short", 1)]
    assert len(side.shown) == 1

    def clogs_again(_: Connection, command: RemotingCommand) -> None:
        side.events.append(("long", command.opaque))
        side.connection.pause_writing()

    side.connection._waiting[0] = (side.connection._waiting[0][0], clogs_again)
    side.connection.resume_writing()
    assert side.events == [("short", 1), ("long", 2)]
    # It is clogged once more, and after that request 3 still waits: a later one must not pass it.
    side.connection._unclogged.set()
    side.connection.data_received(framed(SHORT, 4))
    assert side.events == [("short", 1), ("long", 2)]
    assert len(side.shown) == 1
    side.connection.resume_writing()
    assert side.events[2:] == [("long", 3), ("long", 4)]
    side.connection.data_received(framed(SHORT, 5))
    assert side.events[4:] == [("short", 5)]


async def test_a_frame_is_not_shown_when_one_before_it_in_the_chunk_clogs_the_line() -> None:
    side = Side()
    taken: list[bytes] = []

    def shortcut(connection: Connection, frames: list[bytes], at: int) -> int:
        taken.append(frames[at])
        connection.pause_writing()
        return at + 1

    side.registry.shortcut = shortcut
    side.connection.data_received(framed(SHORT, 1) + framed(SHORT, 2))
    assert len(taken) == 1
    side.connection.resume_writing()
    assert side.events == [("long", 2)]


# --- fields that cannot be read ---------------------------------------------------------------


UNREADABLE = [b"[]", b'"x"', b'{"a":{}}', b'{"b":[1]}', b'{"\xff":"1"}', b'{"a":"\xff"}', b"1"]


def unreadable(code: int, ext: bytes, opaque: int = 7) -> bytes:
    header = b'{"code":%d,"opaque":%d,"extFields":%b}' % (code, opaque, ext)
    return (4 + len(header)).to_bytes(4) + len(header).to_bytes(4) + header


@pytest.mark.parametrize("ext", UNREADABLE, ids=repr)
@pytest.mark.parametrize("code", [11, *SENDS, LONG])
async def test_fields_that_cannot_be_read_close_the_connection(
    code: int, ext: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    side = Side()
    side.connection.data_received(unreadable(code, ext))
    assert side.transport.closing
    assert side.events == []
    assert "bad bytes from 10.0.0.9:5000" in caplog.text
    with pytest.raises(FrameError):
        decode_ext(ext)


@pytest.mark.parametrize("code", [310, LONG])
async def test_what_came_before_it_is_served_and_answered(code: int) -> None:
    side = Side()
    side.registry.add(LATER, lambda _c, r: response(0, body=b"%d" % r.opaque))
    side.connection.data_received(framed(LATER, 1) + framed(SHORT, 2) + unreadable(code, b"[]"))
    assert side.events == [("short", 2)]
    assert side.transport.closing
    assert frame.decode(side.transport.written[4:]).body == b"1"


@pytest.mark.parametrize("code", [310, LONG])
async def test_nothing_behind_it_is_served(code: int) -> None:
    """Nobody would get the answers, and the other side has shown that it is none of ours."""
    side = Side()
    side.connection.data_received(unreadable(code, b"[]") + framed(SHORT, 2) + framed(LONG, 3))
    assert side.transport.closing
    assert side.events == []


async def test_a_waiting_request_that_cannot_be_read_closes_its_connection() -> None:
    side = Side()
    side.connection.pause_writing()
    side.connection.data_received(unreadable(310, b"[]"))
    assert len(side.connection._waiting) == 1
    side.connection.resume_writing()
    assert side.transport.closing
    assert side.events == []


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    def handle(_: Connection, command: RemotingCommand) -> RemotingCommand:
        return response(0, ext=command.ext, body=command.body)

    registry = ProcessorRegistry()
    registry.shortcut = lambda _c, _frames, at: at
    for code in (11, 310):
        registry.add(code, handle)
    server = RemotingServer(registry, host="127.0.0.1")
    (port,) = await server.start([0])
    try:
        yield port
    finally:
        await server.close()
        await until(lambda: not server.connections, what="the connections' end")


@pytest.mark.parametrize("code", [11, 310])
async def test_only_the_connection_it_came_by_is_closed(code: int) -> None:
    async with served() as port:
        good_in, good_out = await asyncio.open_connection("127.0.0.1", port)
        bad_in, bad_out = await asyncio.open_connection("127.0.0.1", port)
        bad_out.write(unreadable(code, b'{"a":{}}'))
        async with asyncio.timeout(5):
            assert await bad_in.read() == b""
            good_out.write(framed(code, 9, ext={"a": "b"}, body=b"on"))
            size = int.from_bytes(await good_in.readexactly(4))
            answer = frame.decode(await good_in.readexactly(size))
        assert (answer.opaque, answer.ext, answer.body) == (9, {"a": "b"}, b"on")
        for out in (good_out, bad_out):
            out.close()
