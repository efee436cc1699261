"""Each promise of docs/guarantees.md names a test, and each test it names exists."""

import re

import pytest

from ledgermq.broker import metadata, metadata_dump
from ledgermq.broker.store import queue_snapshot
from ledgermq.dledger.rpc import codec
from ledgermq.dledger.store import identity, slots, snapshots

from .test_docs import ROOT

PAGE = (ROOT / "docs/guarantees.md").read_text("utf-8")
PROMISES = PAGE[PAGE.index("| Promise |") : PAGE.index("## What is not promised")]
ROWS = [
    row.strip("| ").split(" | ")
    for row in PROMISES.splitlines()
    if row.startswith("| ") and not row.startswith("| Promise |")
]
NAMED = re.compile(r"`(tests/[\w/]+\.(?:py|txt))(?:::(\w+))?`")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_each_promise_names_its_test(row: list[str]) -> None:
    assert NAMED.search(row[1]) or "make sim" in row[1]


@pytest.mark.parametrize(
    ("path", "name"), [pytest.param(*n, id="::".join(n)) for n in NAMED.findall(PAGE)]
)
def test_each_test_that_is_named_exists(path: str, name: str) -> None:
    assert not name or f"def {name}(" in (ROOT / path).read_text("utf-8")


@pytest.mark.parametrize(
    ("row", "version"),
    [
        ("frames between nodes", codec.VERSION),
        ("identity", identity.FORMAT_VERSION),
        ("small facts: container", slots._VERSION),
        ("snapshot: file, contents, metadata", snapshots._FORMAT_VERSION),
        ("snapshot: file, contents, metadata", queue_snapshot.SNAPSHOT_VERSION),
        ("snapshot: file, contents, metadata", metadata_dump.DUMP_VERSION),
        ("metadata record", metadata.PAYLOAD_VERSION),
    ],
)
def test_versions_are_those_of_the_program(row: str, version: int) -> None:
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| {row} |"))
    assert line.split(" | ")[-1].startswith(str(version))
