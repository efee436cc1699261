"""Which handler serves which request code."""

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from .command import RemotingCommand
from .errors import CallerError

if TYPE_CHECKING:
    from .connection import Connection

# A handler answers in one of three ways: it returns the reply; it returns an awaitable of it (run
# as a task); or it returns None and replies later by `connection.reply` (or never: one-way).
HandlerResult = RemotingCommand | None | Awaitable[RemotingCommand | None]
Handler = Callable[["Connection", RemotingCommand], HandlerResult]
# Gets whole frames without their lengths, and the number of the first that is not served yet; the
# number of the first that it has not taken.
Shortcut = Callable[["Connection", list[bytes], int], int]


class ProcessorRegistry:
    """Request code -> handler; each code once.

    Attributes:
        shortcut: is shown the frames that came in first, and may take any number of those that are
            next, instead of all that follows.
    """

    def __init__(self) -> None:
        self.shortcut: Shortcut | None = None
        self._handlers: dict[int, Handler] = {}

    def add(self, code: int, handler: Handler) -> None:
        """Serve `code` by `handler`."""
        if code in self._handlers:
            raise CallerError(f"request code {code} has a handler already")
        self._handlers[code] = handler

    def get(self, code: int) -> Handler | None:
        """The handler of `code`, or None when the code is not served."""
        return self._handlers.get(code)

    def items(self) -> Iterator[tuple[int, Handler]]:
        """All codes with their handlers."""
        yield from self._handlers.items()
