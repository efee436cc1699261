"""The limit of an asyncio broker: answers each frame of a send, and does nothing else.

It splits the stream into frames, takes the request's number (opaque) and joins a prebuilt answer
around it, one write per received chunk. The answer has the size and the fields of a real one.

    python -m bench.peers.echo 127.0.0.1:10000
"""

import argparse
import asyncio
import gc
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from . import HOST, PeerError, Processes

START_TIMEOUT_S = 10.0
ROOT = Path(__file__).resolve().parents[2]
_HEAD = (
    b'{"code":0,"extFields":{"MSG_REGION":"DefaultRegion","TRACE_ON":"true",'
    b'"msgId":"7F0000010000771F0000000000A1B2C3","queueId":"0","queueOffset":"1234567",'
    b'"transactionId":"7F00000100007A81C3F20000A1B2C3D4"},"flag":1,"language":"PYTHON","opaque":'
)
_TAIL = b',"serializeTypeCurrentRPC":"JSON","version":401}'
_KEY = b'"opaque":'
_NUMBER = re.compile(rb"-?\d+")


def _prefix(digits: int) -> bytes:
    """Both lengths and the answer's start, for a number of so many digits."""
    size = len(_HEAD) + digits + len(_TAIL)
    return (size + 4).to_bytes(4) + size.to_bytes(4) + _HEAD


_PREFIXES = [_prefix(digits) for digits in range(12)]


class Echo(asyncio.Protocol):
    """One connection; headers are JSON with the key `opaque` before any other such text."""

    def __init__(self) -> None:
        self._rest = b""
        self._write: Callable[[bytes], None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what is called for each chunk."""
        self._write = transport.write  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Answer every whole frame of the chunk."""
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        answers: list[bytes] = []
        while end - at >= 4:
            stop = at + 4 + int.from_bytes(data[at : at + 4])
            if stop > end:
                break
            number = _NUMBER.match(data, data.index(_KEY, at) + len(_KEY)).group()  # type: ignore[union-attr]
            answers += (_PREFIXES[len(number)], number, _TAIL)
            at = stop
        self._rest = data[at:]
        if answers:
            self._write(b"".join(answers))


class EchoPeer:
    """The server in a process of its own.

    Args:
        folder: for what it prints.

    Attributes:
        address: where it listens.
        start_s: seconds from its start to its first answer.
    """

    name = "asyncio echo"

    def __init__(self, folder: Path) -> None:
        from tests.support.ports import reserve_port  # noqa: PLC0415 - not in the server's process

        self.address = f"{HOST}:{reserve_port()}"
        self.start_s = 0.0
        self._log = folder / "echo.log"
        self._processes = Processes()

    @property
    def processes(self) -> Mapping[str, int]:
        """Its process id by its name."""
        return self._processes.running

    def leader(self) -> str:
        """The one process."""
        return "echo"

    def kill9(self, name: str) -> None:
        """Kill it, and wait until it is gone."""
        self._processes.kill9(name)

    def __enter__(self) -> Self:
        begin = time.monotonic()
        argv = [sys.executable, "-m", "bench.peers.echo", self.address]
        self._processes.start("echo", argv, self._log, os.environ | {"PYTHONPATH": str(ROOT)})
        try:
            while not self._answers():
                if self._processes.ended() or time.monotonic() - begin > START_TIMEOUT_S:
                    raise PeerError(f"the echo server does not answer:\n{self._log.read_text()}")
                time.sleep(0.005)
        except BaseException:
            self._processes.kill_all()
            raise
        self.start_s = time.monotonic() - begin
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.kill_all()

    def _answers(self) -> bool:
        from tests.support.cluster import ask  # noqa: PLC0415 - as above

        from .ours import first_message  # noqa: PLC0415

        with suppress(OSError):
            return ask(self.address, first_message()).code == 0
        return False


async def serve(address: str) -> None:
    """Serve until killed."""
    host, _, port = address.rpartition(":")
    server = await asyncio.get_running_loop().create_server(Echo, host, int(port), backlog=1024)
    gc.freeze()
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Answer sends without doing anything.")
    parser.add_argument("address", help="HOST:PORT to listen on")
    asyncio.run(serve(parser.parse_args().address))
