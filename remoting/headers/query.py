"""Looking up messages and consumption."""

import msgspec

from .base import Header, Int32, Int64


class QueryMessageRequest(Header):
    """Code 12.

    Attributes:
        begin_timestamp: first store time wanted, ms since 1970.
        unique_key_query: the key is a message id, so one topic has few of them.
    """

    topic: str
    key: str
    max_num: Int32
    begin_timestamp: Int64
    end_timestamp: Int64
    unique_key_query: bool = msgspec.field(name="_UNIQUE_KEY_QUERY", default=False)


class QueryMessageResponse(Header):
    """Reply of 12; the body holds records back to back."""

    index_last_update_timestamp: Int64
    index_last_update_phyoffset: Int64


class ViewMessageRequest(Header):
    """Code 33: the record at a commitlog offset."""

    offset: Int64
    topic: str | None = None


class QueryConsumeQueueRequest(Header):
    """Code 321: units of a queue, from `index` on."""

    topic: str
    queue_id: Int32
    index: Int64
    count: Int32
    consumer_group: str | None = None


class ConsumeStatsRequest(Header):
    """Code 208; without a topic, all topics of the group.

    Attributes:
        topic_list: names joined by ";" (5.3 clients).
    """

    consumer_group: str
    topic: str | None = None
    topic_list: str | None = None
