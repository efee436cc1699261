"""Command lines of the load programs, for each side and client. Pure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .programs import flags, python
from .shapes import Client, Load
from .sides import Side

# Of each load, not measured. A JVM client starts anew with every load and compiles its own code.
WARM_UP_S: dict[Client, float] = {"lean": 1.0, "java": 5.0, "python": 1.0}
_QUICK_SHARE = 0.4


@dataclass(frozen=True)
class Commands:
    """What is needed to call the programs.

    Attributes:
        lean: the built generator.
        cpu: where the generator is held; None: anywhere.
        quick: shorter warm-ups; the figures mean little.
    """

    lean: Path
    cpu: int | None = None
    quick: bool = False

    def warm_up_s(self, load: Load) -> float:
        """Seconds that a load runs before it counts."""
        return WARM_UP_S[load.client] * (_QUICK_SHARE if self.quick else 1)

    def send(self, side: Side, peer: Any, load: Load, topic: str, seconds: float) -> list[str]:
        """Send for so long."""
        if load.client == "java":
            return self._java_send(peer, load, topic, seconds)
        timing = flags(seconds=float(seconds), warm_up=float(self.warm_up_s(load)))
        shape = flags(
            connections=load.connections, in_flight=load.in_flight, size=load.size, batch=load.batch
        )
        if load.client == "python":
            target = ["send", *flags(name_server=peer.name_server, topic=topic)]
            return python("bench.python_load", *target, *shape, *timing)
        more = flags(queues=load.queues, topics=load.topics, rate=load.rate)
        return [str(self.lean), *_target(side, peer, topic), *shape, *more, *timing]

    def _java_send(self, peer: Any, load: Load, topic: str, seconds: float) -> list[str]:
        what = flags(name_server=peer.name_server, topic=topic, batch=load.batch, size=load.size)
        many = load.in_flight > 1
        shape = flags(async_in_flight=load.in_flight) if many else flags(threads=load.connections)
        # It takes whole seconds.
        timing = flags(seconds=max(1, round(seconds)), warm_up=round(self.warm_up_s(load)))
        return python("bench.java_load", "send", *what, *shape, *timing)

    def consume(self, peer: Any, load: Load, topic: str) -> list[str]:
        """Read `load.count` messages from the first on."""
        what = flags(name_server=peer.name_server, topic=topic, count=load.count)
        match load.client:
            case "java":
                return python("bench.java_load", "consume", *what)
            case "python":
                return python("bench.python_load", "consume", *what)
            case "lean":
                more = flags(connections=load.connections, queues=load.queues)
                return [str(self.lean), "pull", *what, *more]

    def follow(self, peer: Any, load: Load, topic: str, seconds: float) -> list[str]:
        """Read what comes, until a sender that starts at the same time is done."""
        what = flags(name_server=peer.name_server, topic=topic, queues=load.queues)
        how = flags(follow=True, seconds=seconds + self.warm_up_s(load))
        # Beyond one reader per queue there is nothing to do.
        connections = flags(connections=min(load.connections, load.queues))
        return [str(self.lean), "pull", *what, *connections, *how]

    def outage(self, peer: Any, load: Load, topic: str, seconds: float) -> list[str]:
        """Send across a change of the leader."""
        what = flags(name_server=peer.name_server, topic=topic, queues=load.queues)
        how = flags(connections=load.connections, size=load.size, seconds=float(seconds))
        return [str(self.lean), "outage", *what, *how]

    def raft(self, side: Side, load: Load, folder: Path, seconds: float) -> list[str]:
        """A Raft core alone, three processes."""
        assert side.module, f"{side.title} is no Raft core"
        timing = flags(seconds=float(seconds), warm_up=float(self.warm_up_s(load)))
        shape = flags(in_flight=load.in_flight, size=load.size, folder=folder)
        return python(side.module, *shape, *timing)


def _target(side: Side, peer: Any, topic: str) -> list[str]:
    match side.protocol:
        case "nats":
            return ["nats-send", *flags(servers=peer.servers, subject=topic)]
        case "echo":
            return ["echo", *flags(address=peer.address, topic=topic)]
        case _:
            return ["send", *flags(name_server=peer.name_server, topic=topic)]
