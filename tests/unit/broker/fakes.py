"""Stand-ins for the log: everything is committed at once, in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from ledgermq.broker.config import BrokerConfig
from ledgermq.broker.metadata import (
    GroupDelete,
    GroupPut,
    Metadata,
    OffsetsPut,
    Op,
    TopicDelete,
    TopicPut,
    encode_op,
)
from ledgermq.broker.writer import (
    AppendResult,
    MessageAppender,
    MetadataWriter,
    OutgoingRecord,
    QueueReader,
)
from ledgermq.remoting.bodies.group import SubscriptionGroupConfig
from ledgermq.remoting.bodies.registration import TopicConfig
from ledgermq.remoting.command import ONEWAY_FLAG, RemotingCommand, request
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.message import encode_properties, encode_record, pack_host
from ledgermq.remoting.registry import ProcessorRegistry

BROKER = BrokerConfig(
    broker_name="RaftNode00",
    broker_cluster_name="RaftCluster",
    broker_ip1="10.0.0.1",
    listen_port=30911,
)


class FakeConnection:
    """Collects what is sent to a client."""

    def __init__(self, remote: str = "10.0.0.9:5000") -> None:
        self.remote = remote
        self.sent: list[RemotingCommand] = []
        self.close_reasons: list[str] = []

    def oneway(self, command: RemotingCommand) -> None:
        command.flag |= ONEWAY_FLAG
        self.sent.append(command)

    def close(self, reason: str = "") -> None:
        self.close_reasons.append(reason)

    def notified(self) -> list[str]:
        """The groups named by the notifications so far."""
        assert all(c.code == 40 and c.is_oneway for c in self.sent)
        return [c.ext["consumerGroup"] for c in self.sent]


def client(remote: str = "10.0.0.9:5000") -> Any:
    """A `FakeConnection` where a `Connection` is asked for."""
    return cast(Connection, FakeConnection(remote))


class FakeWriter(MetadataWriter):
    """Applies every change to `metadata` at once, or refuses while it does not lead."""

    def __init__(self, metadata: Metadata | None = None) -> None:
        self.metadata = metadata or Metadata()
        self.leads = True
        self.refuses = False
        self._pending: dict[tuple[str, str, int], int] = {}

    @property
    def is_leader(self) -> bool:
        return self.leads

    def write(self, op: Op) -> None:
        if not self.leads or self.refuses:
            raise PeerError(14, "not the leader")
        self.metadata.apply(self.metadata.applied_index + 1, 1, encode_op(op))

    async def put_topic(self, config: TopicConfig) -> None:
        self.write(TopicPut(config))

    async def delete_topic(self, name: str) -> None:
        self.write(TopicDelete(name))

    async def put_group(self, config: SubscriptionGroupConfig) -> None:
        self.write(GroupPut(config))

    async def delete_group(self, name: str, clean_offsets: bool) -> None:
        self.write(GroupDelete(name, clean_offsets))

    def commit_offset(self, group: str, topic: str, queue_id: int, offset: int) -> None:
        self._pending[group, topic, queue_id] = offset

    def query_offset(self, group: str, topic: str, queue_id: int) -> int | None:
        pending = self._pending.get((group, topic, queue_id))
        return self.metadata.offset(group, topic, queue_id) if pending is None else pending

    def flush(self) -> None:
        """Write the pending offsets."""
        for (group, topic, queue_id), offset in self._pending.items():
            self.write(OffsetsPut({group: {topic: {queue_id: offset}}}))
        self._pending.clear()


class FakeQueues(QueueReader):
    """Queues as lists of store times; records by physical offset."""

    def __init__(self) -> None:
        self.times: dict[tuple[str, int], list[int]] = {}
        self.begin: dict[tuple[str, int], int] = {}
        self.records: dict[int, bytes] = {}
        self.is_recent = True
        self.asked: list[tuple[str, int, int, bool]] = []

    def min_offset(self, topic: str, queue_id: int) -> int:
        return self.begin.get((topic, queue_id), 0)

    def max_offset(self, topic: str, queue_id: int) -> int:
        return len(self.times.get((topic, queue_id), []))

    def first_in_memory(self, topic: str, queue_id: int) -> bool:
        return self.is_recent

    async def read_record(self, physical_offset: int) -> bytes | None:
        return self.records.get(physical_offset)

    async def offset_by_time(
        self, topic: str, queue_id: int, timestamp_ms: int, upper: bool
    ) -> int:
        self.asked.append((topic, queue_id, timestamp_ms, upper))
        return 7

    async def store_time_at(self, topic: str, queue_id: int, queue_offset: int) -> int | None:
        times = self.times.get((topic, queue_id), [])
        return times[queue_offset] if 0 <= queue_offset < len(times) else None


class FakeAppender(MessageAppender):
    """Keeps messages, refuses them with `refusal`, or lets them wait while it `holds`."""

    def __init__(self) -> None:
        self.messages: list[OutgoingRecord] = []
        self.refusal: PeerError | None = None
        self.holds = False
        self.waiting: list[Callable[[AppendResult | PeerError], None]] = []

    def append(
        self, message: OutgoingRecord, on_done: Callable[[AppendResult | PeerError], None]
    ) -> None:
        if self.refusal:
            on_done(self.refusal)
            return
        if self.holds:
            self.waiting.append(on_done)
            return
        self.messages.append(message)
        on_done(AppendResult(len(self.messages) - 1, 1000))


@dataclass
class Bench:
    """A registry and a way to call it as a connection would."""

    registry: ProcessorRegistry = field(default_factory=ProcessorRegistry)
    writer: FakeWriter = field(default_factory=FakeWriter)
    queues: FakeQueues = field(default_factory=FakeQueues)
    appender: FakeAppender = field(default_factory=FakeAppender)
    connection: Any = field(default_factory=client)

    @property
    def metadata(self) -> Metadata:
        return self.writer.metadata

    async def call(
        self,
        code: int,
        ext: dict[str, str] | None = None,
        body: bytes = b"",
        connection: Any = None,
        **more: Any,
    ) -> RemotingCommand:
        """The reply; a refusal is raised as `PeerError`."""
        handler = self.registry.get(code)
        assert handler, f"code {code} is not served"
        command = request(code, ext, body)
        for name, value in more.items():
            setattr(command, name, value)
        result = handler(connection or self.connection, command)
        if result is not None and not isinstance(result, RemotingCommand):
            result = await result
        assert result is not None
        assert all(type(value) is str for value in result.ext.values())
        return result

    async def refusal(self, code: int, ext: dict[str, str], body: bytes = b"") -> PeerError:
        """The refusal that a request meets."""
        try:
            reply = await self.call(code, ext, body)
        except PeerError as e:
            return e
        raise AssertionError(f"not refused: {reply}")


def topic(name: str, queues: int = 4, perm: int = 6) -> TopicConfig:
    """A topic's settings."""
    return TopicConfig(topic_name=name, read_queue_nums=queues, write_queue_nums=queues, perm=perm)


def record(
    name: str,
    physical_offset: int,
    *,
    body: bytes = b"hello",
    properties: dict[str, str] | None = None,
    sys_flag: int = 0,
    born_host: str = "10.0.0.9:5000",
    store_host: str = "10.0.0.3:30931",
    reconsume_times: int = 0,
    prepared_transaction_offset: int = 0,
) -> bytes:
    """A stored message."""
    return encode_record(
        topic=name.encode(),
        queue_id=2,
        flag=17,
        queue_offset=5,
        physical_offset=physical_offset,
        sys_flag=sys_flag,
        born_timestamp_ms=1_700_000_000_123,
        born_host=pack_host(born_host),
        store_timestamp_ms=1_700_000_000_456,
        store_host=pack_host(store_host),
        reconsume_times=reconsume_times,
        prepared_transaction_offset=prepared_transaction_offset,
        body=body,
        properties=encode_properties(properties or {}).encode(),
    )
