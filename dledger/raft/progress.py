"""What a leader knows of one follower."""

from collections import deque

from ledgermq.dledger.ids import NONE


class Progress:
    """One follower in one connection session.

    States: probing (`match` unknown: one empty push at a time finds it) or replicating (a window
    of pushes under way).
    Invariant: match < next; in_flight_bytes is the sum over `in_flight`.
    """

    __slots__ = (
        "_match_before",
        "acked_seq_sent_ms",
        "fetch_token",
        "heard_ms",
        "in_flight",
        "in_flight_bytes",
        "linked",
        "match",
        "next",
        "probe_sent_ms",
        "probing",
        "session",
    )

    def __init__(self, next_index: int, now_ms: int) -> None:
        self.linked = False
        self.session = 0
        # Highest index known to be equal and durable there.
        self.match = NONE
        # Next index to send.
        self.next = next_index
        self.probing = True
        # When the outstanding probe left; None: none is out.
        self.probe_sent_ms: int | None = None
        # Token of the fetch under way; 0: none.
        self.fetch_token = 0
        self.in_flight: deque[tuple[int, int]] = deque()
        self.in_flight_bytes = 0
        # Last time anything of the current term was heard.
        self.heard_ms = now_ms
        # Sending time of the newest heartbeat that was echoed; NONE: no echo yet.
        self.acked_seq_sent_ms = NONE
        # `match` at the last heartbeat.
        self._match_before = NONE

    def reset(self, session: int, next_index: int) -> None:
        """Start a new session: nothing is known of the follower's log."""
        self.session = session
        self.match = NONE
        self.next = next_index
        self.start_probing()

    def start_probing(self) -> None:
        """Forget what is under way and look for the match again."""
        self.probing = True
        self.probe_sent_ms = None
        self.fetch_token = 0
        self.in_flight.clear()
        self.in_flight_bytes = 0

    def sent(self, last_index: int, size_bytes: int) -> None:
        """A push up to `last_index` left."""
        self.in_flight.append((last_index, size_bytes))
        self.in_flight_bytes += size_bytes
        self.next = last_index + 1

    def acked(self, match: int) -> None:
        """Everything up to `match` is there; an older ack changes nothing."""
        self.match = max(self.match, match)
        self.next = max(self.next, self.match + 1)
        while self.in_flight and self.in_flight[0][0] <= self.match:
            self.in_flight_bytes -= self.in_flight.popleft()[1]

    def is_stuck(self) -> bool:
        """Whether an ack is due and none has moved `match` since this was last asked."""
        before, self._match_before = self._match_before, self.match
        return self.match < self.next - 1 and self.match == before
