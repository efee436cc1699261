"""Seeds that have broken a rule once, and what was wrong then.

A seed means the same run only as long as `character`, `nemesis` and `work` draw the same numbers;
`test_found.py` tells the same stories step by step.
"""

from typing import NamedTuple


class Found(NamedTuple):
    """One find."""

    seed: int
    what: str


FOUND = [
    Found(0x1D, "term and vote were believed that a kill or a failed sync had kept off the disk"),
    Found(0x3, "damage that dispatch met was not remembered, so the node stopped at each start"),
    Found(0x118, "after a loss of power the leader's idle connection for pushes stayed half open"),
    Found(0x30D, "a follower without room for a snapshot was never sent it again"),
    Found(0x4E6C, "a topic whose deletion was refused during a hand-over took no messages"),
    Found(0xC353, "queues were given up, the mark of it could not be written, and the node hung"),
    Found(0xE5C, "the harness: a node killed while it emptied its log was said to have begun anew"),
    Found(0x1286, "the harness: damage in a queue file that nobody had met yet was forgotten"),
    Found(0x13C4, "the harness: an entry that rotted before its commit counted as never synced"),
    Found(
        0x2827, "the harness: a node was blamed for a mark whose slow sync began before the heal"
    ),
    Found(0x4F8, "the harness: what an earlier leader had written counted against a hand-over"),
    Found(
        0x74AA,
        "entries that a full disk had refused came back after a loss of power, beside others",
    ),
    Found(0x53AC, "the harness: a stop was to write offsets during a hand-over that could not end"),
    Found(0x703D, "the harness: no leader while the node of the majority was being repaired"),
    Found(0x97B, "a node filled anew while it closed kept a snapshot without any queues"),
    Found(0x1F8D, "a cut behind an entry that had rotted vouched for what it had become"),
    Found(0x1FAA, "a leader's snapshot and the node's own were written at once, and it stopped"),
    Found(0x2183, "queues made anew: a loss of power brought the old folder of all of them back"),
    Found(0x14A4, "the harness: a snapshot that nobody was served from counted as applied"),
    Found(
        0x388A, "the harness: offsets of a group whose deletion was in the log already were missed"
    ),
    Found(0x5ED1, "a candidate that had asked in a term long past waited a full timeout"),
    Found(0x6D41, "the same, with a third node that was damaged instead of wiped"),
    Found(0x67A, "the harness: no leader while the node of the majority was still ending"),
    Found(0x25, "SIGTERM during a hand-over lost the consumer offsets of the last 200 ms"),
]
