"""A real name server on a free port, and a client to ask it."""

import pytest

from ledgermq.namesrv.app import NamesrvApp
from ledgermq.namesrv.config import NamesrvConfig
from ledgermq.remoting.client import RemotingClient
from ledgermq.remoting.command import request


class Clock:
    def __init__(self):
        self.ms = 0

    def __call__(self):
        return self.ms


class Asker:
    """One client's connections to one name server."""

    def __init__(self, port):
        self.address = f"127.0.0.1:{port}"
        self.client = RemotingClient()

    async def ask(self, code, header=None, body=b"", **fields):
        command = request(code, header.to_ext() if header else {}, body)
        for name, value in fields.items():
            setattr(command, name, value)
        return await self.client.request(self.address, command, 5000)

    async def close(self):
        await self.client.close()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def config(tmp_path):
    return NamesrvConfig(
        listen_port=0,
        bind_address="127.0.0.1",
        kv_config_path=str(tmp_path / "kvConfig.json"),
        config_store_path=str(tmp_path / "namesrv.properties"),
    )


@pytest.fixture
async def app(config, clock):
    app = NamesrvApp(config, clock)
    await app.start()
    yield app
    await app.stop()


@pytest.fixture
async def asker(app):
    asker = Asker(app.port)
    yield asker
    await asker.close()
