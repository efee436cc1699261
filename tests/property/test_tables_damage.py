"""Any harm to config/*.json: the tables of before or after the last change, or a named refusal.

Upstream's form has no checksum. So a changed byte may spell another document that could have been
written: another digit, another name. Then one row differs, never more, and none is lost in silence.
"""

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledgermq.broker.metadata import GroupPut, Metadata, OffsetsPut, Op, TopicPut, encode_op
from ledgermq.broker.plain.tables import Tables
from ledgermq.dledger.disk import OsDisk
from ledgermq.dledger.errors import CallerError
from ledgermq.remoting.bodies.group import SubscriptionGroupConfig
from tests.golden.captured import rebuild
from tests.unit.broker.fakes import topic

from .test_queue_damage import damage
from .test_queue_history import folder

FILES = ("topics.json", "subscriptionGroup.json", "consumerOffset.json", "deletedTopics.json")
# Rows by key, for each of the files.
Rows = tuple[dict[str, Any], ...]

harms = st.tuples(
    st.sampled_from(FILES),
    st.sampled_from(["cut", "zero", "flip", "flip", "remove"]),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 255),
)


def opened(where: Path) -> tuple[Tables, Metadata, list[str]]:
    metadata = Metadata()
    tables = Tables(where, metadata, OsDisk(), ThreadPoolExecutor(1), now_ms=lambda: 1)
    return tables, metadata, tables.load()


def refusal(where: Path) -> str:
    """Why the folder cannot be used; "" if it can."""
    try:
        opened(where)
    except CallerError as e:
        return str(e)
    return ""


def rows(tables: Tables, metadata: Metadata) -> Rows:
    offsets = metadata.offset_table().offset_table
    return dict(metadata.topics), dict(metadata.groups), offsets, dict(tables.deleted)


async def build(where: Path) -> tuple[Rows, Rows]:
    """Files that were saved twice; what they hold, and what their backups hold."""
    tables, metadata, _ = opened(where)

    async def put(count: int) -> Rows:
        names = [f"Topic-{n}" for n in range(count)]
        ops: list[Op] = [TopicPut(topic(name, count)) for name in names]
        ops += [GroupPut(SubscriptionGroupConfig(group_name=f"g{n}")) for n in range(count)]
        ops.append(
            OffsetsPut({"g0": {name: {q: 10 * count + q for q in range(3)} for name in names}})
        )
        for op in ops:
            metadata.apply(metadata.applied_index + 1, 0, encode_op(op))
        await tables.note_deleted(f"Gone-{count}", 1000 * count)
        await tables.save_topics()
        await tables.save_groups()
        await tables.save_offsets()
        return rows(tables, metadata)

    before = await put(3)
    return await put(4), before


def check(found: Rows, warnings: list[str], number: int, newest: Rows, backup: Rows) -> None:
    """One file was harmed; the others are as they were."""
    path = FILES[number]
    from_backup = any(f"{path} is not used" in warning for warning in warnings)
    for n, (table, new, old) in enumerate(zip(found, newest, backup, strict=True)):
        if n == number and from_backup:
            assert table == old
        elif n == number:
            lost = {key: row for key, row in new.items() if table.get(key) != row}
            assert len(lost) <= 1
            left_out = any("are left out" in warning for warning in warnings)
            assert len(table) == len(new) - left_out
        elif n == 2 and number == 0:
            # Offsets follow their topics.
            assert table.keys() <= new.keys()
        else:
            assert table == new


@pytest.mark.parametrize("with_backup", [True, False])
def test_one_harmed_file(with_backup: bool) -> None:
    with folder() as where:
        original = where / "original"
        newest, backup = asyncio.run(build(original))

        @settings(max_examples=250, deadline=None)
        @given(harms)
        def run(harm: tuple[str, str, float, int]) -> None:
            name, kind, at, bit = harm
            target = where / "config"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(original, target)
            damage(target / name, kind, at, bit)
            if not with_backup:
                (target / f"{name}.bak").unlink()
            refused = refusal(target)
            if refused:
                assert not with_backup
                assert str(target / name) in refused
                assert any(word in refused for word in ("line ", "twice", "is missing"))
                return
            tables, metadata, warnings = opened(target)
            if kind == "remove" and not with_backup:
                assert not rows(tables, metadata)[FILES.index(name)]
                return
            if kind in ("cut", "zero", "remove"):
                assert any(f"{name} is not used" in warning for warning in warnings)
            check(rows(tables, metadata), warnings, FILES.index(name), newest, backup)

        run()


@settings(max_examples=150, deadline=None)
@given(harms, harms)
def test_a_file_of_upstream_and_its_backup_harmed(
    first: tuple[str, str, float, int], second: tuple[str, str, float, int]
) -> None:
    """Whatever happens to both: the broker loads a table or names the file."""
    with folder() as where:
        rebuild("plain-4.9.5/clean", where)
        config = where / "config"
        for (name, kind, at, bit), suffix in ((first, ""), (second, ".bak")):
            if (config / (name + suffix)).exists():
                damage(config / (name + suffix), kind, at, bit)
        refused = refusal(config)
        if refused:
            assert any(str(config / name) in refused for name in (first[0], second[0]))
