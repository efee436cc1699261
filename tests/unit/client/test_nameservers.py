"""Name servers: where they come from, and which is asked."""

import asyncio

import pytest

from ledgermq.client import nameservers
from ledgermq.client.errors import InvalidArgument, NameServerUnreachable, TopicNotFound
from ledgermq.client.nameservers import NameServers, endpoint_url, fetch_text, parse_addresses
from ledgermq.client.transport import Transport
from ledgermq.remoting.bodies.route import TopicRouteData
from ledgermq.remoting.codes import RequestCode
from tests.support import free_ports

from .fake import FakeCluster

ROUTE = RequestCode.GET_ROUTEINFO_BY_TOPIC


@pytest.fixture
async def transport():
    made = Transport("test")
    made.open()
    yield made
    await made.close()


@pytest.fixture
async def three():
    fake = await FakeCluster.open(name_servers=3)
    fake.topics["T"] = 1
    yield fake
    await fake.close()


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("h:1", ["h:1"]),
        ("h:1;i:2", ["h:1", "i:2"]),
        (" h:1 ; i:2 ; ", ["h:1", "i:2"]),
        ("[::1]:9876", ["[::1]:9876"]),
    ],
)
def test_lists(text, addresses):
    assert parse_addresses(text, "here") == addresses


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";",
        "h",
        "h:",
        ":1",
        "h:x",
        "h:0",
        "h:65536",
        "h:1,i:2",
        "h:1\uff0ci:2",
        "h:1\uff1bi:2",
        "a b:1",
    ],
)
def test_bad_lists_name_the_place(text):
    with pytest.raises(InvalidArgument, match=r"\$NAMESRV_ADDR"):
        parse_addresses(text, "$NAMESRV_ADDR")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://h:81/rocketmq/x", "http://h:81/rocketmq/x"),
        ("http://h", "http://h:8080/rocketmq/nsaddr"),
        ("http://h/", "http://h:8080/rocketmq/nsaddr"),
        ("https://h:443", "https://h:443/rocketmq/nsaddr"),
    ],
)
def test_endpoints(text, url):
    assert endpoint_url(text) == url


def test_an_endpoint_needs_a_host():
    with pytest.raises(InvalidArgument, match="names no host"):
        endpoint_url("http:///x")


class TestSource:
    def test_argument_first(self, transport, monkeypatch):
        monkeypatch.setenv("NAMESRV_ADDR", "env:1")
        names = NameServers(transport, "arg:1")
        assert (names.text, names.source) == ("arg:1", "nameserver=")

    def test_then_the_environment(self, transport, monkeypatch):
        monkeypatch.setenv("NAMESRV_ADDR", "env:1;env:2")
        names = NameServers(transport, None)
        assert (names.text, names.source) == ("env:1;env:2", "$NAMESRV_ADDR")

    def test_then_the_default_and_says_so(self, transport):
        names = NameServers(transport, None)
        assert names.text == "localhost:9876"
        assert "default" in names.source

    def test_an_empty_variable_is_none(self, transport, monkeypatch):
        monkeypatch.setenv("NAMESRV_ADDR", "")
        assert NameServers(transport, None).text == "localhost:9876"

    def test_an_empty_argument_is_a_mistake(self, transport):
        with pytest.raises(InvalidArgument, match="nameserver="):
            NameServers(transport, "")


class TestRoute:
    async def test_the_same_server_as_long_as_it_answers(self, transport, three):
        names = NameServers(transport, three.nameserver)
        for _ in range(5):
            await names.route("T", 1000)
        assert sorted(s.count(ROUTE) for s in three.name_servers) == [0, 0, 5]

    async def test_the_answer_is_a_route(self, transport, three):
        body = await NameServers(transport, three.nameserver).route("T", 1000)
        assert TopicRouteData.decode(body).queue_datas[0].broker_name == "RaftNode00"

    async def test_standard_json_is_asked_for(self, transport, three):
        await NameServers(transport, three.nameserver).route("T", 1000)
        (asked,) = [c for s in three.name_servers for c in s.requests(ROUTE)]
        assert asked.ext == {"topic": "T", "acceptStandardJsonOnly": "true"}

    async def test_the_next_one_when_it_is_gone(self, transport, three):
        names = NameServers(transport, three.nameserver)
        await names.route("T", 1000)
        (used,) = [s for s in three.name_servers if s.count(ROUTE)]
        await used.stop()
        await names.route("T", 1000)
        await names.route("T", 1000)
        counts = sorted(s.count(ROUTE) for s in three.name_servers if s is not used)
        assert counts == [0, 2]

    async def test_a_silent_one_does_not_eat_the_whole_time(self, transport, three, monkeypatch):
        monkeypatch.setattr(nameservers, "_MIN_SHARE_MS", 30)
        for server in three.name_servers[:2]:
            server.silent.add(ROUTE)
        names = NameServers(transport, three.nameserver)
        await names.route("T", 600)

    async def test_move_on_begins_with_another(self, transport, three):
        names = NameServers(transport, three.nameserver)
        for _ in range(6):
            await names.route("T", 1000, move_on=True)
        assert [s.count(ROUTE) for s in three.name_servers] == [2, 2, 2]

    async def test_all_are_asked_before_a_topic_is_missing(self, transport, three):
        with pytest.raises(TopicNotFound, match="No topic route info"):
            await NameServers(transport, three.nameserver).route("Nope", 1000)
        assert [s.count(ROUTE) for s in three.name_servers] == [1, 1, 1]

    async def test_one_that_knows_the_topic_is_enough(self, transport, three):
        for server in three.name_servers[:2]:
            server.refuse(ROUTE, 17, "just started")
        names = NameServers(transport, three.nameserver)
        for _ in range(3):
            await names.route("T", 1000, move_on=True)

    async def test_an_odd_answer_counts_as_none(self, transport, three):
        for server in three.name_servers:
            server.refuse(ROUTE, 1, "broken inside")
        with pytest.raises(NameServerUnreachable, match="broken inside"):
            await NameServers(transport, three.nameserver).route("T", 1000)

    async def test_unreachable_names_every_address_and_the_source(self, transport):
        one, two = free_ports(2)
        names = NameServers(transport, f"127.0.0.1:{one};127.0.0.1:{two}")
        with pytest.raises(NameServerUnreachable) as caught:
            await names.route("T", 1000)
        assert f"127.0.0.1:{one}" in str(caught.value)
        assert f"127.0.0.1:{two}" in str(caught.value)
        assert "nameserver=" in str(caught.value)


class TestEndpoint:
    async def test_the_list_comes_from_the_endpoint(self, transport, three):
        asked = []

        def fetch(url, timeout_s):
            asked.append((url, timeout_s))
            return three.nameserver

        names = NameServers(transport, "http://jmenv:8080/rocketmq/nsaddr", fetch=fetch)
        await names.route("T", 1000)
        await names.route("T", 1000)
        assert asked == [("http://jmenv:8080/rocketmq/nsaddr", 1.0)]
        assert names.text == three.nameserver

    async def test_unreachable(self, transport):
        def fetch(url, timeout_s):
            raise OSError("no such host")

        names = NameServers(transport, "http://nowhere", fetch=fetch)
        with pytest.raises(NameServerUnreachable, match="no such host"):
            await names.route("T", 1000)

    async def test_no_list_in_the_answer(self, transport):
        names = NameServers(transport, "http://h", fetch=lambda _u, _t: "<html>")
        with pytest.raises(NameServerUnreachable, match="no name server address"):
            await names.route("T", 1000)

    async def test_the_old_list_serves_while_the_endpoint_is_down(
        self, transport, three, monkeypatch, caplog
    ):
        monkeypatch.setattr(nameservers, "_ENDPOINT_REFRESH_MS", 0)
        answers = [three.nameserver]

        def fetch(url, timeout_s):
            if not answers:
                raise OSError("down now")
            return answers.pop()

        names = NameServers(transport, "http://h", fetch=fetch)
        await names.route("T", 1000)
        await names.route("T", 1000)
        assert "down now" in caplog.text

    async def test_over_real_http(self):
        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nh:1;i:2 \n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            text = await asyncio.to_thread(fetch_text, f"http://127.0.0.1:{port}/x", 5.0)
        assert text == "h:1;i:2"
