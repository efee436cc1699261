"""The pages of docs/deploy, typed from the first block to the last by a reader with a fresh copy.

`console` blocks, which need root, are not typed; tests/drill/test_systemd.py runs the units.
"""

import re
from collections.abc import Callable
from functools import partial

import pytest

from tests.drill.fast_try import ROOT
from tests.drill.reader import MACHINES, ON_MACHINES, Reader
from tests.support import wait_until
from tests.unit.docs.blocks import blocks_of

pytestmark = pytest.mark.slow

PAGES = ROOT / "docs" / "deploy"
ALONE = [("broker-a", 0)]
TWO = [("broker-a", 0), ("broker-b", 0)]
BOOT_S = 30
# Whether rows of clusterList, (broker name, id), are those of a whole cluster.
Up = Callable[[list[tuple[str, int]]], bool]


def is_up(reader: Reader, name_server: str, up: Up) -> bool:
    return up(reader.brokers(name_server))


def type_page(reader: Reader, page: str, up: Up) -> list[str]:
    """What each block printed; a cluster that is begun by hand is up before the next block."""
    printed = []
    for block in blocks_of(PAGES / page):
        if block.language != "sh":
            continue
        machines = ON_MACHINES.match(block.text)
        if "clusterList" in block.text and "fast-try.sh" not in block.text:
            at = reader.machine(MACHINES[0]).name_server if machines else reader.name_server
            wait_until(partial(is_up, reader, at, up), BOOT_S, f"{page}: all registered")
        printed.append(reader.type(block, page))
    wait_until(lambda: not reader.own_processes(), 20, "the end of everything")
    return printed


def the_one_with(printed: list[str], text: str) -> str:
    (found,) = [p for p in printed if text in p]
    return found


def test_single(reader: Reader) -> None:
    printed = type_page(reader, "single.md", lambda rows: rows == ALONE)
    assert the_one_with(printed, "BODY: Hello RocketMQ").count("BODY: Hello RocketMQ") == 2
    quickstart = the_one_with(printed, "Receive New Messages:")
    assert quickstart.count("SendResult [sendStatus=SEND_OK") == 1000
    assert quickstart.count("Receive New Messages:") == 1000
    assert the_one_with(printed, "BODY: Hello from afar")
    # Started and restarted with its file, found there.
    ended = printed[-1]
    assert len(re.findall(r"broker of this folder runs: pid \d+, 127\.0\.0\.1:\d+", ended)) == 2
    assert "Stopped the name server" in ended


def test_two_masters(reader: Reader) -> None:
    printed = type_page(reader, "2m-noslave.md", lambda rows: rows == TWO)
    quickstart = the_one_with(printed, "Receive New Messages:")
    assert quickstart.count("SendResult [sendStatus=SEND_OK") == 1000
    for name in ("broker-a", "broker-b"):
        assert quickstart.count(f"brokerName={name}") >= 200
        assert re.search(rf"^{name} ", quickstart, re.MULTILINE), "topicStatus has its queues"
    killed = the_one_with(printed, "broker-a runs again")
    before, _, after = killed.partition("SEND_OK")
    assert "broker-a" not in before
    assert "broker-b" in before
    assert "broker-a" in after.partition("runs again")[2]
    assert the_one_with(printed, "BODY: to one of eight queues")
    assert the_one_with(printed, "BODY: Hello two masters")
    # The first machine's are stopped when the second one is asked.
    asked_first, _, asked_second = printed[-1].partition("Stopped the name server")
    assert asked_first.count("registered as 0 with ") == 2
    assert asked_second.count("registered as 0 with ") == 1
    assert asked_second.count("no answer with ") == 1


def test_dledger(reader: Reader) -> None:
    def led(rows: list[tuple[str, int]]) -> bool:
        return len(rows) == 3 and ("RaftNode00", 0) in rows

    printed = type_page(reader, "dledger.md", led)
    assert "leads RaftNode00 after" in the_one_with(printed, "Killed ")
    assert the_one_with(printed, "BODY: Hello RocketMQ")
    assert the_one_with(printed, "BODY: Hello group")


def test_the_table_of_deployments(reader: Reader) -> None:
    printed = type_page(reader, "README.md", bool)
    assert len(re.findall(r"^DefaultCluster +broker-[ab] +0 ", printed[0], re.MULTILINE)) == 2
