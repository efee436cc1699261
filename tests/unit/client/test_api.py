"""`import ledgermq`: the documented names, and nothing loaded before it is needed."""

import subprocess
import sys

import pytest

import ledgermq


@pytest.mark.parametrize("name", ledgermq.__all__)
def test_every_name_is_there(name):
    assert getattr(ledgermq, name) is not None


def test_what_the_readme_uses():
    assert {"Producer", "Consumer", "PullConsumer", "sync", "SendResult"} <= set(dir(ledgermq))
    assert {"NoLeader", "TopicNotFound", "SendTimeout", "ClientError"} <= set(dir(ledgermq))


def test_every_error_of_the_client_is_public():
    kinds = [
        name
        for name, value in vars(ledgermq.errors).items()
        if isinstance(value, type) and value.__module__ == ledgermq.errors.__name__
    ]
    assert set(kinds) <= set(ledgermq.__all__)


def test_a_name_that_does_not_exist():
    with pytest.raises(AttributeError, match="no attribute 'Producr'"):
        _ = ledgermq.Producr


def test_importing_it_loads_no_client():
    code = "import sys, ledgermq; print([m for m in sys.modules if m.startswith('ledgermq.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_from_ledgermq_import_sync():
    code = "from ledgermq import sync, Producer; print(sync.Producer, Producer)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ledgermq.client.sync.Producer" in done.stdout
