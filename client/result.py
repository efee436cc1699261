"""Queues and the outcome of a send, printed as RocketMQ's tools print them."""

from enum import IntEnum
from typing import NamedTuple


class MessageQueue(NamedTuple):
    """One queue of a topic in one broker group; sorts by topic, broker name, queue id."""

    topic: str
    broker_name: str
    queue_id: int

    def __str__(self) -> str:
        return (
            f"MessageQueue [topic={self.topic}, brokerName={self.broker_name},"
            f" queueId={self.queue_id}]"
        )


class SendStatus(IntEnum):
    """How safely a message was stored; the number is the response code on the wire."""

    SEND_OK = 0
    FLUSH_DISK_TIMEOUT = 10
    SLAVE_NOT_AVAILABLE = 11
    FLUSH_SLAVE_TIMEOUT = 12


class SendResult(NamedTuple):
    """A stored message.

    Attributes:
        status: anything but SEND_OK means stored, with a weaker promise.
        msg_id: the id this client gave the message (UNIQ_KEY).
        offset_msg_id: the broker's id: its address and the commitlog offset, in hex.
        queue: where the message is.
        queue_offset: its place in that queue, from 0.
    """

    status: SendStatus
    msg_id: str
    offset_msg_id: str
    queue: MessageQueue
    queue_offset: int

    def __str__(self) -> str:
        return (
            f"SendResult [sendStatus={self.status.name}, msgId={self.msg_id},"
            f" offsetMsgId={self.offset_msg_id}, messageQueue={self.queue},"
            f" queueOffset={self.queue_offset}]"
        )
