"""What random runs have found, as short as it can be told; the seeds are in `found.py`."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from ledgermq.broker.metadata import LogBegin
from ledgermq.dledger.ids import NodeId, Standing
from ledgermq.remoting.errors import PeerError, StorageError
from tests.sim.world import MS, Loss, S

from .calm import QUIET, Calm
from .found import FOUND, Found
from .run import run_seed


@pytest.fixture
def calm() -> Iterator[Calm]:
    calm = Calm(7)
    yield calm
    calm.group.close()


@pytest.mark.parametrize("found", FOUND, ids=lambda f: f.what)
def test_a_seed_that_found_something_finds_it_no_more(found: Found) -> None:
    outcome = run_seed(found.seed)
    assert not outcome.violation, outcome.text


@pytest.mark.parametrize("sync_fails", [True, False], ids=["failed sync", "killed before it"])
def test_a_vote_that_only_the_page_cache_knows_is_made_durable_by_the_next_life(
    calm: Calm, sync_fails: bool
) -> None:
    voter = calm.followers[0]
    if sync_fails:
        voter.disk_faults = 1
    calm.group.world.net.isolate(calm.leader.name)
    hard_state = voter.replica.log._store.hard_state
    real = hard_state.save

    def save(*args: object) -> None:
        if sync_fails:
            voter.machine.disk.fail_syncs = 1
        else:
            voter.process.at_disk_call(1, voter.process.kill, "fdatasync")
        real(*args)

    hard_state.save = save
    assert calm.group.world.run_until(lambda: not voter.alive, 5 * S)
    voter.joined = False
    calm.group.world.net.isolate(voter.name)
    voter.start()
    calm.wait(20 * MS)
    known = voter.witness.hard_state
    # The rules fail the run if it has forgotten what it knew in the life before.
    voter.machine.power_loss(Loss.LOST)
    voter.start()
    calm.wait(20 * MS)
    assert voter.witness.hard_state == known
    calm.group.world.net.heal()
    calm.run.converge()


def test_damage_that_dispatch_meets_is_repaired_from_the_leader(calm: Calm) -> None:
    node = calm.followers[0]
    calm.send([b"%d" % i for i in range(50)])
    calm.wait(3 * S)
    at = node.witness.held.at(20)
    assert at is not None
    path, offset = node.place_of(at.pos)
    node.end()
    node.hurt = "a bit of entry 20 flipped"
    node.machine.disk.rot_at(path, offset + 60)
    # What has been dispatched is read again: the queues are made anew.
    node.machine.disk.remove_folder(node.config.store_path_root_dir / "consumequeue")
    node.start()
    calm.wait(15 * S)
    assert node.standing is Standing.MEMBER
    calm.run.converge()
    calm.run.read_everything()


def test_a_node_that_lost_power_catches_up_though_nobody_writes(calm: Calm) -> None:
    node = calm.followers[0]
    calm.wait(1 * S)
    calm.send([b"%d" % i for i in range(5)])
    calm.wait(200 * MS)
    # Before its mark says that they are committed.
    node.machine.power_loss(Loss.LOST)
    calm.wait(300 * MS)
    node.start()
    calm.run.converge()


def test_a_snapshot_that_found_no_room_is_asked_for_again(calm: Calm) -> None:
    node, replica = calm.followers[0], calm.leader.replica
    assert replica is not None
    for _ in range(3):
        calm.send([bytes(5000) + b"%d" % i for i in range(10)])
        calm.wait(300 * MS)
    begin = replica.log.segment_begins()[-1][1]
    calm.leader.process.spawn(replica.node._change(LogBegin(index=begin)))
    calm.wait(5 * S)
    assert replica.log.begin.index == begin
    node.end()
    node.machine.disk.wipe()
    node.witness.wiped()
    node.hurt = "wiped"
    node.start()
    calm.wait(5 * MS)
    node.machine.disk.room = 0
    calm.wait(3 * S)
    assert node.standing is Standing.EMPTY
    node.machine.disk.room = None
    calm.run.converge()


def test_a_topic_whose_deletion_was_refused_takes_messages(calm: Calm) -> None:
    replica, target = calm.leader.replica, calm.followers[0]
    assert replica is not None
    calm.leader.call(replica.log.transfer, target.name)
    # Before the order reaches it.
    target.end()
    deletion = calm.leader.process.spawn(replica.node.delete_topic(calm.topic))
    calm.wait(2 * S)
    assert isinstance(deletion.exception(), PeerError)
    assert calm.leader.ready
    answers = calm.send([b"still there"])
    calm.wait(200 * MS)
    assert [a for a in answers if isinstance(a, PeerError)] == []


def test_a_node_that_gives_up_its_queues_stops_even_if_it_cannot_note_it(calm: Calm) -> None:
    node = calm.followers[0]
    assert node.replica is not None
    node.disk_faults = 1
    node.machine.disk.fail_writes = 1
    with suppress(StorageError):
        node.process.call(node.replica.dispatcher.give_up_queues, "a unit is broken")
    calm.wait(100 * MS)
    assert not node.alive
    calm.run.converge()


def test_a_sigterm_during_a_hand_over_loses_no_consumer_offset(calm: Calm) -> None:
    replica, topic = calm.leader.replica, calm.topic
    assert replica is not None
    calm.send([b"%d" % i for i in range(5)])
    calm.wait(1 * S)
    # It cannot take over, so the hand-over ends only after a while.
    target = calm.followers[0]
    target.process.pause(3 * S)
    calm.leader.call(replica.log.transfer, target.name)
    calm.group.promises.told(("G0", topic, 0), 3)
    calm.leader.call(replica.node.commit_offset, "G0", topic, 0, 3)
    calm.leader.process.spawn(calm.leader.terminate())
    calm.wait(6 * S)
    assert calm.group.truth.metadata.offset("G0", topic, 0) == 3


def test_a_hand_over_to_the_preferred_leader_loses_no_consumer_offset() -> None:
    calm = Calm(7, replace(QUIET, preferred=True))
    group, topic = calm.group, calm.topic
    preferred = group.members[NodeId("n0")]
    if calm.leader is preferred:
        replica = preferred.replica
        assert replica is not None
        preferred.call(replica.log.transfer, calm.followers[0].name)
        assert group.world.run_until(lambda: calm.followers[0].ready, 5 * S)
    told = 0
    while not preferred.ready:
        leader = group.leader()
        replica = leader.replica if leader is not None else None
        if leader is not None and replica is not None and replica.node.takes_appends:
            told += 1
            group.promises.told(("G0", topic, 0), told)
            leader.call(replica.node.commit_offset, "G0", topic, 0, told)
        calm.wait(10 * MS)
        assert group.world.now_us < 60 * S
    # About one every 10 ms, until n0 had the office after 10 s of calm.
    assert told > 500
    assert group.truth.metadata.offset("G0", topic, 0) == told
    group.close()
