"""Compiled twins of a few functions of the hot path, for those who build them: docs/performance.md.

A twin has the name, the arguments and the results of its pure function, which always works and is
the default. `LEDGERMQ_PURE=1` leaves the twins alone.
"""

import logging
import os
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import NamedTuple, TypeVar

log = logging.getLogger(__name__)

# What the compiled modules must say of themselves: raised with every change of what a twin takes or
# gives, so that those of an older build are left alone.
INTERFACE = 2

T = TypeVar("T")


class Pair(NamedTuple):
    """A pure function or class, and the twin that stands for it."""

    pure: object
    twin: object


PAIRS: list[Pair] = []


def twin_in(module: str) -> Callable[[T], T]:
    """A decorator that puts the twin of the same name in the place of a pure function or class.

    Args:
        module: name of the compiled module beside this one.
    """

    def choose(pure: T) -> T:
        name: str = getattr(pure, "__name__", "")
        twin: T | None = getattr(_load(module), name, None)
        if twin is None:
            return pure
        PAIRS.append(Pair(pure, twin))
        return twin

    return choose


def has_twin(chosen: object) -> bool:
    """Whether this function or class, as modules import it, is a twin."""
    return any(pair.twin is chosen for pair in PAIRS)


def _load(module: str) -> ModuleType | None:
    if os.environ.get("LEDGERMQ_PURE", "") not in ("", "0"):
        return None
    name = f"{__name__}.{module}"
    try:
        found = import_module(name)
    except ModuleNotFoundError as e:
        if e.name == name:
            return None  # never built
        log.warning("%s is not used: %s", name, e)
        return None
    except ImportError as e:
        log.warning("%s is not used, pure Python stands for it: %s", name, e)
        return None
    if getattr(found, "INTERFACE", None) != INTERFACE:
        log.warning("%s is of another version and not used: build it again", found.__file__)
        return None
    return found
