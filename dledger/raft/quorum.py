"""Counting: who decides for the group, and what it has reached.

A majority is one of MEMBERs. Where too few of them are left, all voters together decide: among all
of them are those that remember (docs/adr/0002).
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from ledgermq.dledger.ids import Standing


def quorum_value(values: Iterable[int], quorum: int) -> int:
    """The highest value that at least `quorum` members have reached."""
    return sorted(values, reverse=True)[quorum - 1]


def group_value(claims: Collection[tuple[Standing | None, int]], quorum: int) -> int:
    """The highest value reached by a quorum of MEMBERs, or by all voters.

    Args:
        claims: standing (None: not known, so no MEMBER) and value of every voter.
        quorum: MEMBERs that make a majority.
    """
    by_all = min(value for _, value in claims)
    members = [value for standing, value in claims if standing is Standing.MEMBER]
    return max(by_all, quorum_value(members, quorum)) if len(members) >= quorum else by_all


class Grant(NamedTuple):
    """A vote: the voter's standing, and whether its log holds anything."""

    standing: Standing
    holds_log: bool


def elects(own: Standing, grants: Collection[Grant], voters: int, quorum: int) -> bool:
    """Whether these votes make a leader.

    Args:
        own: the candidate's standing.
        grants: of all who voted for it, itself included.
        voters: how many there are.
        quorum: MEMBERs that make a majority.
    """
    standings = [grant.standing for grant in grants]
    if own is Standing.MEMBER and standings.count(Standing.MEMBER) >= quorum:
        return True
    return len(standings) == voters and _may_be_unanimous(grants, voters, quorum)


def _may_be_unanimous(grants: Collection[Grant], voters: int, quorum: int) -> bool:
    """Whether what all of them hold together must be whatever was committed.

    It need not when a majority lost everything: then an operator decides.
    """
    standings = [grant.standing for grant in grants]
    empty, damaged = standings.count(Standing.EMPTY), standings.count(Standing.DAMAGED)
    if empty == voters:
        return True  # a new group
    if Grant(Standing.EMPTY, False) not in grants:
        # All empty stores were filled since, by a leader that had everything; it is among them.
        # So a new group may lose its first leader before that one has admitted the others.
        empty = 0
    return empty + damaged <= voters - quorum
