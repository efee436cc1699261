"""README.md, typed from its first block to its last by a reader with a fresh copy."""

import re

import pytest

from tests.drill.fast_try import ROOT
from tests.drill.reader import Reader
from tests.support import wait_until
from tests.unit.docs.blocks import blocks_of

pytestmark = pytest.mark.slow

GROUP_ROW = re.compile(r"^RaftCluster +RaftNode00 +(\d) ", re.MULTILINE)


def test_every_block_of_the_readme_works(reader: Reader) -> None:
    shown: dict[str, str] = {}
    for block in blocks_of(ROOT / "README.md"):
        if block.language == "python":
            shown[block.file_name] = reader.run(block)
        elif block.language == "sh":
            shown[block.text] = reader.type(block)
            if "nohup sh bin/mqbroker" in block.text:
                wait_until(lambda: has_a_leader(reader), 30, "a leader and two followers by hand")
    check_the_tour(shown)
    check_the_snippets(shown)
    wait_until(lambda: not reader.own_processes(), 20, "the end of everything")


def has_a_leader(reader: Reader) -> bool:
    rows = reader.brokers(reader.name_server)
    return len(rows) == 3 and ("RaftNode00", 0) in rows


def output_of(shown: dict[str, str], command: str) -> str:
    """What the block with that command printed."""
    (found,) = [printed for text, printed in shown.items() if command in text]
    return found


def check_the_tour(shown: dict[str, str]) -> None:
    assert len(GROUP_ROW.findall(output_of(shown, "fast-try.sh status"))) == 3
    looked = output_of(shown, "bin/mqadmin sendMessage")
    assert "SEND_OK" in looked
    assert "BODY: Hello RocketMQ" in looked
    quickstart = output_of(shown, "quickstart.Producer")
    assert quickstart.count("SendResult [sendStatus=SEND_OK") == 1000
    assert quickstart.count("Receive New Messages:") == 1000
    drill = output_of(shown, "kill-leader")
    assert re.search(r"^Killed n\d, the leader of RaftNode00", drill, re.MULTILINE)
    assert sorted(GROUP_ROW.findall(drill))[0] == "0"
    seconds = [int(n) for n in re.findall(r"^\S+ success (\d+) failure", drill, re.MULTILINE)]
    assert seconds[-2] > 0, "the sends went on after the kill"
    assert re.search(r"^all: success \d+ failure 0$", drill, re.MULTILINE)
    by_hand = output_of(shown, "topicRoute -n")
    assert '"writeQueueNums": 8' in by_hand
    assert "flushDiskType=SYNC_FLUSH" in by_hand
    assert output_of(shown, "mqshutdown broker").count("Send shutdown request to") == 2


def check_the_snippets(shown: dict[str, str]) -> None:
    assert shown["send.py"].startswith("SendResult [sendStatus=SEND_OK")
    assert "99 more" in shown["send.py"]
    received = [line.rsplit(" ", 1)[1] for line in shown["receive.py"].splitlines()]
    assert sorted(map(int, received)) == list(range(1, 101))
    assert sum(map(int, re.findall(r"^(\d+) messages", shown["poll.py"], re.MULTILINE))) == 100
    sent, refused, polled = shown["errors.py"].splitlines()
    assert "SEND_OK" in sent
    assert "no blanks in names" in refused
    assert "next: " in refused
    assert int(polled.split()[0]) > 0
