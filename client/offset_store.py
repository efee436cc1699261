"""Which offsets the brokers have been told, so that each is sent once. Pure."""

from .result import MessageQueue


class OffsetStore:
    """Offsets of one group, per queue.

    An offset is noted before it is sent; one that gets lost on the way is made up for by the next
    progress, by the next pull that carries it, or at close, where everything is sent again.
    """

    def __init__(self) -> None:
        self._sent: dict[MessageQueue, int] = {}

    def is_new(self, queue: MessageQueue, offset: int) -> bool:
        """True when the broker has not been told this offset."""
        return self._sent.get(queue) != offset

    def sent(self, queue: MessageQueue, offset: int) -> None:
        """Note that the broker was told."""
        self._sent[queue] = offset

    def forget(self, queue: MessageQueue) -> None:
        """The queue is somebody else's, or the sending failed."""
        self._sent.pop(queue, None)
