"""Reading a plain commitlog: what is broken is refused by name, all else is served."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from ledgermq.broker.plain.source import PlainSource
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import request
from ledgermq.remoting.message import decode_record
from ledgermq.remoting.message_id import host_offset_msg_id, pack_host
from tests.support.brokers import pull_request
from tests.support.plain import PlainBroker

SEGMENT_BYTES = 64 << 10


async def with_messages(broker: PlainBroker, count: int = 60) -> list[int]:
    """Messages in two files; where they lie."""
    await broker.create_topic("T")
    await broker.fill(count)
    return [m.physical_offset for m in await broker.pull_all()]


def overwrite(broker: PlainBroker, pos: int, data: bytes) -> None:
    path = broker.folder / "commitlog" / f"{pos - pos % SEGMENT_BYTES:020d}"
    with path.open("r+b") as file:
        file.seek(pos % SEGMENT_BYTES)
        file.write(data)


def source_of(broker: PlainBroker) -> PlainSource:
    source = broker.app.reader._source
    assert isinstance(source, PlainSource)
    return source


async def pull_one(broker: PlainBroker, offset: int) -> Any:
    return await broker.ask(pull_request("T", offset, max_msg_nums=1))


@pytest.mark.parametrize("at", [4, 30, 90, 500])
@pytest.mark.parametrize("victim", [0, 7, 58])
async def test_a_broken_record_is_refused_by_file_and_byte(
    tmp_path: Path, victim: int, at: int
) -> None:
    async with PlainBroker(tmp_path) as broker:
        places = await with_messages(broker)
        overwrite(broker, places[victim] + at, b"\xa5\x5a")
        reply = await pull_one(broker, victim)
        assert reply.code == 1
        base = places[victim] - places[victim] % SEGMENT_BYTES
        where = f"commitlog/{base:020d}: damaged at byte {places[victim] - base}"
        assert where in reply.remark
        for offset in set(range(60)) - {victim}:
            reply = await pull_one(broker, offset)
            assert (reply.code, reply.ext["nextBeginOffset"]) == (0, str(offset + 1))
        assert not broker.app.failed.done()
        assert await broker.send("T", b"more") == 60


async def test_a_broken_record_is_looked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with PlainBroker(tmp_path) as broker:
        places = await with_messages(broker)
        overwrite(broker, places[30] + 100, b"\xa5")
        source = source_of(broker)
        looks: list[int] = []
        look = source._record_at_or_before

        def counted(pos: int) -> int:
            looks.append(pos)
            return look(pos)

        monkeypatch.setattr(source, "_record_at_or_before", counted)
        remarks = {(await pull_one(broker, 30)).remark for _ in range(3)}
        assert len(remarks) == 1
        assert looks == [places[30]]
        assert caplog.text.count("a message cannot be read") == 1


async def test_a_unit_that_leads_to_a_wrong_place_gives_the_queues_up(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path) as broker:
        places = await with_messages(broker)
        bodies = await broker.bodies()
        await broker.stop()
        path = broker.folder / "consumequeue" / "T" / "0" / f"{600:020d}"
        with path.open("r+b") as file:
            file.seek(60)
            file.write((places[33] + 1).to_bytes(8))
        await broker.start()
        assert (await pull_one(broker, 32)).code == 0
        reply = await pull_one(broker, 33)
        assert reply.code == 1
        assert "unit 33 leads to byte" in str(await broker.app.failed)
        assert not broker.app.node.ready
        await broker.stop()
        assert broker.app.config.abort_path.exists()
        await broker.start()
        assert await broker.bodies() == bodies
        assert not broker.master._state.given_up
        await broker.restart()
        assert broker.master.dispatcher.units == 0, "once is enough"


async def test_queues_that_are_given_up_are_made_anew_though_the_broker_is_killed(
    tmp_path: Path,
) -> None:
    """The first of the two starts ends while it makes them."""
    async with PlainBroker(tmp_path) as broker:
        await with_messages(broker)
        bodies = await broker.bodies()
        broker.master.dispatcher.give_up_queues("a unit is wrong")
        await broker.app.failed
        await broker.stop()
        await broker.start()
        copy = broker.folder.parent / "again"
        shutil.copytree(broker.folder, copy / "store")
        assert await broker.bodies() == bodies


async def test_a_record_is_read_by_its_place(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path) as broker:
        places = await with_messages(broker)
        reader = broker.app.reader
        for offset in (0, 44, 45, 59):
            record = await reader.read_record(places[offset])
            assert record is not None
            assert decode_record(record).queue_offset == offset
            message_id = host_offset_msg_id(pack_host(broker.app.config.address), places[offset])
            reply = await broker.ask(
                request(RequestCode.VIEW_MESSAGE_BY_ID, {"offset": str(places[offset])})
            )
            assert reply.body == record, message_id
        end = broker.master.end_pos
        for pos in (1, places[0] + 1, places[9] - 1, end, end + 1, SEGMENT_BYTES - 8, -1, 1 << 62):
            assert await reader.read_record(pos) is None
        await broker.delete_topic("T")
        assert await reader.read_record(places[0]) is None


async def test_bytes_of_a_body_are_no_message(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path) as broker:
        places = await with_messages(broker, 3)
        inner = await broker.app.reader.read_record(places[0])
        assert inner is not None
        await broker.send("T", inner)
        outer = (await broker.pull_all())[-1].physical_offset
        assert await broker.app.reader.read_record(outer + 88) is None


async def test_what_retention_removes_meanwhile_is_gone_not_broken(tmp_path: Path) -> None:
    async with PlainBroker(tmp_path) as broker:
        await with_messages(broker)
        log = broker.master._log
        (broker.folder / "commitlog" / f"{0:020d}").unlink()
        log.drop_below(SEGMENT_BYTES)
        reply = await pull_one(broker, 3)
        assert reply.code == 1
        assert "removed; try again" in reply.remark
        assert not broker.app.failed.done()
        assert not source_of(broker)._broken
        await broker.master._keeper.trim()
        assert (await pull_one(broker, 3)).code == 21
        assert not broker.app.failed.done()
