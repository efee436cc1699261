"""From a snapshot to whole queues: their files are taken as they are, or made anew from the log."""

import asyncio

from ledgermq.dledger.server import LogServer
from ledgermq.dledger.store import entry
from ledgermq.dledger.store.snapshots import Snapshot
from ledgermq.remoting.errors import StorageError
from ledgermq.remoting.message_record import peek_record

from .queue_builder import QueueBuilder
from .queue_snapshot import QueueSnapshot
from .queue_table import ConsumeQueues

_CHUNK_BYTES = 256 << 10


class Rebuild:
    """What is left to do until a snapshot's queues can be served.

    Attributes:
        base: index of the snapshot's entry, -1 without a snapshot.
        needs_clearing: files of other queues are to be removed first.
        from_log: the queues are made anew.
    """

    def __init__(
        self,
        log_server: LogServer,
        queues: ConsumeQueues,
        builder: QueueBuilder,
        snapshot: Snapshot | None,
        state: QueueSnapshot | None,
    ) -> None:
        self._log = log_server
        self._queues = queues
        self._builder = builder
        self._snapshot = snapshot
        self._state = state
        self.base = self._built = snapshot.index if snapshot is not None else -1
        self.needs_clearing = False
        self.from_log = False

    async def problem(self, *, reliable: bool) -> str | None:
        """Why the files cannot be taken as they are; None: they can.

        Args:
            reliable: what the mark beside them says.
        """
        if self._snapshot is None or self._state is None:
            return "they belong to no snapshot" if await self._queues.any_files() else None
        if not self._snapshot.complete:
            return "the snapshot was made by another node"
        if not reliable:
            return "they were given up, or are of another file size"
        return await self._queues.find_problem(self._log.begin.pos, self._state.end_pos)

    def restore(self) -> None:
        """Take the queues over as the snapshot knows them."""
        if self._state is not None:
            self._queues.restore(self._state.rows)

    def begin(self, *, needs_clearing: bool = False) -> None:
        """Make the queues, which are empty now, from the log's begin on."""
        self.from_log = True
        self.needs_clearing = needs_clearing
        self._builder.first_index = self._log.begin.index
        self._built = min(self._log.begin.index - 1, self.base)

    def can_go_on(self, commit: int) -> bool:
        """Whether there is something to do when the log is committed so far."""
        return commit >= self.base or self._built < commit

    async def go_on(self, commit: int) -> bool:
        """Do what this commit allows; True: the queues are whole.

        Raises:
            StorageError: the log does not give what the snapshot says.
        """
        last = min(commit, self.base)
        while self._built < last:
            data, _ = await self._log.read_entries(self._built + 1, last, _CHUNK_BYTES)
            self._take(data)
            await asyncio.sleep(0)
        if commit < self.base:
            return False
        await self._check_base()
        if self.from_log:
            self._builder.finish(self._state.rows if self._state is not None else [])
            self._builder.first_index = 0
        return True

    def _take(self, data: bytes) -> None:
        for at, header in entry.walk(data):
            if header.log_index != self._built + 1:
                raise StorageError(f"entry {header.log_index} after {self._built}")
            record = memoryview(data)[at + entry.HEADER_BYTES : at + header.size]
            self._builder.place(header, peek_record(record))
            self._built = header.log_index

    async def _check_base(self) -> None:
        """The snapshot is of this log: its entry is there, of the same term, at the same place."""
        if self._snapshot is None or self._state is None:
            return
        begin = self._log.begin
        if self.base < begin.index:
            found = begin.term
        else:
            data, _ = await self._log.read_entries(self.base, self.base, 1)
            found = entry.decode(data).term
        if found != self._snapshot.term:
            raise StorageError(
                f"the snapshot is of entry {self.base} of term {self._snapshot.term}, in the log it"
                f" is of term {found}: the group has lost entries that it had committed. Move this"
                " node's store away and start it again: it is filled from the leader"
            )
