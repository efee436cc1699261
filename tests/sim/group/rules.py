"""What must hold of logs, votes and commits, after every step of every member.

Each rule has a name; each check costs O(1) per step or per entry.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ledgermq.dledger.ids import NONE, NodeId, Standing
from ledgermq.dledger.raft.effects import Role, RoleChanged
from ledgermq.dledger.raft.messages import Message, PushReply, VoteReply
from ledgermq.dledger.store import entry
from tests.sim.invariants import ViolationError

from .knowledge import Held, Witness, Written
from .truth import Truth

if TYPE_CHECKING:
    from ledgermq.dledger.raft.core import RaftCore

# (name of a member, entry) -> whether its disk has it, by the disk's own word.
OnDisk = Callable[[NodeId, Written], bool]


class Rules:
    """Watches all members with a knowledge that none of them has.

    Attributes:
        leaders: member that led each term.
        elections: (term, member) in the order they happened.
    """

    def __init__(self, witnesses: Iterable[Witness], truth: Truth, on_disk: OnDisk) -> None:
        self.witnesses = {w.name: w for w in witnesses}
        self.truth = truth
        self.leaders: dict[int, NodeId] = {}
        self.elections: list[tuple[int, NodeId]] = []
        # Power was lost on a majority under ASYNC_FLUSH: the next leader decides what is left.
        self.void = False
        self._on_disk = on_disk
        self._quorum = len(self.witnesses) // 2 + 1
        self._written: dict[tuple[int, int], Written] = {}
        # Grants by (voter, life of its store, term).
        self._votes: dict[tuple[NodeId, int, int], NodeId] = {}

    # --- the log ------------------------------------------------------------------------------

    def wrote(self, w: Witness, data: bytes) -> None:
        """Entries are in the log of a member's store, synced or not."""
        held = w.held
        for at, header in entry.walk(data):
            index = header.log_index
            if index != held.end + 1:
                raise ViolationError(
                    "log_is_contiguous", f"{w.name} writes {index} behind {held.end}"
                )
            held.entries.append(self._intern(w, header, data, at))

    def _intern(self, w: Witness, header: entry.EntryHeader, data: bytes, at: int) -> Written:
        """Log matching: an index and a term name one entry and all before it."""
        key = (header.log_index, header.term)
        known = self._written.get(key)
        if known is None:
            known = self._written[key] = Written(header, data[at : at + header.size])
        elif known.chain != header.chain_crc or known.pos != header.pos:
            raise ViolationError(
                "log_matching",
                f"{w.name} has another entry, or another history, at {key[0]}@{key[1]}",
            )
        return known

    def cut(self, w: Witness, first: int) -> None:
        """A member drops `first` and everything behind it."""
        if first <= w.commit:
            raise ViolationError(
                "committed_stays", f"{w.name} cuts from {first}, its commit is {w.commit}"
            )
        for written in w.held.cut(first):
            if self._is_committed(written):
                raise ViolationError(
                    "committed_stays",
                    f"{w.name} cuts {written.index}@{written.term}, which is committed",
                )
        w.claim = min(w.claim, first - 1)

    def _is_committed(self, written: Written) -> bool:
        entries = self.truth.entries
        return not self.void and written.index < len(entries) and entries[written.index] is written

    def empties(self, w: Witness, base: int) -> None:
        """A member is about to empty its log for a snapshot; it will begin at `base`."""
        for index in range(base, w.held.end + 1):
            written = w.held.at(index)
            if written is not None and self._is_committed(written) and w.claim >= index:
                raise ViolationError(
                    "committed_stays", f"{w.name} empties its log at {base}, it holds {index}"
                )
        if base - 1 > self.truth.end:
            raise ViolationError("seed_is_committed", f"{w.name} begins at {base}")
        w.emptying = base

    def emptied(self, w: Witness) -> None:
        """It has, and the new begin is on its disk."""
        if w.emptying is not None:
            w.held = Held(w.emptying)
            w.claim = w.emptying - 1
            w.emptying = None

    def durable(self, w: Witness, index: int) -> None:
        """A member calls its log durable up to `index`."""
        index = min(index, w.held.end)
        if index <= w.claim:
            return
        w.claim = index
        written = w.held.at(index)
        if written is not None and not self._on_disk(w.name, written):
            raise ViolationError(
                "durable_is_on_disk", f"{w.name} calls {index} durable, its disk does not have it"
            )

    def recovered(self, w: Witness, end: int, chain: int, *, excused: bool) -> None:
        """A store was opened: what had been called durable is there.

        `excused`: bytes of it were damaged or lost on purpose, and the store admits it.
        """
        if end < w.claim and not excused:
            raise ViolationError(
                "durable_stays", f"{w.name} comes back with {end}, {w.claim} was durable"
            )
        if end < w.claim:
            before = Held(w.held.base)
            before.entries = list(w.held.entries)
            w.ghost = (before, w.claim)
        w.held.cut(end + 1)
        last = w.held.at(end)
        if last is not None and last.chain != chain:
            raise ViolationError("durable_stays", f"{w.name} comes back with another entry {end}")
        # Recovery has synced what it found.
        w.claim = end

    # --- votes and terms ----------------------------------------------------------------------

    def persisted(self, w: Witness, term: int, vote: NodeId | None, standing: Standing) -> None:
        """Term and vote are on a member's disk."""
        known_term, known_vote = w.hard_state
        if term < known_term:
            raise ViolationError("term_rises", f"{w.name}: {known_term} -> {term}")
        if term == known_term and known_vote not in (None, vote):
            raise ViolationError(
                "one_vote_per_term", f"{w.name} voted for {known_vote} and {vote} in term {term}"
            )
        w.hard_state = (term, vote)
        w.standing = standing
        if standing is Standing.MEMBER:
            w.ghost = None

    def sent(self, w: Witness, peer: NodeId, message: Message) -> None:
        """A message leaves a member."""
        if message.term > w.hard_state[0]:
            raise ViolationError(
                "persisted_term",
                f"{w.name} speaks in term {message.term}, its disk knows {w.hard_state[0]}",
            )
        kind = type(message)
        if kind is PushReply:
            self._check_ack(w, message)  # type: ignore[arg-type]
        elif kind is VoteReply:
            self._check_grant(w, peer, message)  # type: ignore[arg-type]

    def _check_ack(self, w: Witness, ack: PushReply) -> None:
        if not ack.success or ack.match == NONE:
            return
        if ack.match > w.claim:
            raise ViolationError(
                "durable_acks", f"{w.name} acks {ack.match}, {w.claim} is durable there"
            )
        leader = self.leaders.get(ack.term)
        if leader is None or leader == w.name:
            return
        theirs = self.witnesses[leader]
        ours, other = w.held.at(ack.match), theirs.held.at(ack.match)
        if theirs.hard_state[0] == ack.term and ours and other and ours is not other:
            raise ViolationError(
                "verified_acks", f"{w.name} acks {ack.match}, leader {leader} has another one"
            )

    def _check_grant(self, w: Witness, peer: NodeId, reply: VoteReply) -> None:
        if not reply.granted or reply.pre:
            return
        if w.hard_state != (reply.for_term, peer):
            raise ViolationError(
                "durable_votes",
                f"{w.name} votes for {peer} in term {reply.for_term}; its disk says {w.hard_state}",
            )
        key = (w.name, w.store_life, reply.for_term)
        known = self._votes.setdefault(key, peer)
        if known != peer:
            raise ViolationError("one_vote_per_term", f"{w.name} votes for {known} and {peer}")

    def led(self, w: Witness, change: RoleChanged) -> None:
        """One leader a term, and it holds all that was committed before."""
        if change.role is not Role.LEADER:
            return
        known = self.leaders.setdefault(change.term, w.name)
        if known != w.name:
            raise ViolationError(
                "one_leader_per_term", f"{known} and {w.name} both lead term {change.term}"
            )
        self.elections.append((change.term, w.name))
        if self.void:
            self._settle_void(w)
        last = self.truth.last_before_term(change.term)
        if last >= w.held.base and w.held.at(last) is not self.truth.entries[last]:
            raise ViolationError(
                "leader_completeness",
                f"{w.name} leads term {change.term} without the committed entry {last}",
            )

    def _settle_void(self, w: Witness) -> None:
        """What the first leader after the loss does not hold is lost, and nobody promised it."""
        self.void = False
        last = min(self.truth.end, w.held.end)
        while last >= w.held.base and w.held.at(last) is not self.truth.entries[last]:
            last -= 1
        if last < self.truth.end:
            self.truth.cut(last + 1)

    # --- commits ------------------------------------------------------------------------------

    def committed(self, w: Witness, index: int, core: "RaftCore") -> None:
        """A commit agrees with all others, and is durable on a quorum."""
        if index <= w.commit:
            raise ViolationError("commit_rises", f"{w.name} commits {index} after {w.commit}")
        truth = self.truth
        if index > truth.end and not self.void:
            self._check_quorum_holds(w, index)
        for i in range(max(w.commit + 1, w.held.base), index + 1):
            written = w.held.at(i)
            if written is None:
                raise ViolationError("commit_is_held", f"{w.name} commits {i}, it ends before")
            if i <= truth.end:
                if truth.entries[i] is not written:
                    raise ViolationError(
                        "committed_never_changes", f"{w.name} commits another entry at {i}"
                    )
            elif not self.void:
                truth.commit(written, core.term)
        w.commit = index

    def _check_quorum_holds(self, w: Witness, index: int) -> None:
        written = w.held.at(index)
        holders = [
            other.name
            for other in self.witnesses.values()
            if written is not None and other.held_durably(written)
        ]
        if len(holders) < self._quorum:
            raise ViolationError(
                "commit_needs_quorum", f"{w.name} commits {index}, durable on {holders} only"
            )
        assert written is not None
        on_disk = [
            name
            for name in holders
            if self.witnesses[name].ghost is not None or self._on_disk(name, written)
        ]
        if len(on_disk) < self._quorum:
            raise ViolationError(
                "commit_needs_disks",
                f"{w.name} commits {index}, called durable by {holders}, on the disks of {on_disk}",
            )
