"""Asking name servers and brokers: which one, how long, and what is said when none answers."""

import pytest

from ledgermq.admin.errors import AdminError, TopicMissingError
from ledgermq.admin.session import Session, parse_name_servers, reading_address
from ledgermq.namesrv.app import NamesrvApp
from ledgermq.namesrv.config import NamesrvConfig
from ledgermq.remoting.bodies.route import BrokerData
from ledgermq.remoting.codes import RequestCode as Code
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.command import response
from ledgermq.remoting.errors import ConnectError, LedgerMQError, PeerError
from ledgermq.remoting.headers.namesrv import KVConfigRequest, PutKVConfigRequest
from tests.support import free_ports

from .conftest import FIGURES, GROUP


@pytest.fixture
async def three(tmp_path):
    """Three name servers that know nothing of one another."""
    apps = [
        NamesrvApp(
            NamesrvConfig(
                listen_port=0, bind_address="127.0.0.1", kv_config_path=str(tmp_path / f"{i}.json")
            )
        )
        for i in range(3)
    ]
    for app in apps:
        await app.start()
    yield apps
    for app in apps:
        await app.stop()


def addresses(apps):
    return [f"127.0.0.1:{app.port}" for app in apps]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("h:1", ["h:1"]),
        ("h:1;g:2", ["h:1", "g:2"]),
        (" h:1 ; g:2 ; ", ["h:1", "g:2"]),
        ("'h:1;g:2'", ["h:1", "g:2"]),
        ('"h:1"', ["h:1"]),
        ("[::1]:9876", ["[::1]:9876"]),
    ],
)
def test_lists_of_name_servers(text, wanted):
    assert parse_name_servers(text) == wanted


@pytest.mark.parametrize("text", ["", " ", ";", "''"])
def test_no_name_server_at_all(text):
    with pytest.raises(AdminError, match="no name server given"):
        parse_name_servers(text)


@pytest.mark.parametrize("text", ["h", "h:", ":1", "h:x", "h:\uff19", "h:1;g", "h:1,g:2;h"])
def test_what_is_no_address(text):
    with pytest.raises(AdminError, match="is no address of a name server"):
        parse_name_servers(text)


async def test_the_first_name_server_that_answers_is_asked_from_then_on(three):
    [dead] = free_ports(1)
    servers = [f"127.0.0.1:{dead}", *addresses(three)]
    async with Session(servers) as session:
        assert await session.topics() == []
        assert session.name_server == servers[1]

        await three[0].stop()

        assert await session.topics() == []
        assert session.name_server == servers[2]


async def test_no_answer_from_any_names_every_one():
    servers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    async with Session(servers) as session:
        with pytest.raises(AdminError) as failed:
            await session.cluster_info()

    assert all(address in failed.value.problem for address in servers)
    assert failed.value.next_step == "Start one with mqnamesrv, or correct -n (or NAMESRV_ADDR)."


async def test_a_silent_name_server_costs_its_timeout_and_the_next_is_asked(
    make_broker, name_server
):
    silent = await make_broker()
    silent.answers = dict.fromkeys(Code, lambda _: None)
    async with Session([silent.address, name_server], timeout_ms=100) as session:
        assert await session.topics() == []
        assert session.name_server == name_server


async def test_a_refusal_is_an_answer_and_no_reason_to_ask_another(make_broker, name_server):
    refusing = await make_broker()
    refusing.answers = {
        Code.GET_ALL_TOPIC_LIST_FROM_NAMESERVER: lambda _: response(ResponseCode.SYSTEM_ERROR)
    }
    async with Session([refusing.address, name_server]) as session:
        with pytest.raises(PeerError, match="no reason given"):
            await session.topics()


async def test_a_missing_topic_names_topic_and_server(name_server):
    async with Session([name_server]) as session:
        with pytest.raises(TopicMissingError, match=f"{name_server} knows no topic T"):
            await session.route("T")


async def test_a_change_reaches_every_name_server(three):
    put = PutKVConfigRequest(namespace="ns", key="k", value="v")
    async with Session(addresses(three)) as session:
        await session.tell_name_servers(Code.PUT_KV_CONFIG, put)

    assert [app.server.kv.get("ns", "k") for app in three] == ["v"] * 3


async def test_a_change_that_one_refuses_names_that_one(three):
    three[1].server.kv.max_entries = 0
    put = PutKVConfigRequest(namespace="ns", key="k", value="v")
    async with Session(addresses(three)) as session:
        with pytest.raises(AdminError, match=rf"{addresses(three)[1]} did not take the change"):
            await session.tell_name_servers(Code.PUT_KV_CONFIG, put)

    assert three[0].server.kv.get("ns", "k") == "v"


async def test_brokers_registered_at_every_name_server_are_found_by_any(three, make_broker):
    broker = await make_broker()
    for address in addresses(three):
        await broker.register(address, topics=["T"])

    for i, address in enumerate(addresses(three)):
        async with Session([address]) as session:
            route = await session.route("T")
            assert route.broker_datas[0].broker_addrs == {0: broker.address}, f"name server {i}"


async def test_a_name_server_started_later_knows_nothing_until_told(three, make_broker):
    broker = await make_broker()
    first, second, _ = addresses(three)
    await broker.register(first, topics=["T"])

    async with Session([second]) as session:
        assert (await session.cluster_info()).broker_addr_table == {}
        await broker.register(second, topics=["T"])
        assert list((await session.cluster_info()).broker_addr_table) == [GROUP]


async def test_figures_of_several_brokers_with_errors_in_their_places(name_server, make_broker):
    good, refusing = await make_broker(), await make_broker()
    refusing.answers = {}
    [dead] = free_ports(1)
    dead_address = f"127.0.0.1:{dead}"
    async with Session([name_server]) as session:
        found = await session.runtime_infos([good.address, dead_address, refusing.address])

    assert found[good.address] == FIGURES
    assert isinstance(found[dead_address], ConnectError)
    assert isinstance(found[refusing.address], PeerError)


async def test_figures_that_are_no_table_are_an_error_too(name_server, broker):
    broker.answers = {Code.GET_BROKER_RUNTIME_INFO: lambda _: response(0, body=b"{")}
    async with Session([name_server]) as session:
        found = await session.runtime_infos([broker.address])

    assert isinstance(found[broker.address], LedgerMQError)


async def test_an_order_to_a_broker_is_answered_refused_or_lost(name_server, broker):
    header = KVConfigRequest(namespace="ns", key="k")
    [dead] = free_ports(1)
    async with Session([name_server]) as session:
        broker.answers = {Code.GET_KV_CONFIG: lambda _: response(0, None, {"value": "v"})}
        answer = await session.order_broker(broker.address, Code.GET_KV_CONFIG, header)
        assert answer.ext == {"value": "v"}

        broker.answers = {}
        with pytest.raises(AdminError, match=f"the broker {broker.address} refused: CODE: 3"):
            await session.order_broker(broker.address, Code.GET_KV_CONFIG, header)
        with pytest.raises(AdminError, match=f"the broker 127.0.0.1:{dead} does not answer"):
            await session.order_broker(f"127.0.0.1:{dead}", Code.GET_KV_CONFIG, header)


async def test_this_machines_address_is_the_one_the_name_server_sees(name_server):
    async with Session([name_server]) as session:
        await session.topics()
        assert session.local_ip() == bytes([127, 0, 0, 1])


@pytest.mark.parametrize(
    ("addrs", "wanted"),
    [
        ({0: "leader", 1: "follower"}, "leader"),
        ({2: "follower", 3: "other"}, "follower"),
        ({}, None),
    ],
    ids=["the leader", "without one a follower", "nobody"],
)
def test_whom_to_ask_for_figures(addrs, wanted):
    assert reading_address(BrokerData(broker_addrs=addrs)) == wanted
