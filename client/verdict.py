"""What an answer to a send means for the next step. Pure."""

from enum import Enum
from typing import NamedTuple

from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.command import RemotingCommand
from ledgermq.remoting.errors import ConnectError, LedgerMQError, RequestTimeoutError

from .errors import BrokerRefused
from .result import SendStatus

_GO_AWAY = 1500
_NO_BUYER_ID, _NOT_IN_CURRENT_UNIT = 204, 205

STORED_CODES = frozenset(int(status) for status in SendStatus)
# Not the leader, no longer, or not yet: another node of the group will take it.
_MOVED_CODES = frozenset({ResponseCode.SYSTEM_BUSY, ResponseCode.SERVICE_NOT_AVAILABLE, _GO_AWAY})
# Another broker may do better. Source: DefaultMQProducer.retryResponseCodes of RocketMQ 5.
_OTHER_BROKER_CODES = frozenset(
    {
        ResponseCode.SYSTEM_ERROR,
        ResponseCode.TOPIC_NOT_EXIST,
        ResponseCode.NO_PERMISSION,
        _NO_BUYER_ID,
        _NOT_IN_CURRENT_UNIT,
    }
)
# After these the entry may be in the log of a leader that lost its office, and be committed later.
_MAYBE_STORED_CODES = frozenset({ResponseCode.SYSTEM_ERROR, ResponseCode.SERVICE_NOT_AVAILABLE})


class Step(Enum):
    """What to do after a failed attempt."""

    FOLLOW_LEADER = "ask for the route and repeat, as long as there is time"
    OTHER_BROKER = "repeat on another broker, a few times"
    GIVE_UP = "repeating will not help"


class Failure(NamedTuple):
    """One failed attempt.

    Attributes:
        step: what to do.
        error: what happened.
        maybe_stored: the message may be stored nevertheless.
    """

    step: Step
    error: LedgerMQError
    maybe_stored: bool


def judge(address: str, outcome: RemotingCommand | Exception) -> Failure | None:
    """The failure in an outcome, None when the message is stored."""
    if isinstance(outcome, RemotingCommand):
        return None if outcome.code in STORED_CODES else _judge_refusal(address, outcome)
    error = outcome if isinstance(outcome, LedgerMQError) else LedgerMQError(str(outcome))
    if isinstance(error, ConnectError):
        return Failure(Step.FOLLOW_LEADER, error, maybe_stored=False)
    # Lost or late: a copy may be stored. At-least-once repeats it, as upstream's clients do.
    step = Step.GIVE_UP if isinstance(error, RequestTimeoutError) else Step.FOLLOW_LEADER
    return Failure(step, error, maybe_stored=True)


def _judge_refusal(address: str, reply: RemotingCommand) -> Failure:
    maybe_stored = reply.code in _MAYBE_STORED_CODES
    error = BrokerRefused(address, reply.code, reply.remark, maybe_stored=maybe_stored)
    step = Step.GIVE_UP
    if reply.code in _MOVED_CODES or (
        reply.code == ResponseCode.SYSTEM_ERROR and "leader" in (reply.remark or "").lower()
    ):
        step = Step.FOLLOW_LEADER
    elif reply.code in _OTHER_BROKER_CODES:
        step = Step.OTHER_BROKER
    return Failure(step, error, maybe_stored)
