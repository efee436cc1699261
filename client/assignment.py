"""One queue that a group member reads: the loop that pulls it, and what is held of it."""

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from ledgermq.remoting.clock import mono_ms
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.message import MessageExt

from .errors import BrokerRefused, ClientError
from .instance import Instance
from .process_queue import ProcessQueue
from .queue_calls import Pulled, QueueCalls, Start
from .result import MessageQueue
from .route_table import MASTER_ID
from .subscription import Subscription

log = logging.getLogger(__name__)

# After a failed pull; doubles up to the longest, and starts anew with the next success.
_PAUSE_FIRST_S, _PAUSE_LONGEST_S = 0.05, 1.0
_START_TIMEOUT_MS = 3000
# A broker that has nothing answers late. One that says so at once would be asked without a pause.
_TOO_QUICK_MS, _QUICK_PAUSE_S = 20, 0.05
# The broker does not know this client (yet): a heartbeat mends it.
_UNKNOWN_HERE = frozenset(
    {ResponseCode.SUBSCRIPTION_NOT_EXIST, ResponseCode.SUBSCRIPTION_NOT_LATEST}
)
# No repetition helps: the application has to hear of it.
_HOPELESS = frozenset(
    {ResponseCode.SUBSCRIPTION_PARSE_FAILED, ResponseCode.REQUEST_CODE_NOT_SUPPORTED}
)


class Limits(NamedTuple):
    """What may be held of one queue before pulling pauses, and how much one pull asks for."""

    max_messages: int
    max_bytes: int
    batch: int


class Received(NamedTuple):
    """A message and where it is to be acknowledged.

    Attributes:
        held: the window the message belongs to; another one after the queue was reset.
    """

    assignment: "Assignment"
    held: ProcessQueue
    message: MessageExt
    offset: int


class Assignment:
    """A queue of ours.

    Args:
        queue: its name.
        subscription: what is wanted of its topic.
        instance: the client.
        calls: requests about the queue.
        start: where to begin when the group has no offset there.
        limits: see `Limits`.
        deliver: takes each message that was pulled.
        to_commit: the offset a pull may carry along, if any.

    Attributes:
        held: None until the first offset is known.
    """

    def __init__(
        self,
        queue: MessageQueue,
        subscription: Subscription,
        instance: Instance,
        calls: QueueCalls,
        start: Start,
        limits: Limits,
        deliver: Callable[[Received], None],
        to_commit: Callable[["Assignment"], int | None],
    ) -> None:
        self.queue = queue
        self.held: ProcessQueue | None = None
        self.revoked = False
        self._subscription = subscription
        self._instance = instance
        self._calls = calls
        self._start = start
        self._limits = limits
        self._deliver = deliver
        self._to_commit = to_commit
        self._room = asyncio.Event()
        self._broker_id = MASTER_ID
        self._pause_s = _PAUSE_FIRST_S
        self._last_trouble = ""
        self._task = instance.spawn(f"pull {queue}", self._run())

    def revoke(self) -> None:
        """Stop; from now on nothing of the queue is delivered or committed."""
        self.revoked = True
        if self.held is not None:
            self.held.dropped = True
        self._task.cancel()

    def acknowledge(self, received: Received) -> None:
        """The message is done with."""
        if received.held.acknowledge(received.offset):
            self._room.set()

    async def _run(self) -> None:
        while not self.revoked:
            try:
                if self.held is None:
                    offset = await self._calls.first_offset(
                        self.queue, self._start, _START_TIMEOUT_MS
                    )
                    self.held = ProcessQueue(self.queue, offset)
                    log.info("%s begins at offset %d", self.queue, offset)
                await self._pull_once(self.held)
            except ClientError as e:
                await self._recover(e)
            else:
                self._pause_s = _PAUSE_FIRST_S
                self._last_trouble = ""

    async def _pull_once(self, held: ProcessQueue) -> None:
        while held.is_full(self._limits.max_messages, self._limits.max_bytes):
            self._room.clear()
            await self._room.wait()
        asked_ms, asked_at = mono_ms(), held.next_pull
        pulled = await self._calls.pull(
            self.queue,
            held.next_pull,
            self._subscription,
            max_messages=self._limits.batch,
            commit=self._to_commit(self),
            broker_id=self._broker_id,
        )
        self._broker_id = pulled.suggested_id
        if pulled.moved:
            self._begin_anew(held, pulled)
        for message in () if pulled.moved else held.add(pulled.messages, pulled.next_offset):
            self._deliver(Received(self, held, message, message.queue_offset))
        is_new = held.next_pull > asked_at and not pulled.moved
        if not is_new and mono_ms() - asked_ms < _TOO_QUICK_MS:
            await asyncio.sleep(_QUICK_PAUSE_S)

    def _begin_anew(self, held: ProcessQueue, pulled: Pulled) -> None:
        log.warning(
            "%s: offset %d does not exist, the queue holds %d to %d; going on at %d",
            self.queue,
            held.next_pull,
            pulled.min_offset,
            pulled.max_offset,
            pulled.next_offset,
        )
        held.dropped = True
        self.held = ProcessQueue(self.queue, pulled.next_offset)

    async def _recover(self, error: ClientError) -> None:
        """Wait, and do what may help; a trouble that lasts is logged once.

        Raises:
            ClientError: the error itself, when nothing helps.
        """
        code = error.code if isinstance(error, BrokerRefused) else None
        if code in _HOPELESS:
            raise error
        if str(error) != self._last_trouble:
            self._last_trouble = str(error)
            log.warning("%s: %s", self.queue, error)
        if code in _UNKNOWN_HERE:
            self._instance.beat_now()
        else:
            try:
                await self._instance.routes.refresh(self.queue.topic, move_on=True)
            except ClientError as e:
                log.debug("%s: %s", self.queue, e)
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _PAUSE_LONGEST_S)
