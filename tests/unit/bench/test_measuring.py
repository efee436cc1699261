"""The pure parts of running: command lines, percentiles, costs, time left, the smoke."""

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import measures, raft_core, runner, smoke
from bench.commands import Commands
from bench.latency import percentiles
from bench.pairs import Spread
from bench.programs import LoadError, flags, run
from bench.progress import Progress, shown
from bench.rows import ECHO, JAVA, NATS, OURS, chosen
from bench.shapes import Load
from bench.sides import SIDES

COMMANDS = Commands(Path("load"))
PEER = SimpleNamespace(name_server="h:1", servers="h:2,h:3", address="h:4")


def option(argv, name):
    return argv[argv.index(name) + 1]


def test_flags_are_written_as_options():
    assert flags(in_flight=3, rate=1.5, follow=True, off=False, warm_up=5.0) == [
        "--in-flight", "3", "--rate", "1.5", "--follow", "--warm-up", "5",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("side", "command", "name", "value"),
    [
        (OURS, "send", "--name-server", "h:1"),
        (JAVA, "send", "--name-server", "h:1"),
        (NATS, "nats-send", "--servers", "h:2,h:3"),
        (ECHO, "echo", "--address", "h:4"),
    ],
)
def test_the_lean_generator_speaks_each_sides_protocol(side, command, name, value):
    load = Load("x", connections=8, in_flight=64, size=1024, batch=2, rate=10)
    argv = COMMANDS.send(SIDES[side], PEER, load, "T", 5.0)
    assert argv[:2] == ["load", command]
    assert option(argv, name) == value
    shape = [option(argv, f"--{n}") for n in ("connections", "in-flight", "size", "batch", "rate")]
    assert shape == ["8", "64", "1024", "2", "10"]


def test_java_has_threads_or_a_window():
    java = Load("x", client="java", connections=64)
    threads = COMMANDS.send(SIDES[OURS], PEER, java, "T", 5.0)
    assert option(threads, "--threads") == "64"
    assert "--async-in-flight" not in threads
    window = COMMANDS.send(SIDES[OURS], PEER, replace(java, connections=1, in_flight=256), "T", 5.0)
    assert option(window, "--async-in-flight") == "256"
    assert "--threads" not in window


def test_the_java_clients_own_warm_up_is_longer():
    assert COMMANDS.warm_up_s(Load("x", client="java")) > COMMANDS.warm_up_s(Load("x"))


@pytest.mark.parametrize("client", ["lean", "java", "python"])
def test_each_client_reads_so_many(client):
    argv = COMMANDS.consume(PEER, Load("x", kind="consume", client=client, count=7), "T")
    assert (option(argv, "--count"), option(argv, "--topic")) == ("7", "T")


def test_percentiles_are_values_that_occurred():
    found = percentiles([i / 1e6 for i in range(1, 101)])
    assert found == {"p50_us": 50.0, "p90_us": 90.0, "p99_us": 99.0, "max_us": 100.0}


def test_percentiles_of_one_and_of_none():
    assert set(percentiles([2e-6]).values()) == {2.0}
    assert percentiles([]) == {}


def test_cpu_is_told_by_role():
    cpu_s = {"n0": 2.0, "n1": 0.5, "n2": 1.5, "namesrv0": 0.1}
    found = measures.cpu_per_message(cpu_s, "n0", 1_000_000)
    assert found == pytest.approx({"leader_cpu_us": 2.0, "follower_cpu_us": 1.0, "all_cpu_us": 4.1})


def test_one_server_has_no_followers():
    found = measures.cpu_per_message({"echo": 1.0}, "echo", 1_000_000)
    assert "follower_cpu_us" not in found


def test_a_program_that_fails_tells_what_it_said():
    with pytest.raises(LoadError, match="no name server"):
        run(["sh", "-c", "echo no name server >&2; exit 1"], 10)


def test_a_program_that_prints_something_else_is_refused():
    with pytest.raises(LoadError, match="no JSON but 'done"):
        run(["echo", "done"], 10)


def test_the_last_line_is_the_result():
    assert run(["sh", "-c", "echo starting; echo '{\"per_s\": 5}'"], 10) == {"per_s": 5}


def test_the_time_left_follows_what_was_needed_so_far():
    now = [0.0]
    out = io.StringIO()
    progress = Progress(100.0, out, clock=lambda: now[0])
    assert progress.left_s() == 100.0
    now[0] = 40.0
    progress.done(20.0)
    assert progress.left_s() == 160.0
    progress.say("on")
    assert out.getvalue() == "[3 min left] on\n"


@pytest.mark.parametrize(("seconds", "text"), [(5.4, "5 s"), (300, "5 min"), (7500, "2 h 5 min")])
def test_times_are_for_people(seconds, text):
    assert shown(seconds) == text


def make_run(patterns, tmp_path, **changes):
    options = replace(runner.Options(3, 5.0), **changes)
    return runner.Run(chosen(patterns), options, COMMANDS, tmp_path / "result.json")


def test_starts_alternate_within_a_group(tmp_path):
    starts = list(make_run(["lean-128-64x1", "echo"], tmp_path).starts())
    assert [(s.group.name, s.side) for s in starts] == [
        *[("lean-128", OURS), ("lean-128", JAVA)] * 3,
        *[("echo", OURS), ("echo", ECHO)] * 3,
    ]
    assert [s.round for s in starts[:6]] == [0, 0, 1, 1, 2, 2]


def test_a_jvm_is_expected_to_take_longer(tmp_path):
    run = make_run(["lean-128-64x1"], tmp_path)
    ours, java, *_ = run.starts()
    assert run.expected_s(java) - run.expected_s(ours) > 12.0


def test_memory_and_start_are_not_disturbed_by_a_warm_up(tmp_path):
    run = make_run(["memory-idle", "start"], tmp_path)
    _, java, *_ = run.starts()
    assert run.expected_s(java) == SIDES[JAVA].expected_start_s + 20.0


SPREAD = Spread(0.40, 0.35, 0.45, 5)


@pytest.mark.parametrize(
    ("measured", "stored", "ok", "text"),
    [
        pytest.param(SPREAD, 0.42, True, "at least 0.2940: ok", id="near"),
        pytest.param(SPREAD, 0.60, False, "SLOWER", id="far below"),
        pytest.param(SPREAD, 0.20, True, "ok", id="faster"),
        pytest.param(SPREAD, None, False, "nothing is stored", id="not recorded"),
        pytest.param(None, 0.40, False, "not measured", id="not measured"),
    ],
)
def test_the_smoke_fails_only_far_below(measured, stored, ok, text):
    known = {} if stored is None else {"64x1": stored}
    (found,) = smoke.judge({"64x1": measured}, {"ratios": known, "tolerance": 0.7})
    assert found.ok is ok
    assert text in str(found)


def test_only_proposals_of_the_measured_time_count(monkeypatch):
    monkeypatch.setattr(raft_core.time, "perf_counter", lambda: 100.0)
    measured = raft_core.Measured(raft_core.RaftOptions(1, 128, seconds=2.0, warm_up=1.0))
    measured.begin()
    measured.note(100.5, 101.2)  # began in the warm-up
    measured.note(101.0, 101.5)
    measured.note(101.5, 102.0)
    measured.note(102.9, 103.1)  # ended too late
    measured.fail("no leader")
    found = measured.report()
    assert (found["messages"], found["per_s"]) == (2, 2.0)
    assert found["p50_us"] == pytest.approx(500_000)
    assert found["errors"] == {"no leader": 1}
