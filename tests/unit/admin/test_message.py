"""sendMessage and consumeMessage against a fake broker."""

import asyncio
import struct
import zlib

import pytest

from ledgermq.admin import output
from ledgermq.admin.commands import message_send
from ledgermq.remoting.codes import RequestCode as Code
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.command import response
from ledgermq.remoting.headers.offset import (
    OffsetResponse,
    QueueOffsetRequest,
    SearchOffsetRequest,
)
from ledgermq.remoting.headers.pull import PullMessageRequest, PullMessageResponse
from ledgermq.remoting.headers.send import SendMessageRequestV2, SendMessageResponse
from ledgermq.remoting.message import decode_properties, encode_properties
from tests.support import free_ports

from .conftest import GROUP, mqadmin

OFFSET_ID = "7F00000100007918000000000000002A"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(message_send, "_PAUSE_S", 0)


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "160")


def stored(command, code=0):
    header = SendMessageRequestV2.of(command)
    reply = SendMessageResponse(msg_id=OFFSET_ID, queue_id=header.queue_id, queue_offset=42)
    return response(code, None, reply.to_ext())


@pytest.fixture
def storing(broker):
    broker.answers[Code.SEND_MESSAGE_V2] = stored
    return broker


def sent(broker):
    return [c for c in broker.asked if c.code == Code.SEND_MESSAGE_V2]


# --- sendMessage --------------------------------------------------------------------------------


async def test_send_prints_upstreams_columns(name_server, storing):
    result = await mqadmin(
        "sendMessage", "-n", name_server, "-t", "T", "-p", "你好", "-c", "TagA", "-k", "k1 k2"
    )

    assert result.code == 0, result.err
    [command] = sent(storing)
    header = SendMessageRequestV2.of(command)
    properties = decode_properties(header.properties)
    assert command.body == "你好".encode()
    assert (header.topic, header.default_topic, header.sys_flag) == ("T", "TBW102", 0)
    assert header.queue_id in (0, 1)
    assert (properties["TAGS"], properties["KEYS"]) == ("TagA", "k1 k2")
    assert result.lines[0].split() == ["#Broker", "Name", "#QID", "#Send", "Result", "#MsgId"]
    assert result.lines[1] == (
        f"{GROUP:32}  {header.queue_id:<4}  {'SEND_OK':20}    {properties['UNIQ_KEY']}"
    )


async def test_send_as_json_names_queue_and_offset(name_server, storing):
    result = await mqadmin(
        "sendMessage", "-n", name_server, "-t", "T", "-p", "x", "-b", GROUP, "-i", "1", "--json"
    )

    [row] = result.json
    assert len(row.pop("msgId")) == 32
    assert row == {
        "brokerName": GROUP,
        "queueId": 1,
        "queueOffset": 42,
        "sendStatus": "SEND_OK",
        "offsetMsgId": OFFSET_ID,
    }


@pytest.mark.parametrize(
    ("code", "status"),
    [(10, "FLUSH_DISK_TIMEOUT"), (11, "SLAVE_NOT_AVAILABLE"), (12, "FLUSH_SLAVE_TIMEOUT")],
)
async def test_weaker_successes_are_named(name_server, broker, code, status):
    broker.answers[Code.SEND_MESSAGE_V2] = lambda command: stored(command, code)

    result = await mqadmin("sendMessage", "-n", name_server, "-t", "T", "-p", "x", "--json")

    assert result.json[0]["sendStatus"] == status


async def test_a_new_topic_goes_where_it_will_be_created(name_server, storing):
    await storing.register(name_server, topics=["TBW102"], write_queue_nums=8, perm=7)

    result = await mqadmin("sendMessage", "-n", name_server, "-t", "New", "-p", "x", "--json")

    assert result.code == 0, result.err
    header = SendMessageRequestV2.from_ext(sent(storing)[0].ext)
    assert (header.topic, header.default_topic_queue_nums) == ("New", 4)
    assert header.queue_id < 4


async def test_a_missing_topic_without_auto_creation_is_named(name_server, storing):
    result = await mqadmin("sendMessage", "-n", name_server, "-t", "New", "-p", "x")

    assert result.code == 1
    assert "knows no topic New" in result.err


async def test_a_busy_broker_is_tried_again(name_server, broker):
    refusals = [response(ResponseCode.SYSTEM_BUSY, "busy"), response(14, "no leader")]
    broker.answers[Code.SEND_MESSAGE_V2] = lambda c: refusals.pop() if refusals else stored(c)

    result = await mqadmin("sendMessage", "-n", name_server, "-t", "T", "-p", "x", "--json")

    assert result.json[0]["sendStatus"] == "SEND_OK"
    assert len(sent(broker)) == 3


async def test_after_three_tries_the_last_reason_is_shown(name_server, broker):
    broker.answers[Code.SEND_MESSAGE_V2] = lambda _: response(14, "no leader here")

    result = await mqadmin("sendMessage", "-n", name_server, "-t", "T", "-p", "x")

    assert result.code == 1
    assert "the message was not sent: refused: CODE: 14  DESC: no leader" in result.err
    assert "See who leads: mqadmin clusterList" in result.err
    assert len(sent(broker)) == 3


async def test_a_final_refusal_is_not_repeated(name_server, broker):
    broker.answers[Code.SEND_MESSAGE_V2] = lambda _: response(13, "too large")

    result = await mqadmin("sendMessage", "-n", name_server, "-t", "T", "-p", "x")

    assert "CODE: 13  DESC: too large" in result.err
    assert len(sent(broker)) == 1


async def test_an_unknown_outcome_is_not_repeated(name_server, broker):
    def hang_up(command):
        for connection in broker.connections():
            connection.close()

    broker.answers[Code.SEND_MESSAGE_V2] = hang_up

    result = await mqadmin("sendMessage", "-n", name_server, "-t", "T", "-p", "x")

    assert result.code == 1
    assert "the outcome is unknown, the message may be stored" in result.err
    assert f"mqadmin consumeMessage -n {name_server} -t T" in result.err
    assert len(sent(broker)) == 1


async def test_a_dead_leader_is_named(name_server, broker):
    [port] = free_ports(1)
    broker.address = f"127.0.0.1:{port}"
    await broker.register(name_server, topics=["T"])

    result = await mqadmin("sendMessage", "-n", name_server, "-t", "T", "-p", "x")

    assert result.code == 1
    assert f"the message was not sent: connect to 127.0.0.1:{port} failed" in result.err


async def test_a_group_without_a_leader_is_named(name_server, storing):
    await storing.register(name_server, 1)

    result = await mqadmin("sendMessage", "-n", name_server, "-t", "T", "-p", "x")

    assert result.code == 1
    assert f"no leader now: {GROUP}" in result.err


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["-i", "0"], "Add -b <broker name>"),
        (["-b", "nobodys"], f"Brokers where it can: {GROUP}."),
        (["-b", GROUP, "-i", "2"], "Its queues there: 0 to 1."),
    ],
    ids=["a queue without a broker", "an unknown broker", "an unknown queue"],
)
async def test_a_wrong_place_is_refused_before_sending(name_server, storing, flags, complaint):
    result = await mqadmin("sendMessage", "-n", name_server, "-t", "T", "-p", "x", *flags)

    assert result.code == 1
    assert complaint in result.err
    assert sent(storing) == []


# --- consumeMessage -----------------------------------------------------------------------------


def record(queue_id, offset, text, tag="TagA"):
    """A stored record, built by hand from the reference's layout."""
    body, topic = text.encode(), b"T"
    crc = zlib.crc32(body) & 0x7FFFFFFF
    properties = encode_properties(
        {"UNIQ_KEY": f"ID-{queue_id}-{offset}", "TAGS": tag, "KEYS": "k1 k2"}
    ).encode()
    host = struct.pack(">4BI", 127, 0, 0, 1, 30911)
    rest = struct.pack(">Iiiqqiq", crc, queue_id, 0, offset, offset * 100, 0, 1000) + host
    rest += struct.pack(">q", 2000) + host + struct.pack(">iq", 0, 0)
    rest += struct.pack(">i", len(body)) + body + bytes([len(topic)]) + topic
    rest += struct.pack(">h", len(properties)) + properties
    return struct.pack(">II", len(rest) + 8, 0xDAA320A7) + rest


class Queues:
    """Two queues of texts; `first` is the first offset of each."""

    def __init__(self, *queues, first=0, times=()):
        self.queues = queues
        self.first = first
        self.times = dict(times)
        self.pulls = []

    def attach(self, broker):
        broker.answers[Code.GET_MIN_OFFSET] = lambda c: self._offset(self.first)
        broker.answers[Code.GET_MAX_OFFSET] = self._max
        broker.answers[Code.SEARCH_OFFSET_BY_TIMESTAMP] = lambda c: self._offset(
            self.times[SearchOffsetRequest.from_ext(c.ext).timestamp]
        )
        broker.answers[Code.PULL_MESSAGE] = self._pull
        return self

    def _offset(self, offset):
        return response(0, None, OffsetResponse(offset=offset).to_ext())

    def _max(self, command):
        queue = self.queues[QueueOffsetRequest.of(command).queue_id]
        return self._offset(self.first + len(queue))

    def _pull(self, command):
        header = PullMessageRequest.of(command)
        self.pulls.append(header)
        queue, at = self.queues[header.queue_id], header.queue_offset - self.first
        texts = queue[at : at + header.max_msg_nums]
        reply = PullMessageResponse(
            suggest_which_broker_id=0,
            next_begin_offset=header.queue_offset + len(texts),
            min_offset=self.first,
            max_offset=self.first + len(queue),
        )
        body = b"".join(
            record(header.queue_id, header.queue_offset + i, text) for i, text in enumerate(texts)
        )
        return response(0 if texts else 19, None, reply.to_ext(), body)


def bodies(result):
    return [row["body"] for row in result.json]


async def test_consume_prints_a_line_a_message(name_server, broker):
    Queues(["a"], ["b", "你好"]).attach(broker)

    result = await mqadmin("consumeMessage", "-n", name_server, "-t", "T")

    assert result.code == 0, result.err
    assert [line.rpartition(" BODY: ")[2] for line in result.lines] == ["a", "b", "你好"]
    assert result.lines[0].startswith(
        f"MSGID: ID-0-0 MessageExt [brokerName={GROUP}, queueId=0, storeSize="
    )
    assert "queueOffset=1, " in result.lines[2]
    assert "topic='T'" in result.lines[0]


async def test_consume_asks_politely(name_server, broker):
    queues = Queues(["a"], []).attach(broker)

    await mqadmin("consumeMessage", "-n", name_server, "-t", "T", "-g", "mine")

    [header] = queues.pulls
    assert (header.consumer_group, header.subscription, header.queue_offset) == ("mine", "*", 0)
    assert header.sys_flag == 4, "no commit, no waiting, subscription carried"
    asked = {command.code for command in broker.asked}
    assert not asked & {Code.UPDATE_CONSUMER_OFFSET, Code.HEART_BEAT}


async def test_consume_as_json(name_server, broker):
    Queues(["a"], []).attach(broker)

    result = await mqadmin("consumeMessage", "-n", name_server, "-t", "T", "--json")

    [row] = result.json
    assert (row["brokerName"], row["queueId"], row["queueOffset"]) == (GROUP, 0, 0)
    assert (row["tag"], row["keys"], row["msgId"]) == ("TagA", ["k1", "k2"], "ID-0-0")
    assert (row["bornTimestamp"], row["storeTimestamp"]) == (1000, 2000)
    assert row["body"] == "a"


async def test_consume_on_a_terminal(name_server, broker, terminal):
    Queues(["a [bold] text"], []).attach(broker)

    result = await mqadmin("consumeMessage", "-n", name_server, "-t", "T")

    assert "┃ Broker Name" in result.out
    assert "a [bold] text" in result.out, "a body is no markup"


async def test_consume_stops_at_the_count_over_all_queues(name_server, broker):
    queues = Queues(["a", "b"], ["c", "d"]).attach(broker)

    result = await mqadmin("consumeMessage", "-n", name_server, "-t", "T", "-c", "3", "--json")

    assert bodies(result) == ["a", "b", "c"]
    assert [header.max_msg_nums for header in queues.pulls] == [2, 1]


async def test_consume_pulls_in_batches(name_server, broker):
    texts = [str(i) for i in range(70)]
    queues = Queues(texts, []).attach(broker)

    result = await mqadmin("consumeMessage", "-n", name_server, "-t", "T", "--json")

    assert bodies(result) == texts
    assert [(h.queue_offset, h.max_msg_nums) for h in queues.pulls] == [(0, 32), (32, 32), (64, 6)]


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["-b", GROUP], ["a", "b", "c", "d"]),
        (["-b", GROUP, "-i", "1"], ["c", "d"]),
        (["-b", GROUP, "-i", "1", "-o", "11"], ["d"]),
        (["-b", GROUP, "-i", "1", "-o", "5"], ["c", "d"]),
        (["-b", GROUP, "-i", "0", "-s", "500"], ["b"]),
        (["-b", GROUP, "-i", "0", "-d", "500"], ["a"]),
        (["-b", GROUP, "-i", "0", "-e", "500"], ["a"]),
    ],
    ids=" ".join,
)
async def test_consume_part_of_a_topic(name_server, broker, flags, wanted):
    Queues(["a", "b"], ["c", "d"], first=10, times={500: 11}).attach(broker)

    result = await mqadmin("consumeMessage", "-n", name_server, "-t", "T", *flags, "--json")

    assert bodies(result) == wanted


async def test_a_time_may_be_written_as_upstream_does(name_server, broker, monkeypatch):
    queues = Queues(["a"], []).attach(broker)
    wanted = []

    def search(command):
        wanted.append(SearchOffsetRequest.of(command).timestamp)
        return response(0, None, OffsetResponse(offset=0).to_ext())

    broker.answers[Code.SEARCH_OFFSET_BY_TIMESTAMP] = search
    await mqadmin(
        "consumeMessage", "-n", name_server, "-t", "T", "-b", GROUP, "-i", "0",
        "-s", "2023-11-14#22:13:20:005",
    )  # fmt: skip

    assert [ms % 60_000 for ms in wanted] == [20_005]
    assert abs(wanted[0] - 1_700_000_000_005) <= 14 * 3_600_000
    assert len(queues.pulls) == 1


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["-i", "0"], "Add -b <broker name>"),
        (["-o", "0"], "-o is an offset in one queue"),
        (["-s", "yesterday"], "'yesterday' is no time"),
        (["-b", "nobodys"], f"Brokers that have it: {GROUP}."),
        (["-b", GROUP, "-i", "7"], "has no such queue to read"),
    ],
    ids=" ".join,
)
async def test_a_wrong_part_is_refused(name_server, broker, flags, complaint):
    result = await mqadmin("consumeMessage", "-n", name_server, "-t", "T", *flags)

    assert result.code == 1
    assert complaint in result.err


async def test_an_empty_topic_is_said_to_be_empty(name_server, broker):
    Queues([], []).attach(broker)

    result = await mqadmin("consumeMessage", "-n", name_server, "-t", "T")

    assert (result.code, result.out) == (0, "")
    assert "no message in 2 queues of T" in result.err


async def test_a_broker_that_finds_nothing_where_messages_should_be_ends_the_queue(
    name_server, broker
):
    queues = Queues(["a"], []).attach(broker)
    queues.queues = ([], [])
    broker.answers[Code.GET_MAX_OFFSET] = lambda _: response(
        0, None, OffsetResponse(offset=5).to_ext()
    )

    result = await mqadmin("consumeMessage", "-n", name_server, "-t", "T", "--json")

    assert (result.code, result.json) == (0, [])
    assert len(queues.pulls) == 2


async def test_a_refused_pull_shows_the_reason(name_server, broker):
    Queues(["a"], []).attach(broker)
    broker.answers[Code.PULL_MESSAGE] = lambda _: response(26, "no such group")

    result = await mqadmin("consumeMessage", "-n", name_server, "-t", "T")

    assert result.code == 1
    assert f"the broker {broker.address} refused: CODE: 26  DESC: no such group" in result.err


async def test_a_pull_that_gets_no_answer_names_the_broker(name_server, broker):
    Queues(["a"], []).attach(broker)

    async def hang_up(command):
        for connection in broker.connections():
            connection.close()
        await asyncio.Event().wait()

    broker.answers[Code.PULL_MESSAGE] = hang_up

    result = await mqadmin("consumeMessage", "-n", name_server, "-t", "T")

    assert result.code == 1
    assert f"the broker {broker.address} does not answer" in result.err
