"""A real name server, brokers that answer what a test tells them, and mqadmin in this process."""

import asyncio
import json
from dataclasses import dataclass, field

import pytest
from click.testing import CliRunner

from ledgermq.admin.mqadmin import cli
from ledgermq.namesrv.app import NamesrvApp
from ledgermq.namesrv.config import NamesrvConfig
from ledgermq.remoting.bodies.registration import (
    DataVersion,
    RegisterBrokerBody,
    TopicConfig,
    TopicConfigSerializeWrapper,
)
from ledgermq.remoting.bodies.route import KVTable
from ledgermq.remoting.client import RemotingClient
from ledgermq.remoting.codes import RequestCode as Code
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.command import request, response
from ledgermq.remoting.headers.broker import RegisterBrokerRequest
from ledgermq.remoting.registry import ProcessorRegistry
from ledgermq.remoting.server import RemotingServer

CLUSTER, GROUP = "RaftCluster", "RaftNode00"
FIGURES = {
    "brokerVersionDesc": "V4_9_8",
    "putTps": "123.456 12.3 1.2",
    "getTransferredTps": "45.6 4.5 0.4",
    "sendThreadPoolQueueSize": "1",
    "pullThreadPoolQueueSize": "2",
    "sendThreadPoolQueueHeadWaitTimeMills": "3",
    "pullThreadPoolQueueHeadWaitTimeMills": "4",
    "pageCacheLockTimeMills": "0",
    "commitLogDiskRatio": "0.1234",
    "msgPutTotalYesterdayMorning": "10",
    "msgPutTotalTodayMorning": "15",
    "msgPutTotalTodayNow": "22",
    "msgGetTotalYesterdayMorning": "0",
    "msgGetTotalTodayMorning": "1",
    "msgGetTotalTodayNow": "3",
}


class FakeBroker:
    """Answers by `answers`: code -> handler(command); what it was asked is in `asked`."""

    def __init__(self):
        self.answers = {
            Code.GET_BROKER_RUNTIME_INFO: lambda _: response(
                0, body=KVTable(table=self.figures).encode()
            )
        }
        self.figures = dict(FIGURES)
        self.asked = []
        self.address = ""
        self._registry = ProcessorRegistry()
        self._server = RemotingServer(self._registry, host="127.0.0.1")
        self._client = RemotingClient()

    async def start(self):
        for code in Code:
            self._registry.add(code, self._answer)
        [port] = await self._server.start([0])
        self.address = f"127.0.0.1:{port}"

    async def stop(self):
        await self._client.close()
        await self._server.close()

    def connections(self):
        return list(self._server.connections)

    def _answer(self, _, command):
        self.asked.append(command)
        handler = self.answers.get(command.code)
        if handler is None:
            return response(ResponseCode.REQUEST_CODE_NOT_SUPPORTED, "not told how to answer")
        return handler(command)

    async def register(
        self, name_server, broker_id=0, *, name=GROUP, cluster=CLUSTER, topics=(), **config
    ):
        header = RegisterBrokerRequest(
            broker_name=name,
            broker_addr=self.address,
            cluster_name=cluster,
            ha_server_addr=self.address,
            broker_id=broker_id,
        )
        table = {topic: TopicConfig(topic_name=topic, **config) for topic in topics}
        body = RegisterBrokerBody(
            topic_config_serialize_wrapper=TopicConfigSerializeWrapper(
                topic_config_table=table, data_version=DataVersion(counter=len(table))
            )
        )
        command = request(Code.REGISTER_BROKER, header.to_ext(), body.encode())
        answer = await self._client.request(name_server, command, 5000)
        assert answer.code == 0, answer.remark


@dataclass
class Result:
    code: int
    out: str
    err: str
    lines: list[str] = field(init=False)

    def __post_init__(self):
        self.lines = self.out.splitlines()

    @property
    def json(self):
        return json.loads(self.out)


async def mqadmin(*arguments, env=None):
    """Run mqadmin in a thread, so that the servers of the test can answer it."""
    runner = CliRunner(env={"NAMESRV_ADDR": None, **(env or {})})
    result = await asyncio.to_thread(runner.invoke, cli, list(arguments), prog_name="mqadmin")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Result(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
async def name_server_app(tmp_path):
    """A running name server."""
    app = NamesrvApp(
        NamesrvConfig(
            listen_port=0, bind_address="127.0.0.1", kv_config_path=str(tmp_path / "kv.json")
        )
    )
    await app.start()
    yield app
    await app.stop()


@pytest.fixture
async def name_server(name_server_app):
    """Its address."""
    return f"127.0.0.1:{name_server_app.port}"


@pytest.fixture
async def make_broker():
    """Starts fake brokers; they end with the test."""
    brokers = []

    async def make():
        broker = FakeBroker()
        await broker.start()
        brokers.append(broker)
        return broker

    yield make
    for broker in brokers:
        await broker.stop()


@pytest.fixture
async def broker(make_broker, name_server):
    """The leader of RaftNode00, registered with topic T of two queues."""
    broker = await make_broker()
    await broker.register(name_server, topics=["T"], read_queue_nums=2, write_queue_nums=2)
    return broker
