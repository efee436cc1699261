"""What is asked of name servers."""

from .base import Header, Int32


class RouteRequest(Header):
    """Code 105."""

    topic: str
    accept_standard_json_only: bool | None = None


class PutKVConfigRequest(Header):
    """Code 100."""

    namespace: str
    key: str
    value: str


class KVConfigRequest(Header):
    """Codes 101 (get) and 102 (delete)."""

    namespace: str
    key: str


class GetKVConfigResponse(Header):
    """Reply of 101."""

    value: str | None = None


class KVNamespaceRequest(Header):
    """Code 219: everything under a namespace."""

    namespace: str


class BrokerNameRequest(Header):
    """Codes 205 and 327: take the write permission of a broker away, or give it back."""

    broker_name: str


class WipeWritePermResponse(Header):
    """Reply of 205."""

    wipe_topic_count: Int32


class AddWritePermResponse(Header):
    """Reply of 327."""

    add_topic_count: Int32


class TopicsByClusterRequest(Header):
    """Code 224."""

    cluster: str


class BrokerMemberGroupRequest(Header):
    """Code 901."""

    cluster_name: str
    broker_name: str
