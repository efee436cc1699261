"""What a broker tells about itself: 26 configuration, 28 figures."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import ledgermq
from ledgermq.broker.config import all_items
from ledgermq.broker.config_fields import BrokerConfig
from ledgermq.broker.stats import BrokerStats, StoreInfo
from ledgermq.remoting.bodies.registration import DataVersion
from ledgermq.remoting.bodies.route import KVTable
from ledgermq.remoting.clock import wall_ms
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import VERSION, RemotingCommand, response
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.headers.broker import BrokerConfigResponse
from ledgermq.remoting.registry import ProcessorRegistry

# Each node tells about itself.
LEADER_CODES: Final[frozenset[int]] = frozenset()
_SECOND_MS = 1000
# Figures of parts that this broker does not have; operators' tools parse them as numbers.
_NOT_HERE = {
    "ackThreadPoolQueueHeadWaitTimeMills": "0",
    "ackThreadPoolQueueSize": "0",
    "pageCacheLockTimeMills": "0",
    "pullThreadPoolQueueHeadWaitTimeMills": "0",
    "pullThreadPoolQueueSize": "0",
    "queryThreadPoolQueueHeadWaitTimeMills": "0",
    "queryThreadPoolQueueSize": "0",
    "sendThreadPoolQueueHeadWaitTimeMills": "0",
    "timerCongestNum": "0",
    "timerDequeueTps": "0.0",
    "timerEnqueueTps": "0.0",
    "timerOffsetBehind": "0",
    "timerReadBehind": "0",
}


@dataclass(frozen=True, slots=True)
class InfoService:
    """What the handlers need.

    Attributes:
        store_info: figures of the log, now.
        is_active: whether this node serves as the leader.
        now_ms: ms since 1970.
    """

    config: BrokerConfig
    stats: BrokerStats
    store_info: Callable[[], StoreInfo]
    is_active: Callable[[], bool]
    now_ms: Callable[[], int] = wall_ms


def register(registry: ProcessorRegistry, service: InfoService) -> None:
    """Serve 26 and 28."""
    registry.add(RequestCode.GET_BROKER_CONFIG, partial(broker_config, service))
    registry.add(RequestCode.GET_BROKER_RUNTIME_INFO, partial(runtime_info, service))


def broker_config(
    service: InfoService, _connection: Connection, _command: RemotingCommand
) -> RemotingCommand:
    """26: the configuration as properties text."""
    text = "".join(f"{item}\n" for item in all_items(service.config))
    # It does not change while the broker runs.
    version = DataVersion(timestamp=service.stats.boot_ms).encode().decode()
    ext = BrokerConfigResponse(version=version).to_ext()
    return response(ResponseCode.SUCCESS, ext=ext, body=text.encode())


def runtime_info(
    service: InfoService, _connection: Connection, _command: RemotingCommand
) -> RemotingCommand:
    """28: names and figures, as clusterList and brokerStatus show them."""
    table = _NOT_HERE | service.stats.items() | _store_items(service) | _own_items(service)
    return response(ResponseCode.SUCCESS, body=KVTable(table=dict(sorted(table.items()))).encode())


def _own_items(service: InfoService) -> dict[str, str]:
    boot_ms, now_ms = service.stats.boot_ms, service.now_ms()
    return {
        "bootTimestamp": str(boot_ms),
        "brokerActive": "true" if service.is_active() else "false",
        "brokerVersion": str(VERSION),
        "brokerVersionDesc": f"ledgermq-{ledgermq.__version__}",
        "runtime": _duration((now_ms - boot_ms) // _SECOND_MS),
        "startAcceptSendRequestTimeStamp": "0",
    }


def _store_items(service: InfoService) -> dict[str, str]:
    info = service.store_info()
    return {
        "commitLogDiskRatio": f"{info.disk_used_ratio:.4f}",
        "commitLogMaxOffset": str(info.max_physical_offset),
        "commitLogMinOffset": str(info.min_physical_offset),
        "consumeQueueDiskRatio": f"{info.disk_used_ratio:.4f}",
        "dispatchBehindBytes": str(info.dispatch_behind_bytes),
        "earliestMessageTimeStamp": str(info.earliest_store_time_ms),
        "remainHowManyDataToFlush": f"{info.unflushed_bytes} B",
        "sendThreadPoolQueueCapacity": str(service.config.send_queue_capacity),
        "sendThreadPoolQueueSize": str(info.pending_sends),
    }


def _duration(seconds: int) -> str:
    minutes, second = divmod(max(0, seconds), 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    return f"[ {day} days, {hour} hours, {minute} minutes, {second} seconds ]"
