"""Links and ports at their edges: a dying peer, and a port that is held for a moment."""

import asyncio
import contextlib
import errno
import logging
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from ledgermq.dledger.rpc import codec
from ledgermq.dledger.rpc import link as link_module
from ledgermq.dledger.rpc.codec import Hello, Kind
from ledgermq.dledger.rpc.link import LinkServer, OutgoingLink
from tests.support import until

HELLO = Hello("G", "n0", "n1", 0, "boot0", "store0", 65536, "127.0.0.1:1", "n0;n1")


class DyingPeer:
    """Greets the first caller, then drops everybody; its port closes when told."""

    def __init__(self, *, greets: int) -> None:
        self.greets = greets
        self.accepted = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.writers.append(writer)
        await reader.read(1)
        if self.accepted <= self.greets:
            writer.write(codec.encode_hello(Kind.WELCOME, HELLO))
        else:
            writer.close()

    def drop(self) -> None:
        for writer in self.writers:
            writer.close()

    async def close(self) -> None:
        self.drop()
        for writer in self.writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.mark.parametrize("redials", [0, 1, 3])
async def test_refused_after_redials_that_were_dropped(redials: int) -> None:
    """However many redials were accepted and dropped, the refusal in the end is the hint."""
    peer = DyingPeer(greets=1)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    died: list[bool] = []
    link = OutgoingLink(
        server.sockets[0].getsockname()[:2],
        HELLO,
        on_up=lambda _: None,
        on_down=lambda: None,
        on_died=lambda: died.append(True),
    )
    link.start()
    await until(lambda: link.up, what="the link")
    # As in a running group: the link has stood for a while, so the redial comes at once.
    await asyncio.sleep(0.3)
    if not redials:
        server.close()
    peer.drop()
    await until(lambda: peer.accepted >= 1 + redials, what="the redials")
    assert not died or not redials
    server.close()
    await until(lambda: died, what="the hint")
    await link.close()
    assert died == [True]
    await peer.close()
    await server.wait_closed()


async def test_a_port_of_an_outgoing_connection_is_waited_for() -> None:
    """The Raft ports lie among those the system gives to outgoing connections."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        held = socket.create_connection(other.getsockname(), source_address=("127.0.0.1", 0))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        links = LinkServer(check=lambda _: None, answer=lambda h: h, on_frame=lambda _p, _f: None)
        asyncio.get_running_loop().call_later(0.3, held.close)
        await links.start("127.0.0.1", held.getsockname()[1])
        await links.close()


async def test_a_port_that_somebody_listens_on_is_refused_at_once() -> None:
    """Waiting would not help."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        links = LinkServer(check=lambda _: None, answer=lambda h: h, on_frame=lambda _p, _f: None)
        with pytest.raises(OSError, match="in use"):
            await links.start("127.0.0.1", other.getsockname()[1])


# --- names with several addresses -------------------------------------------------------------


def outgoing(address: tuple[str, int], died: Callable[[], None] = lambda: None) -> OutgoingLink:
    return OutgoingLink(address, HELLO, on_up=lambda _: None, on_down=lambda: None, on_died=died)


def resolve_to(
    monkeypatch: pytest.MonkeyPatch, *addresses: str, refuse: dict[str, int] | None = None
) -> None:
    """Give "both" these addresses; dialling those in `refuse` fails with that error number."""
    loop = asyncio.get_running_loop()
    connect = loop.create_connection

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        assert host == "both"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

    async def create_connection(factory: Any, host: str, port: int, **more: Any) -> Any:
        number = (refuse or {}).get(host)
        if number is not None:
            raise OSError(number, "no")
        return await connect(factory, host, port, **more)

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(loop, "create_connection", create_connection)


async def lost_after_a_while(
    monkeypatch: pytest.MonkeyPatch, refuse: dict[str, int]
) -> tuple[OutgoingLink, list[bool]]:
    """A link to "both" whose peer has just ended."""
    peer = DyingPeer(greets=1)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    resolve_to(monkeypatch, "::1", "127.0.0.1", refuse=refuse)
    died: list[bool] = []
    port = server.sockets[0].getsockname()[1]
    link = outgoing(("both", port), lambda: died.append(True))
    link.start()
    await until(lambda: link.up, what="the link, by the second address")
    server.close()
    peer.drop()
    await peer.close()
    await server.wait_closed()
    await until(lambda: not link.up, what="the loss")
    return link, died


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.EADDRNOTAVAIL])
async def test_every_address_of_a_name_refuses_so_the_peer_is_dead(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """ "localhost" has ::1 and 127.0.0.1, and asyncio tells of both failures in one OSError."""
    link, died = await lost_after_a_while(monkeypatch, {"::1": number})
    await until(lambda: died, what="the hint")
    await link.close()
    assert died == [True]


async def test_an_address_that_may_be_alive_is_no_proof_of_death(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One address refuses, the other one does not answer: a cut in the network, perhaps."""
    link, died = await lost_after_a_while(monkeypatch, {"::1": errno.ETIMEDOUT})
    tried = 0
    dial = link_module._dial

    async def counted(address: tuple[str, int], wire: Any) -> None:
        nonlocal tried
        tried += 1
        await dial(address, wire)

    monkeypatch.setattr(link_module, "_dial", counted)
    await until(lambda: tried >= 3, what="three more attempts")
    await link.close()
    assert not died


# --- what a liar may cost ---------------------------------------------------------------------


async def test_a_peer_that_does_not_read_is_dropped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It may acknowledge at once on its other connection, so that the window never closes."""
    monkeypatch.setattr(link_module, "_MAX_DATA_BACKLOG", 1 << 20)
    peer = DyingPeer(greets=1)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0, limit=1024)
    link = outgoing(server.sockets[0].getsockname()[:2])
    link.start()
    await until(lambda: link.up, what="the link")
    wire, most = link._wire, 0
    assert wire is not None
    for _ in range(100_000):
        if not link.send(bytes(1 << 20)):
            break
        most = max(most, wire.backlog_bytes())
        await asyncio.sleep(0)
    assert most <= 3 << 20
    assert "acknowledges what it does not read" in caplog.text
    await link.close()
    server.close()
    await peer.close()
    await server.wait_closed()


def listening(**changes: Any) -> LinkServer:
    known: dict[str, Any] = {
        "check": lambda _: None,
        "answer": lambda h: h,
        "on_frame": lambda _p, _f: None,
    }
    return LinkServer(**(known | changes))


async def test_strangers_that_say_nothing_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes; a member, which says HELLO at once, gets in past any number of them."""
    monkeypatch.setattr(link_module, "_MAX_STRANGERS", 5)
    monkeypatch.setattr(link_module, "_HANDSHAKE_S", 60.0)
    links = listening()
    await links.start("127.0.0.1", 0)
    assert links._server is not None
    port = links._server.sockets[0].getsockname()[1]
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(12)]
    await until(lambda: len(links._wires) == 5, what="all but five to be dropped")
    link = outgoing(("127.0.0.1", port))
    link.start()
    await until(lambda: link.up, what="a member's link")
    assert len(links._strangers) <= 5
    await link.close()
    await links.close()
    for _, writer in silent:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_what_a_stranger_says_is_one_short_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    forged = "no\n2026-01-01 CRITICAL all is lost " + "x" * 10_000

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(codec.encode(Kind.REFUSE, (forged,)))
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    link = outgoing(server.sockets[0].getsockname()[:2])
    link.start()
    await until(lambda: caplog.records, what="the complaint")
    await link.close()
    server.close()
    await server.wait_closed()
    (message,) = {r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR}
    assert "it refuses this node" in message
    assert "\n" not in message
    assert len(message) < 600
