"""Timers of one member: named ones, and the tick of the core."""

import asyncio
from collections.abc import Callable
from typing import Any

# A tick this late means that the process itself was not running.
_STALL_MS = 300


class Timers:
    """Calls later, by name: setting one again replaces it, and all end together.

    An exception of what is called goes to `on_error`, never into the loop.
    """

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._on_error = on_error
        self._handles: dict[str, asyncio.TimerHandle] = {}
        self._closed = False

    def __contains__(self, name: str) -> bool:
        return name in self._handles

    def __len__(self) -> int:
        return len(self._handles)

    def after(self, name: str, delay_s: float, action: Callable[..., None], *args: Any) -> None:
        """Call in `delay_s` seconds, in place of what had the same name."""
        if self._closed:
            return
        if name in self._handles:
            self._handles[name].cancel()
        loop = asyncio.get_running_loop()
        self._handles[name] = loop.call_later(delay_s, self._due, name, action, args)

    def _due(self, name: str, action: Callable[..., None], args: tuple[Any, ...]) -> None:
        del self._handles[name]
        try:
            action(*args)
        except Exception as e:  # noqa: BLE001 - whatever it is, the owner decides
            self._on_error(e)

    def close(self) -> None:
        """Cancel all; later calls do nothing."""
        self._closed = True
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()


class Ticker:
    """Ticks when the core's deadline has come, after what the sockets hold has been read."""

    def __init__(
        self,
        mono_ms: Callable[[], int],
        deadline_ms: Callable[[], int],
        on_tick: Callable[[bool], None],
    ) -> None:
        """`on_tick(stalled)`: whether this process itself was not running for a while."""
        self._mono_ms = mono_ms
        self._deadline_ms = deadline_ms
        self._on_tick = on_tick
        self._timer: asyncio.TimerHandle | None = None
        self._due_ms = 0
        self._closed = False

    def arm(self) -> None:
        """See to it that the present deadline is met; an earlier tick is fine."""
        if self._closed:
            return
        due_ms = self._deadline_ms()
        if self._timer is not None:
            if self._due_ms <= due_ms:
                return
            self._timer.cancel()
        self._due_ms = due_ms
        wait_s = max(due_ms - self._mono_ms(), 0) / 1000
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._fired)

    def _fired(self) -> None:
        late = self._mono_ms() - self._due_ms > _STALL_MS
        # Sockets first: what they hold may be the heartbeat that the tick would miss.
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: loop.call_soon(self._tick, late))

    def _tick(self, late: bool) -> None:
        self._timer = None
        if not self._closed:
            self._on_tick(late)

    def close(self) -> None:
        """No more ticks."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
