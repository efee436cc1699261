"""Pulling: 11 and 361, with tag filter and long polling. Any node serves what is committed."""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from ledgermq.broker import topics
from ledgermq.broker.clients import ClientTable
from ledgermq.broker.config_fields import BrokerConfig
from ledgermq.broker.forward import Gate
from ledgermq.broker.long_polling import HeldPull, LongPolling
from ledgermq.broker.metadata import Metadata
from ledgermq.broker.stats import BrokerStats
from ledgermq.broker.store.pulls import PullResult, PullStatus
from ledgermq.broker.store.reader import MessageReader
from ledgermq.broker.writer import BrokerNode
from ledgermq.remoting.clock import mono_ms
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import RemotingCommand, response
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.headers.pull import PullMessageRequest, PullMessageResponse
from ledgermq.remoting.message_properties import java_hash
from ledgermq.remoting.registry import HandlerResult, ProcessorRegistry

# Followers serve pulls themselves.
LEADER_CODES: Final[frozenset[int]] = frozenset()

_COMMIT_BIT, _SUSPEND_BIT, _SUBSCRIPTION_BIT = 1, 2, 4
_MAX_SUSPEND_MS = 60_000

Codes = Collection[int] | None
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PullService:
    """What the handler needs."""

    node: BrokerNode
    metadata: Metadata
    clients: ClientTable[Connection]
    reader: MessageReader
    polling: LongPolling
    gate: Gate
    config: BrokerConfig
    stats: BrokerStats


@dataclass(frozen=True, slots=True)
class _Pull:
    """A checked request."""

    connection: Connection
    command: RemotingCommand
    header: PullMessageRequest
    codes: Codes
    topic_sys_flag: int
    group_sys_flag: int


def register(registry: ProcessorRegistry, service: PullService) -> None:
    """Serve 11 and 361."""
    registry.add(RequestCode.PULL_MESSAGE, partial(pull, service))
    registry.add(RequestCode.LITE_PULL_MESSAGE, partial(pull, service))


def pull(service: PullService, connection: Connection, command: RemotingCommand) -> HandlerResult:
    """11, 361: the next messages of a queue, at once or when they come."""
    header = PullMessageRequest.of(command)
    if service.metadata.groups.get(header.consumer_group) is None and service.node.ready:
        group = topics.find_group(service.metadata.groups, header.consumer_group)
        fresh = group or topics.new_group(header.consumer_group, service.config)
        if group is None and fresh is not None:
            return _pull_with_new_group(service, connection, command, header)
    return _run(service, _checked(service, connection, command, header), may_wait=True)


async def _pull_with_new_group(
    service: PullService,
    connection: Connection,
    command: RemotingCommand,
    header: PullMessageRequest,
) -> RemotingCommand | None:
    fresh = topics.new_group(header.consumer_group, service.config)
    if fresh is not None:
        # On a full disk, say, it cannot be kept; reading goes on.
        with suppress(PeerError):
            await service.node.put_group(fresh)
    result = _run(service, _checked(service, connection, command, header), may_wait=True)
    if result is None or isinstance(result, RemotingCommand):
        return result
    return await result


def _checked(
    service: PullService,
    connection: Connection,
    command: RemotingCommand,
    header: PullMessageRequest,
) -> _Pull:
    """Source of the order: remoting.md §6.2."""
    if not service.config.broker_permission & topics.PERM_READ:
        raise PeerError(ResponseCode.NO_PERMISSION, "this broker is not readable")
    topics.refuse_internal(header.topic)
    group = topics.find_group(service.metadata.groups, header.consumer_group)
    if group is None:
        # Made by the leader a moment ago, perhaps, and not applied here yet; or not kept.
        group = topics.new_group(header.consumer_group, service.config)
    if group is None:
        raise PeerError(
            ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST,
            f"subscription group [{header.consumer_group}] does not exist",
        )
    if not group.consume_enable:
        raise PeerError(
            ResponseCode.NO_PERMISSION,
            f"subscription group no permission, {header.consumer_group}",
        )
    topic = service.metadata.topics.get(header.topic)
    if topic is None:
        raise PeerError(
            ResponseCode.TOPIC_NOT_EXIST, f"topic[{header.topic}] not exist, apply first please!"
        )
    if not topic.perm & topics.PERM_READ:
        raise PeerError(
            ResponseCode.NO_PERMISSION, f"the topic[{header.topic}] pulling message is forbidden"
        )
    if not 0 <= header.queue_id < topic.read_queue_nums:
        raise PeerError(
            ResponseCode.INVALID_PARAMETER,
            f"queueId[{header.queue_id}] is illegal, topic:[{header.topic}]"
            f" topicConfig.readQueueNums:[{topic.read_queue_nums}]",
        )
    return _Pull(
        connection,
        command,
        header,
        _filter(service, header),
        topic.topic_sys_flag,
        group.group_sys_flag,
    )


def _filter(service: PullService, header: PullMessageRequest) -> Codes:
    """The tags codes that the consumer wants, None for all."""
    if (header.expression_type or "TAG").upper() != "TAG":
        raise PeerError(
            ResponseCode.SYSTEM_ERROR,
            f"The broker does not support consumer to filter message by {header.expression_type}",
        )
    if header.sys_flag & _SUBSCRIPTION_BIT:
        return tag_codes(header.subscription or "")
    if service.clients.consumer_group(header.consumer_group) is None:
        raise PeerError(
            ResponseCode.SUBSCRIPTION_NOT_EXIST,
            f"the consumer's group info not exist: {header.consumer_group}",
        )
    found = service.clients.subscription(header.consumer_group, header.topic)
    if found is None:
        raise PeerError(
            ResponseCode.SUBSCRIPTION_NOT_EXIST,
            f"the consumer's subscription not exist: {header.topic}",
        )
    if found.sub_version < header.sub_version:
        raise PeerError(
            ResponseCode.SUBSCRIPTION_NOT_LATEST, "the consumer's subscription not latest"
        )
    return tag_codes(found.sub_string)


def tag_codes(expression: str) -> Codes:
    """Hashes of the tags in "TagA || TagB"; None when all messages are wanted."""
    tags = [t for part in expression.split("||") if (t := part.strip())]
    if not tags or "*" in tags:
        return None
    return frozenset(java_hash(t) for t in tags)


# --- the pull itself --------------------------------------------------------------------------


def _run(service: PullService, p: _Pull, *, may_wait: bool) -> HandlerResult:
    if may_wait:
        # On arrival only: when a held pull runs again, its offset may be an old one.
        _commit_offset(service, p)
    found = _find(service, p)
    if found is None:
        return _run_later(service, p, may_wait=may_wait)
    return _answer(service, p, found, may_wait=may_wait)


async def _run_later(service: PullService, p: _Pull, *, may_wait: bool) -> RemotingCommand | None:
    """The disk must be read to know which messages these are: in a thread."""
    result = _answer(service, p, await _find_later(service, p), may_wait=may_wait)
    if result is None or isinstance(result, RemotingCommand):
        return result
    return await result


def _answer(service: PullService, p: _Pull, found: PullResult, *, may_wait: bool) -> HandlerResult:
    if not found.units:
        if may_wait and _hold(service, p, found):
            return None
        service.stats.on_get(0)
        return _reply(p, found, _code(service, p.header, found), b"")
    service.stats.on_get(len(found.units))
    body = service.reader.read_nowait(p.header.topic, p.header.queue_id, found)
    if body is not None:
        return _reply(p, found, ResponseCode.SUCCESS, body)
    return _read_later(service, p, found)


async def _read_later(service: PullService, p: _Pull, found: PullResult) -> RemotingCommand:
    """The disk must be read: in a thread."""
    body = await service.reader.read(p.header.topic, p.header.queue_id, found)
    if body is not None:
        return _reply(p, found, ResponseCode.SUCCESS, body)
    # The oldest messages were removed meanwhile: the consumer learns where to go on.
    found = await _find_later(service, p)
    code = ResponseCode.PULL_RETRY_IMMEDIATELY if found.units else _code(service, p.header, found)
    found.next_offset = p.header.queue_offset if found.units else found.next_offset
    return _reply(p, found, code, b"")


def _find(service: PullService, p: _Pull) -> PullResult | None:
    """None: the disk must be asked."""
    find = service.reader.find
    found = _looked_up(service, p, find, recent=True)
    if found is not None and found.units and _are_old(service, found):
        found = _looked_up(service, p, find, recent=False)
    return found if found is None else _kept_ahead(service, p, found)


async def _find_later(service: PullService, p: _Pull) -> PullResult:
    find = service.reader.find_later
    found = await _looked_up(service, p, find, recent=True)
    if found.units and _are_old(service, found):
        found = await _looked_up(service, p, find, recent=False)
    return _kept_ahead(service, p, found)


def _looked_up(service: PullService, p: _Pull, find: Callable[..., T], *, recent: bool) -> T:
    config, header = service.config, p.header
    count, size = (
        (config.max_transfer_count_in_memory, config.max_transfer_bytes_in_memory)
        if recent
        else (config.max_transfer_count_in_disk, config.max_transfer_bytes_in_disk)
    )
    return find(
        header.topic,
        header.queue_id,
        header.queue_offset,
        max_count=max(1, min(header.max_msg_nums, count)),
        max_bytes=size,
        codes=p.codes,
    )


def _are_old(service: PullService, found: PullResult) -> bool:
    return not service.reader.is_recent(found.units[0].physical_offset)


def _kept_ahead(service: PullService, p: _Pull, found: PullResult) -> PullResult:
    if _may_be_ahead(service, found):
        # A smaller one would make the consumer read everything again.
        found.next_offset = p.header.queue_offset
    return found


def _code(service: PullService, header: PullMessageRequest, found: PullResult) -> int:
    """The response code of a pull that found nothing; source: remoting.md §6.2."""
    status = found.status
    if status is PullStatus.NO_MATCHED_MESSAGE:
        return ResponseCode.PULL_RETRY_IMMEDIATELY
    if status is PullStatus.OFFSET_OVERFLOW_ONE:
        return ResponseCode.PULL_NOT_FOUND
    if status is PullStatus.NO_MESSAGE_IN_QUEUE and header.queue_offset == 0:
        return ResponseCode.PULL_NOT_FOUND
    if _may_be_ahead(service, found):
        return ResponseCode.PULL_RETRY_IMMEDIATELY
    return ResponseCode.PULL_OFFSET_MOVED


def _may_be_ahead(service: PullService, found: PullResult) -> bool:
    """Whether an offset past the end here may well be right: only a sure leader knows the end."""
    past_end = (PullStatus.NO_MESSAGE_IN_QUEUE, PullStatus.OFFSET_OVERFLOW_BADLY)
    return found.status in past_end and not service.node.leads_surely


def _hold(service: PullService, p: _Pull, found: PullResult) -> bool:
    """Let the pull wait for messages; False when it is to be answered now."""
    header = p.header
    if not header.sys_flag & _SUSPEND_BIT:
        return False
    code = _code(service, header, found)
    behind = found.status is PullStatus.NO_MATCHED_MESSAGE
    if code == ResponseCode.PULL_OFFSET_MOVED or behind:
        return False
    wait_ms = min(header.suspend_timeout_millis, _MAX_SUSPEND_MS)
    if not service.config.long_polling_enable:
        wait_ms = service.config.short_polling_time_ms

    def wake(_time_is_over: bool) -> None:
        p.connection.serve(p.command, lambda _c, _r: _run(service, p, may_wait=False))

    held = HeldPull(mono_ms() + wait_ms, p.codes, wake, lambda: p.connection.closed)
    return service.polling.hold(header.topic, header.queue_id, held)


def _commit_offset(service: PullService, p: _Pull) -> None:
    """Keep the offset that the pull carries; a follower passes it on to the leader."""
    header = p.header
    if header.sys_flag & _COMMIT_BIT and header.commit_offset >= 0:
        service.gate.commit_offset(
            header.consumer_group, header.topic, header.queue_id, header.commit_offset
        )


def _reply(p: _Pull, found: PullResult, code: int, body: bytes) -> RemotingCommand:
    ext = PullMessageResponse(
        suggest_which_broker_id=0,
        next_begin_offset=found.next_offset,
        min_offset=found.min_offset,
        max_offset=found.max_offset,
        topic_sys_flag=p.topic_sys_flag,
        group_sys_flag=p.group_sys_flag,
    ).to_ext()
    return response(code, found.status.value, ext, body)
