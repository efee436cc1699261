"""Fuzzing of running nodes: one event loop, many examples, and what must hold after each.

    with attacked(lambda: start(), stop) as target:
        @target.given(examples, frames)
        async def attack(node, data): ...

`given` runs the coroutine function for each example on the loop that the nodes live in. Whatever
nobody handled in that loop fails the test.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

T = TypeVar("T")
Attack = Callable[..., Coroutine[Any, Any, None]]


def profiles(quick: int, long: int) -> pytest.MarkDecorator:
    """Number of examples for every run, and with LEDGERMQ_FUZZ=long for those who have an hour."""
    if os.environ.get("LEDGERMQ_FUZZ") == "long":
        return pytest.mark.parametrize("examples", [pytest.param(long, id="long")])
    return pytest.mark.parametrize("examples", [pytest.param(quick, id="quick")])


def fuzzing(examples: int) -> settings:
    """So many examples; the same ones in CI, no deadline on a busy machine."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=os.environ.get("CI") == "true",
        database=None,
        suppress_health_check=list(HealthCheck),
    )


class Attacked(Generic[T]):
    """Running nodes, and what went wrong in their loop."""

    def __init__(self, runner: asyncio.Runner, nodes: T, unhandled: list[str]) -> None:
        self.nodes = nodes
        self._runner = runner
        self._unhandled = unhandled

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Something to be done in the nodes' loop."""
        result = self._runner.run(work)
        assert not self._unhandled, self._unhandled
        return result

    def given(self, examples: int, *args: st.SearchStrategy[Any]) -> Callable[[Attack], None]:
        """Run the decorated attack at once, for so many examples of `args`."""

        def run(attack: Attack) -> None:
            @fuzzing(examples)
            @given(st.tuples(*args))
            def each(values: tuple[Any, ...]) -> None:
                self.run(attack(self.nodes, *values))

            each()

        return run


@contextmanager
def attacked(
    start: Callable[[], Awaitable[T]], stop: Callable[[T], Awaitable[None]]
) -> Iterator[Attacked[T]]:
    """Start nodes in a loop of their own; stop them at the end."""
    unhandled: list[str] = []

    async def begin() -> T:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(
            lambda _, c: unhandled.append(f"{c.get('message')}: {c.get('exception')!r}")
        )
        return await start()

    async def end(nodes: T) -> None:
        await stop(nodes)

    with asyncio.Runner() as runner:
        nodes = runner.run(begin())
        target = Attacked(runner, nodes, unhandled)
        try:
            yield target
        finally:
            runner.run(end(nodes))
    assert not unhandled, unhandled


class Stranger:
    """A bare connection to a port of a node."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def dial(cls, port: int) -> "Stranger":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def say(self, data: bytes) -> None:
        """Send, as far as the other side still listens."""
        self._writer.write(data)
        with suppress(OSError):
            await self._writer.drain()

    async def hear(self, seconds: float = 5.0) -> bytes:
        """What comes next; b"" when the other side has closed."""
        with suppress(OSError):
            async with asyncio.timeout(seconds):
                return await self._reader.read(1 << 16)
        return b""

    async def leave(self) -> None:
        self._writer.transport.abort()
        with suppress(OSError):
            await self._writer.wait_closed()


# --- bytes ------------------------------------------------------------------------------------


@st.composite
def mutated(draw: st.DrawFn, frames: st.SearchStrategy[bytes]) -> bytes:
    """A frame with a few of its bytes changed, left out, repeated, or its lengths made up."""
    data = bytearray(draw(frames))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["flip", "set", "cut", "drop", "insert", "length", "header"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "set" if data:
                data[at] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x7B]))
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + draw(st.integers(1, 8))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "length":
                data[:4] = draw(st.sampled_from(_LENGTHS)).to_bytes(4)
            case _:
                data[4:8] = draw(st.sampled_from(_LENGTHS)).to_bytes(4)
    return bytes(data)


_LENGTHS = [0, 1, 3, 4, 5, 100, 0x00FFFFFF, 0x01000000, 0x01000001, 0x7FFFFFFF, 0xFFFFFFFF]

# Numbers at the edges of the types that travel.
EDGES = [-(2**63) - 1, -(2**63), -(2**31) - 1, -(2**31), -1, 0, 1, 7, 2**31 - 1, 2**31, 2**63 - 1]
numbers = st.sampled_from(EDGES) | st.integers(-3, 40) | st.integers(-(2**64), 2**64)
# Text as header fields hold it: numbers, names, and what is neither.
texts = (
    numbers.map(str)
    | st.sampled_from(["", "T", "CG", "true", "null", "NaN", "1e999", "%RETRY%CG", "*", "a||b"])
    | st.text(max_size=20)
    | st.sampled_from(["\0", "\x01\x02", "9" * 5000, "x" * 40_000, "ő" * 300])
)
scalars = st.none() | st.booleans() | numbers | st.floats() | texts
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
