"""Every error says what happened and what to do."""

import pytest

from ledgermq.client import errors as e
from ledgermq.remoting.errors import CallerError, LedgerMQError

CASES = [
    pytest.param(
        e.NameServerUnreachable("connect to x:1 failed: refused", "$NAMESRV_ADDR"),
        ["x:1", "refused", "$NAMESRV_ADDR", "mqnamesrv"],
        id="name server",
    ),
    pytest.param(
        e.TopicNotFound("Orders", "no route"), ["Orders", "no route", "updateTopic"], id="topic"
    ),
    pytest.param(
        e.NoLeader("Orders", 3000, "route has none", nameserver="h:9"),
        ["Orders", "3000 ms", "route has none", "clusterList -n h:9"],
        id="leader",
    ),
    pytest.param(
        e.SendTimeout("Orders", 50, "silence", maybe_stored=True),
        ["Orders", "50 ms", "may have been stored", "copy"],
        id="timeout, maybe stored",
    ),
    pytest.param(
        e.SendTimeout("Orders", 50, "silence", maybe_stored=False),
        ["was not stored", "again"],
        id="timeout, not stored",
    ),
    pytest.param(
        e.BrokerRefused("h:1", 16, "no write"),
        ["h:1", "CODE: 16", "no write", "perm"],
        id="refused",
    ),
    pytest.param(
        e.BrokerRefused("h:1", 999, None), ["no reason given", "log"], id="refused, code unknown"
    ),
    pytest.param(
        e.RequestFailed("heartbeat", "h:1", OSError("down")), ["heartbeat", "h:1", "down"], id="ask"
    ),
    pytest.param(
        e.BackgroundFailure("commit", KeyError("k")), ["commit", "KeyError", "log"], id="job"
    ),
]


@pytest.mark.parametrize(("error", "words"), CASES)
def test_the_text_names_cause_and_next_step(error, words):
    text = str(error)
    assert all(word in text for word in words), text
    assert text.endswith(error.next_step)
    assert ". " in text


@pytest.mark.parametrize(
    "kind",
    [e.ClientClosed, e.WrongLoop, e.ForkedClient, e.InvalidArgument],
    ids=lambda k: k.__name__,
)
def test_mistakes_of_the_caller_are_caller_errors(kind):
    error = kind("what", "do this")
    assert isinstance(error, CallerError)
    assert isinstance(error, e.ClientError)
    assert str(error) == "what. do this"


def test_every_error_has_one_root():
    assert issubclass(e.ClientError, LedgerMQError)


def test_maybe_stored_is_false_unless_said():
    assert not e.TopicNotFound("t", "d").maybe_stored
    assert e.SendTimeout("t", 1, "d", maybe_stored=True).maybe_stored


def test_a_refusal_keeps_code_remark_and_address():
    error = e.BrokerRefused("h:1", 13, "too large", maybe_stored=True)
    assert (error.code, error.remark, error.address) == (13, "too large", "h:1")
    assert error.maybe_stored


def test_send_many_failed_counts_and_shows_the_first():
    first = e.TopicNotFound("t", "gone")
    error = e.SendManyFailed(["ok", first, "ok", e.SendTimeout("t", 1, "d", maybe_stored=True)])
    assert "2 of 4" in str(error)
    assert "gone" in str(error)
    assert error.maybe_stored
    assert error.results[1] is first
