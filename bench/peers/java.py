"""The Java original, from published jars, with small heaps: 128 MiB name server, 512 MiB broker.

`flush` is there for the single master. Java's DLedger log (4.9.5) answers without waiting for its
disk whatever flushDiskType says, so a group with SYNC_FLUSH would be measured under a wrong name.
"""

from collections.abc import Mapping
from pathlib import Path

from tests.interop.java_peer import DEFAULT_VERSION, RELAXED, JavaLauncher

from . import ours

_NAME = f"java-{DEFAULT_VERSION}"


def group(folder: Path, *, conf: Mapping[str, str] | None = None) -> ours.RemotingPeer:
    """A name server and a DLedger group of three, ASYNC_FLUSH."""
    conf = RELAXED | dict(conf or {})
    return ours.group(folder, conf=conf, launcher=JavaLauncher(), name=_NAME)


def single(
    folder: Path, *, flush: str = "ASYNC_FLUSH", conf: Mapping[str, str] | None = None
) -> ours.RemotingPeer:
    """A name server and one master without replication (brokerRole ASYNC_MASTER)."""
    conf = RELAXED | dict(conf or {})
    return ours.single(folder, flush=flush, conf=conf, launcher=JavaLauncher(), name=_NAME)
