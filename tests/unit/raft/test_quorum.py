import pytest

from ledgermq.dledger.ids import NodeId, RaftConfig
from ledgermq.dledger.raft.quorum import quorum_value


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
