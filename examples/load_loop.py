"""Send without end from several workers; print successes and failures once per second.

Kill the leader meanwhile and watch the sends go on. The name server is taken from --nameserver,
NAMESRV_ADDR, else localhost:9876.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import TextIO

from ledgermq import ClientError, Producer, SendResult

TOPIC, TAG, BODY = "TopicTest", "TagA", "Test"
# A failure that comes at once must not become a busy loop.
PAUSE_AFTER_FAILURE_S = 0.1


class Load:
    """The workers' counts, of the running second and of all.

    Args:
        record: gets a JSON line for each message that was acknowledged.
    """

    def __init__(self, record: TextIO | None) -> None:
        self.successes = self.failures = 0
        self.all_successes = self.all_failures = 0
        self._last_error = ""
        self._record = record

    async def work(self, producer: Producer) -> None:
        """One worker: a send, its answer, the next send."""
        while True:
            try:
                result = await producer.send(TOPIC, BODY, tag=TAG)
            except ClientError as e:
                self.failures += 1
                self._last_error = str(e)
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
            else:
                self.successes += 1
                if self._record:
                    self._record.write(json.dumps(as_json(result)) + "\n")

    async def report(self) -> None:
        """Print each second when it ends."""
        try:
            while True:
                await asyncio.sleep(1)
                self._print_second()
        finally:
            self._print_second()

    def _print_second(self) -> None:
        line = f"{time.strftime('%H:%M:%S')} success {self.successes} failure {self.failures}"
        print(f"{line} ({self._last_error})" if self._last_error else line, flush=True)
        self.all_successes += self.successes
        self.all_failures += self.failures
        self.successes = self.failures = 0
        self._last_error = ""


def as_json(result: SendResult) -> dict[str, str | int]:
    """What to look for later: which message lies where, and when that was promised."""
    return {
        "timeMs": time.time_ns() // 1_000_000,
        "topic": result.queue.topic,
        "brokerName": result.queue.broker_name,
        "queueId": result.queue.queue_id,
        "queueOffset": result.queue_offset,
        "msgId": result.msg_id,
        "offsetMsgId": result.offset_msg_id,
        "body": BODY,
    }


async def run(nameserver: str | None, workers: int, seconds: float | None, load: Load) -> None:
    """Send for `seconds`, or until SIGTERM or Ctrl-C cancels it."""
    this = asyncio.current_task()
    if this is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    async with Producer("please_rename_unique_group_name", nameserver) as producer:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(load.work(producer))
                group.create_task(load.report())


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nameserver", help="host:port, several joined by ';'")
    parser.add_argument("--workers", type=int, default=10, help="sends at the same time")
    parser.add_argument("--seconds", type=float, help="stop after so long")
    parser.add_argument(
        "--record", type=Path, help="append a JSON line for each message that was acknowledged"
    )
    return parser.parse_args()


def main() -> int:
    """Run; returns the exit code."""
    options = arguments()
    with contextlib.ExitStack() as stack:
        record: TextIO | None = None
        if options.record:
            record = stack.enter_context(options.record.open("a", buffering=1, encoding="utf-8"))
        load = Load(record)
        try:
            asyncio.run(run(options.nameserver, options.workers, options.seconds, load))
        except ClientError as e:
            print(e, file=sys.stderr)
            return 1
        except (KeyboardInterrupt, asyncio.CancelledError):
            pass
    print(f"all: success {load.all_successes} failure {load.all_failures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
