"""What each outcome of a send leads to."""

import pytest

from ledgermq.client.errors import BrokerRefused
from ledgermq.client.verdict import Step, judge
from ledgermq.remoting.command import response
from ledgermq.remoting.errors import ConnectError, ConnectionLostError, RequestTimeoutError


@pytest.mark.parametrize("code", [0, 10, 11, 12])
def test_stored(code):
    assert judge("h:1", response(code)) is None


@pytest.mark.parametrize(
    ("code", "remark", "step", "maybe_stored"),
    [
        pytest.param(2, "busy", Step.FOLLOW_LEADER, False, id="rejected before the append"),
        pytest.param(14, "not leader", Step.FOLLOW_LEADER, True, id="leadership lost meanwhile"),
        pytest.param(1500, "bye", Step.FOLLOW_LEADER, False, id="shutting down"),
        pytest.param(1, "broker is not the leader", Step.FOLLOW_LEADER, True, id="not the leader"),
        pytest.param(1, "No LEADER now", Step.FOLLOW_LEADER, True, id="any case"),
        pytest.param(1, "UNKNOWN_ERROR", Step.OTHER_BROKER, True, id="unknown error"),
        pytest.param(1, None, Step.OTHER_BROKER, True, id="no remark"),
        pytest.param(17, "no topic", Step.OTHER_BROKER, False, id="topic missing there"),
        pytest.param(16, "no write", Step.OTHER_BROKER, False, id="no permission there"),
        pytest.param(204, "", Step.OTHER_BROKER, False, id="no buyer id"),
        pytest.param(205, "", Step.OTHER_BROKER, False, id="not in unit"),
        pytest.param(13, "too large", Step.GIVE_UP, False, id="illegal message"),
        pytest.param(29, "bad name", Step.GIVE_UP, False, id="bad argument"),
        pytest.param(3, "unknown code", Step.GIVE_UP, False, id="not supported"),
        pytest.param(9999, "?", Step.GIVE_UP, False, id="never heard of"),
    ],
)
def test_refusals(code, remark, step, maybe_stored):
    failure = judge("h:1", response(code, remark))
    assert failure is not None
    assert (failure.step, failure.maybe_stored) == (step, maybe_stored)
    assert isinstance(failure.error, BrokerRefused)
    assert failure.error.code == code
    assert failure.error.maybe_stored is maybe_stored


@pytest.mark.parametrize(
    ("error", "step", "maybe_stored"),
    [
        pytest.param(ConnectError("h:1", "refused"), Step.FOLLOW_LEADER, False, id="never left"),
        pytest.param(ConnectionLostError("h:1", "reset"), Step.FOLLOW_LEADER, True, id="lost"),
        pytest.param(RequestTimeoutError("h:1", 310, 5), Step.GIVE_UP, True, id="late"),
        pytest.param(OSError("odd"), Step.FOLLOW_LEADER, True, id="anything else"),
    ],
)
def test_failures_on_the_way(error, step, maybe_stored):
    failure = judge("h:1", error)
    assert failure is not None
    assert (failure.step, failure.maybe_stored) == (step, maybe_stored)
    assert str(error) in str(failure.error)
