"""One queue on the consumer's side: what was pulled and is not yet acknowledged. Pure."""

from collections import OrderedDict
from collections.abc import Iterable

from ledgermq.remoting.message import MessageExt

from .result import MessageQueue


class ProcessQueue:
    """The window between what is pulled and what may be committed.

    Messages are pulled in order of their offsets and acknowledged in any order, so the oldest
    unacknowledged one is the first that is left. (A map that keeps its order finds it at once; a
    sorted one would pay for an order that is given.)

    Attributes:
        queue: its name.
        next_pull: offset to pull next.
        cached_bytes: bodies that are held.
        dropped: the queue belongs to somebody else now; nothing of it may be committed.

    Invariant: every offset held is < `next_pull`, and `committable` never falls.
    """

    def __init__(self, queue: MessageQueue, start: int) -> None:
        self.queue = queue
        self.next_pull = start
        self.cached_bytes = 0
        self.dropped = False
        self._unacked: OrderedDict[int, MessageExt] = OrderedDict()

    def __len__(self) -> int:
        return len(self._unacked)

    @property
    def committable(self) -> int:
        """The offset a successor may start at: everything before it is acknowledged."""
        return next(iter(self._unacked), self.next_pull)

    def add(self, messages: Iterable[MessageExt], next_pull: int) -> list[MessageExt]:
        """Take what a pull brought; returns what is new, in order."""
        new: list[MessageExt] = []
        for message in messages:
            # A follower's answer may begin before the offset asked for.
            if message.queue_offset >= self.next_pull:
                self._unacked[message.queue_offset] = message
                self.cached_bytes += len(message.body)
                self.next_pull = message.queue_offset + 1
                new.append(message)
        self.next_pull = max(self.next_pull, next_pull)
        return new

    def acknowledge(self, offset: int) -> bool:
        """Let one message go; False when it is not held (any more)."""
        message = self._unacked.pop(offset, None)
        if message is None:
            return False
        self.cached_bytes -= len(message.body)
        return True

    def is_full(self, max_messages: int, max_bytes: int) -> bool:
        """True when no more should be pulled for now."""
        return len(self._unacked) >= max_messages or self.cached_bytes >= max_bytes
