"""What stores a broker's messages: a replica of a group, or a master on its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .metadata import Change, Metadata
from .stats import BrokerStats
from .store.dispatch import Arrivals
from .store.index_view import IndexView
from .store.reader import MessageReader
from .writer import BrokerNode


@dataclass(frozen=True, kw_only=True)
class EngineEvents:
    """Whom an engine tells.

    Attributes:
        on_ready: it takes messages, or no longer does.
        on_applied: everything up to this place in the log is visible; the arrivals by queue.
        on_change: metadata changed.
        on_stop: the broker must stop, for this reason.
    """

    on_ready: Callable[[bool], None]
    on_applied: Callable[[int, Arrivals], None]
    on_change: Callable[[Change], None]
    on_stop: Callable[[Exception], None]


class Engine(Protocol):
    """Log, queues and metadata behind one broker."""

    @property
    def metadata(self) -> Metadata:
        """Topics, groups, offsets."""
        ...

    @property
    def stats(self) -> BrokerStats:
        """Counters."""
        ...

    @property
    def node(self) -> BrokerNode:
        """Changes what is stored."""
        ...

    @property
    def reader(self) -> MessageReader:
        """Reads it."""
        ...

    @property
    def index(self) -> IndexView | None:
        """Finds messages by key; None: messageIndexEnable is false."""
        ...

    @property
    def term(self) -> int:
        """The Raft term; 0 without a group."""
        ...

    @property
    def end_pos(self) -> int:
        """Byte after the last record of the log."""
        ...

    @property
    def is_clean(self) -> bool:
        """Once closed: whether the next start has nothing to make up for."""
        ...

    async def open(self) -> None:
        """Bring queues and metadata to where the log is."""
        ...

    async def join(self) -> None:
        """Take part."""
        ...

    async def close(self) -> None:
        """Stop; what was taken is on disk afterwards, unless it failed."""
        ...
