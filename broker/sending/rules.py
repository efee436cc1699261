"""What may be stored as it is sent, and where. Pure."""

from random import randrange

from ledgermq.broker import topics
from ledgermq.broker.config_fields import BrokerConfig
from ledgermq.remoting.bodies.registration import TopicConfig
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.headers.send import SendMessageRequest
from ledgermq.remoting.message_types import SysFlag

_INTERNAL = topics.INTERNAL_TOPIC
_DELAYS = ("DELAY", "TIMER_DELAY_SEC", "TIMER_DELAY_MS", "TIMER_DELIVER_MS")


def check(config: BrokerConfig, body_bytes: int, header: SendMessageRequest) -> None:
    """Refuse what may not be stored, in upstream's order."""
    topics.refuse_internal(header.topic)
    topics.check_sendable(header.topic)
    if body_bytes > config.max_message_size:
        raise PeerError(
            ResponseCode.MESSAGE_ILLEGAL,
            f"message body of {body_bytes} bytes is over maxMessageSize {config.max_message_size}",
        )
    if header.sys_flag & SysFlag.TRANSACTION_MASK:
        raise _no_transactions()
    check_properties(header.topic, header.properties or "")


def check_properties(topic: str, properties: str) -> None:
    """Refuse what this broker would have to do and cannot."""
    if _INTERNAL in properties:
        # As REAL_TOPIC or RETRY_TOPIC it would be restored into the metadata later.
        topics.refuse_internal(_INTERNAL)
    if "TRAN_MSG\x01" in properties and property_value(properties, "TRAN_MSG") == "true":
        raise _no_transactions()
    if topics.is_retry(topic) or "DEL" not in properties:
        return
    if any(property_value(properties, name) not in (None, "0") for name in _DELAYS):
        raise PeerError(ResponseCode.MESSAGE_ILLEGAL, "this broker does not take delayed messages")


def _no_transactions() -> PeerError:
    return PeerError(ResponseCode.NO_PERMISSION, "this broker does not take transactional messages")


def property_value(properties: str, name: str) -> str | None:
    """A property's value; of a repeated name the last one counts."""
    mark = f"{name}\x01"
    at = properties.rfind("\x02" + mark) + 1
    if at == 0 and not properties.startswith(mark):
        return None
    return properties[at + len(mark) :].split("\x02", 1)[0]


def queue_of(config: BrokerConfig, header: SendMessageRequest, topic: TopicConfig) -> int:
    """The queue to write to.

    Raises:
        PeerError: 16 the topic is not writable, 29 it has no such queue.
    """
    if not topic.perm & config.broker_permission & topics.PERM_WRITE:
        raise PeerError(
            ResponseCode.NO_PERMISSION, f"sending message to topic[{header.topic}] is forbidden"
        )
    if header.queue_id < 0:
        return randrange(max(topic.write_queue_nums, 1))
    if header.queue_id >= max(topic.read_queue_nums, topic.write_queue_nums):
        raise PeerError(
            ResponseCode.INVALID_PARAMETER,
            f"request queueId[{header.queue_id}] is illegal, topic {header.topic} has"
            f" {topic.write_queue_nums} queues to write to",
        )
    return header.queue_id
