"""The network in good days and bad ones."""

import asyncio
import errno
import socket
from itertools import pairwise

import pytest

from ledgermq.dledger.rpc.codec import FrameDecoder, Hello, Kind, encode, encode_hello
from tests.sim.world import MS, Process, S, World

from .small import PORT, Ear, Pair, two


def dial(process: Process, host: str = "10.0.0.2", port: int = PORT) -> "asyncio.Task[object]":
    return process.spawn(process.loop.create_connection(Ear, host, port))


def error_of(world: World, task: "asyncio.Task[object]", limit_us: int = S) -> BaseException | None:
    assert world.run_until(task.done, limit_us)
    return task.exception()


# --- good days ------------------------------------------------------------------------------------


def test_bytes_arrive_whole_in_order_and_in_other_pieces() -> None:
    world, a, b = two()
    pair = Pair(a, b)
    world.net.split_chance = 0.3
    sent = [bytes([i]) * (1 + i % 7) for i in range(200)]
    for data in sent:
        pair.send(data)
        world.run(50)
    world.run(S)
    assert pair.far.heard == b"".join(sent)
    sizes = {len(c) for c in pair.far.chunks}
    assert max(sizes) > 7, "some arrive together"
    assert any(c not in sent for c in pair.far.chunks if len(c) < 7), "some arrive in pieces"
    assert pair.near.transport.get_extra_info("peername") == ("10.0.0.2", PORT)
    assert pair.far.transport.get_extra_info("peername")[0] == "10.0.0.1"


def test_both_ways() -> None:
    world, a, b = two()
    pair = Pair(a, b)
    b.call(pair.far.transport.write, b"hello")
    world.run(S)
    assert pair.near.heard == b"hello"


def test_latency_is_that_of_the_link() -> None:
    world, a, b = two()
    pair = Pair(a, b)
    world.net.split_chance = 0.0
    link = world.net.link("a", "b")
    link.low_us, link.high_us = 10 * MS, 20 * MS
    taken = []
    for _ in range(50):
        begin_us = world.now_us
        pair.send(b"x")
        world.run(S)
        taken.append(pair.far.times_us[-1] - begin_us)
    assert 10 * MS <= min(taken) < 12 * MS
    assert 18 * MS < max(taken) <= 20 * MS


def test_connections_do_not_wait_for_each_other() -> None:
    world, a, b = two()
    pairs = [Pair(a, b, port) for port in (1, 2)]
    overtaken = 0
    for _ in range(50):
        for pair in pairs:
            pair.send(b"x")
        world.run(S)
        overtaken += pairs[1].far.times_us[-1] < pairs[0].far.times_us[-1]
    assert 5 < overtaken < 45


def test_a_closed_connection_delivers_all_and_then_ends() -> None:
    world, a, b = two()
    pair = Pair(a, b)
    pair.send(b"last words")
    a.call(pair.near.transport.close)
    assert pair.near.transport.is_closing()
    pair.send(b"too late")
    world.run(S)
    assert pair.far.heard == b"last words"
    assert pair.near.lost == pair.far.lost == [None]


def test_nothing_is_read_while_reading_is_paused() -> None:
    world, a, b = two()
    pair = Pair(a, b)
    pair.far.transport.pause_reading()
    assert not pair.far.transport.is_reading()
    pair.send(b"x")
    world.run(S)
    assert not pair.far.heard
    b.call(pair.far.transport.resume_reading)
    world.run(S)
    assert pair.far.heard == b"x"


def test_a_reader_that_does_not_read_makes_the_writer_wait() -> None:
    world, a, b = two()
    world.net.window = 100_000
    pair = Pair(a, b)
    pair.far.transport.pause_reading()
    pair.send(bytes(300_000))
    world.run(S)
    assert pair.near.transport.get_write_buffer_size() == 200_000
    assert pair.near.pressure == ["pause"]
    b.call(pair.far.transport.resume_reading)
    world.run(S)
    assert pair.far.heard_bytes == 300_000
    assert pair.near.transport.get_write_buffer_size() == 0
    assert pair.near.pressure == ["pause", "resume"]


def test_a_slow_link_takes_its_time() -> None:
    world, a, b = two()
    pair, other = Pair(a, b), Pair(a, b, 7)
    world.net.link("a", "b").bytes_per_s = 1_000_000
    begin_us = world.now_us
    pair.send(bytes(4 << 20))
    assert pair.near.transport.get_write_buffer_size() > 1 << 20
    world.run(S)
    assert 900_000 < pair.far.heard_bytes < 1_100_000
    other.send(b"heartbeat")
    world.run(MS)
    assert other.far.heard == b"heartbeat"
    assert world.run_until(lambda: pair.far.heard_bytes == 4 << 20, 10 * S)
    assert 4 * S < world.now_us - begin_us < 4.5 * S
    assert not pair.near.lost


# --- dialling -------------------------------------------------------------------------------------


def test_nobody_listens() -> None:
    world, a, b = two()
    assert isinstance(error_of(world, dial(a)), ConnectionRefusedError)
    pair = Pair(a, b)
    pair.send(b"x")
    b.kill()
    assert isinstance(error_of(world, dial(a)), ConnectionRefusedError)


def test_nobody_has_this_name() -> None:
    world, a, _ = two()
    assert isinstance(error_of(world, dial(a, "nowhere")), socket.gaierror)


def test_a_port_has_one_listener_until_it_is_closed() -> None:
    world, a, _ = two()
    server = a.spawn(a.loop.create_server(Ear, None, 0))
    world.run(MS)
    host, port = server.result().sockets[0].getsockname()
    assert host == "10.0.0.1"
    error = error_of(world, a.spawn(a.loop.create_server(Ear, "0.0.0.0", port)))
    assert isinstance(error, OSError)
    assert error.errno == errno.EADDRINUSE
    server.result().close()
    assert error_of(world, a.spawn(a.loop.create_server(Ear, "0.0.0.0", port))) is None


def test_names_resolve_to_one_address() -> None:
    world, a, _ = two()
    found = a.spawn(a.loop.getaddrinfo("10.0.0.2", 5))
    world.run(MS)
    assert [entry[4] for entry in found.result()] == [("10.0.0.2", 5)]


def test_a_dial_into_a_cut_waits_and_a_later_try_succeeds() -> None:
    world, a, b = two()
    b.spawn(b.loop.create_server(Ear, "0.0.0.0", PORT))
    world.net.cut("b", "a")
    task = dial(a)
    world.run(500 * MS)
    assert not task.done()
    world.net.heal()
    assert error_of(world, task) is None
    assert world.net.counts["lost SYNs"] == 1


def test_a_dial_that_nobody_answers_fails_at_last() -> None:
    world, a, _ = two()
    world.net.isolate("b")
    assert isinstance(error_of(world, dial(a), 100 * S), TimeoutError)


def test_a_dial_that_was_given_up_leaves_no_connection() -> None:
    world, a, b = two()
    ear = Ear()
    b.spawn(b.loop.create_server(lambda: ear, "0.0.0.0", PORT))
    world.run(MS)
    task = dial(a)
    world.run_until(lambda: ear.transport is not None, S)
    assert not task.done()
    a.call(task.cancel)
    world.run(S)
    assert task.cancelled()
    assert len(ear.lost) == 1
    assert not world.net.connections()


def test_a_paused_process_is_connected_to_before_it_knows() -> None:
    world, a, b = two()
    ear = Ear()
    b.spawn(b.loop.create_server(lambda: ear, "0.0.0.0", PORT))
    world.run(MS)
    b.pause(S)
    assert error_of(world, dial(a), 100 * MS) is None
    assert ear.transport is None
    world.run(2 * S)
    assert ear.transport is not None


# --- bad days -------------------------------------------------------------------------------------


def test_a_short_cut_delays_and_loses_nothing() -> None:
    world, a, b = two()
    pair = Pair(a, b)
    for i in range(100):
        if i == 30:
            world.net.partition(["a"], ["b"])
        if i == 60:
            world.net.heal()
        pair.send(bytes([i]))
        world.run(7 * MS)
    world.run(S)
    assert pair.far.heard == bytes(range(100))
    assert not pair.far.lost
    assert any(later - earlier > 150 * MS for earlier, later in pairwise(pair.far.times_us))


def test_what_was_under_way_when_a_cut_was_healed_keeps_its_order() -> None:
    world, a, b = two()
    pair = Pair(a, b)
    world.net.set_latency(50 * MS, 51 * MS)
    pair.send(b"1")
    world.run(30 * MS)
    pair.send(b"2")
    world.net.cut("a", "b")
    world.run(25 * MS)
    world.net.heal()
    world.run(S)
    assert pair.far.heard == b"12"


@pytest.mark.parametrize(("cut_us", "heard"), [(2 * S, b"last words"), (4 * S, b"")])
def test_a_closed_connection_tries_to_deliver_for_three_seconds(cut_us: int, heard: bytes) -> None:
    world, a, b = two()
    pair = Pair(a, b)
    world.net.cut("a", "b")
    pair.send(b"last words")
    a.call(pair.near.transport.close)
    world.run(cut_us)
    world.net.heal()
    world.run(S)
    assert pair.far.heard == heard
    assert bool(pair.far.lost) == bool(heard)


def test_a_connection_reset_before_it_was_taken_is_made_and_lost() -> None:
    world, a, b = two()
    ear = Ear()
    b.spawn(b.loop.create_server(lambda: ear, "0.0.0.0", PORT))
    world.run(MS)
    mine = Ear()
    task = a.spawn(a.loop.create_connection(lambda: mine, "10.0.0.2", PORT))
    world.run_until(lambda: ear.transport is not None, S)
    world.net.reset("a", "b")
    assert error_of(world, task) is None
    world.run(S)
    assert mine.transport is not None
    assert len(mine.lost) == len(ear.lost) == 1


def test_one_way_cuts_are_one_way() -> None:
    world, a, b = two()
    pair = Pair(a, b)
    world.net.cut("b", "a")
    pair.send(b"there")
    b.call(pair.far.transport.write, b"back")
    world.run(S)
    assert pair.far.heard == b"there"
    assert not pair.near.heard
    world.net.heal("b", "a")
    world.run(S)
    assert pair.near.heard == b"back"
    world.run(5 * S)
    assert not pair.near.lost


@pytest.mark.parametrize("way", [("a", "b"), ("b", "a")])
def test_bytes_unacknowledged_for_three_seconds_end_a_connection(way: tuple[str, str]) -> None:
    world, a, b = two()
    pair = Pair(a, b)
    world.net.cut(*way)
    pair.send(b"x")
    world.run(2900 * MS)
    assert not pair.near.lost
    world.run(200 * MS)
    assert isinstance(pair.near.lost[0], TimeoutError)
    assert world.net.counts["timed out connections"] == 1
    # The other side hears of it only if the way there is open.
    assert bool(pair.far.lost) == (way == ("b", "a"))


def test_an_idle_connection_survives_a_long_cut() -> None:
    world, a, b = two()
    pair = Pair(a, b)
    world.net.partition(["a"], ["b"])
    world.run(60 * S)
    world.net.heal()
    pair.send(b"x")
    world.run(S)
    assert pair.far.heard == b"x"


def test_a_half_open_connection_is_reset_once_it_is_used() -> None:
    world, a, b = two()
    pair = Pair(a, b)
    world.net.cut("a", "b")
    pair.send(b"x")
    world.run(4 * S)
    assert pair.near.lost
    assert not pair.far.lost
    world.net.heal()
    b.call(pair.far.transport.write, b"anybody?")
    world.run(S)
    assert isinstance(pair.far.lost[0], ConnectionResetError)


def test_partitions_leave_groups_whole() -> None:
    world = World(1)
    processes = {name: world.machine(name).boot() for name in "abc"}
    pairs = {
        pair: Pair(processes[pair[0]], processes[pair[1]], port)
        for port, pair in enumerate(("ab", "bc", "ca"), 1)
    }
    world.net.partition("a", "bc")
    for pair in pairs.values():
        pair.send(b"x")
    world.run(S)
    assert {name for name, pair in pairs.items() if pair.far.heard} == {"bc"}


def test_a_reset_is_seen_by_both() -> None:
    world, a, b = two()
    pair = Pair(a, b)
    world.net.reset("b", "a")
    world.run(S)
    assert isinstance(pair.near.lost[0], ConnectionResetError)
    assert isinstance(pair.far.lost[0], ConnectionResetError)
    assert not world.net.connections()


def test_a_kill_closes_behind_the_last_byte() -> None:
    world, a, b = two()
    pair = Pair(a, b)
    pair.send(b"last words")
    a.kill()
    world.run(S)
    assert pair.far.heard == b"last words"
    assert pair.far.lost == [None]
    assert not pair.near.lost


def test_a_kill_with_unread_bytes_resets() -> None:
    world, a, b = two()
    pair = Pair(a, b)
    a.pause(S)
    b.call(pair.far.transport.write, b"unread")
    world.run(10 * MS)
    a.kill()
    world.run(S)
    assert isinstance(pair.far.lost[0], ConnectionResetError)


def test_after_a_loss_of_power_nobody_answers_and_then_a_stranger_does() -> None:
    world, a, b = two()
    pair = Pair(a, b)
    b.machine.power_loss()
    world.run(10 * S)
    assert not pair.near.lost
    task = dial(a)
    world.run(500 * MS)
    assert not task.done()
    pair.send(b"anybody?")
    world.run(S)
    assert not pair.near.lost
    b.machine.boot()
    world.run(S)
    assert isinstance(pair.near.lost[0], ConnectionResetError)
    assert isinstance(error_of(world, task, 5 * S), ConnectionRefusedError)


# --- frames ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", [0, 1])
def test_whole_frames_of_the_control_channel_get_lost_and_come_twice(channel: int) -> None:
    world, a, b = two()
    pair = Pair(a, b)
    world.net.frame_loss, world.net.frame_duplication = 0.2, 0.2
    pair.send(encode_hello(Kind.HELLO, Hello("g", "a", "b", channel, "", "", 1, "", "")))
    for i in range(200):
        pair.send(encode(Kind.HEARTBEAT, (i,)) + encode(Kind.HEARTBEAT_REPLY, (i,)))
        world.run(MS)
    world.run(S)
    first, *frames = FrameDecoder().feed(pair.far.heard)
    assert first.kind is Kind.HELLO
    numbers = [f.head[0] for f in frames]
    assert numbers == sorted(numbers)
    if channel:
        assert len(frames) == 400
        return
    lost, twice = world.net.counts["lost frames"], world.net.counts["repeated frames"]
    assert len(frames) == 400 - lost + twice
    assert 50 < lost < 110
    assert 50 < twice < 110
