"""Free ports for servers of the tests."""

import random
import socket

# Below Linux's ephemeral range, so that no outgoing connection takes the port of a killed node.
FIRST_PORT, LAST_PORT = 10_240, 32_000
# Never given twice by one process, so that two tests that run one after the other do not meet.
_given: set[int] = set()


def reserve_port(*neighbours: int) -> int:
    """A free port whose neighbours (offsets, such as -2) are free too."""
    while True:
        port = random.randint(FIRST_PORT, LAST_PORT)
        wanted = {port, *(port + n for n in neighbours)}
        if not wanted & _given and all(map(_is_free, wanted)):
            _given.update(wanted)
            return port


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different, below the ephemeral range."""
    return [reserve_port() for _ in range(count)]


def _is_free(port: int) -> bool:
    with socket.socket() as s:
        try:
            s.bind(("", port))
        except OSError:
            return False
    return True
