"""Load by our own client, in one process, with the flags and the JSON of the other two.

python -m bench.python_load send --name-server H:P --topic T --connections 64 --seconds 5
python -m bench.python_load consume --name-server H:P --topic T --count 100000
"""

import asyncio
import json
import resource
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import click

from ledgermq import ClientError, Consumer, Producer, SendManyFailed

from .latency import percentiles

GROUP = "bench_python"
# Wait no longer than this for the next message.
SILENCE_S = 20.0
# A refusal that comes at once must not become a busy loop.
PAUSE_AFTER_FAILURE_S = 0.05
# What is in flight is shared by so many calls of `send_many`: one ends while others go on.
LOTS = 4


class Sends:
    """Counts and latencies of the measured time; what ends in the warm-up is left out."""

    def __init__(self, warm_up_s: float, seconds: float) -> None:
        self.begin = time.perf_counter() + warm_up_s
        self.end = self.begin + seconds
        self.messages = 0
        self.latencies_s: list[float] = []
        self.errors: Counter[str] = Counter()
        self.last = self.begin

    def over(self) -> bool:
        """Whether no further send may begin."""
        return time.perf_counter() >= self.end

    def note(self, started: float, messages: int, *, timed: bool = True) -> None:
        """Messages were acknowledged, at once; `timed`: their latency counts."""
        now = time.perf_counter()
        if started >= self.begin:
            self.messages += messages
            self.last = now
            if timed:
                self.latencies_s.append(now - started)

    def fail(self, error: Exception) -> None:
        """A send failed."""
        self.errors[f"{type(error).__name__}: {error}"[:120]] += 1

    def report(self) -> dict[str, object]:
        """The JSON of all load programs."""
        return report(self.messages, self.last - self.begin, self.latencies_s, dict(self.errors))


def report(
    messages: int, seconds: float, latencies_s: list[float], errors: dict[str, int]
) -> dict[str, object]:
    """The JSON of all load programs."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "messages": messages,
        "seconds": round(seconds, 3),
        "per_s": round(messages / seconds, 1) if seconds > 0 else 0.0,
        **percentiles(latencies_s),
        "errors": errors,
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
    }


async def keep_sending(sends: Sends, send: Callable[[], Awaitable[object]], messages: int) -> None:
    """One worker: a send, its answer, the next."""
    while not sends.over():
        started = time.perf_counter()
        try:
            await send()
        except ClientError as e:
            sends.fail(e)
            await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
        else:
            sends.note(started, messages)


async def keep_streaming(sends: Sends, producer: Producer, topic: str, lot: list[bytes]) -> None:
    """One of the workers that share what is in flight: `send_many` of a lot, then the next.

    It has no latencies: the answers of a lot are told together.
    """
    while not sends.over():
        started = time.perf_counter()
        acknowledged = len(lot)
        try:
            await producer.send_many(topic, lot)
        except SendManyFailed as e:
            failed = [r for r in e.results if isinstance(r, ClientError)]
            acknowledged -= len(failed)
            for error in failed:
                sends.fail(error)
        except ClientError as e:
            sends.fail(e)
            await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
            continue
        sends.note(started, acknowledged, timed=False)


async def run_sends(
    name_server: str, topic: str, workers: int, in_flight: int, batch: int, size: int, sends: Sends
) -> dict[str, object]:
    """Send until the time is over."""
    body = b"x" * size
    bodies = [body] * batch
    async with Producer(GROUP, name_server, compress=False) as producer:

        def send() -> Awaitable[object]:
            if batch > 1:
                return producer.send_batch(topic, bodies)
            return producer.send(topic, body)

        async with asyncio.TaskGroup() as group:
            if in_flight > 1:
                lot = [body] * max(1, in_flight // LOTS)
                for _ in range(LOTS):
                    group.create_task(keep_streaming(sends, producer, topic, lot))
            else:
                for _ in range(workers):
                    group.create_task(keep_sending(sends, send, batch))
    return sends.report()


async def run_consume(name_server: str, topic: str, count: int) -> dict[str, object]:
    """Read `count` messages by `async for`, timed from the first."""
    group = f"{GROUP}_{time.time_ns()}"
    seen, errors = 0, {}
    first = last = time.perf_counter()
    async with Consumer(group, topic, name_server, start="earliest") as consumer:
        messages = aiter(consumer)
        while seen < count:
            try:
                # One deadline per thousand: a timer per message would be part of what is measured.
                async with asyncio.timeout(SILENCE_S):
                    for _ in range(min(1000, count - seen)):
                        await anext(messages)
                        seen += 1
                        if seen == 1:
                            first = time.perf_counter()
            except TimeoutError:
                errors[f"silence of {SILENCE_S:.0f} s"] = count - seen
                break
            last = time.perf_counter()
    return report(seen, last - first, [], errors)


@click.group(help=__doc__)
def main() -> None:
    """The command line."""


@main.command()
@click.option("--name-server", required=True, help="host:port")
@click.option("--topic", required=True)
@click.option("--connections", default=1, show_default=True, help="tasks, one send at a time each")
@click.option("--in-flight", default=1, show_default=True, help="above 1: sends under way at once")
@click.option("--batch", default=1, show_default=True, help="messages per request")
@click.option("--size", default=128, show_default=True, help="bytes of a body")
@click.option("--seconds", default=5.0, show_default=True)
@click.option("--warm-up", default=1.0, show_default=True, help="seconds before the measured ones")
def send(
    name_server: str,
    topic: str,
    connections: int,
    in_flight: int,
    batch: int,
    size: int,
    seconds: float,
    warm_up: float,
) -> None:
    """Send for some seconds."""
    sends = Sends(warm_up, seconds)
    finish(run_sends(name_server, topic, connections, in_flight, batch, size, sends))


@main.command()
@click.option("--name-server", required=True, help="host:port")
@click.option("--topic", required=True)
@click.option("--count", required=True, type=int, help="messages to read")
def consume(name_server: str, topic: str, count: int) -> None:
    """Read messages from the beginning."""
    finish(run_consume(name_server, topic, count))


def finish(run: Awaitable[dict[str, object]]) -> None:
    """Print the JSON; exit 1 when it could not begin."""

    async def awaited() -> dict[str, object]:
        return await run

    try:
        click.echo(json.dumps(asyncio.run(awaited())))
    except ClientError as e:
        raise click.ClickException(str(e)) from None


if __name__ == "__main__":
    main()
