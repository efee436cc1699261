"""What must hold after every event. Each check is named, and costs O(1) per event or entry."""

from bisect import bisect_left
from typing import TYPE_CHECKING

from ledgermq.dledger.ids import NodeId, Standing
from ledgermq.dledger.raft.effects import Role, RoleChanged
from ledgermq.dledger.raft.messages import Message, PushReply, Seed, VoteReply

if TYPE_CHECKING:
    from .harness import Cluster
    from .node import SimNode
    from .store import Store


class ViolationError(AssertionError):
    """An invariant broke."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name}: {what}")
        self.name = name


def require(condition: bool, name: str, what: str) -> None:
    """Raise when the invariant `name` does not hold."""
    if not condition:
        raise ViolationError(name, what)


def agrees(store: "Store", index: int, chain: int) -> bool:
    """Whether a log has this digest at `index`; before its base it had, or it could not go."""
    if index > store.last_index:
        return False
    return index < store.base_index or store.chain_at(index) == chain


class Invariants:
    """Watches a whole cluster with a knowledge that no member has."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._leaders: dict[int, NodeId] = {}
        # Digest of the log up to each index, once any member committed it, and the term of the
        # member that was first to do so. Invariant: only grows; terms never fall.
        self.committed: list[int] = []
        self._commit_terms: list[int] = []
        # (index, term) -> digest up to there: two logs that agree there agree before it.
        self._chains: dict[tuple[int, int], int] = {}
        self._checked: dict[NodeId, int] = {}
        self._hard_state: dict[NodeId, tuple[int, NodeId | None]] = {}
        # No members: how much was committed when they forgot, and the digests of what they held
        # durably, which may have been counted already.
        self._forgot: dict[NodeId, tuple[int, dict[int, int]]] = {}
        self._commit: dict[tuple[NodeId, int], int] = {}
        # Grants by (voter, term).
        self._votes: dict[tuple[NodeId, int], NodeId] = {}
        # Leases are void where a hint lied.
        self.check_leases = True

    # --- hooks ----------------------------------------------------------------------------------

    def on_send(self, node: "SimNode", message: Message) -> None:
        """Promises that leave a member."""
        if isinstance(message, PushReply) and message.success:
            self._check_ack(node, message)
        elif isinstance(message, VoteReply) and message.granted and not message.pre:
            require(
                node.store.term == message.term and node.store.vote is not None,
                "durable_votes",
                f"{node.name} grants a vote in term {message.term} that its disk does not know",
            )

    def _check_ack(self, node: "SimNode", ack: PushReply) -> None:
        require(
            ack.match <= node.store.durable,
            "durable_acks",
            f"{node.name} acks {ack.match}, durable is {node.store.durable}",
        )
        leader = self._leaders.get(ack.term)
        sender = self._cluster.nodes[leader] if leader is not None else None
        if sender is None or sender.core is None or sender.core.term != ack.term:
            return
        known = node.store.base_index <= ack.match <= sender.store.last_index
        if sender.core.role is Role.LEADER and known:
            require(
                agrees(sender.store, ack.match, node.store.chain_at(ack.match)),
                "verified_acks",
                f"{node.name} acks {ack.match} to {sender.name}, whose log differs there",
            )

    def on_truncate(self, node: "SimNode", first: int) -> None:
        """A cut must leave what is committed here."""
        commit = self._commit.get((node.name, node.life), node.applied)
        require(
            first > commit, "committed_stays", f"{node.name} cuts from {first}, commit is {commit}"
        )
        self._checked[node.name] = min(self._checked.get(node.name, -1), first - 1)

    def on_forget(self, node: "SimNode") -> None:
        """A disk is about to lose what it had promised to keep."""
        store = node.store
        held = {i: store.chain_at(i) for i in range(max(store.base_index, 0), store.durable + 1)}
        self._forgot[node.name] = (len(self.committed), held)
        self._hard_state.pop(node.name, None)
        self._checked.pop(node.name, None)

    def on_seeded(self, node: "SimNode", seed: Seed, state: int) -> None:
        """A log is about to begin anew behind what a snapshot stands for."""
        for index, chain in ((seed.base_index, seed.base_chain), (seed.snapshot_index, state)):
            require(
                index < len(self.committed) and self.committed[index] == chain,
                "seeds_are_committed",
                f"{node.name} gets a snapshot of {index}, which is not what was committed",
            )
        self._commit[node.name, node.life] = seed.base_index
        self._checked[node.name] = seed.base_index

    def on_admitted(self, node: "SimNode") -> None:
        """A member again: it holds what was committed when it forgot, and what it took with it."""
        count, _ = self._forgot.pop(node.name, (0, {}))
        require(
            count == 0 or agrees(node.store, count - 1, self.committed[count - 1]),
            "admission_is_complete",
            f"{node.name} is admitted without the entry {count - 1}, committed before it forgot",
        )

    def on_role(self, node: "SimNode", change: RoleChanged) -> None:
        """One leader a term, and it holds all that was committed before."""
        if change.role is not Role.LEADER:
            return
        known = self._leaders.setdefault(change.term, node.name)
        require(
            known == node.name,
            "one_leader_per_term",
            f"{known} and {node.name} both lead term {change.term}",
        )
        last = bisect_left(self._commit_terms, change.term) - 1
        complete = last < 0 or agrees(node.store, last, self.committed[last])
        require(
            complete,
            "leader_completeness",
            f"{node.name} leads term {change.term} without the committed entry {last}",
        )

    def on_commit(self, node: "SimNode", index: int) -> None:
        """A commit agrees with all others, and is durable on a quorum."""
        assert node.core is not None
        start = self._commit.get((node.name, node.life), node.applied)
        start = max(start, node.store.base_index)
        require(index > start, "commit_rises", f"{node.name} commits {index} after {start}")
        for i in range(start + 1, min(index + 1, len(self.committed))):
            require(
                node.store.chain_at(i) == self.committed[i],
                "committed_never_changes",
                f"{node.name} commits another entry at {i}",
            )
        if index >= len(self.committed):
            self._check_quorum_holds(node, index)
        for i in range(len(self.committed), index + 1):
            self.committed.append(node.store.chain_at(i))
            self._commit_terms.append(node.core.term)
        self._commit[node.name, node.life] = index

    def _check_quorum_holds(self, node: "SimNode", index: int) -> None:
        chain = node.store.chain_at(index)
        holders = [
            n.name
            for n in self._cluster.nodes.values()
            if n.store.durable >= index and agrees(n.store, index, chain)
        ]
        members = [n for n in holders if self._cluster.nodes[n].store.standing is Standing.MEMBER]
        # Acks that left before the disk was lost: it was a member then.
        gone = [n for n, (_, held) in self._forgot.items() if held.get(index) == chain]
        enough = len({*members, *gone}) >= node.config.quorum
        require(
            enough or len({*holders, *gone}) == len(node.config.voters),
            "commit_needs_quorum",
            f"{node.name} commits {index} of term {node.store.term_at(index)}, which is durable"
            f" on {holders} only, of whom {members} are members",
        )

    def after_step(self, node: "SimNode") -> None:
        """Checks on the member that took a step."""
        core, store = node.core, node.store
        assert core is not None
        term, vote = self._hard_state.get(node.name, (0, None))
        require(store.term >= term, "term_rises", f"{node.name}: {term} -> {store.term}")
        require(
            store.term > term or vote in (None, store.vote),
            "one_vote_per_term",
            f"{node.name} voted for {vote} and {store.vote} in term {term}",
        )
        self._hard_state[node.name] = (store.term, store.vote)
        require(
            store.term == core.term,
            "persisted_term",
            f"{node.name}: core {core.term}, disk {store.term}",
        )
        require(
            store.standing is core.standing,
            "persisted_standing",
            f"{node.name}: core {core.standing}, disk {store.standing}",
        )
        if node.settled:
            require(
                core.log.last_index == store.last_index
                and core.log.last_term == store.term_at(store.last_index),
                "view_is_log",
                f"{node.name}: the core sees {core.log.last_index}, the disk {store.last_index}",
            )
        self._check_log_matching(node)
        if self.check_leases:
            self._check_lease()

    def _check_log_matching(self, node: "SimNode") -> None:
        store = node.store
        # A crash may have shortened the log behind our back.
        start = min(self._checked.get(node.name, -1), store.last_index)
        start = max(start, store.base_index)
        for i in range(start + 1, store.last_index + 1):
            chain = store.chain_at(i)
            known = self._chains.setdefault((i, store.term_at(i)), chain)
            require(
                known == chain,
                "log_matching",
                f"{node.name} has another history below {i}@{store.term_at(i)}",
            )
        self._checked[node.name] = store.last_index

    def _check_lease(self) -> None:
        leaders = [
            (n.name, n.core)
            for n in self._cluster.nodes.values()
            if n.core is not None and n.core.role is Role.LEADER
        ]
        if len(leaders) < 2:
            return
        newest = max(core.term for _, core in leaders)
        now_ms = self._cluster.now_ms
        for name, core in leaders:
            require(
                core.term == newest or core.lease_until_ms <= now_ms,
                "lease_is_exclusive",
                f"{name} holds a lease in term {core.term} while term {newest} has a leader",
            )
