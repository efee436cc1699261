"""Sending messages, sending them back, and pushing a reply to the one who asked."""

from .base import Header, Int32, Int64


class SendMessageRequest(Header):
    """Code 10 and 324: the long field names."""

    producer_group: str
    topic: str
    default_topic: str
    default_topic_queue_nums: Int32
    queue_id: Int32
    sys_flag: Int32
    born_timestamp: Int64
    flag: Int32
    properties: str | None = None
    reconsume_times: Int32 | None = None
    unit_mode: bool = False
    batch: bool = False
    max_reconsume_times: Int32 | None = None
    broker_name: str | None = None


class SendMessageRequestV2(
    SendMessageRequest,
    rename={
        "producer_group": "a",
        "topic": "b",
        "default_topic": "c",
        "default_topic_queue_nums": "d",
        "queue_id": "e",
        "sys_flag": "f",
        "born_timestamp": "g",
        "flag": "h",
        "properties": "i",
        "reconsume_times": "j",
        "unit_mode": "k",
        "max_reconsume_times": "l",
        "batch": "m",
        "broker_name": "n",
    },
):
    """Codes 310, 320 and 325: the same fields by one-letter names, cheaper to carry."""

    # msgspec renames only the fields that a class declares itself.
    producer_group: str
    topic: str
    default_topic: str
    default_topic_queue_nums: Int32
    queue_id: Int32
    sys_flag: Int32
    born_timestamp: Int64
    flag: Int32
    properties: str | None = None
    reconsume_times: Int32 | None = None
    unit_mode: bool = False
    batch: bool = False
    max_reconsume_times: Int32 | None = None
    broker_name: str | None = None


class SendMessageResponse(
    Header,
    rename={
        "msg_id": "msgId",
        "queue_id": "queueId",
        "queue_offset": "queueOffset",
        "transaction_id": "transactionId",
        "msg_region": "MSG_REGION",
        "trace_on": "TRACE_ON",
    },
):
    """Reply of every send.

    Attributes:
        msg_id: offset message id, not the client's id; comma-joined for a batch.
        queue_offset: of the first message of a batch.
        transaction_id: the client's id (UNIQ_KEY).
    """

    msg_id: str
    queue_id: Int32
    queue_offset: Int64
    transaction_id: str | None = None
    msg_region: str | None = None
    trace_on: str | None = None


class SendBackRequest(Header):
    """Code 36: a consumer could not process a message and wants it again later.

    Attributes:
        offset: commitlog offset of the message.
        delay_level: 0 lets the broker choose by the number of attempts, below 0 gives up.
    """

    offset: Int64
    group: str
    delay_level: Int32
    origin_msg_id: str | None = None
    origin_topic: str | None = None
    unit_mode: bool = False
    max_reconsume_times: Int32 | None = None


class PushReplyRequest(Header):
    """Code 326, broker to producer: the answer to a request message."""

    producer_group: str
    topic: str
    default_topic: str
    default_topic_queue_nums: Int32
    queue_id: Int32
    sys_flag: Int32
    born_timestamp: Int64
    flag: Int32
    born_host: str
    store_host: str
    store_timestamp: Int64
    properties: str | None = None
    reconsume_times: Int32 | None = None
    unit_mode: bool = False
