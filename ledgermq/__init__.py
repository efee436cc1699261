"""ledgermq: RocketMQ name server and DLedger broker groups, without the JVM.

The client's public names, loaded when first used: a broker or a command line needs none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ledgermq.client import errors, sync
    from ledgermq.client.errors import (
        BackgroundFailure,
        BrokerRefused,
        ClientClosed,
        ClientError,
        ForkedClient,
        InvalidArgument,
        NameServerUnreachable,
        NoLeader,
        RequestFailed,
        SendManyFailed,
        SendTimeout,
        TopicNotFound,
        WrongLoop,
    )
    from ledgermq.client.producer import Producer
    from ledgermq.client.pull_consumer import PullConsumer
    from ledgermq.client.push_consumer import Consumer
    from ledgermq.client.queue_calls import Pulled
    from ledgermq.client.result import MessageQueue, SendResult, SendStatus
    from ledgermq.remoting.errors import LedgerMQError
    from ledgermq.remoting.message import Message, MessageExt

__all__ = [
    "BackgroundFailure",
    "BrokerRefused",
    "ClientClosed",
    "ClientError",
    "Consumer",
    "ForkedClient",
    "InvalidArgument",
    "LedgerMQError",
    "Message",
    "MessageExt",
    "MessageQueue",
    "NameServerUnreachable",
    "NoLeader",
    "Producer",
    "PullConsumer",
    "Pulled",
    "RequestFailed",
    "SendManyFailed",
    "SendResult",
    "SendStatus",
    "SendTimeout",
    "TopicNotFound",
    "WrongLoop",
    "__version__",
    "errors",
    "sync",
]

_HOMES = {
    "Consumer": "client.push_consumer",
    "LedgerMQError": "remoting.errors",
    "Message": "remoting.message",
    "MessageExt": "remoting.message",
    "MessageQueue": "client.result",
    "Producer": "client.producer",
    "PullConsumer": "client.pull_consumer",
    "Pulled": "client.queue_calls",
    "SendResult": "client.result",
    "SendStatus": "client.result",
}


def __getattr__(name: str) -> object:
    if name in {"errors", "sync"}:
        return import_module(f"ledgermq.client.{name}")
    if name in __all__:
        home = _HOMES.get(name, "client.errors")
        return getattr(import_module(f"ledgermq.{home}"), name)
    raise AttributeError(f"module 'ledgermq' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
