"""Random trouble: crashes, lost disks, cuts, pauses, broken connections, hand-overs, and work."""

from random import Random

from ledgermq.dledger.ids import NodeId, Standing
from ledgermq.dledger.raft.effects import Role
from ledgermq.dledger.raft.events import PeerDied, TransferRequested

from .harness import Cluster
from .network import Conditions

# (weight, name of the action); proposals keep the log busy between faults.
_ACTIONS = [
    (30, "propose"),
    (5, "crash"),
    (4, "crash_mid_step"),
    (12, "restart"),
    (5, "isolate"),
    (3, "split"),
    (4, "cut_one_way"),
    (12, "heal"),
    (7, "break_connection"),
    (4, "pause"),
    (4, "hand_over"),
    (2, "fill_disk"),
    (6, "free_disks"),
    (2, "lie"),
    (2, "lose_disks"),
    (6, "compact"),
]


class Nemesis:
    """Does something every few milliseconds until it is stopped.

    Args:
        cluster: its victim.
        rng: source of its ideas.
        lies: whether members may be told of deaths that did not happen; leases are void then.
        losses: whether disks are lost.
    """

    def __init__(self, cluster: Cluster, rng: Random, *, lies: bool, losses: bool) -> None:
        self._cluster = cluster
        self._rng = rng
        self._lies = lies
        self._losses = losses
        self._stopped = False
        self._weights = [w for w, _ in _ACTIONS]
        cluster.invariants.check_leases = not lies
        self._act_later()

    def stop(self) -> None:
        """End the trouble and undo it: what follows must converge."""
        self._stopped = True
        cluster = self._cluster
        cluster.conditions.loss = 0.0
        for node in cluster.nodes.values():
            node.effects_left = None
            node.disk_full = False
            node.resume()
        cluster.network.heal()
        cluster.start_all()

    def _act_later(self) -> None:
        self._cluster.schedule(self._rng.randint(1, 120), self._act)

    def _act(self) -> None:
        if self._stopped:
            return
        action = self._rng.choices(_ACTIONS, self._weights)[0][1]
        getattr(self, f"_{action}")(self._rng.choice(list(self._cluster.nodes)))
        self._act_later()

    def _victim(self, name: NodeId) -> NodeId:
        """The leader, more often than chance would have it."""
        leader = self._cluster.leader()
        return leader.name if leader is not None and self._rng.random() < 0.4 else name

    def _propose(self, name: NodeId) -> None:
        for node in self._cluster.nodes.values():
            if node.core is not None and node.core.role is Role.LEADER:
                node.propose(self._rng.randint(1, 8))

    def _crash(self, name: NodeId) -> None:
        self._cluster.crash(self._victim(name))

    def _crash_mid_step(self, name: NodeId) -> None:
        self._cluster.nodes[self._victim(name)].effects_left = self._rng.randint(0, 6)

    def _restart(self, name: NodeId) -> None:
        dead = [n for n, node in self._cluster.nodes.items() if node.core is None]
        if dead:
            self._cluster.start(self._rng.choice(dead))

    def _isolate(self, name: NodeId) -> None:
        name = self._victim(name)
        for peer in self._cluster.nodes[name].config.peers:
            self._cluster.network.cut(name, peer)
            self._cluster.network.cut(peer, name)

    def _split(self, name: NodeId) -> None:
        left = {n for n in self._cluster.nodes if self._rng.random() < 0.5}
        for a in self._cluster.nodes:
            for b in self._cluster.nodes:
                if a != b and (a in left) != (b in left):
                    self._cluster.network.cut(a, b)

    def _cut_one_way(self, name: NodeId) -> None:
        peer = self._rng.choice(self._cluster.nodes[name].config.peers)
        self._cluster.network.cut(name, peer)

    def _heal(self, name: NodeId) -> None:
        self._cluster.network.heal()

    def _break_connection(self, name: NodeId) -> None:
        source = self._victim(name)
        peer = self._rng.choice(self._cluster.nodes[source].config.peers)
        survivors = self._rng.choice((0, 0, 1, 3, 99))
        self._cluster.network.break_connection(source, peer, survivors)

    def _pause(self, name: NodeId) -> None:
        node = self._cluster.nodes[self._victim(name)]
        node.pause()
        self._cluster.schedule(self._rng.choice((50, 250, 400, 1500, 2500)), node.resume)

    def _hand_over(self, name: NodeId) -> None:
        leader = self._cluster.leader()
        if leader is not None:
            target = name if self._rng.random() < 0.5 else None
            leader.handle(TransferRequested(target))

    def _fill_disk(self, name: NodeId) -> None:
        self._cluster.nodes[self._victim(name)].disk_full = True

    def _free_disks(self, name: NodeId) -> None:
        for node in self._cluster.nodes.values():
            node.disk_full = False

    def _lose_disks(self, name: NodeId) -> None:
        """A minority loses its disks, or finds them damaged, once all the others can be relied on.

        So a majority of the disks survives at all times.
        """
        nodes = self._cluster.nodes
        if not self._losses or any(
            node.store.standing is not Standing.MEMBER for node in nodes.values()
        ):
            return
        minority = len(nodes) - nodes[name].config.quorum
        for victim in self._rng.sample(list(nodes), self._rng.randint(min(1, minority), minority)):
            self._cluster.crash(victim)
            node = nodes[victim]
            if self._rng.random() < 0.6:
                node.wipe()
            elif node.store.last_index > node.store.base_index:
                node.damage(self._rng.randint(node.store.base_index + 1, node.store.last_index))

    def _compact(self, name: NodeId) -> None:
        node = self._cluster.nodes[name]
        if node.core is not None:
            end = min(node.core.commit, node.store.durable)
            node.applied = max(node.applied, end)
            node.compact(self._rng.randint(0, end + 1))

    def _lie(self, name: NodeId) -> None:
        leader = self._cluster.leader()
        if self._lies and leader is not None and leader.name != name:
            self._cluster.nodes[name].handle(PeerDied(leader.name))


def weather(rng: Random) -> Conditions:
    """A kind of network and disk: from a quiet rack to a bad day."""
    slow = rng.choice((5, 20, 60))
    return Conditions(
        latency_ms=(0, slow),
        sync_ms=(1, rng.choice((2, 20, 120))),
        fetch_ms=(0, 3),
        reconnect_ms=(1, 100),
        hang_up_ms=(50, 1000),
        break_ms=(50, 1500),
        loss=rng.choice((0.0, 0.0, 0.02, 0.15)),
    )
