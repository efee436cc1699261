import pytest

from ledgermq.dledger.raft.progress import Progress


def replicating(next_index: int = 10) -> Progress:
    p = Progress(next_index, now_ms=0)
    p.reset(1, next_index)
    p.probing = False
    return p


def test_a_new_session_knows_nothing():
    p = replicating()
    p.acked(4)
    p.sent(12, 100)
    p.fetch_token = 7
    p.reset(2, 20)
    assert (p.match, p.next, p.probing, p.session) == (-1, 20, True, 2)
    assert (p.fetch_token, p.in_flight_bytes, len(p.in_flight)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("acks", "match", "next_index", "in_flight_bytes"),
    [
        pytest.param((), -1, 16, 600, id="nothing acked, all under way"),
        pytest.param((11,), 11, 16, 400, id="a whole push"),
        pytest.param((12,), 12, 16, 400, id="a part of a push frees nothing of it"),
        pytest.param((15,), 15, 16, 0, id="everything at once"),
        pytest.param((13, 11), 13, 16, 200, id="an older ack moves nothing back"),
        pytest.param((13, 13), 13, 16, 200, id="the same ack twice"),
    ],
)
def test_acks(acks, match, next_index, in_flight_bytes):
    p = replicating()
    for last in (11, 13, 15):
        p.sent(last, 200)
    for ack in acks:
        p.acked(ack)
    assert (p.match, p.next, p.in_flight_bytes) == (match, next_index, in_flight_bytes)


def test_next_never_stays_at_or_below_match():
    p = replicating(next_index=3)
    p.acked(8)
    assert p.next == 9


def test_probing_forgets_the_window_but_not_the_match():
    p = replicating()
    p.sent(11, 200)
    p.acked(9)
    p.start_probing()
    assert (p.match, p.probing, p.in_flight_bytes) == (9, True, 0)


@pytest.mark.parametrize(
    ("ack_before", "ack_between", "stuck"),
    [
        pytest.param(9, None, True, id="no ack for a whole heartbeat"),
        pytest.param(9, 10, False, id="an ack moved it"),
        pytest.param(9, 11, False, id="nothing is due any more"),
        pytest.param(10, 10, True, id="the same ack again is no progress"),
        pytest.param(11, None, False, id="nothing is due"),
    ],
)
def test_stuck_means_due_and_unmoved_since_the_last_question(ack_before, ack_between, stuck):
    p = replicating()
    p.sent(11, 200)
    p.acked(ack_before)
    p.is_stuck()
    if ack_between is not None:
        p.acked(ack_between)
    assert p.is_stuck() is stuck
