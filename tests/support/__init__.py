"""What tests share: waiting without sleeping, and free ports."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tests.support.ports import free_ports

__all__ = ["free_ports", "until", "wait_until"]


async def until(
    predicate: Callable[[], Any] | Callable[[], Awaitable[Any]],
    timeout_s: float = 10.0,
    what: str = "the condition",
) -> Any:
    """Wait until `predicate()` is true, return its value; fail with `what` after the timeout."""
    end = time.monotonic() + timeout_s
    while True:
        value = predicate()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true within {timeout_s} s")
        await asyncio.sleep(0.005)


def wait_until(
    predicate: Callable[[], Any], timeout_s: float = 10.0, what: str = "the condition"
) -> Any:
    """`until` for code without an event loop."""
    end = time.monotonic() + timeout_s
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true within {timeout_s} s")
        time.sleep(0.02)
