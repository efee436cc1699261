"""What the clients of a simulated master know of its topics."""

from dataclasses import dataclass, field

QUEUES = 2


class Broken(AssertionError):
    """A promise that was not kept."""


@dataclass
class Sent:
    """What was sent to one queue of one topic, since that was made.

    Attributes:
        bodies: by queue offset.
        places: physical offsets of those that were answered.
        refused: for want of room. What was taken back may be there again after a loss of power.
        safe: so many were answered as being on the disk.
        commits: what was said to be consumed, newest last.
    """

    bodies: list[bytes] = field(default_factory=list)
    places: dict[int, int] = field(default_factory=dict)
    refused: list[bytes] = field(default_factory=list)
    safe: int = 0
    commits: list[int] = field(default_factory=lambda: [0])


@dataclass
class Topic:
    """A name, and what is known about the topic of that name.

    Attributes:
        is_there: None: one or the other, nobody was told.
        is_going: a deletion was begun and not answered.
        made: counts the topics of this name.
    """

    name: str
    is_there: bool | None = False
    is_going: bool = False
    made: int = 0
    queues: list[Sent] = field(default_factory=lambda: [Sent() for _ in range(QUEUES)])

    def renew(self) -> None:
        """The next topic of this name is another one."""
        self.made += 1
        self.queues = [Sent() for _ in range(QUEUES)]
