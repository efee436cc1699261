"""A group at rest, for directed runs."""

from ledgermq.broker.writer import AppendResult
from ledgermq.remoting.errors import PeerError
from tests.sim.world import S

from .character import Character
from .group import Group
from .member import Member
from .run import Run
from .work import TOPICS, Work

QUIET = Character(
    nodes=3,
    sync_flush=True,
    may_void=False,
    early=False,
    segment_bytes=64 << 10,
    queue_bytes=4000,
    latency_us=(50, 500),
    frame_loss=0.0,
    frame_duplication=0.0,
    slow_us=0,
    miss_chance=0.0,
    snapshot_s=10.0,
    pace_ms=100,
    fault_ms=1000,
    taste="mixed",
    preferred=False,
)


class Calm:
    """A group with a leader that should keep its place, and a topic."""

    def __init__(self, seed: int, character: Character = QUIET) -> None:
        self.group = Group(seed, character)
        self.run = Run(self.group)
        self.run.form()
        self.work: Work = self.run.work
        self.work.leave_out("transfer", "terminate")
        self.work.put_topic()
        self.group.world.run(1 * S)
        leader = self.group.leader()
        assert leader is not None
        self.leader: Member = leader
        self.followers = [m for m in self.group.all if m is not leader]

    @property
    def terms(self) -> int:
        """How many terms had a leader."""
        return len(self.group.rules.elections)

    @property
    def topic(self) -> str:
        """The topic."""
        replica = self.leader.replica
        assert replica is not None
        return next(t for t in TOPICS if t in replica.metadata.topics)

    def send(self, bodies: list[bytes]) -> list[AppendResult | PeerError]:
        """Send through the leader; the list fills with the answers."""
        answers: list[AppendResult | PeerError] = []
        replica = self.leader.replica
        assert replica is not None
        for body in bodies:
            record = self.work.record(self.topic, 0)
            record.body = body
            self.group.promises.sent(body)
            self.leader.call(replica.node.append, record, answers.append)
        return answers

    def wait(self, us: int) -> None:
        """Let time pass."""
        self.group.world.run(us)
