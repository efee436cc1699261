"""A broker group inside this process: real stores, sockets and name servers, one event loop.

    async with Brokers(tmp_path, nodes=3) as group:
        leader = await group.leader()
        reply = await group.ask(leader, request(...))

`crash` ends a node as `kill -9` would: nothing is flushed, marked or said. `copy` opens the files
of a running node, as they are at this very moment, as a node of its own.
"""

import asyncio
import shutil
from pathlib import Path
from typing import Any, Self

from ledgermq.broker.app import BrokerApp
from ledgermq.broker.config import BrokerConfig
from ledgermq.namesrv.app import NamesrvApp
from ledgermq.namesrv.config import NamesrvConfig
from ledgermq.remoting.client import RemotingClient
from ledgermq.remoting.codes import RequestCode
from ledgermq.remoting.command import RemotingCommand, request
from ledgermq.remoting.headers.pull import PullMessageRequest
from ledgermq.remoting.headers.send import SendMessageRequest
from ledgermq.remoting.headers.topic import CreateTopicRequest
from ledgermq.remoting.message import MessageExt, decode_records
from tests.support import until
from tests.support.cluster import reserve_port

HOST = "127.0.0.1"
GROUP = "RaftNode00"
CLUSTER = "RaftCluster"
# Short enough for quick tests, long enough for a busy machine that runs them twice at once.
FAST: dict[str, Any] = {
    "heartbeat_interval_ms": 60,
    "election_timeout_min_ms": 600,
    "election_timeout_max_ms": 1000,
    "mapped_file_size_commit_log": 4 << 20,
    "mapped_file_size_consume_queue": 200,
}


# A member alone has nobody to wait for.
ALONE: dict[str, Any] = {"election_timeout_min_ms": 100, "election_timeout_max_ms": 150}


def broker_config(folder: Path, peers: dict[str, tuple[str, int]], me: str, **more: Any) -> Any:
    """Configuration of one member; `more` wins."""
    values: dict[str, Any] = {
        "broker_cluster_name": CLUSTER,
        "broker_name": GROUP,
        "broker_ip1": HOST,
        "store_path_root_dir": folder,
        "enable_dleger_commit_log": True,
        "dleger_group": GROUP,
        "dleger_peers": peers,
        "dleger_self_id": me,
        **FAST,
        **more,
    }
    if "listen_port" not in values:
        values["listen_port"] = reserve_port(-2)
    return BrokerConfig(**values)


class Brokers:
    """One group of `nodes` members and its name servers; `more` are BrokerConfig fields."""

    def __init__(self, folder: Path, *, nodes: int = 1, name_servers: int = 0, **more: Any) -> None:
        self.folder = folder
        self.client = RemotingClient()
        self.name_servers: list[NamesrvApp] = []
        self._count = name_servers
        self._more = more if nodes > 1 else {**ALONE, **more}
        self.peers = {f"n{i}": (HOST, reserve_port()) for i in range(nodes)}
        self._ports = {name: reserve_port(-2) for name in self.peers}
        self.apps: dict[str, BrokerApp] = {}
        self._copies: list[BrokerApp] = []

    async def __aenter__(self) -> Self:
        for i in range(self._count):
            self.name_servers.append(await start_name_server(self.folder / f"namesrv{i}"))
        for name in self.peers:
            await self.start(name)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        for app in [*self._copies, *self.apps.values()]:
            await crash(app)
        for server in self.name_servers:
            await server.stop()

    def config(self, name: str) -> BrokerConfig:
        """Configuration of a member, the same at every start."""
        servers = tuple(f"{HOST}:{s.port}" for s in self.name_servers)
        more = {"listen_port": self._ports[name], "namesrv_addr": servers, **self._more}
        found: BrokerConfig = broker_config(self.folder / name, self.peers, name, **more)
        return found

    async def start(self, name: str = "n0") -> BrokerApp:
        """Start a member (again)."""
        app = BrokerApp(self.config(name))
        self.apps[name] = app
        await app.start()
        return app

    async def stop(self, name: str = "n0") -> None:
        """Stop a member as SIGTERM does."""
        await self.apps.pop(name).stop()

    async def crash(self, name: str = "n0") -> None:
        """End a member as `kill -9` does."""
        await crash(self.apps.pop(name))

    async def copy(self, name: str = "n0", suffix: str = "copy") -> BrokerApp:
        """A node of one, made of a member's files as they are now: what a kill would leave."""
        target = self.folder / f"{name}-{suffix}"
        shutil.copytree(self.apps[name].config.store_path_root_dir, target)
        config = broker_config(target, {name: (HOST, reserve_port())}, name, **self._more)
        app = BrokerApp(config)
        self._copies.append(app)
        await app.start()
        return app

    async def leader(self, other_than: BrokerApp | None = None) -> BrokerApp:
        """The ready leader."""

        def found() -> BrokerApp | None:
            ready = [a for a in self.apps.values() if a.node.ready and a is not other_than]
            return ready[0] if len(ready) == 1 else None

        app: BrokerApp = await until(found, what="a ready leader")
        return app

    async def followers(self) -> list[BrokerApp]:
        """The others, once they know the leader and where it serves clients."""
        leader = await self.leader()
        others = [a for a in self.apps.values() if a is not leader]
        await until(
            lambda: all(a.node.leader_address == leader.config.address for a in others),
            what="followers that know the leader",
        )
        return others

    async def ask(
        self, app: BrokerApp, command: RemotingCommand, timeout_ms: int = 8000
    ) -> RemotingCommand:
        """One request to a node."""
        return await self.client.request(app.config.address, command, timeout_ms)

    async def create_topic(self, name: str, queues: int = 1, perm: int = 6) -> None:
        """Create or change a topic through the leader, and wait until it is there."""
        header = CreateTopicRequest(
            topic=name,
            default_topic="TBW102",
            read_queue_nums=queues,
            write_queue_nums=queues,
            perm=perm,
            topic_filter_type="SINGLE_TAG",
            topic_sys_flag=0,
            order=False,
        )
        reply = await self.ask(
            await self.leader(), request(RequestCode.UPDATE_AND_CREATE_TOPIC, header.to_ext())
        )
        assert reply.code == 0, reply.remark

    async def delete_topic(self, name: str) -> None:
        """Delete a topic through the leader."""
        command = request(RequestCode.DELETE_TOPIC_IN_BROKER, {"topic": name})
        reply = await self.ask(await self.leader(), command)
        assert reply.code == 0, reply.remark

    async def send(
        self, topic: str, body: bytes = b"x", *, queue_id: int = 0, app: BrokerApp | None = None
    ) -> int:
        """Send a message that must be accepted; its queue offset."""
        reply = await self.ask(app or await self.leader(), send_request(topic, body, queue_id))
        assert reply.code == 0, reply.remark
        return int(reply.ext["queueOffset"])

    async def same_metadata(self) -> None:
        """Wait until every member has applied the same."""
        await until(
            lambda: len({a.metadata.fingerprint() for a in self.apps.values()}) == 1,
            what="equal metadata on every replica",
        )


def send_request(topic: str, body: bytes = b"x", queue_id: int = 0, **more: Any) -> RemotingCommand:
    """Request 10; `more` are fields of its header, `client_language` aside."""
    fields: dict[str, Any] = {
        "producer_group": "PG",
        "topic": topic,
        "default_topic": "TBW102",
        "default_topic_queue_nums": 4,
        "queue_id": queue_id,
        "sys_flag": 0,
        "born_timestamp": 1_700_000_000_000,
        "flag": 0,
        "properties": "",
        **more,
    }
    return request(RequestCode.SEND_MESSAGE, SendMessageRequest(**fields).to_ext(), body)


def pull_request(topic: str, offset: int, *, queue_id: int = 0, **more: Any) -> RemotingCommand:
    """Request 11 that carries its subscription, does not wait and commits nothing."""
    fields: dict[str, Any] = {
        "consumer_group": "CG",
        "topic": topic,
        "queue_id": queue_id,
        "queue_offset": offset,
        "max_msg_nums": 32,
        "sys_flag": 4,
        "commit_offset": 0,
        "suspend_timeout_millis": 15_000,
        "sub_version": 0,
        "subscription": "*",
        **more,
    }
    return request(RequestCode.PULL_MESSAGE, PullMessageRequest(**fields).to_ext())


async def pull_all(group: Brokers, topic: str, queue_id: int = 0) -> list[MessageExt]:
    """Every message of a queue, by the leader."""
    found: list[MessageExt] = []
    while True:
        command = pull_request(topic, len(found), queue_id=queue_id)
        reply = await group.ask(await group.leader(), command)
        if reply.code:
            return found
        found += decode_records(reply.body)


async def start_name_server(folder: Path, port: int = 0) -> NamesrvApp:
    """A name server of our own."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    config = NamesrvConfig(
        listen_port=port, bind_address=HOST, kv_config_path=str(folder / "kvConfig.json")
    )
    server = NamesrvApp(config)
    await server.start()
    return server


async def crash(app: BrokerApp) -> None:
    """Drop a node without a goodbye; only what the operating system would free is freed."""
    if app.log._closed:
        return  # it had been stopped
    app.node.halt("crashed")
    for timer in [*app._timers.values(), app.polling._timer]:
        if timer is not None:
            timer.cancel()
    log, dispatcher = app.log, app.dispatcher
    log.stopped = True  # closing it now promises nothing: as after a kill
    dispatcher._stopped = True
    log._cancel_timers()
    tasks = [
        *app.registrar._tasks,
        app.exports._task if app.exports else None,
        app.replica._retaining,
        app.engine.index._task if app.engine.index else None,
        dispatcher._task,
        dispatcher._flush_task,
    ]
    for task in tasks:
        if task is not None:
            task.cancel()
    await asyncio.gather(*(t for t in tasks if t is not None), return_exceptions=True)
    for connection in list(app._listener.connections):
        if connection._transport is not None:
            connection._transport.abort()
    await app._listener.close()
    await app.gate.close()
    await app.registrar._client.close()
    await log.close()
    dispatcher.queues._files.close()
    dispatcher._mark_file.close()
