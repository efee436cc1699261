"""Links and ports at their edges: a dying peer, and a port that is held for a moment."""

import asyncio
import contextlib
import socket
import struct

import pytest

from ledgermq.dledger.rpc import codec
from ledgermq.dledger.rpc.codec import Hello, Kind
from ledgermq.dledger.rpc.link import LinkServer, OutgoingLink
from tests.support import until

HELLO = Hello("G", "n0", "n1", 0, "boot0", "store0", 65536, "127.0.0.1:1")


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
