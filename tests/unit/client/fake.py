"""A name server and brokers in memory, on real sockets, that tests can break and inspect."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ledgermq.remoting.bodies.consumer import ConsumerIdList
from ledgermq.remoting.bodies.heartbeat import HeartbeatData
from ledgermq.remoting.bodies.route import BrokerData, QueueData, TopicRouteData
from ledgermq.remoting.clock import wall_ms
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import RemotingCommand, request, response
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.headers.client import ConsumerListRequest, UnregisterClientRequest
from ledgermq.remoting.headers.namesrv import RouteRequest
from ledgermq.remoting.headers.offset import (
    OffsetResponse,
    QueryConsumerOffsetRequest,
    QueueOffsetRequest,
    SearchOffsetRequest,
    UpdateConsumerOffsetRequest,
)
from ledgermq.remoting.headers.pull import PullMessageRequest, PullMessageResponse
from ledgermq.remoting.headers.send import (
    SendBackRequest,
    SendMessageRequestV2,
    SendMessageResponse,
)
from ledgermq.remoting.message import (
    decode_batch,
    decode_properties,
    decode_record,
    encode_properties,
    encode_record,
    host_offset_msg_id,
    pack_host,
    tags_code,
)
from ledgermq.remoting.registry import ProcessorRegistry
from ledgermq.remoting.server import RemotingServer

Answer = RemotingCommand | None
Hook = Callable[[Connection, RemotingCommand], Answer | Awaitable[Answer]]
DEFAULT_TOPIC = "TBW102"


class FakeServer:
    """A listener that records what it is asked and lets a test answer instead.

    Attributes:
        seen: every request, in order.
        hooks: request code -> answers instead of the usual handler.
        silent: codes that get no answer.
    """

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[RemotingCommand] = []
        self.hooks: dict[int, Hook] = {}
        self.silent: set[int] = set()
        self._handlers: dict[int, Hook] = {}
        self._server: RemotingServer | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> set[Connection]:
        return self._server.connections if self._server else set()

    def count(self, code: int) -> int:
        return Counter(c.code for c in self.seen)[code]

    def requests(self, code: int) -> list[RemotingCommand]:
        return [c for c in self.seen if c.code == code]

    def refuse(self, code: int, with_code: int, remark: str, times: int = 1 << 30) -> None:
        """Answer `code` with a refusal, `times` times."""
        left = [times]

        def hook(connection: Connection, command: RemotingCommand) -> Answer | Awaitable[Answer]:
            left[0] -= 1
            if left[0] < 0:
                return self._handlers[code](connection, command)
            return response(with_code, remark)

        self.hooks[code] = hook

    async def start(self) -> None:
        """Listen; after a stop on the same port."""
        registry = ProcessorRegistry()
        for code in RequestCode:
            registry.add(code, self._serve)
        self._server = RemotingServer(registry, host="127.0.0.1", on_close=self.lost)
        (self.port,) = await self._server.start([self.port])

    async def stop(self) -> None:
        """As kill -9: connections break, new ones are refused."""
        if self._server:
            await self._server.close()
            self._server = None

    def lost(self, connection: Connection) -> None:
        """A connection closed."""

    def _serve(
        self, connection: Connection, command: RemotingCommand
    ) -> Answer | Awaitable[Answer]:
        self.seen.append(command)
        if command.code in self.silent:
            return None
        handler = self.hooks.get(command.code) or self._handlers.get(command.code)
        if handler is None:
            return response(ResponseCode.REQUEST_CODE_NOT_SUPPORTED, "not in the fake")
        return handler(connection, command)


class FakeNameServer(FakeServer):
    """Tells the routes of a cluster."""

    def __init__(self, cluster: "FakeCluster") -> None:
        super().__init__()
        self._cluster = cluster
        self._handlers = {RequestCode.GET_ROUTEINFO_BY_TOPIC: self._route}

    def _route(self, _: Connection, command: RemotingCommand) -> Answer:
        topic = RouteRequest.of(command).topic
        route = self._cluster.route(topic)
        if route is None:
            return response(
                ResponseCode.TOPIC_NOT_EXIST,
                f"No topic route info in name server for the topic: {topic}",
            )
        return response(ResponseCode.SUCCESS, body=route.encode())


@dataclass
class FakeGroup:
    """What the brokers of one group replicate."""

    name: str
    records: dict[tuple[str, int], list[bytes]] = field(default_factory=lambda: defaultdict(list))
    log: dict[int, bytes] = field(default_factory=dict)
    log_end: int = 48
    offsets: dict[tuple[str, str, int], int] = field(default_factory=dict)
    min_offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    grown: asyncio.Event = field(default_factory=asyncio.Event)

    def append(
        self,
        topic: str,
        queue_id: int,
        body: bytes,
        properties: str,
        store_host: str,
        *,
        sys_flag: int = 0,
        reconsume_times: int = 0,
    ) -> tuple[int, int]:
        """Store one message; its queue offset and commitlog offset."""
        queue = self.records[topic, queue_id]
        at, offset = self.log_end, len(queue)
        record = encode_record(
            topic=topic.encode(),
            queue_id=queue_id,
            flag=0,
            queue_offset=offset,
            physical_offset=at,
            sys_flag=sys_flag,
            born_timestamp_ms=wall_ms(),
            born_host=pack_host("127.0.0.1:1"),
            store_timestamp_ms=wall_ms(),
            store_host=pack_host(store_host),
            reconsume_times=reconsume_times,
            prepared_transaction_offset=0,
            body=body,
            properties=properties.encode(),
        )
        queue.append(record)
        self.log[at] = record
        self.log_end = at + len(record) + 48
        self.grown.set()
        self.grown = asyncio.Event()
        return offset, at


class FakeBroker(FakeServer):
    """One node of a group; leader or not is the cluster's word."""

    def __init__(self, cluster: "FakeCluster", group: FakeGroup) -> None:
        super().__init__()
        self.group = group
        self.max_hold_s = 0.3
        self.members: dict[str, dict[str, Connection]] = defaultdict(dict)
        self.producers: set[str] = set()
        self._cluster = cluster
        self._handlers = {
            RequestCode.SEND_MESSAGE_V2: self._send,
            RequestCode.SEND_BATCH_MESSAGE: self._send,
            RequestCode.PULL_MESSAGE: self._pull,
            RequestCode.HEART_BEAT: self._heartbeat,
            RequestCode.UNREGISTER_CLIENT: self._unregister,
            RequestCode.GET_CONSUMER_LIST_BY_GROUP: self._consumer_list,
            RequestCode.QUERY_CONSUMER_OFFSET: self._query_offset,
            RequestCode.UPDATE_CONSUMER_OFFSET: self._update_offset,
            RequestCode.GET_MAX_OFFSET: self._max_offset,
            RequestCode.GET_MIN_OFFSET: self._min_offset,
            RequestCode.SEARCH_OFFSET_BY_TIMESTAMP: self._search_offset,
            RequestCode.CONSUMER_SEND_MSG_BACK: self._send_back,
        }

    @property
    def leads(self) -> bool:
        return self._cluster.leaders.get(self.group.name) is self

    def lost(self, connection: Connection) -> None:
        for group, members in self.members.items():
            gone = [client for client, c in members.items() if c is connection]
            for client in gone:
                del members[client]
            if gone:
                self._notify(group)

    # --- sending ------------------------------------------------------------------------------

    def _send(self, _: Connection, command: RemotingCommand) -> Answer:
        if not self.leads:
            return response(ResponseCode.SERVICE_NOT_AVAILABLE, "not the leader")
        header = SendMessageRequestV2.of(command)
        if header.topic not in self._cluster.topics:
            template = self._cluster.topics.get(DEFAULT_TOPIC)
            if template is None or header.default_topic != DEFAULT_TOPIC:
                return response(ResponseCode.TOPIC_NOT_EXIST, f"topic {header.topic} not exist")
            self._cluster.topics[header.topic] = min(template, header.default_topic_queue_nums)
        items = [(command.body, header.properties or "")]
        if header.batch:
            items = [(i.body, i.properties.decode()) for i in decode_batch(command.body)]
        placed = [
            self.group.append(
                header.topic, header.queue_id, body, text, self.address, sys_flag=header.sys_flag
            )
            for body, text in items
        ]
        host = pack_host(self.address)
        ids = ",".join(host_offset_msg_id(host, at) for _, at in placed)
        reply = SendMessageResponse(msg_id=ids, queue_id=header.queue_id, queue_offset=placed[0][0])
        return response(ResponseCode.SUCCESS, ext=reply.to_ext())

    def _send_back(self, _: Connection, command: RemotingCommand) -> Answer:
        if not self.leads:
            return response(ResponseCode.SERVICE_NOT_AVAILABLE, "not the leader")
        header = SendBackRequest.of(command)
        message = decode_record(self.group.log[header.offset])
        properties = dict(message.properties)
        properties.setdefault("RETRY_TOPIC", message.topic)
        self.group.append(
            f"%RETRY%{header.group}",
            0,
            message.body,
            encode_properties(properties),
            self.address,
            reconsume_times=message.reconsume_times + 1,
        )
        return response(ResponseCode.SUCCESS)

    # --- pulling ------------------------------------------------------------------------------

    def _pull(self, _: Connection, command: RemotingCommand) -> Awaitable[Answer]:
        header = PullMessageRequest.of(command)
        if header.sys_flag & 1:
            # At once, as brokers do: an offset that comes behind it must not be undone by it.
            key = (header.consumer_group, header.topic, header.queue_id)
            self.group.offsets[key] = header.commit_offset
        return self._held(header)

    async def _held(self, header: PullMessageRequest) -> RemotingCommand:
        key = (header.topic, header.queue_id)
        if header.queue_offset >= len(self.group.records[key]) and header.sys_flag & 2:
            hold_s = min(self.max_hold_s, header.suspend_timeout_millis / 1000)
            try:
                async with asyncio.timeout(hold_s):
                    while header.queue_offset >= len(self.group.records[key]):
                        await self.group.grown.wait()
            except TimeoutError:
                pass
        return self._read(header)

    def _read(self, header: PullMessageRequest) -> RemotingCommand:
        key = (header.topic, header.queue_id)
        queue = self.group.records[key]
        low, high = self.group.min_offsets.get(key, 0), len(queue)
        wanted = {tags_code(t.strip()) for t in (header.subscription or "*").split("||")}
        found: list[bytes] = []
        at = header.queue_offset
        code, following = ResponseCode.SUCCESS, at
        if at < low or at > high:
            code, following = ResponseCode.PULL_OFFSET_MOVED, low if at < low else high
        elif at == high:
            code = ResponseCode.PULL_NOT_FOUND
        else:
            for record in queue[at : at + header.max_msg_nums]:
                tag = decode_record(record).tag
                if header.subscription in (None, "*") or tags_code(tag) in wanted:
                    found.append(record)
                following += 1
            if not found:
                code = ResponseCode.PULL_RETRY_IMMEDIATELY
        reply = PullMessageResponse(
            suggest_which_broker_id=0,
            next_begin_offset=following,
            min_offset=low,
            max_offset=high,
        )
        return response(code, code.name, reply.to_ext(), b"".join(found))

    # --- groups -------------------------------------------------------------------------------

    def _heartbeat(self, connection: Connection, command: RemotingCommand) -> Answer:
        data = HeartbeatData.decode(command.body)
        self.producers |= {p.group_name for p in data.producer_data_set}
        for consumer in data.consumer_data_set:
            retry = f"%RETRY%{consumer.group_name}"
            self._cluster.topics.setdefault(retry, 1)
            members = self.members[consumer.group_name]
            if members.get(data.client_id) is not connection:
                members[data.client_id] = connection
                self._notify(consumer.group_name)
        return response(ResponseCode.SUCCESS)

    def _unregister(self, _: Connection, command: RemotingCommand) -> Answer:
        header = UnregisterClientRequest.of(command)
        if header.consumer_group:
            self.members[header.consumer_group].pop(header.client_id, None)
            self._notify(header.consumer_group)
        return response(ResponseCode.SUCCESS)

    def _consumer_list(self, _: Connection, command: RemotingCommand) -> Answer:
        group = ConsumerListRequest.of(command).consumer_group
        names = sorted(self.members[group])
        if not names:
            return response(ResponseCode.SYSTEM_ERROR, "no consumer for this group")
        return response(ResponseCode.SUCCESS, body=ConsumerIdList(consumer_id_list=names).encode())

    def _notify(self, group: str) -> None:
        for connection in self.members[group].values():
            connection.oneway(
                request(RequestCode.NOTIFY_CONSUMER_IDS_CHANGED, {"consumerGroup": group})
            )

    # --- offsets ------------------------------------------------------------------------------

    def _query_offset(self, _: Connection, command: RemotingCommand) -> Answer:
        h = QueryConsumerOffsetRequest.of(command)
        offset = self.group.offsets.get((h.consumer_group, h.topic, h.queue_id))
        if offset is None:
            return response(ResponseCode.QUERY_NOT_FOUND, "Not found")
        return response(ResponseCode.SUCCESS, ext=OffsetResponse(offset=offset).to_ext())

    def _update_offset(self, _: Connection, command: RemotingCommand) -> Answer:
        h = UpdateConsumerOffsetRequest.of(command)
        self.group.offsets[h.consumer_group, h.topic, h.queue_id] = h.commit_offset
        return response(ResponseCode.SUCCESS)

    def _max_offset(self, _: Connection, command: RemotingCommand) -> Answer:
        h = QueueOffsetRequest.of(command)
        offset = len(self.group.records[h.topic, h.queue_id])
        return response(ResponseCode.SUCCESS, ext=OffsetResponse(offset=offset).to_ext())

    def _min_offset(self, _: Connection, command: RemotingCommand) -> Answer:
        h = QueueOffsetRequest.of(command)
        offset = self.group.min_offsets.get((h.topic, h.queue_id), 0)
        return response(ResponseCode.SUCCESS, ext=OffsetResponse(offset=offset).to_ext())

    def _search_offset(self, _: Connection, command: RemotingCommand) -> Answer:
        h = SearchOffsetRequest.of(command)
        times = [
            decode_record(r).store_timestamp_ms for r in self.group.records[h.topic, h.queue_id]
        ]
        offset = sum(t < h.timestamp for t in times)
        return response(ResponseCode.SUCCESS, ext=OffsetResponse(offset=offset).to_ext())


class FakeCluster:
    """Name servers and broker groups.

    Attributes:
        topics: name -> queues per group.
        leaders: group name -> the broker that routes call id 0; absent: none.
        nodes: group name -> its brokers, dead ones included.
    """

    def __init__(self) -> None:
        self.topics: dict[str, int] = {}
        self.leaders: dict[str, FakeBroker] = {}
        self.nodes: dict[str, list[FakeBroker]] = {}
        self.down: set[FakeBroker] = set()
        self.name_servers: list[FakeNameServer] = []

    @classmethod
    async def open(cls, *groups: str, nodes: int = 1, name_servers: int = 1) -> "FakeCluster":
        """Start everything; the first node of each group leads."""
        self = cls()
        for _ in range(name_servers):
            self.name_servers.append(FakeNameServer(self))
            await self.name_servers[-1].start()
        for name in groups or ("RaftNode00",):
            group = FakeGroup(name)
            self.nodes[name] = [FakeBroker(self, group) for _ in range(nodes)]
            for node in self.nodes[name]:
                await node.start()
            self.leaders[name] = self.nodes[name][0]
        return self

    async def close(self) -> None:
        for server in [*self.name_servers, *(n for ns in self.nodes.values() for n in ns)]:
            await server.stop()

    @property
    def nameserver(self) -> str:
        return ";".join(n.address for n in self.name_servers)

    @property
    def group(self) -> FakeGroup:
        return next(iter(self.nodes.values()))[0].group

    @property
    def broker(self) -> FakeBroker:
        return next(iter(self.nodes.values()))[0]

    async def kill_leader(self, group: str) -> FakeBroker:
        """Stop the leader; the routes lose it."""
        node = self.leaders.pop(group)
        self.down.add(node)
        await node.stop()
        return node

    def elect(self, node: FakeBroker) -> None:
        self.leaders[node.group.name] = node

    def route(self, topic: str) -> TopicRouteData | None:
        queues = self.topics.get(topic)
        if queues is None:
            return None
        brokers = []
        for name, nodes in self.nodes.items():
            alive = [n for n in nodes if n not in self.down]
            leader = self.leaders.get(name)
            addresses = {i + 1: n.address for i, n in enumerate(alive) if n is not leader}
            if leader:
                addresses[0] = leader.address
            brokers.append(BrokerData(cluster="C", broker_name=name, broker_addrs=addresses))
        return TopicRouteData(
            queue_datas=[
                QueueData(broker_name=n, read_queue_nums=queues, write_queue_nums=queues, perm=6)
                for n in self.nodes
            ],
            broker_datas=brokers,
        )

    def bodies(self, topic: str) -> list[bytes]:
        """Everything stored of a topic."""
        return [
            decode_record(record).body
            for nodes in self.nodes.values()
            for (t, _), records in nodes[0].group.records.items()
            for record in records
            if t == topic
        ]

    def put(self, topic: str, queue_id: int, body: bytes, **properties: str) -> int:
        """Store a message in the first group; its queue offset."""
        text = encode_properties(properties)
        return self.group.append(topic, queue_id, body, text, self.broker.address)[0]


def stored_properties(record: bytes) -> dict[str, str]:
    """The properties of a stored record."""
    return decode_properties(encode_properties(decode_record(record).properties))
