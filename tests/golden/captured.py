"""Reads the captured data: frames, and store directories written back as they were."""

import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ledgermq.remoting import frame
from ledgermq.remoting.command import RemotingCommand

DATA = Path(__file__).parent / "data"
VERSIONS = ("4.9.5", "5.3.3")
STORES = ("plain-4.9.5/clean", "plain-4.9.5/kill9", "dledger-4.9.5/clean", "dledger-4.9.5/kill9")


@dataclass(frozen=True)
class CapturedFrame:
    """One frame; `request` is the request a reply answers."""

    name: str
    note: str
    raw: bytes
    command: RemotingCommand
    request: RemotingCommand | None

    @property
    def request_code(self) -> int:
        return self.request.code if self.request else self.command.code


@cache
def frames() -> tuple[CapturedFrame, ...]:
    """Every captured frame, in order."""
    found: list[CapturedFrame] = []
    for version in VERSIONS:
        last: RemotingCommand | None = None
        lines = (DATA / f"frames-{version}.jsonl").read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, start=1):
            fields = json.loads(line)
            raw = bytes.fromhex(fields["hex"])
            command = frame.decode(raw[4:])
            request = last if command.is_response else None
            assert (request.code if request else command.code) == fields.get(
                "request_code", fields["code"]
            )
            last = last if command.is_response else command
            name = f"{version}:{number}:{fields['code']}"
            found.append(CapturedFrame(name, fields["note"], raw, command, request))
    return tuple(found)


def messages(store: str) -> list[dict[str, Any]]:
    """What an independent reader found in the commitlog of `store`."""
    found: list[dict[str, Any]] = _json(store, "messages.json")["messages"]
    return found


def manifest(store: str) -> dict[str, Any]:
    """Settings of the broker that wrote `store`, and its files."""
    return _json(store, "manifest.json")


def files(store: str, folder: str) -> Iterator[tuple[int, bytes]]:
    """(number in the name, content) of every file right under `folder`; zeros at the end cut."""
    heads = _heads(store)
    for entry in manifest(store)["files"]:
        path = Path(entry["path"])
        if path.parent == Path(folder):
            yield int(path.name), heads[entry["at"] : entry["at"] + entry["stored"]]


def rebuild(store: str, target: Path) -> dict[str, Any]:
    """Write the directory back, as a broker can open it; returns its manifest.

    Files are as long as they were, sparse past their content.
    """
    heads = _heads(store)
    description = manifest(store)
    for folder in description["dirs"]:
        (target / folder).mkdir(parents=True, exist_ok=True)
    for entry in description["files"]:
        path = target / entry["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(heads[entry["at"] : entry["at"] + entry["stored"]])
            file.truncate(entry["size"])
    return description


def digest(head: bytes, size: int) -> str:
    """sha256 of `head` followed by zeros up to `size` bytes."""
    sha = hashlib.sha256(head)
    left = size - len(head)
    while left:
        step = min(left, 1 << 20)
        sha.update(bytes(step))
        left -= step
    return sha.hexdigest()


def _json(store: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / f"store-{store}" / name).read_text(encoding="utf-8"))
    return found


@cache
def _heads(store: str) -> bytes:
    return gzip.decompress((DATA / f"store-{store}" / "heads.bin.gz").read_bytes())
