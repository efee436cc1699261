"""What a leader knows of one follower."""

from collections import deque

from ledgermq.dledger.ids import NEVER_MS, NONE, Standing


class Progress:
    """One follower in one connection session.

    States: probing (`match` unknown: one empty push at a time finds it), replicating (a window of
    pushes under way), or being seeded (it needs what is before the log's begin).
    Invariant: match < next; in_flight_bytes is the sum over `in_flight`.
    """

    __slots__ = (
        "_match_before",
        "acked_seq_sent_ms",
        "admit_sent",
        "barrier",
        "disk_percent",
        "fetch_token",
        "heard_ms",
        "in_flight",
        "in_flight_bytes",
        "linked",
        "match",
        "next",
        "probe_sent_ms",
        "probing",
        "seed_base",
        "session",
        "standing",
    )

    def __init__(self, next_index: int, now_ms: int, standing: Standing | None = None) -> None:
        self.linked = False
        # As its vote said, or its last answer; None: not known. Only an ack or a refusal of the
        # session makes it MEMBER again: an echo may be of a life that is over.
        self.standing = standing
        # No MEMBER: index of the entry that it must hold, committed, to be admitted; None: it has
        # not said in this session that it is none.
        self.barrier: int | None = None
        self.admit_sent = False
        # While it is sent a snapshot: the least base that this can have; None: it is sent none.
        self.seed_base: int | None = None
        self.session = 0
        # How full its disk is, as it told since the session began.
        self.disk_percent = 0
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
        # Sending time of the newest heartbeat that was echoed.
        self.acked_seq_sent_ms = NEVER_MS
        # `match` at the last heartbeat.
        self._match_before = NONE

    def reset(self, session: int, next_index: int) -> None:
        """Start a new session: nothing is known of the follower's log."""
        self.session = session
        self.match = NONE
        self.next = next_index
        self.barrier = None
        self.disk_percent = 0
        self.start_probing()

    def start_probing(self) -> None:
        """Forget what is under way and look for the match again."""
        self.probing = True
        self.seed_base = None
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
