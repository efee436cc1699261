"""What the table is made of: loads, rows that compare their values, groups of both."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "send", "consume", "tail", "together", "lagging",
    "failover", "start", "memory", "raft", "grow", "recover",
]  # fmt: skip
Client = Literal["lean", "java", "python"]
Metric = str


@dataclass(frozen=True, slots=True)
class Load:
    """One thing to do to a running cluster.

    Attributes:
        name: unique in its group.
        kind: which function of `measures.py` does it.
        client: the program that makes the load.
        connections: connections, threads or tasks.
        in_flight: sends under way per connection.
        size: bytes of a body.
        batch: messages per request.
        topics: so many topics in turn.
        queues: queues per topic.
        rate: messages/s offered; 0: as many as get through.
        count: messages to read, or to have in the log.
        cold: have the log out of the page cache first.
    """

    name: str
    kind: Kind = "send"
    client: Client = "lean"
    connections: int = 1
    in_flight: int = 1
    size: int = 128
    batch: int = 1
    topics: int = 1
    queues: int = 8
    rate: int = 0
    count: int = 0
    cold: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison.

    Attributes:
        name: unique.
        group: where it is measured.
        load: our load.
        metric: the value that is compared.
        ours: our side.
        theirs: the side compared with; None: our value itself is held against the bar.
        their_load: when it is another one.
        bar: what the median has to reach; None: for information.
        aim: what it should reach.
        at_most: smaller is better.
    """

    name: str
    group: str
    load: str
    metric: Metric
    ours: str
    theirs: str | None
    their_load: str = ""
    bar: float | None = None
    aim: float | None = None
    at_most: bool = False

    @property
    def compared_load(self) -> str:
        """The load of the other side."""
        return self.their_load or self.load

    def needs(self) -> set[tuple[str, str]]:
        """(side, load) pairs that have to run."""
        wanted = {(self.ours, self.load)}
        if self.theirs is not None:
            wanted.add((self.theirs, self.compared_load))
        return wanted


@dataclass(frozen=True, slots=True)
class Group:
    """Loads that run one after the other on each start of each side."""

    name: str
    sides: tuple[str, ...]
    loads: tuple[Load, ...]
    rows: tuple[Row, ...]

    def loads_of(self, side: str) -> list[Load]:
        """What has to run on a side, in order."""
        needed = {load for row in self.rows for s, load in row.needs() if s == side}
        return [load for load in self.loads if load.name in needed]
