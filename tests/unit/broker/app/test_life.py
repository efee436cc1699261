"""Start and stop: nothing left behind, no send lost."""

import asyncio
import re
import socket
from pathlib import Path

import pytest

from ledgermq.broker import __main__ as main
from ledgermq.broker.app import BrokerApp
from ledgermq.remoting.client import RemotingClient
from ledgermq.remoting.errors import CallerError, LedgerMQError, StorageError
from tests.support import until
from tests.support.brokers import HOST, Brokers, pull_all, send_request


def take(port: int) -> socket.socket:
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("0.0.0.0", port))
    holder.listen()
    return holder


@pytest.mark.parametrize("which", ["listen", "vip", "raft"])
async def test_a_taken_port_is_named_and_nothing_is_left(tmp_path: Path, which: str) -> None:
    async with Brokers(tmp_path, name_servers=1) as group:
        await group.create_topic("T")
        assert await group.send("T") == 0
        await group.stop()
        config = group.config("n0")
        port = {
            "listen": config.listen_port,
            "vip": config.listen_port - 2,
            "raft": config.raft_address[1],
        }[which]
        tasks = asyncio.all_tasks()
        with take(port):
            app = BrokerApp(config)
            with pytest.raises(CallerError, match=rf"port {port}|:{port}") as caught:
                await app.start()
            assert f"lsof -i:{port}" in str(caught.value)
            await until(lambda: asyncio.all_tasks() <= tasks, what="the end of every task")
            assert not (tmp_path / "n0/abort").exists()
            for other in {config.listen_port, config.listen_port - 2} - {port}:
                take(other).close()
        await group.start()  # the store is free, and whole
        await group.leader()
        assert await group.send("T") == 1


async def test_a_store_that_does_not_open_is_an_error(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.leader()
        with pytest.raises(CallerError, match="in use by another process"):
            BrokerApp(group.config("n0"))
        await group.stop()
        (tmp_path / "n0/dledger-n7").mkdir()
        with pytest.raises(CallerError, match=r"store of node 'n7', this node is 'n0'"):
            BrokerApp(group.config("n0"))
        (tmp_path / "n0/dledger-n7").rmdir()
        await group.start()
        await group.leader()


def test_the_command_says_what_is_wrong_with_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    conf = tmp_path / "broker.conf"
    conf.write_text(
        "brokerName = G\nenableDLegerCommitLog = true\ndLegerGroup = G\ndLegerSelfId = n0\n"
        f"dLegerPeers = n0-127.0.0.1:1\nstorePathRootDir = {tmp_path}/file/store\n"
    )
    monkeypatch.setenv("ROCKETMQ_LOG_HOME", str(tmp_path / "logs"))
    assert main._run(["-c", str(conf)]) == 1
    found = capsys.readouterr().err
    assert "Traceback" not in found
    assert re.search(rf"{tmp_path}/file.*Not a directory", found)


async def test_the_abort_file_lies_there_while_the_node_runs(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.leader()
        assert (tmp_path / "n0/abort").exists()
        await group.stop()
        assert not (tmp_path / "n0/abort").exists()
        await group.start()
        await group.crash()
        assert (tmp_path / "n0/abort").exists()


async def test_a_stop_leaves_no_task_and_no_connection(tmp_path: Path) -> None:
    tasks = asyncio.all_tasks()
    async with Brokers(tmp_path, nodes=3, name_servers=1) as group:
        await group.create_topic("T")
        await group.followers()
        for name in list(group.apps):
            await group.stop(name)
        await group.client.close()
    await until(lambda: asyncio.all_tasks() <= tasks, what="the end of every task")


@pytest.mark.parametrize("who", ["leader", "follower", "alone"])
async def test_a_stop_during_sends_loses_none(tmp_path: Path, who: str) -> None:
    """Every send on an open connection gets an answer; success means stored, 14 means not."""
    nodes = 1 if who == "alone" else 3
    async with Brokers(tmp_path, nodes=nodes, name_servers=1) as group:
        await group.create_topic("T")
        leader = await group.leader()
        app = leader if who != "follower" else (await group.followers())[0]
        client = RemotingClient()
        outcomes: dict[bytes, tuple[int, int]] = {}
        lost: list[bytes] = []
        stopping = False

        async def produce(me: int) -> None:
            for i in range(100_000):
                body = b"%d-%d" % (me, i)
                try:
                    command = send_request("T", body)
                    reply = await client.request(app.config.address, command, 5000)
                except LedgerMQError:
                    lost.append(body)
                    return
                outcomes[body] = (reply.code, int(reply.ext.get("queueOffset", -1)))
                if reply.code:
                    return  # told that this node stops: a client goes elsewhere

        producers = [asyncio.create_task(produce(i)) for i in range(8)]
        await until(lambda: len(outcomes) > 40)
        stopping = True
        await group.stop(app.config.dleger_self_id)
        await asyncio.gather(*producers)
        await client.close()
        assert stopping
        assert lost == []
        assert {code for code, _ in outcomes.values()} <= {0, 14}
        if nodes == 1:
            await group.start()
        found = {m.body: m.queue_offset for m in await pull_all(group, "T")}
        sent = {body: offset for body, (code, offset) in outcomes.items() if code == 0}
        assert found == sent
        assert await group.send("T") == len(found)


async def test_a_stop_hands_leadership_over_before_the_routes_change(tmp_path: Path) -> None:
    async with Brokers(tmp_path, nodes=3, name_servers=1) as group:
        await group.create_topic("T")
        leader = await group.leader()
        await group.followers()
        routes = group.name_servers[0].server.table

        def shown() -> str:
            brokers = routes.cluster_info().broker_addr_table
            return brokers["RaftNode00"].broker_addrs.get(0, "")

        await until(lambda: shown() == leader.config.address)
        term = leader.log.core.term
        await group.stop(leader.config.dleger_self_id)
        new = await group.leader()
        assert new.log.core.term == term + 1  # handed over, not elected after a silence
        assert shown() == new.config.address


async def test_a_node_that_fails_answers_and_stops(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        await group.create_topic("T")
        app = await group.leader()
        app.replica._stop(StorageError("the disk is gone"))
        app.replica._stop(StorageError("again"))
        assert str(app.failed.result()) == "the disk is gone"
        assert (await group.ask(app, send_request("T"))).code == 14
        assert not app.node.ready
        await group.stop()
        assert (tmp_path / "n0/abort").exists()
        take(app.config.listen_port).close()


async def test_a_stop_closes_everything_although_a_part_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Brokers(tmp_path) as group:
        app = await group.leader()

        close = app.dispatcher.close

        async def fail() -> None:
            await close()
            raise StorageError("no more writes")

        monkeypatch.setattr(app.dispatcher, "close", fail)
        with pytest.raises(StorageError, match="no more writes"):
            await group.stop()
        assert app.log._closed
        take(app.config.listen_port).close()
        await group.start()
        await group.leader()
        assert HOST == "127.0.0.1"


async def test_a_repeated_job_goes_on_after_an_error(tmp_path: Path) -> None:
    async with Brokers(tmp_path) as group:
        app = await group.leader()
        runs = 0

        def job() -> None:
            nonlocal runs
            runs += 1
            raise RuntimeError("once")

        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        app._every("test", 0.001, job)
        await until(lambda: runs > 2)
        app._timers.pop("test").cancel()
        loop.set_exception_handler(None)
