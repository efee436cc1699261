"""A message as an application sees it, before sending and after receiving."""

from dataclasses import dataclass, field
from typing import Final

from .message_properties import PropertyName


class SysFlag:
    """Bits of a message's system flag."""

    COMPRESSED: Final = 0x1
    MULTI_TAGS: Final = 0x2
    # Two bits, one state.
    TRANSACTION_MASK: Final = 0xC
    TRANSACTION_NONE: Final = 0x0
    TRANSACTION_PREPARED: Final = 0x4
    TRANSACTION_COMMIT: Final = 0x8
    TRANSACTION_ROLLBACK: Final = 0xC
    BORN_HOST_V6: Final = 0x10
    STORE_HOST_V6: Final = 0x20
    # Which compression; 0 is zlib too, from older clients.
    COMPRESSION_MASK: Final = 0x700
    COMPRESSION_LZ4: Final = 0x100
    COMPRESSION_ZSTD: Final = 0x200
    COMPRESSION_ZLIB: Final = 0x300


@dataclass(slots=True)
class Message:
    """A message to send.

    Attributes:
        keys: for looking the message up later.
        properties: the application's own; names of `PropertyName` are not for it.
        flag: the application's own 32 bits; no part of RocketMQ reads them.
        delay_level: 0 at once, else a level of `messageDelayLevel`.
    """

    topic: str
    body: bytes
    tag: str = ""
    keys: list[str] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)
    flag: int = 0
    delay_level: int = 0

    def all_properties(self) -> dict[str, str]:
        """`properties` plus those that carry tag, keys and delay level; a new dict."""
        found = dict(self.properties)
        if self.tag:
            found[PropertyName.TAGS] = self.tag
        if self.keys:
            found[PropertyName.KEYS] = " ".join(self.keys)
        if self.delay_level:
            found[PropertyName.DELAY] = str(self.delay_level)
        return found


@dataclass(slots=True)
class MessageExt:
    """A stored message.

    Attributes:
        physical_offset: commitlog offset of the record, bytes.
        store_size: bytes of the record.
        body: decompressed.
        born_timestamp_ms, store_timestamp_ms: ms since 1970, by the client's and broker's clock.
        born_host, store_host: "ip:port".
        reconsume_times: how often it was sent back.
        prepared_transaction_offset: commitlog offset of the half message, 0 if none.
        msg_id: the sender's id (UNIQ_KEY), or else `offset_msg_id`.
        broker_name: for the receiver to set; not stored.
    """

    topic: str
    queue_id: int
    queue_offset: int
    physical_offset: int
    store_size: int
    body: bytes
    tag: str
    keys: list[str]
    properties: dict[str, str]
    flag: int
    sys_flag: int
    born_timestamp_ms: int
    store_timestamp_ms: int
    born_host: str
    store_host: str
    reconsume_times: int
    prepared_transaction_offset: int
    msg_id: str
    offset_msg_id: str
    broker_name: str = ""
