"""Any harm to the files of the key index: no wrong answer, no crash, and it comes back whole."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ledgermq.broker.features.query import QueryService
from ledgermq.broker.store.key_index import KeyIndex
from ledgermq.remoting.errors import StorageError
from ledgermq.remoting.headers.query import QueryMessageRequest
from ledgermq.remoting.message import decode_properties, decode_records
from tests.unit.broker.fakes import record
from tests.unit.broker.store.indexes import (
    all_answers,
    answers,
    contents,
    open_index,
    put_from,
    rows,
)

from .test_queue_damage import damage
from .test_queue_history import folder

LOG = rows(45)
RIGHT = answers(LOG)
END = 1 << 60

harms = st.lists(
    st.tuples(
        st.sampled_from(["cut", "zero", "flip", "remove"]),
        st.floats(0, 1, exclude_max=True),
        st.floats(0, 1, exclude_max=True),
        st.integers(1, 255),
    ),
    min_size=1,
    max_size=3,
)


class Log:
    """Reads the records of `LOG`."""

    def __init__(self) -> None:
        self.records = {
            row.offset: record(row.topic, row.offset, properties=decode_properties(row.properties))
            for row in LOG
        }

    async def read(self, offset: int) -> bytes | None:
        """The record there."""
        return self.records.get(offset)

    async def check(self, index: KeyIndex) -> bool:
        """Ask for every key; no answer may be wrong. Whether all were complete."""
        service = QueryService(index, self.read)
        is_whole = True
        for (topic, key), offsets in RIGHT.items():
            ask = QueryMessageRequest(topic, key, 64, 0, 2**63 - 1)
            _, records = await service.query(ask)
            found = [m.physical_offset for m in decode_records(records)]
            assert found == [offset for offset in reversed(offsets) if offset in found]
            is_whole = is_whole and len(found) == len(offsets)
        return is_whole


async def mended(index: KeyIndex, position: int) -> None:
    """Put again what is asked for until the index finds no fault with itself."""
    log = Log()
    for _ in range(10):
        with suppress(StorageError):
            await put_from(index, LOG, position)
        is_whole = await log.check(index)
        if index.broken is None:
            event(f"complete: {is_whole}")
            return
        position = await index.mend(0, END)
    raise AssertionError("damaged again and again")


def harm_all(where: Path, harm: list[tuple[str, float, float, int]]) -> None:
    for kind, which, at, bit in harm:
        files = [path for path in sorted(where.iterdir()) if path.stat().st_size]
        if files:
            damage(files[int(which * len(files))], kind, at, bit)


def remove_all(where: Path) -> None:
    for path in where.iterdir():
        path.unlink()


async def run(where: Path, harm: list[tuple[str, float, float, int]], *, running: bool) -> None:
    with ThreadPoolExecutor(1) as threads:
        index = open_index(where, threads)
        await index.recover(0, END, trusted=True)
        await put_from(index, LOG, 0)
        position = END
        right = contents(where)
        if running:
            harm_all(where, harm)
        else:
            await index.close()
            harm_all(where, harm)
            index = open_index(where, threads)
            position = await index.recover(0, END, trusted=True)
        await mended(index, position)
        with suppress(StorageError):  # the harm may be where no query looks
            await index.close()

        # What cannot be told from the files is made right by removing them.
        remove_all(where)
        index = open_index(where, threads)
        await put_from(index, LOG, await index.recover(0, END, trusted=True))
        assert await all_answers(index, LOG) == RIGHT
        await index.close()
        assert contents(where) == right


@pytest.mark.parametrize("running", [True, False])
@given(harm=harms)
@settings(deadline=None, max_examples=100)
def test_harm(running: bool, harm: list[tuple[str, float, float, int]]) -> None:
    with folder() as tmp:
        asyncio.run(run(tmp / "index", harm, running=running))
