"""Whole stories of a Raft group as a name server sees them: who says what, what clients find."""

import pytest

from ledgermq.namesrv.route_table import DEFAULT_EXPIRY_MS, Registration, RouteTable
from ledgermq.remoting.bodies.registration import DataVersion, TopicConfig

# Node k is n0, n1, n2; as follower its broker id is k + 1. "n1 leads 3" = it registers as id 0
# with term 3; "n1 follows" = as id 2; "n1 dies" = its connection closes; "n1 leaves" = it
# unregisters; "wait S" = S seconds pass and the scan runs. After "=>": the nodes by broker id.
STORIES = {
    "a group starts": """
        n0 follows     => 1:n0
        n1 follows     => 1:n0 2:n1
        n2 follows     => 1:n0 2:n1 3:n2
        n1 leads 1     => 0:n1 1:n0 3:n2
    """,
    "the leader is killed and comes back": """
        n0 leads 1     => 0:n0
        n1 follows     => 0:n0 2:n1
        n2 follows     => 0:n0 2:n1 3:n2
        n0 dies        => 2:n1 3:n2
        n2 leads 2     => 0:n2 2:n1
        n0 follows     => 0:n2 1:n0 2:n1
    """,
    "the new leader registers before the old one's connection closes": """
        n0 leads 1     => 0:n0
        n1 follows     => 0:n0 2:n1
        n1 leads 2     => 0:n1
        n0 dies        => 0:n1
        n0 follows     => 0:n1 1:n0
    """,
    "a leader cut off from its group goes on registering": """
        n0 leads 1     => 0:n0
        n1 follows     => 0:n0 2:n1
        n2 follows     => 0:n0 2:n1 3:n2
        n1 leads 2     => 0:n1 3:n2
        n0 leads 1     => 0:n1 3:n2
        n0 leads 1     => 0:n1 3:n2
        n0 follows     => 0:n1 1:n0 3:n2
    """,
    "two terms pass while one node hears nothing": """
        n0 leads 1     => 0:n0
        n1 leads 2     => 0:n1
        n2 leads 3     => 0:n2
        n1 leads 2     => 0:n2
        n0 leads 4     => 0:n0
    """,
    "a stale leader may have the place when nobody else is left": """
        n1 leads 2     => 0:n1
        n1 dies        =>
        n0 leads 1     => 0:n0
    """,
    "a silent leader loses the place by the scan": """
        n1 leads 2     => 0:n1
        n0 follows     => 0:n1 1:n0
        wait 60        => 0:n1 1:n0
        n0 follows     => 0:n1 1:n0
        wait 61        => 1:n0
        n0 leads 1     => 0:n0
    """,
    "a clean stop hands over first": """
        n0 leads 1     => 0:n0
        n1 follows     => 0:n0 2:n1
        n1 leads 2     => 0:n1
        n0 follows     => 0:n1 1:n0
        n0 leaves      => 0:n1
    """,
    "a leader steps down and is elected again": """
        n0 leads 1     => 0:n0
        n0 follows     => 1:n0
        n0 leads 3     => 0:n0
    """,
    "a group is stopped and started": """
        n0 leads 1     => 0:n0
        n1 follows     => 0:n0 2:n1
        n0 leaves      => 2:n1
        n1 leaves      =>
        n1 follows     => 2:n1
        n1 leads 2     => 0:n1
    """,
}


class Group:
    def __init__(self):
        self.table = RouteTable()
        self.now_ms = 0

    def step(self, line):
        who, what, *rest = line.split()
        if who == "wait":
            self.now_ms += int(what) * 1000
            self.table.expire(self.now_ms)
        elif what == "dies":
            self.table.close_session(who)
        elif what == "leaves":
            self.table.unregister("g", who, who)
        else:
            self.register(who, term=int(rest[0]) if rest else None)

    def register(self, node, term):
        topics = {} if term is None else {"T": TopicConfig(topic_name="T")}
        registration = Registration(
            cluster="c",
            broker_name="g",
            broker_id=int(node[1]) + 1 if term is None else 0,
            addr=node,
            session=node,
            version=DataVersion(state_version=term or 0, counter=1),
            topics=topics,
        )
        self.table.register(registration, self.now_ms)

    def shown(self):
        group = self.table.member_group("g")
        addrs = sorted(group.broker_addrs.items()) if group else []
        return " ".join(f"{broker_id}:{node}" for broker_id, node in addrs)


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
def test_story(story):
    group, led = Group(), False
    for line in story.strip().splitlines():
        said, _, wanted = (part.strip() for part in line.partition("=>"))
        group.step(said)
        assert group.shown() == wanted, f"after {said!r}"
        led = bool(wanted) and (led or " leads " in said)
        assert (group.table.route("T") is not None) == led, f"the topic after {said!r}"


def test_a_group_without_a_leader_is_found_with_its_followers():
    group = Group()
    for line in ("n0 leads 1", "n1 follows", "n2 follows", "n0 dies"):
        group.step(line)

    route = group.table.route("T")

    assert [q.broker_name for q in route.queue_datas] == ["g"]
    assert route.broker_datas[0].broker_addrs == {2: "n1", 3: "n2"}


def test_everybody_silent_leaves_nothing():
    group = Group()
    for line in ("n0 leads 1", "n1 follows"):
        group.step(line)

    gone = group.table.expire(DEFAULT_EXPIRY_MS + 1)

    assert sorted(m.addr for m in gone) == ["n0", "n1"]
    assert group.table.route("T") is None
