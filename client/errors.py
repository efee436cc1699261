"""What can go wrong for a producer or consumer: each error says the cause and the next step."""

from ledgermq.remoting.errors import CallerError, LedgerMQError


class ClientError(LedgerMQError):
    """Root of the client's errors.

    Attributes:
        next_step: what to do about it.
        maybe_stored: True when the message, or one of its copies, may have been stored although
            the call failed. Sending it again may then store it twice.
    """

    def __init__(self, what: str, next_step: str, *, maybe_stored: bool = False) -> None:
        super().__init__(f"{what}. {next_step}")
        self.next_step = next_step
        self.maybe_stored = maybe_stored


class NameServerUnreachable(ClientError):
    """No name server answered."""

    def __init__(self, reasons: str, source: str) -> None:
        super().__init__(
            f"no name server answered: {reasons} (address from {source})",
            "Start one with `mqnamesrv`, or name a running one: nameserver=, or NAMESRV_ADDR",
        )


class TopicNotFound(ClientError):
    """The topic has no route, and it cannot be created by sending to it."""

    def __init__(self, topic: str, detail: str) -> None:
        super().__init__(
            f"topic {topic} not found: {detail}",
            f"Create it: mqadmin updateTopic -n NAMESERVER -c CLUSTER -t {topic};"
            " or set autoCreateTopicEnable=true on the brokers",
        )
        self.topic = topic


class NoLeader(ClientError):
    """The broker groups of the topic have no leader, or it cannot be reached."""

    def __init__(self, topic: str, waited_ms: int, detail: str, *, nameserver: str) -> None:
        super().__init__(
            f"no leader for topic {topic} within {waited_ms} ms: {detail}",
            f"See which brokers run: mqadmin clusterList -n {nameserver};"
            " a group needs a majority of its nodes to have a leader (BID 0)",
        )
        self.topic = topic


class SendTimeout(ClientError):
    """The send was not confirmed in time; look at `maybe_stored` before repeating it."""

    def __init__(self, topic: str, timeout_ms: int, detail: str, *, maybe_stored: bool) -> None:
        outcome = "it may have been stored" if maybe_stored else "it was not stored"
        super().__init__(
            f"send to topic {topic} was not confirmed within {timeout_ms} ms, {outcome}: {detail}",
            "Send it again if consumers tolerate a copy; or raise timeout="
            if maybe_stored
            else "Send it again, or raise timeout=",
            maybe_stored=maybe_stored,
        )
        self.topic = topic


class SendManyFailed(ClientError):
    """Some messages of one `send_many` were not confirmed.

    Attributes:
        results: one entry per message, in order: its SendResult or its error.
    """

    def __init__(self, results: list[object]) -> None:
        errors = [r for r in results if isinstance(r, Exception)]
        super().__init__(
            f"{len(errors)} of {len(results)} messages were not confirmed, first: {errors[0]}",
            "See .results for the outcome of each, in order",
            maybe_stored=any(getattr(e, "maybe_stored", False) for e in errors),
        )
        self.results = results


class BrokerRefused(ClientError):
    """A broker or name server answered with a refusal.

    Attributes:
        code: the response code.
        remark: the server's own sentence.
        address: "host:port" of the server.
    """

    def __init__(
        self, address: str, code: int, remark: str | None, *, maybe_stored: bool = False
    ) -> None:
        self.code = code
        self.remark = remark or "no reason given"
        self.address = address
        super().__init__(
            f"{address} refused: CODE: {code}  DESC: {self.remark}",
            _REFUSAL_STEPS.get(code, "The server's log around this time tells more"),
            maybe_stored=maybe_stored,
        )


_REFUSAL_STEPS = {
    2: "The broker is busy or not the leader: send slower, or look at mqadmin clusterList",
    13: "The message itself is refused: change what the reason above names, then send it again",
    14: "The broker is stopping, full, or not the leader: look at its disk and mqadmin clusterList",
    16: "It is not allowed here: see the reason above, or the permissions (mqadmin updateTopic -p)",
    17: "Create the topic: mqadmin updateTopic",
    23: 'Write the subscription as "*" or "TagA || TagB"',
    26: "Set autoCreateSubscriptionGroup=true at the broker, or create the group there",
    29: "Check the name of the topic, the queue id and the other arguments",
}


class RequestFailed(ClientError):
    """A request other than a send got no answer: no connection, or too late."""

    def __init__(self, what: str, address: str, cause: Exception) -> None:
        super().__init__(
            f"{what} at {address} failed: {cause}", "Check that the broker runs; then try again"
        )
        self.address = address


class ClientClosed(ClientError, CallerError):
    """The producer or consumer is closed, or was never started."""


class WrongLoop(ClientError, CallerError):
    """The producer or consumer is used from another event loop than it was started in."""


class ForkedClient(ClientError, CallerError):
    """The process was forked after the start: sockets cannot be shared with the parent."""


class InvalidArgument(ClientError, CallerError):
    """An argument that no server would accept; nothing was sent."""


class BackgroundFailure(ClientError):
    """A background job of the client ended by an error; the cause is chained (`__cause__`)."""

    def __init__(self, job: str, cause: BaseException) -> None:
        super().__init__(
            f"background job '{job}' failed: {type(cause).__name__}: {cause}",
            "Close this client and start a new one; the log holds the traceback",
        )
