"""The examples, run as their readers run them."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from ledgermq.remoting.message import decode_record
from tests.support import free_ports, until

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"


async def begin(cluster_address: str, name: str, *arguments: str) -> asyncio.subprocess.Process:
    environment = os.environ | {"NAMESRV_ADDR": cluster_address, "PYTHONPATH": str(ROOT)}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / name),
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def finish(process: asyncio.subprocess.Process) -> tuple[int, list[str], str]:
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode().splitlines(), err.decode()


@pytest.fixture
def topic_test(cluster):
    cluster.topics["TopicTest"] = 4
    return cluster


async def test_quickstart_producer_sends_a_thousand(cluster):
    code, lines, err = await finish(await begin(cluster.nameserver, "quickstart_producer.py"))
    assert (code, err) == (0, "")
    assert len(lines) == 1000
    assert all(line.startswith("SendResult [sendStatus=SEND_OK, msgId=") for line in lines)
    assert set(cluster.bodies("TopicTest")) == {b"Hello RocketMQ %d" % i for i in range(1000)}
    tags = {
        decode_record(r).tag
        for (topic, _), records in cluster.group.records.items()
        for r in records
        if topic == "TopicTest"
    }
    assert tags == {"TagA"}


async def test_quickstart_consumer_prints_what_it_gets(topic_test):
    for i in range(3):
        topic_test.put("TopicTest", i, b"Hello RocketMQ %d" % i, TAGS="TagA")
    process = await begin(topic_test.nameserver, "quickstart_consumer.py", "--count", "3")
    code, lines, err = await finish(process)
    assert (code, err) == (0, "")
    assert len(lines) == 4
    got = [line for line in lines if line.startswith("Receive New Messages: [MessageExt [")]
    assert len(got) == 3
    assert all("topic=TopicTest, tags=TagA" in line for line in got)
    assert {line.rpartition("body=")[2] for line in got} == {
        f"Hello RocketMQ {i}]]" for i in range(3)
    }


async def test_quickstart_consumer_ends_with_ctrl_c(topic_test):
    topic_test.put("TopicTest", 0, b"x")
    process = await begin(topic_test.nameserver, "quickstart_consumer.py")
    assert process.stdout is not None
    lines = [await process.stdout.readline(), await process.stdout.readline()]
    assert lines[1].startswith(b"Receive New Messages")
    process.send_signal(signal.SIGINT)
    code, _, err = await finish(process)
    assert (code, err) == (130, "")


async def test_load_loop_counts_and_records(cluster, tmp_path):
    record = tmp_path / "sent.jsonl"
    process = await begin(
        cluster.nameserver,
        "load_loop.py",
        *("--seconds", "1.2", "--workers", "3", "--record", str(record)),
    )
    code, lines, err = await finish(process)
    assert (code, err) == (0, "")
    assert " success " in lines[0]
    assert " failure 0" in lines[0]
    written = [json.loads(line) for line in record.read_text().splitlines()]
    assert lines[-1] == f"all: success {len(written)} failure 0"
    assert len(written) > 10
    stored = cluster.group.records
    for line in written:
        message = decode_record(stored["TopicTest", line["queueId"]][line["queueOffset"]])
        assert message.msg_id == line["msgId"]
        assert message.body == line["body"].encode() == b"Test"
        assert message.tag == "TagA"


async def test_load_loop_ends_with_sigterm_and_says_how_it_went(cluster):
    process = await begin(cluster.nameserver, "load_loop.py", "--nameserver", cluster.nameserver)
    await until(lambda: len(cluster.bodies("TopicTest")) > 20, timeout_s=20)
    process.send_signal(signal.SIGTERM)
    code, lines, err = await finish(process)
    assert (code, err) == (0, "")
    assert lines[-1].startswith("all: success ")


async def test_load_loop_goes_on_through_a_change_of_leader(trio):
    trio.topics["TopicTest"] = 4
    process = await begin(trio.nameserver, "load_loop.py", "--seconds", "4")
    await until(lambda: len(trio.bodies("TopicTest")) > 20, timeout_s=20)
    await trio.kill_leader("RaftNode00")
    trio.elect(trio.nodes["RaftNode00"][1])
    code, lines, err = await finish(process)
    assert (code, err) == (0, "")
    assert lines[-1].endswith("failure 0")


@pytest.mark.parametrize(
    "name", ["quickstart_producer.py", "quickstart_consumer.py", "load_loop.py"]
)
async def test_without_a_name_server_they_say_what_to_do(name):
    (port,) = free_ports(1)
    code, lines, err = await finish(await begin(f"127.0.0.1:{port}", name))
    assert code == 1
    assert lines == []
    assert f"127.0.0.1:{port}" in err
    assert "$NAMESRV_ADDR" in err
    assert "mqnamesrv" in err
    assert "Traceback" not in err
