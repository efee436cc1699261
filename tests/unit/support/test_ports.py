"""Ports that tests give to servers they stop and start again."""

from pathlib import Path

from tests.support import cluster, free_ports
from tests.support.ports import FIRST_PORT, LAST_PORT, reserve_port


def test_no_outgoing_connection_can_take_a_port_that_was_given() -> None:
    """One of the ephemeral range may belong to a client when its server comes back."""
    found = free_ports(20)
    assert all(FIRST_PORT <= port <= LAST_PORT for port in found)
    ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if ephemeral.exists():
        assert int(ephemeral.read_text().split()[0]) > LAST_PORT + 1


def test_one_reservation_for_all_tests() -> None:
    given = {*free_ports(20), *(reserve_port(-2) for _ in range(20))}
    assert len(given) == 40
    assert cluster.reserve_port is reserve_port
