"""What fast-try.sh and the ctl scripts ask the name server.

    python cluster.py wait ADDRESS LEADER_S FOLLOWER_S GROUP=PORT...
    python cluster.py roles ADDRESS
    python cluster.py kill-leader ADDRESS GROUP PORT=PID=LABEL...
    python cluster.py registered ADDRESS HOST:PORT

`wait` ends when every group has a leader, and every PORT too is registered or gets no more time;
without a GROUP it ends when the name server answers. `roles` prints "PORT BROKER_ID" lines,
`registered` prints the broker id of one address, or that it has none.
Exits 1 when the time is over, or when the name server does not answer or knows no leader.
`wait` is one process that stays: starting a Python for every look costs more than the look.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import datetime

from ledgermq.remoting.bodies.route import ClusterInfo
from ledgermq.remoting.client import RemotingClient
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import request
from ledgermq.remoting.errors import LedgerMQError

REQUEST_TIMEOUT_MS = 1000
PAUSE_S = 0.02
NEW_LEADER_S = 10.0
# Of the three nodes of a group.
QUORUM = 2

# Group -> broker id -> listen port. Id 0 is the leader.
Groups = dict[str, dict[int, int]]


class NameServer:
    """The one at `address`, asked again and again over one connection."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._client = RemotingClient()

    async def addresses(self) -> dict[str, dict[int, str]]:
        """Group -> broker id -> "host:port" of everything registered now.

        Raises:
            LedgerMQError: no answer.
        """
        question = request(RequestCode.GET_BROKER_CLUSTER_INFO)
        reply = await self._client.request(self._address, question, REQUEST_TIMEOUT_MS)
        table = ClusterInfo.decode(reply.body).broker_addr_table
        return {
            group: {int(i): address for i, address in data.broker_addrs.items()}
            for group, data in table.items()
        }

    async def groups(self) -> Groups:
        """The ports of `addresses`."""
        return {
            group: {i: int(address.rpartition(":")[2]) for i, address in members.items()}
            for group, members in (await self.addresses()).items()
        }

    async def until(self, wanted: Callable[[Groups], bool], timeout_s: float) -> Groups | None:
        """Ask until `wanted` is true of the answer, and return that answer; None: not in time."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            with contextlib.suppress(LedgerMQError):  # not up yet
                groups = await self.groups()
                if wanted(groups):
                    return groups
            await asyncio.sleep(PAUSE_S)
        return None

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()


async def wait(server: NameServer, leader_s: str, follower_s: str, *nodes: str) -> int:
    """Wait until each GROUP=PORT's group has a leader and, if that is soon, each port is there."""
    wanted = [(group, int(port)) for group, _, port in (node.partition("=") for node in nodes)]

    def led(groups: Groups) -> bool:
        return all(0 in groups.get(group, {}) for group, _ in wanted)

    def complete(groups: Groups) -> bool:
        return led(groups) and all(port in groups[group].values() for group, port in wanted)

    if await server.until(led, float(leader_s)) is None:
        return 1
    await server.until(complete, float(follower_s))
    return 0


async def roles(server: NameServer) -> int:
    """Print the broker id that each port is registered with."""
    try:
        groups = await server.groups()
    except LedgerMQError:
        return 1
    for members in groups.values():
        for broker_id, port in members.items():
            print(port, broker_id)
    return 0


async def registered(server: NameServer, address: str) -> int:
    """Print the broker id that an address is registered with."""
    try:
        groups = await server.addresses()
    except LedgerMQError:
        print("no answer")
        return 1
    ids = [i for members in groups.values() for i, a in members.items() if a == address]
    print(f"registered as {ids[0]}" if ids else "not registered")
    return 0


async def kill_leader(server: NameServer, group: str, *nodes: str) -> int:
    """Kill the leader among PORT=PID=LABEL with -9, then say who leads next and after how long."""
    known = {int(port): (int(pid), label) for port, pid, label in (n.split("=", 2) for n in nodes)}

    def leader(groups: Groups) -> int | None:
        port = groups.get(group, {}).get(0)
        return port if port in known else None

    found = await server.until(lambda groups: leader(groups) is not None, REQUEST_TIMEOUT_MS / 1000)
    if found is None or (port := leader(found)) is None:
        print(f"{group} has no leader among its running nodes now.", file=sys.stderr)
        return 1
    pid, label = known.pop(port)
    os.kill(pid, signal.SIGKILL)
    killed_at = datetime.now().astimezone()
    start = time.monotonic()
    clock = killed_at.isoformat(sep=" ", timespec="milliseconds")
    print(f"Killed {label}, the leader of {group}: pid {pid} at {clock}", end=" ")
    print(f"({int(killed_at.timestamp() * 1000)} ms)", flush=True)
    if len(known) < QUORUM:
        print(f"The rest of {group} is no majority: no leader until another node is started.")
        return 0
    after = await server.until(lambda groups: leader(groups) is not None, NEW_LEADER_S)
    waited_ms = int((time.monotonic() - start) * 1000)
    if after is None or (port := leader(after)) is None:
        print(f"No new leader of {group} within {waited_ms} ms.")
    else:
        print(f"{known[port][1]} leads {group} after {waited_ms} ms.")
    return 0


COMMANDS: dict[str, Callable[..., Awaitable[int]]] = {
    "wait": wait,
    "roles": roles,
    "kill-leader": kill_leader,
    "registered": registered,
}


async def run(command: str, address: str, *arguments: str) -> int:
    """Carry out one command and return its exit code."""
    server = NameServer(address)
    try:
        return await COMMANDS[command](server, *arguments)
    finally:
        await server.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(run(*sys.argv[1:])))
