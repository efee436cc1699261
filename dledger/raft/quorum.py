"""Counting majorities."""

from collections.abc import Iterable


def quorum_value(values: Iterable[int], quorum: int) -> int:
    """The highest value that at least `quorum` members have reached."""
    return sorted(values, reverse=True)[quorum - 1]
