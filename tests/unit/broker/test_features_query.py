"""12: messages by key."""

import pytest

from ledgermq.broker.features import query
from ledgermq.broker.features.query import QueryService
from ledgermq.broker.store.key_index import Found
from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.remoting.message import decode_records

from .fakes import Bench, record

STORED_MS = 1_700_000_000_456
ASK = {
    "topic": "T", "key": "k", "maxNum": "10", "beginTimestamp": "0",
    "endTimestamp": str(2**63 - 1),
}  # fmt: skip


class FakeIndex:
    """Answers with `offsets`, and knows what was asked."""

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.asked: list[tuple[str, str, int, int, int]] = []

    async def query(
        self, topic: str, key: str, max_count: int, begin_ms: int, end_ms: int
    ) -> Found:
        self.asked.append((topic, key, max_count, begin_ms, end_ms))
        return Found(self.offsets, 1234, 5678)


class QueryBench(Bench):
    def __init__(self, max_msgs_num_batch: int = 64) -> None:
        super().__init__()
        self.index = FakeIndex()
        service = QueryService(self.index, self.queues.read_record, max_msgs_num_batch)
        query.register(self.registry, service)

    def store(self, offset: int, keys: str = "k", topic: str = "T", body: bytes = b"b") -> None:
        properties = {"UNIQ_KEY": f"U{offset}", "KEYS": keys}
        self.queues.records[offset] = record(topic, offset, body=body, properties=properties)
        self.index.offsets.insert(0, offset)


@pytest.fixture
def bench() -> QueryBench:
    return QueryBench()


async def found(bench: QueryBench, **ext: str) -> list[int]:
    reply = await bench.call(12, ASK | ext)
    assert reply.code == (0 if reply.body else 22)
    return [m.physical_offset for m in decode_records(reply.body)]


async def test_records_back_to_back_oldest_first(bench: QueryBench) -> None:
    for offset in (48, 500, 900):
        bench.store(offset)
    reply = await bench.call(12, ASK)
    assert reply.code == 0
    assert reply.body == b"".join(bench.queues.records[n] for n in (48, 500, 900))
    assert reply.ext == {"indexLastUpdateTimestamp": "1234", "indexLastUpdatePhyoffset": "5678"}
    assert bench.index.asked == [("T", "k", 10, 0, 2**63 - 1)]


async def test_nothing_found(bench: QueryBench) -> None:
    reply = await bench.call(12, ASK)
    assert (reply.code, reply.body) == (22, b"")
    assert reply.remark == "can not find message, maybe time range not correct"
    assert reply.ext == {"indexLastUpdateTimestamp": "0", "indexLastUpdatePhyoffset": "0"}


async def test_only_what_was_asked_for(bench: QueryBench) -> None:
    bench.store(48, "a k b")
    bench.store(500, "kk")
    bench.store(900, "k", topic="U")
    bench.store(1300, "x k")
    bench.store(1700, "k")
    del bench.queues.records[1700]  # removed since
    assert await found(bench) == [48, 1300]
    assert await found(bench, key="U500") == [500]
    assert await found(bench, topic="U") == [900]


@pytest.mark.parametrize(
    ("begin", "end", "is_found"),
    [(0, 0, True), (1, 0, False), (0, -1, False), (-500, 500, True), (5, 500, False)],
)
async def test_the_records_time_decides(
    bench: QueryBench, begin: int, end: int, is_found: bool
) -> None:
    bench.store(48)
    times = {
        "beginTimestamp": str(STORED_MS + begin),
        "endTimestamp": str(STORED_MS + end),
    }
    assert await found(bench, **times) == [48] * is_found


@pytest.mark.parametrize(
    ("asked", "unique", "limit", "count"),
    [
        pytest.param(10, "false", 64, 10, id="as many as asked for"),
        pytest.param(100, "false", 64, 64, id="not over maxMsgsNumBatch"),
        pytest.param(100, "false", 200, 100, id="which can be set"),
        pytest.param(5, "true", 64, 32, id="by id: always 32"),
        pytest.param(5, "true", 8, 8, id="by id: nor over the limit"),
    ],
)
async def test_how_many(asked: int, unique: str, limit: int, count: int) -> None:
    bench = QueryBench(limit)
    await bench.call(12, ASK | {"maxNum": str(asked), "_UNIQUE_KEY_QUERY": unique})
    assert bench.index.asked[0][2] == count


async def test_a_record_with_the_key_twice_comes_once(bench: QueryBench) -> None:
    bench.store(48, "k k")
    bench.index.offsets *= 2
    assert await found(bench) == [48]


@pytest.mark.parametrize("asked", ["0", "-1"])
async def test_none_asked_for(bench: QueryBench, asked: str) -> None:
    bench.store(48)
    assert await found(bench, maxNum=asked) == []


async def test_an_answer_fits_into_a_frame(bench: QueryBench) -> None:
    for n in range(5):
        bench.store(1000 + n, body=bytes(4 << 20))
    assert await found(bench) == [1002, 1003, 1004], "the newest"
    bench.store(2000, body=bytes(20 << 20))
    assert await found(bench) == [2000], "one always"


async def test_without_an_index() -> None:
    bench = Bench()
    query.register(bench.registry, QueryService(None, bench.queues.read_record))
    assert (await bench.call(12, ASK)).code == 22


async def test_the_internal_topic_is_closed(bench: QueryBench) -> None:
    assert (await bench.refusal(12, ASK | {"topic": INTERNAL_TOPIC})).code == 16
    bench.store(48, topic=INTERNAL_TOPIC)
    assert await found(bench) == []


@pytest.mark.parametrize("missing", ASK)
async def test_every_field_is_needed(bench: QueryBench, missing: str) -> None:
    ext = {name: value for name, value in ASK.items() if name != missing}
    assert missing in (await bench.refusal(12, ext)).remark


def test_who_answers() -> None:
    assert not query.LEADER_CODES, "every node, from what is committed"
