"""The leader's own entries: what is staged in one turn of the loop is one write and one step."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from ledgermq.remoting.errors import StorageError

from .errors import CallerError, DiskFullError, InvariantError
from .flusher import Flusher
from .ids import NodeId
from .member import ServerCallbacks, ServerConfig
from .raft import effects as fx
from .raft import events as ev
from .raft.core import RaftCore
from .raft.effects import Role
from .rpc import codec
from .store import entry
from .store.ledger import Ledger
from .timers import Timers

log = logging.getLogger(__name__)

_DISK_FULL_RETRY_S = 1.0


class Appends:
    """Stages, writes, and sees to it that what is written gets counted."""

    def __init__(
        self,
        config: ServerConfig,
        callbacks: ServerCallbacks,
        core: RaftCore,
        flusher: Flusher,
        ledger: Ledger,
        timers: Timers,
        *,
        step: Callable[[ev.Event], None],
        stop: Callable[[Exception], None],
    ) -> None:
        self._config = config
        self._callbacks = callbacks
        self._core = core
        self._flusher = flusher
        self._ledger = ledger
        self._timers = timers
        self._step = step
        self._stop = stop
        self._scheduled = False

    def reserve(self, record_bytes: int) -> int:
        """Physical offset of the next record of this length; then `stage` it.

        Raises:
            CallerError: it is too long for the log's files, or for the peers' frames.
        """
        if record_bytes > codec.MAX_RECORD_BYTES:
            raise CallerError(
                f"a record of {record_bytes} bytes; one can have {codec.MAX_RECORD_BYTES}"
            )
        return self._ledger.reserve(record_bytes) + entry.HEADER_BYTES

    def reserve_run(self, sizes: Sequence[int]) -> list[int]:
        """`reserve` for records that follow each other; then `stage_run` them."""
        longest = max(sizes)
        if longest > codec.MAX_RECORD_BYTES:
            self.reserve(longest)
        return [pos + entry.HEADER_BYTES for pos in self._ledger.reserve_run(sizes)]

    def stage(self, record: bytes) -> int:
        """Add a record at the place `reserve` named; its index. Leader only."""
        self._must_lead()
        index = self._ledger.stage(self._core.term, record)
        self._schedule()
        return index

    def stage_run(self, records: Sequence[bytes]) -> int:
        """`stage` records that follow each other, at least one; the last one's index."""
        self._must_lead()
        index = self._ledger.stage_run(self._core.term, records)
        self._schedule()
        return index

    def _must_lead(self) -> None:
        if self._core.role is not Role.LEADER:
            raise InvariantError("staged by a member that does not lead")

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush_staged)

    def hand_over(self, target: NodeId | None) -> None:
        """See `LogServer.transfer`; what is staged goes first, and so does the broker's last."""
        self._callbacks.on_hand_over()
        self._flush_staged()
        self._step(ev.TransferRequested(target))

    def append_noop(self, e: fx.AppendNoop) -> None:
        """Append one entry that changes nothing, unless the term has ended meanwhile."""
        if self._core.role is not Role.LEADER or self._core.term != e.term:
            return
        # Records staged in this turn come first: their places are given away.
        size, build = self._callbacks.make_noop(e.term, self._ledger.end_index + 1)
        self._ledger.stage(e.term, build(self.reserve(size)))
        try:
            self._write_staged()
        except DiskFullError as error:
            log.error("cannot lead yet: %s", error)
            self._timers.after("retry", _DISK_FULL_RETRY_S, self.append_noop, e)
            self._refused(error)

    def _flush_staged(self) -> None:
        self._scheduled = False
        if self._core.role is not Role.LEADER:
            return
        try:
            self._write_staged()
        except DiskFullError as e:
            self._refused(e)
        except StorageError as e:
            self._stop(e)

    def _refused(self, error: DiskFullError) -> None:
        self._callbacks.on_append_failed(error)
        self._step(ev.CannotWrite())

    def _write_staged(self) -> None:
        count = self._ledger.write_staged()
        if count:
            self._step(ev.Appended(count))
            self.written()

    def written(self) -> None:
        """Entries are in the page cache: count them now or after their fsync, by configuration."""
        if self._config.sync_flush:
            self._flusher.request()
            return
        self._step(ev.Durable(self._ledger.end_index))
        if "flush" not in self._timers:
            delay_s = self._config.flush_interval_ms / 1000
            self._timers.after("flush", delay_s, self._flusher.request)
