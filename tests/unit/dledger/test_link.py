"""Links between members: greetings, redials, and what comes of odd peers."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from ledgermq.dledger.rpc import codec, link
from ledgermq.dledger.rpc.codec import Frame, FrameDecoder, Hello, Kind
from ledgermq.dledger.rpc.link import LinkServer, OutgoingLink
from tests.support import free_ports, until


def hello(sender: str = "n0", boot_id: str = "boot", **changes: Any) -> Hello:
    return Hello("G", sender, "n1", changes.get("channel", 0), boot_id, "store", 4096, "")


class Peer:
    """A listener that answers each connection as told, and counts them."""

    def __init__(self, *answers: bytes, then_close: bool = False) -> None:
        self.answers = list(answers)
        self.then_close = then_close
        self.heard: list[Frame] = []
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.port = free_ports(1)[0]
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", self.port)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        decoder = FrameDecoder()
        try:
            while data := await reader.read(1 << 16):
                self.heard += decoder.feed(data)
                if self.then_close:
                    break
        except ConnectionError:
            pass
        writer.close()

    def hang_up(self) -> None:
        for writer in self.writers:
            writer.close()

    def stop(self) -> None:
        if self._server:
            self._server.close()
        self.hang_up()


WELCOME = codec.encode_hello(Kind.WELCOME, hello("n1"))


@asynccontextmanager
async def dialled(
    peer: Peer, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[OutgoingLink, list[str]]]:
    told: list[str] = []
    out = OutgoingLink(
        (host, peer.port),
        hello(),
        on_up=lambda h: told.append(f"up {h.boot_id}"),
        on_down=lambda: told.append("down"),
        on_died=lambda: told.append("died"),
    )
    out.start()
    try:
        yield out, told
    finally:
        await out.close()
        peer.stop()


async def test_frames_of_one_tick_leave_in_order() -> None:
    peer = Peer(WELCOME)
    await peer.start()
    async with dialled(peer) as (out, _):
        assert not out.send(b"lost: not up yet")
        await until(lambda: out.up, what="up")
        for i in range(3):
            assert out.send(codec.encode(Kind.HEARTBEAT, (i,)))
        await until(lambda: len(peer.heard) == 4, what="HELLO and three frames")
        assert [f.head for f in peer.heard[1:]] == [[0], [1], [2]]


async def test_a_process_that_is_gone_is_told_from_a_lost_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "_SHORT_S", 0.0)
    peer = Peer(WELCOME)
    await peer.start()
    async with dialled(peer) as (out, told):
        await until(lambda: out.up, what="up")
        peer.hang_up()
        await until(lambda: told == ["up boot", "down", "up boot"], what="up again, not dead")
        peer.stop()
        await until(lambda: "died" in told, what="refused: the process is gone")
        assert told[3:] == ["down", "died"]
        assert not out.up


async def test_another_boot_of_the_peer_means_that_the_first_died() -> None:
    peer = Peer(WELCOME, codec.encode_hello(Kind.WELCOME, hello("n1", "boot 2")))
    await peer.start()
    async with dialled(peer) as (out, told):
        await until(lambda: out.up, what="up")
        peer.hang_up()
        await until(lambda: len(told) == 4, what="the new boot")
        assert told == ["up boot", "down", "died", "up boot 2"]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        pytest.param(codec.encode(Kind.REFUSE, ("no",)), "it refuses this node: no", id="refusal"),
        pytest.param(codec.encode(Kind.PUSH, ()), "answers HELLO with PUSH", id="another frame"),
        pytest.param(codec.encode(Kind.WELCOME, (1,)), "Hello with 1 fields", id="half a welcome"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n", "over the limit", id="no member at all"),
    ],
)
async def test_odd_answers_are_said_once_and_dialling_goes_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, answer: bytes, text: str
) -> None:
    monkeypatch.setattr(link, "_REFUSED_RETRY_S", 0.01)
    peer = Peer(*[answer] * 3, WELCOME)
    await peer.start()
    async with dialled(peer) as (out, told):
        await until(lambda: out.up, what="welcome at last")
        assert told == ["up boot"]
        said = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
        assert len([t for t in said if text in t and "peer n1" in t]) == 1


async def test_a_peer_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_HANDSHAKE_S", 0.05)
    peer = Peer(b"", b"", WELCOME)
    await peer.start()
    async with dialled(peer) as (out, _):
        await until(lambda: out.up, what="the third connection is answered")
        assert peer.connections == 3


async def test_a_name_that_cannot_be_one_ends_no_link(caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer(WELCOME)
    async with dialled(peer, host="a" * 70 + ".example") as (out, _):
        await until(lambda: caplog.records, what="said")
        assert out._task is not None
        assert not out._task.done()


async def test_a_peer_that_always_hangs_up_is_not_dialled_in_a_hot_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    real = asyncio.sleep

    async def sleep(delay_s: float) -> None:
        if delay_s >= link._RETRY_MIN_S:
            waits.append(delay_s)
        await real(delay_s)

    monkeypatch.setattr(link.asyncio, "sleep", sleep)
    peer = Peer(WELCOME, then_close=True)
    await peer.start()
    async with dialled(peer) as (_, told):
        await until(lambda: told.count("down") >= 4, what="hung up four times")
        assert waits[:3] == [0.02, 0.04, 0.08]


async def test_close_during_the_greeting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(b"")
    await peer.start()
    async with dialled(peer) as (out, _):
        await until(lambda: peer.connections, what="connected")
        peer.hang_up()
        await asyncio.wait_for(out.close(), 5)


async def test_control_frames_are_dropped_when_the_peer_does_not_read() -> None:
    peer = Peer(WELCOME)
    await peer.start()
    async with dialled(peer) as (out, _):
        await until(lambda: out.up, what="up")
        peer.writers[0].transport.pause_reading()
        big = codec.encode(Kind.PUSH, (), bytes(4 << 20))

        async def clogged() -> bool:
            out.send(big)
            await asyncio.sleep(0)
            return not out.send(codec.encode(Kind.HEARTBEAT, ()), droppable=True)

        await until(clogged, what="a full buffer")
        assert out.send(b"", droppable=False)


# --- the accepting side -----------------------------------------------------------------------


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[LinkServer, int, list[tuple[str, Frame]]]]:
    heard: list[tuple[str, Frame]] = []
    port = free_ports(1)[0]
    server = LinkServer(
        check=lambda h: None if h.group == "G" else f"it is of group {h.group}",
        answer=lambda h: hello("n1", channel=h.channel),
        on_frame=lambda peer, frame: heard.append((peer, frame)),
    )
    await server.start("127.0.0.1", port)
    try:
        yield server, port, heard
    finally:
        await server.close()


async def test_only_the_newest_connection_of_a_peer_is_heard() -> None:
    async with serving() as (_, port, heard):
        first = await asyncio.open_connection("127.0.0.1", port)
        first[1].write(codec.encode_hello(Kind.HELLO, hello()))
        assert await first[0].read(1)
        second = await asyncio.open_connection("127.0.0.1", port)
        second[1].write(codec.encode_hello(Kind.HELLO, hello()))
        assert await second[0].read(1)
        with suppress(ConnectionError):
            await first[0].read()  # the rest of its WELCOME, then the end
        second[1].write(codec.encode(Kind.HEARTBEAT, (7,)))
        await until(lambda: heard, what="the frame")
        assert (heard[0][0], heard[0][1].head) == ("n0", [7])
        for _, writer in (first, second):
            writer.close()


async def test_a_connection_that_never_greets_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_HANDSHAKE_S", 0.05)
    async with serving() as (server, port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises((ConnectionError, AssertionError)):
            assert await asyncio.wait_for(reader.read(1), 5)
        assert not server._wires
        writer.close()


async def test_a_refusal_reaches_the_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as (_, port, heard):
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stranger = Hello("H", "n0", "n1", 0, "b", "s", 4096, "")
            frame = codec.encode(Kind.HEARTBEAT, (1,))
            writer.write(codec.encode_hello(Kind.HELLO, stranger) + frame)
            (refusal,) = FrameDecoder().feed(await reader.read())
            assert (refusal.kind, refusal.head) == (Kind.REFUSE, ["it is of group H"])
            writer.close()
        assert heard == []
        assert len([r for r in caplog.records if "it is of group H" in r.getMessage()]) == 1


async def test_complaints_are_bounded() -> None:
    async with serving() as (server, port, _):
        for i in range(70):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write((1_000_000 + i).to_bytes(4))
            with pytest.raises((ConnectionError, AssertionError)):
                assert await reader.read(1)
            writer.close()
        assert len(server._complaints) <= 64
