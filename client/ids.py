"""Ids of messages and clients, unique in this process and, but for a fork, across processes."""

import os
from functools import lru_cache
from ipaddress import ip_address
from itertools import count

from ledgermq.remoting.clock import wall_ms
from ledgermq.remoting.message import UniqueIdMaker

_clients = count()


@lru_cache
def _maker(ip: str, pid: int) -> UniqueIdMaker:
    return UniqueIdMaker(ip_address(ip).packed, pid, wall_ms)


def id_maker(ip: str) -> UniqueIdMaker:
    """The maker of message ids: one for all producers of this process, or ids could repeat."""
    return _maker(ip, os.getpid())


def client_id(ip: str) -> str:
    """A new id of a client, in upstream's form: ip@instance."""
    return f"{ip}@{os.getpid()}#{wall_ms()}{next(_clients)}"
