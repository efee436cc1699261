"""Creating, deleting and looking at topics."""

from .base import Header, Int32


class CreateTopicRequest(Header):
    """Code 17: create a topic or change it.

    Attributes:
        perm: bits 4 read, 2 write, 1 inherit.
        attributes: changes as "+key=value,-key".
    """

    topic: str
    default_topic: str
    read_queue_nums: Int32
    write_queue_nums: Int32
    perm: Int32
    topic_filter_type: str
    topic_sys_flag: Int32 = 0
    order: bool = False
    attributes: str | None = None
    force: bool | None = None


class TopicRequest(Header):
    """Codes 202, 215, 217, 300 and 351: a topic, by name."""

    topic: str


class DeleteTopicInNamesrvRequest(Header):
    """Code 216; without a cluster every broker's entry goes."""

    topic: str
    cluster_name: str | None = None
