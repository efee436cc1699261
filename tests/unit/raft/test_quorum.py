import pytest

from ledgermq.dledger.ids import NodeId, RaftConfig, Standing
from ledgermq.dledger.raft.quorum import Grant, elects, group_value, quorum_value

MEMBER, EMPTY, LOST, DAMAGED = Standing


@pytest.mark.parametrize(
    ("values", "quorum", "value"),
    [
        pytest.param((9,), 1, 9, id="one voter decides alone"),
        pytest.param((9, 7), 2, 7, id="two voters need both"),
        pytest.param((9, 7, 3), 2, 7, id="three voters need two"),
        pytest.param((9, 7, 3, 1), 3, 3, id="four voters need three"),
        pytest.param((1, 9, -1, 7, 3), 3, 3, id="five voters need three, in any order"),
        pytest.param((5, -1, -1), 2, -1, id="one alone of three counts for nothing"),
    ],
)
def test_quorum_value(values, quorum, value):
    assert quorum_value(values, quorum) == value


@pytest.mark.parametrize(("size", "quorum"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_quorum_is_more_than_half(size, quorum):
    voters = tuple(NodeId(f"n{i}") for i in range(size))
    assert RaftConfig(voters[0], voters).quorum == quorum


@pytest.mark.parametrize(
    ("claims", "value"),
    [
        pytest.param([(MEMBER, 9), (MEMBER, 7), (MEMBER, 3)], 7, id="a majority of members"),
        pytest.param([(MEMBER, 9), (EMPTY, 8), (MEMBER, 3)], 3, id="an empty one is not counted"),
        pytest.param([(MEMBER, 9), (None, 8), (MEMBER, 3)], 3, id="nor one that is not known"),
        pytest.param([(MEMBER, 9), (LOST, 8), (DAMAGED, 3)], 3, id="too few members: all"),
        pytest.param([(EMPTY, 9), (EMPTY, 8), (EMPTY, 7)], 7, id="no member: all"),
        pytest.param([(MEMBER, 2), (MEMBER, 2), (EMPTY, 5)], 2, id="the higher is the members'"),
        pytest.param([(MEMBER, 4), (MEMBER, 1), (EMPTY, 1)], 1, id="both are the same"),
    ],
)
def test_group_value(claims, value):
    assert group_value(claims, 2) == value


def grants(*standings, logs=True):
    return [Grant(standing, logs) for standing in standings]


@pytest.mark.parametrize(
    ("voters", "standings", "elected"),
    [
        pytest.param(3, [MEMBER, MEMBER], True, id="a majority of members"),
        pytest.param(3, [MEMBER], False, id="one is none"),
        pytest.param(3, [MEMBER, EMPTY], False, id="an empty store is no vote"),
        pytest.param(3, [MEMBER, LOST], False, id="nor is a log that may lack its end"),
        pytest.param(3, [MEMBER, DAMAGED], False, id="nor a damaged one"),
        pytest.param(3, [EMPTY, MEMBER, MEMBER], True, id="all, one of them empty"),
        pytest.param(3, [EMPTY, MEMBER], False, id="an empty candidate needs all"),
        pytest.param(3, [LOST, LOST, LOST], True, id="all lost: the longest log wins"),
        pytest.param(3, [LOST, LOST], False, id="all means all"),
        pytest.param(3, [EMPTY, EMPTY, EMPTY], True, id="a new group"),
        pytest.param(3, [EMPTY, EMPTY], False, id="not without one of it"),
        pytest.param(3, [MEMBER, EMPTY, EMPTY], False, id="a majority was wiped"),
        pytest.param(3, [LOST, EMPTY, EMPTY], False, id="likewise"),
        pytest.param(3, [MEMBER, EMPTY, DAMAGED], False, id="a majority holds nothing sure"),
        pytest.param(3, [DAMAGED, DAMAGED, DAMAGED], False, id="all damaged"),
        pytest.param(3, [MEMBER, LOST, DAMAGED], True, id="one damaged of three"),
        pytest.param(2, [MEMBER, EMPTY], False, id="one of two was wiped"),
        pytest.param(2, [LOST, LOST], True, id="two that lost power"),
        pytest.param(1, [EMPTY], True, id="one new node"),
        pytest.param(1, [LOST], True, id="one that lost power"),
        pytest.param(1, [DAMAGED], False, id="one that is damaged"),
        pytest.param(5, [EMPTY, EMPTY, MEMBER, LOST, LOST], True, id="two of five empty"),
        pytest.param(5, [MEMBER, MEMBER, EMPTY, EMPTY, EMPTY], False, id="three of five empty"),
        pytest.param(5, [MEMBER, MEMBER, MEMBER], True, id="three of five"),
        pytest.param(5, [LOST, MEMBER, MEMBER, MEMBER], False, id="a lost one needs all five"),
    ],
)  # fmt: skip
def test_who_is_elected(voters, standings, elected):
    own = standings[0]
    assert elects(own, grants(*standings, logs=False), voters, voters // 2 + 1) is elected


@pytest.mark.parametrize(
    ("standings", "elected"),
    [
        pytest.param([MEMBER, EMPTY, EMPTY], True, id="all were filled since"),
        pytest.param([DAMAGED, EMPTY, EMPTY], True, id="one damaged, the rest filled"),
        pytest.param([DAMAGED, DAMAGED, EMPTY], False, id="two damaged"),
    ],
)
def test_empty_stores_that_were_filled_by_a_leader_hold_what_it_had(standings, elected):
    assert elects(standings[0], grants(*standings), 3, 2) is elected
    one_is_blank = [*grants(*standings[:2]), Grant(EMPTY, False)]
    assert elects(standings[0], one_is_blank, 3, 2) is False
