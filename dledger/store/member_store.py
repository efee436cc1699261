"""Everything one member keeps on disk, opened and closed together."""

import logging
from contextlib import ExitStack
from pathlib import Path

from ledgermq.dledger.errors import DamagedError, StorageError
from ledgermq.dledger.host import Host
from ledgermq.dledger.ids import Standing

from .entry_index import UNIT_BYTES
from .hard_state import HardState
from .identity import StoreIdentity
from .ledger import Ledger
from .life import LifeFile, SuspectFile
from .recovery import open_ledger
from .snapshots import SnapshotStore
from .standing import of_hard_state, of_log, of_past, of_suspicion, worst

log = logging.getLogger(__name__)


class MemberStore:
    """Identity, term and vote, snapshots, and the recovered log.

    Attributes:
        store_id: random, made with the store.
        standing: whether this member's vote and log can be relied on.
        standing_reason: why not, for people; "" for a MEMBER.
    """

    def __init__(
        self,
        folder: Path,
        data_folder: Path | None,
        *,
        group: str,
        self_id: str,
        segment_bytes: int,
        sync_flush: bool = True,
        alone: bool = False,
        bootstrap: bool = False,
        host: Host | None = None,
    ) -> None:
        """Open or create below `folder`; log files in `data_folder` when given.

        Args:
            folder: of the store.
            data_folder: of the log files, when not in `folder`.
            group: name of the node's group.
            self_id: of the node.
            segment_bytes: size of a log file.
            sync_flush: entries count after their fsync; else a loss of power may take some.
            alone: there is no other node from which damage could be repaired.
            bootstrap: an operator says that this store may vote, whatever happened to it.
            host: this machine unless given.

        Raises:
            CallerError: another node's, in use, made with another segment size, or by a newer
                program.
            DamagedError: bytes that were durable are not what was written, and this node is
                alone, or the store is one of Java's.
        """
        self._host = host or Host()
        self._folder = folder
        self._sync_flush = sync_flush
        disk = self._host.disk
        with ExitStack() as opened:
            self._identity = StoreIdentity(
                folder,
                group=group,
                self_id=self_id,
                segment_bytes=segment_bytes,
                data_folder=data_folder,
                host=self._host,
            )
            opened.callback(self._identity.close)
            self.hard_state = HardState(folder, disk)
            opened.callback(self.hard_state.close)
            self._life = LifeFile(folder, disk)
            opened.callback(self._life.close)
            self.lost_power = self._life.may_have_lost_power(self._host.boot_id)
            self._suspect = SuspectFile(folder, disk)
            opened.callback(self._suspect.close)
            self.snapshots = SnapshotStore(folder / "snapshot", disk)
            self.ledger: Ledger = open_ledger(
                folder,
                segment_bytes,
                data_folder,
                disk=disk,
                suspect=self._suspect.pos,
                snapshot_index=self.snapshots.index,
            )
            opened.callback(self.ledger.abandon)
            self.standing, self.standing_reason = self._verdict(alone=alone, bootstrap=bootstrap)
            self._remember()
            opened.pop_all()
        self.store_id = self._identity.store_id

    # --- standing -----------------------------------------------------------------------------

    def _verdict(self, *, alone: bool, bootstrap: bool) -> tuple[Standing, str]:
        """The worst of what was found.

        Raises:
            DamagedError: there is nobody who could repair it.
        """
        folder, state, ledger = self._folder, self.hard_state, self.ledger
        standing, reason = worst(
            of_log(folder, state, ledger)
            + of_suspicion(self._suspect, self._identity, alone=alone)
            + of_past(folder, state, self._life, self._host.boot_id)
            + of_hard_state(folder, state, self._identity, ledger)
        )
        if standing is Standing.MEMBER:
            return standing, reason
        if bootstrap:
            log.warning("opened as a full member on an operator's word, although %s", reason)
            return Standing.MEMBER, ""
        from_java = not self._identity.found and not state.present
        if from_java and ledger.damage is not None:
            raise _final(ledger.damage, "Repair it with the program that wrote it")
        if alone and standing is Standing.DAMAGED:
            damage = ledger.damage or DamagedError(folder, 0, reason)
            raise _final(
                damage,
                "There is no other node to fill this one from. Bring a copy back,"
                " or start once with --bootstrap to go on with what is left",
            )
        return standing, reason

    def _remember(self) -> None:
        """Put the verdict on disk before anybody acts on it.

        The verdict goes before what it was drawn from. In a store that has not said "running" yet,
        that goes first: a hard state of ours without it means that it was lost.
        """
        state = self.hard_state
        if state.earlier_form or not state.present:
            self._save_life(running=True)
        if state.earlier_form or not state.present or state.standing is not self.standing:
            state.save(state.term, state.vote, self.standing)
        self._save_life(running=True)
        if not self._identity.found or self._identity.damage is not None:
            self._identity.save()
        if self._suspect.pos is not None:
            # What was noted is in the standing now, which a leader can lift. Only where to look
            # must be known as long as it is there.
            self._suspect.save(self._suspect.pos if self.ledger.untidy else None, "")

    def _save_life(self, *, running: bool) -> None:
        self._life.save(self._host.boot_id, sync_flush=self._sync_flush, running=running)

    def note_damage(self, damage: DamagedError) -> None:
        """A read met something broken: have the next start look there first, and not vote.

        Damage outside of the log is none of this store's business.
        """
        ledger, path, text = self.ledger, damage.path, str(damage)
        try:
            if not isinstance(path, Path) or not path.name.isdigit():
                return
            pos = int(path.name) + damage.offset
            if path.parent == ledger.index.segments.folder:
                pos, text = _segment_of(ledger, pos // UNIT_BYTES), ""
            elif path.parent != ledger.data.folder:
                return
            self._suspect.save(pos - pos % ledger.data.segment_bytes, text)
        except StorageError as e:
            log.error("%s: the damage could not be noted: %s", self._folder, e)

    # --- end ----------------------------------------------------------------------------------

    def close(self, commit: int | None) -> None:
        """Close everything; `commit` None: the node had to stop, so nothing more is promised."""
        try:
            if commit is None:
                self.ledger.abandon()
            else:
                self.ledger.drop_staged()
                self.ledger.close(commit)
                self._save_life(running=False)
        finally:
            self._suspect.close()
            self._life.close()
            self.hard_state.close()
            self._identity.close()


def _segment_of(ledger: Ledger, index: int) -> int:
    """Start of the segment that holds an entry; of the log's when that cannot be told."""
    found = ledger.begin.pos
    try:
        for base, first in ledger.segment_begins():
            if first <= index:
                found = base
    except DamagedError:
        return ledger.begin.pos
    return found


def _final(damage: DamagedError, advice: str) -> DamagedError:
    return DamagedError(damage.path, damage.offset, f"{damage.what}. {advice}")
