"""Answers to sends, and what the broker adds to a message: most of both is always the same."""

import struct
from dataclasses import dataclass, field

import msgspec

from ledgermq.broker.config_fields import BrokerConfig
from ledgermq.broker.writer import AppendResult
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.command import VERSION

from .rules import property_value

# Length of what follows, length of the JSON header.
_PREFIX = struct.Struct(">II")


# What an answer takes from its request: its number, the properties in its header, the queue.
Asked = tuple[int, str, int]


@dataclass(slots=True)
class SendAnswers:
    """Builds answers as whole frames: of the busiest answer of all most is known beforehand.

    Attributes:
        config: of this broker.
        store_host: this broker's address as records hold it.
    """

    config: BrokerConfig
    store_host: bytes
    _template: str = field(init=False)
    # The first half of every message id.
    _host_id: str = field(init=False)
    _cluster_property: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Prepare what is the same for every send."""
        config = self.config
        self._host_id = self.store_host.hex().upper()
        self._cluster_property = f"CLUSTER\x01{config.broker_cluster_name}\x02".encode()
        region = _json(config.region_id).replace("%", "%%")
        trace_on = "true" if config.trace_on else "false"
        self._template = (
            f'{{"code":%d,"extFields":{{"MSG_REGION":{region},"TRACE_ON":"{trace_on}",'
            '"msgId":"%s","queueId":"%d","queueOffset":"%d"%s},"flag":1,"language":"PYTHON",'
            f'"opaque":%d,"serializeTypeCurrentRPC":"JSON","version":{VERSION}}}'
        )

    def properties(self, text: str) -> bytes:
        """The client's properties and the cluster's name.

        Some clients leave the last separator out.
        """
        if text and not text.endswith("\x02"):
            text += "\x02"
        return text.encode() + self._cluster_property

    def message_id(self, physical_offset: int) -> str:
        """The offset message id of a record of this broker."""
        return f"{self._host_id}{physical_offset:016X}"

    def plain(self, asked: Asked, result: AppendResult) -> bytes:
        """The answer to a send of one message."""
        opaque, properties, queue_id = asked
        ids = self.message_id(result.physical_offset)
        return self.frame(opaque, properties, result, ids, queue_id)

    def frame(
        self, opaque: int, properties: str, result: AppendResult, ids: str, queue_id: int
    ) -> bytes:
        """The answer to request `opaque`.

        Args:
            opaque: its number.
            properties: of the request's header.
            result: of the (first) message.
            ids: message ids, "," between those of a batch.
            queue_id: of the messages.
        """
        code = ResponseCode.FLUSH_DISK_TIMEOUT if result.sync_timed_out else ResponseCode.SUCCESS
        unique = property_value(properties, "UNIQ_KEY")
        transaction = f',"transactionId":{_json(unique)}' if unique else ""
        where = (ids, queue_id, result.queue_offset, transaction, opaque)
        head = (self._template % (code, *where)).encode()
        return _PREFIX.pack(len(head) + 4, len(head)) + head


def _json(text: str) -> str:
    """A string as JSON; ids need no escapes."""
    return f'"{text}"' if text.isalnum() else msgspec.json.encode(text).decode()
