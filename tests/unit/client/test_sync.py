"""The blocking twins, against a cluster that lives in another thread's loop."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from ledgermq.client import sync
from ledgermq.client.errors import ClientClosed, ForkedClient, NameServerUnreachable, NoLeader
from ledgermq.client.errors import WrongLoop as WrongLoopError
from ledgermq.client.result import MessageQueue
from ledgermq.remoting.codes import RequestCode
from tests.support import free_ports, wait_until

from .fake import FakeCluster

BACK = RequestCode.CONSUMER_SEND_MSG_BACK


class Remote:
    """A fake cluster in a loop of its own thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.cluster = self.do(FakeCluster.open)
        self.cluster.topics["T"] = 1
        self.nameserver = self.cluster.nameserver

    def do(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return asyncio.run_coroutine_threadsafe(work(), self.loop).result(10)

    def put(self, body: bytes) -> None:
        async def work() -> None:
            self.cluster.put("T", 0, body)

        self.do(work)

    def close(self) -> None:
        self.do(self.cluster.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    def committed(self) -> int | None:
        return self.cluster.group.offsets.get(("cg", "T", 0))


@pytest.fixture
def remote() -> Iterator[Remote]:
    made = Remote()
    yield made
    made.close()


def loop_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("sync.")]


class TestProducer:
    def test_send(self, remote):
        with sync.Producer("pg", remote.nameserver) as p:
            result = p.send("T", b"hi", tag="A")
        assert str(result).startswith("SendResult [sendStatus=SEND_OK, msgId=")
        assert remote.cluster.bodies("T") == [b"hi"]

    def test_all_the_other_ways(self, remote):
        with sync.Producer("pg", remote.nameserver) as p:
            assert len(p.send_many("T", [b"a", b"b"])) == 2
            assert len(p.send_batch("T", [b"c", b"d"])) == 2
            p.send_oneway("T", b"e")
            assert p.queues("T") == [MessageQueue("T", "RaftNode00", 0)]
            wait_until(lambda: len(remote.cluster.bodies("T")) == 5)
        assert remote.cluster.bodies("T") == [b"a", b"b", b"c", b"d", b"e"]

    def test_several_threads_share_one(self, remote):
        with sync.Producer("pg", remote.nameserver) as p:

            def work():
                for _ in range(20):
                    p.send("T", b"x")

            threads = [threading.Thread(target=work) for _ in range(5)]
            for t in threads:
                t.start()
            for t in threads:
                t.join(10)
        assert len(remote.cluster.bodies("T")) == 100

    def test_errors_are_the_same(self, remote):
        with sync.Producer("pg", remote.nameserver) as p:
            remote.do(lambda: remote.cluster.kill_leader("RaftNode00"))
            with pytest.raises(NoLeader):
                p.send("T", b"x", timeout=0.2)

    def test_no_name_server(self):
        (port,) = free_ports(1)
        with pytest.raises(NameServerUnreachable):
            sync.Producer("pg", f"127.0.0.1:{port}").start()
        wait_until(lambda: not loop_threads(), what="the loop's thread has ended")

    def test_before_the_start_and_after_the_close(self, remote):
        p = sync.Producer("pg", remote.nameserver)
        with pytest.raises(ClientClosed, match="not started"):
            p.send("T", b"x")
        p.close()
        with p:
            p.send("T", b"x")
        with pytest.raises(ClientClosed, match="is closed"):
            p.send("T", b"x")
        p.close()

    def test_nothing_is_left_behind(self, remote):
        with sync.Producer("pg", remote.nameserver):
            assert len(loop_threads()) == 1
        assert loop_threads() == []

    def test_in_a_forked_child(self, remote, monkeypatch):
        with sync.Producer("pg", remote.nameserver) as p:
            real = os.getpid()
            monkeypatch.setattr(os, "getpid", lambda: real + 1)
            with pytest.raises(ForkedClient, match="after the fork"):
                p.send("T", b"x")
            monkeypatch.undo()

    def test_from_its_own_loop_it_would_wait_for_ever(self, remote):
        with sync.Producer("pg", remote.nameserver) as p:
            outcome: list[BaseException] = []

            def inside() -> None:
                try:
                    p.send("T", b"x")
                except WrongLoopError as e:
                    outcome.append(e)

            assert p._thread is not None
            p._thread.soon(inside)
            wait_until(lambda: outcome)


class TestPullConsumer:
    def test_poll_and_commit(self, remote):
        remote.put(b"x")
        with sync.PullConsumer("cg", "T", remote.nameserver, start="earliest") as c:
            got = []
            wait_until(lambda: got.extend(c.poll(timeout=0.1)) or got)
            c.commit()
        assert [m.body for m in got] == [b"x"]
        # The commit is one-way: it arrives a moment after the close.
        wait_until(lambda: remote.committed() == 1, what="the commit")

    def test_single_queues(self, remote):
        remote.put(b"x")
        with sync.PullConsumer("cg", "T", remote.nameserver) as c:
            (queue,) = c.queues("T")
            assert [m.body for m in c.read(queue, 0).messages] == [b"x"]
            assert (c.min_offset(queue), c.max_offset(queue)) == (0, 1)
            assert c.committed(queue) is None


class TestConsumer:
    def consumer(self, remote):
        return sync.Consumer("cg", "T", remote.nameserver, start="earliest")

    def test_a_loop_with_break(self, remote):
        for i in range(3):
            remote.put(b"%d" % i)
        seen = []
        with self.consumer(remote) as c:
            for message in c:
                seen.append(message.body)
                if len(seen) == 2:
                    break
        assert seen == [b"0", b"1"]
        # The commit is one-way: it arrives a moment after the close.
        wait_until(lambda: remote.committed() == 2, what="the commit")

    def test_an_error_gives_the_message_back(self, remote):
        remote.put(b"x")

        def work():
            with self.consumer(remote) as c:
                for _ in c:
                    raise ValueError("mine")

        with pytest.raises(ValueError, match="mine"):
            work()
        assert remote.cluster.broker.count(BACK) == 1

    def test_an_error_caught_before_the_end_gives_it_back_too(self, remote):
        for i in range(2):
            remote.put(b"%d" % i)

        def failing(c):
            for _ in c:
                raise ValueError("mine")

        with self.consumer(remote) as c:
            with pytest.raises(ValueError, match="mine"):
                failing(c)
            seen = []
            for message in c:
                seen.append((message.body, message.reconsume_times))
                if len(seen) == 2:
                    break
        assert sorted(seen) == [(b"0", 1), (b"1", 0)]

    def test_closing_from_another_thread_ends_the_loop(self, remote):
        c = self.consumer(remote).start()
        closer = threading.Timer(0.1, c.close)
        closer.start()
        assert list(c) == []
        closer.join()
