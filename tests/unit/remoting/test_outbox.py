"""What leaves when: a single frame at once, several of a turn together, always in order."""

import asyncio
from typing import cast

import pytest

from ledgermq.remoting import outbox
from ledgermq.remoting.outbox import Outbox


class FakeTransport:
    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closing = False
        self.waiting = 0

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return self.waiting


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
def box(transport: FakeTransport) -> Outbox:
    box = Outbox()
    box.transport = cast(asyncio.Transport, transport)
    return box


async def test_a_single_frame_leaves_at_once(box: Outbox, transport: FakeTransport) -> None:
    for n in range(3):
        box.send(b"%d" % n)
        assert transport.writes[-1] == b"%d" % n
        await asyncio.sleep(0)
    assert transport.writes == [b"0", b"1", b"2"]


async def test_several_of_a_turn_keep_their_order(box: Outbox, transport: FakeTransport) -> None:
    for n in range(5):
        box.send(b"%d" % n)
    assert transport.writes == [b"0"]
    assert box.backlog_bytes() == 4
    await asyncio.sleep(0)
    assert transport.writes == [b"0", b"1234"]
    assert box.backlog_bytes() == 0


async def test_after_a_turn_with_several_the_next_leaves_in_one_write(
    box: Outbox, transport: FakeTransport
) -> None:
    for turn in range(3):
        for n in range(3):
            box.send(b"%d%d " % (turn, n))
        await asyncio.sleep(0)
    assert transport.writes == [b"00 ", b"01 02 ", b"10 11 12 ", b"20 21 22 "]
    box.send(b"last of many")
    assert transport.writes[-1] == b"20 21 22 ", "the turn before had several"
    await asyncio.sleep(0)
    box.send(b"alone")
    assert transport.writes[-2:] == [b"last of many", b"alone"]


async def test_what_was_sent_before_the_connection_is_not_overtaken(
    transport: FakeTransport,
) -> None:
    box = Outbox()
    box.send(b"a")
    box.transport = cast(asyncio.Transport, transport)
    box.send(b"b")
    await asyncio.sleep(0)
    assert b"".join(transport.writes) == b"ab"


async def test_a_frame_after_a_flush_is_not_overtaken(
    box: Outbox, transport: FakeTransport
) -> None:
    for part in (b"a", b"b"):
        box.send(part)
    box.flush()
    for part in (b"c", b"d"):
        box.send(part)
    await asyncio.sleep(0)
    assert b"".join(transport.writes) == b"abcd"


async def test_nothing_is_written_to_a_connection_that_closes(
    box: Outbox, transport: FakeTransport
) -> None:
    transport.closing = True
    box.send(b"a")
    box.send(b"b")
    await asyncio.sleep(0)
    assert transport.writes == []
    assert box.backlog_bytes() == 0


async def test_much_does_not_wait_for_the_end_of_the_turn(
    box: Outbox, transport: FakeTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the transport can tell that nobody reads."""
    monkeypatch.setattr(outbox, "_MOST_QUEUED_BYTES", 10)
    for _ in range(4):
        box.send(b"12345")
    assert transport.writes == [b"12345", b"123451234512345"]


async def test_the_backlog_counts_what_the_network_has_not_taken(
    box: Outbox, transport: FakeTransport
) -> None:
    transport.waiting = 7
    for _ in range(2):
        box.send(b"xyz")
    assert box.backlog_bytes() == 7 + 3
