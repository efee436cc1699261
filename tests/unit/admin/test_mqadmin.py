"""The command line itself: help, version, wrong input, unreachable servers."""

import subprocess
import sys

import pytest

from ledgermq.admin import mqadmin as module
from tests.support import free_ports

from .conftest import mqadmin

SUBCOMMANDS = sorted(module._COMMANDS)


async def test_version():
    result = await mqadmin("--version")

    assert (result.code, result.out) == (0, "ledgermq 0.1.0\n")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"]])
async def test_help_lists_every_subcommand_with_examples(arguments):
    result = await mqadmin(*arguments)

    assert result.code == 0
    for name in SUBCOMMANDS:
        assert f"\n  {name} " in result.out
    assert "mqadmin clusterList -n 127.0.0.1:9876" in result.out


@pytest.mark.parametrize("name", SUBCOMMANDS)
async def test_every_subcommand_teaches_by_examples(name):
    by_flag, by_word = await mqadmin(name, "-h"), await mqadmin("help", name)

    assert by_flag.code == by_word.code == 0
    assert by_flag.out == by_word.out
    examples = by_flag.out.partition("Examples:\n")[2]
    assert f"mqadmin {name} -n 127.0.0.1:9876" in examples
    assert "-n, --namesrvAddr" in by_flag.out
    assert "--json" in by_flag.out


@pytest.mark.parametrize("arguments", [["clusterLst"], ["help", "clusterLst"]])
async def test_an_unknown_subcommand_gets_a_hint_and_the_list(arguments):
    result = await mqadmin(*arguments)

    assert result.code == 2
    assert "there is no subcommand clusterLst. Did you mean clusterList?" in result.err
    assert f"Known ones: {', '.join(SUBCOMMANDS)}" in result.err


async def test_a_subcommand_unlike_any_gets_the_list_only():
    result = await mqadmin("zzz")

    assert result.code == 2
    assert "there is no subcommand zzz.\nKnown ones: " in result.err


async def test_without_a_name_server_the_next_step_is_told():
    result = await mqadmin("clusterList")

    assert result.code == 1
    assert "no name server given" in result.err
    assert "NAMESRV_ADDR" in result.err


@pytest.mark.parametrize("address", ["localhost", ":9876", "h:port", "h:9876;h2"])
async def test_a_name_server_without_a_port_is_refused(address):
    result = await mqadmin("clusterList", "-n", address)

    assert result.code == 1
    assert "is no address of a name server" in result.err
    assert "-n 'h1:9876;h2:9876'" in result.err


async def test_an_unreachable_name_server_is_named_with_the_next_step():
    [port] = free_ports(1)

    result = await mqadmin("clusterList", "-n", f"127.0.0.1:{port}")

    assert result.code == 1
    assert result.out == ""
    assert f"no name server can be reached: connect to 127.0.0.1:{port} failed" in result.err
    assert "Start one with mqnamesrv" in result.err


async def test_the_name_server_may_come_from_the_environment(name_server):
    result = await mqadmin("topicList", "--json", env={"NAMESRV_ADDR": name_server})

    assert (result.code, result.json) == (0, [])


@pytest.mark.parametrize("quote", ["", "'", '"'])
async def test_a_list_survives_a_dead_name_server_and_quotes(name_server, broker, quote):
    [dead] = free_ports(1)

    result = await mqadmin("topicList", "-n", f"{quote}127.0.0.1:{dead}; {name_server};{quote}")

    assert (result.code, result.lines) == (0, ["T"]), result.err


async def test_a_refusal_of_the_name_server_is_shown(name_server, broker):
    broker.answers = {}

    result = await mqadmin("topicStatus", "-t", "T", "-n", name_server)

    assert result.code == 1
    assert f"the broker {broker.address} refused: CODE: 3  DESC: not told" in result.err


def test_neither_rich_nor_other_commands_are_loaded_for_the_start():
    code = (
        "import sys; from ledgermq.admin import mqadmin;"
        "mqadmin.cli.get_command(None, 'clusterList');"
        "print([m for m in ('rich', 'ledgermq.admin.commands.topic') if m in sys.modules])"
    )

    shown = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )

    assert shown.stdout == "[]\n"
