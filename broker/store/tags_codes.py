"""What a queue unit says of its message besides the place; the same in every kind of log."""

from ledgermq.remoting.message_properties import java_hash

_TAGS = b"TAGS\x01"
_MAX_TAGS = 10_000
_TRANSACTION_MASK = 0xC
_NOT_QUEUED = (0x4, 0xC)  # prepared, rollback


def is_queued(sys_flag: int) -> bool:
    """Whether a record of this system flag is in the queue of its topic."""
    return sys_flag & _TRANSACTION_MASK not in _NOT_QUEUED


class TagsCodes:
    """Hashes of tags; the same few come again and again."""

    def __init__(self) -> None:
        self._codes: dict[bytes, int] = {}

    def of(self, properties: bytes) -> int:
        """The tags code of a message with these properties, 0 without a tag."""
        # Of a repeated name the last one counts.
        at = properties.rfind(b"\x02" + _TAGS) + 1
        if at == 0 and not properties.startswith(_TAGS):
            return 0
        end = properties.find(b"\x02", at)
        tag = properties[at + len(_TAGS) : end if end >= 0 else len(properties)]
        code = self._codes.get(tag)
        if code is None:
            if len(self._codes) > _MAX_TAGS:
                self._codes.clear()
            code = self._codes[tag] = java_hash(tag.decode(errors="replace")) if tag else 0
        return code
