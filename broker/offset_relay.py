"""Consumer offsets that came with pulls to a node that does not lead, on their way to the leader.

Of each queue and group only the newest one is kept. One that the leader may not have taken is sent
again, for as long as a consumer would take to commit by itself.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ledgermq.remoting.clock import mono_ms
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import RemotingCommand, request
from ledgermq.remoting.connection import Connection, Outcome
from ledgermq.remoting.headers.offset import UpdateConsumerOffsetRequest

log = logging.getLogger(__name__)

# Bounds: offsets that wait, the oldest go first; and those the leader has not confirmed.
MAX_WAITING = 10_000
MAX_UNDER_WAY = 1000
# Consumers commit every 5 s themselves: later than that the offset would be an old one.
HOLD_MS = 5000
_RETRY_S = 0.1
_ANSWER_MS = 3000
# The leader did not take it, and another one, or the same one later, will.
_AGAIN_CODES = frozenset({ResponseCode.SERVICE_NOT_AVAILABLE, ResponseCode.SYSTEM_BUSY})

_Key = tuple[str, str, int]


class _Moved(NamedTuple):
    offset: int
    deadline_ms: int


class OffsetRelay:
    """Brings offsets to wherever the leader is.

    Attributes:
        dropped: offsets that no leader has taken: too many, or too old.
    """

    def __init__(
        self,
        link: Callable[[], Connection | None],
        *,
        may_apply: Callable[[], bool],
        apply: Callable[[str, str, int, int], None],
        mark: Callable[[RemotingCommand], None],
    ) -> None:
        """Nothing is sent yet.

        Args:
            link: the open connection to the leader, if there is one.
            may_apply: whether this node is the leader itself.
            apply: then: takes group, topic, queue id and offset.
            mark: adds to a request what makes it a forwarded one.
        """
        self.dropped = 0
        self._link = link
        self._may_apply = may_apply
        self._apply = apply
        self._mark = mark
        # The oldest first.
        self._waiting: dict[_Key, _Moved] = {}
        self._under_way = 0
        # By queue, the last one sent and not answered.
        self._newest: dict[_Key, _Moved] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._told = False

    @property
    def busy(self) -> bool:
        """Whether an offset waits, or its answer is awaited."""
        return bool(self._waiting) or self._under_way > 0

    def put(self, group: str, topic: str, queue_id: int, offset: int) -> None:
        """Take an offset, in place of an earlier one of the same queue."""
        self._keep((group, topic, queue_id), _Moved(offset, mono_ms() + HOLD_MS))
        self.flush()

    def _keep(self, key: _Key, moved: _Moved) -> None:
        self._waiting.pop(key, None)
        self._waiting[key] = moved
        while len(self._waiting) > MAX_WAITING:
            self._drop(next(iter(self._waiting)))

    def _drop(self, key: _Key) -> None:
        del self._waiting[key]
        self.dropped += 1
        if not self._told:
            self._told = True
            log.warning("no leader takes consumer offsets: some are dropped, consumers may re-read")

    def flush(self) -> None:
        """Send what waits, as far as there is a leader with room for it."""
        self._disarm()
        self._drop_old()
        if self._may_apply():
            self.keep_here()
            return
        for key in list(self._waiting):
            link = self._link() if self._under_way < MAX_UNDER_WAY else None
            if link is None:
                break
            self._send(link, key, self._waiting.pop(key))
        self._arm()

    def keep_here(self) -> None:
        """Give what waits to this node; it is the leader, and stops without a successor."""
        waiting, self._waiting = self._waiting, {}
        for (group, topic, queue_id), moved in waiting.items():
            self._apply(group, topic, queue_id, moved.offset)

    def _drop_old(self) -> None:
        now_ms = mono_ms()
        for key in [k for k, moved in self._waiting.items() if moved.deadline_ms <= now_ms]:
            self._drop(key)

    def _send(self, link: Connection, key: _Key, moved: _Moved) -> None:
        group, topic, queue_id = key
        header = UpdateConsumerOffsetRequest(
            consumer_group=group, topic=topic, queue_id=queue_id, commit_offset=moved.offset
        )
        command = request(RequestCode.UPDATE_CONSUMER_OFFSET, header.to_ext())
        self._mark(command)
        self._under_way += 1
        self._newest[key] = moved
        link.call(command, _ANSWER_MS, partial(self._answered, key, moved))

    def _answered(self, key: _Key, moved: _Moved, outcome: Outcome) -> None:
        self._under_way -= 1
        newest = self._newest.get(key) is moved
        if newest:
            del self._newest[key]
        if not isinstance(outcome, Exception) and outcome.code not in _AGAIN_CODES:
            self._told = False
        elif newest and key not in self._waiting:
            # A newer one may be there already: it must not be undone by this one.
            self._keep(key, moved)
        self._arm()

    def _arm(self) -> None:
        if self._waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_RETRY_S, self.flush)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Send nothing more."""
        self._disarm()
        self._waiting.clear()
