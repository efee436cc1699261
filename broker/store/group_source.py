"""The log of a group as a source of records: an entry's header before each of them."""

from collections.abc import Callable

from ledgermq.broker.topics import INTERNAL_TOPIC
from ledgermq.dledger.server import LogServer
from ledgermq.dledger.store import entry
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.errors import PeerError, StorageError
from ledgermq.remoting.message_record import peek_record

from .consume_queue import Unit
from .record_check import Check, RecordCheck


class GroupSource:
    """Implements `RecordSource`: what is dispatched here can be read."""

    head_bytes = entry.HEADER_BYTES

    def __init__(
        self,
        log_server: LogServer,
        *,
        applied: Callable[[], int],
        on_damage: Callable[[StorageError], None],
    ) -> None:
        """Read one member's log.

        Args:
            log_server: the member.
            applied: the highest index dispatched.
            on_damage: the log is broken; the node must stop.
        """
        self._log = log_server
        self._applied = applied
        self._on_damage = on_damage
        self.segment_bytes = log_server.config.segment_bytes

    @property
    def end_pos(self) -> int:
        """Byte after the last entry."""
        return self._log.ledger.end_pos

    def read_nowait(self, pos: int, size: int) -> bytes | None:
        """See `RecordSource.read_nowait`."""
        return self._log.ledger.data.read_nowait(pos, size)

    async def read_at(self, pos: int, size: int) -> bytes:
        """See `RecordSource.read_at`."""
        return await self._log.read_at(pos, size)

    def check(self, topic: str, queue_id: int) -> Check:
        """See `RecordSource.check`."""
        return RecordCheck(topic, queue_id, self._applied())

    async def bears_out(self, unit: Unit, offset: int, check: Check) -> bool:
        """See `RecordSource.bears_out`: each entry is read with checksum and place."""
        start = unit.physical_offset - entry.HEADER_BYTES
        try:
            data, pos = await self._entry_around(start)
        except StorageError as e:
            raise self._damaged(e) from e
        return pos == start and check.records(data, start, [unit], [offset]) is not None

    def _damaged(self, e: StorageError) -> PeerError:
        self._on_damage(e)
        return PeerError(ResponseCode.SYSTEM_ERROR, f"this broker stops: {e}")

    async def _entry_around(self, pos: int) -> tuple[bytes, int]:
        """(the last dispatched entry that begins at `pos` or before, where it begins)."""
        low, high = self._log.begin.index, self._applied()
        data, found = b"", -1
        while low <= high:
            middle = (low + high) // 2
            entry_bytes, _ = await self._log.read_entries(middle, middle, 1)
            its_pos = entry.decode(entry_bytes).pos
            if its_pos <= pos:
                data, found, low = entry_bytes, its_pos, middle + 1
            else:
                high = middle - 1
        return data, found

    async def read_record(self, physical_offset: int) -> bytes | None:
        """See `RecordSource.read_record`."""
        pos = physical_offset - entry.HEADER_BYTES
        if pos < self._log.begin.pos or physical_offset >= self._log.ledger.end_pos:
            return None
        try:
            header = entry.decode(await self._log.read_at(pos, entry.HEADER_BYTES))
            index = header.log_index
            if header.pos != pos or not self._log.begin.index <= index <= self._applied():
                return None
            # The bytes of a message may look like an entry: the index of the log knows better.
            data, _ = await self._log.read_entries(index, index, 1)
            header = entry.decode(data)
            if header.pos != pos:
                return None
            record = data[entry.HEADER_BYTES :]
            peek = peek_record(record, check_crc=header.body_crc == 0)
        except StorageError as e:
            raise self._damaged(e) from e
        except PeerError:
            return None
        if peek.topic == INTERNAL_TOPIC.encode():
            return None
        return record if peek.physical_offset == physical_offset else None
