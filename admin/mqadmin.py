"""`mqadmin`: the group of subcommands. Each is imported only when it is used."""

import difflib
import importlib
import io
import sys
from typing import Any

import click

from ledgermq import __version__

# Subcommand -> (module, attribute, one line for the list).
_COMMANDS: dict[str, tuple[str, str, str]] = {
    "clusterList": (".commands.cluster", "cluster_list", "List clusters, brokers and their load"),
    "consumeMessage": (".commands.message_read", "consume_message", "Print messages of a topic"),
    "sendMessage": (".commands.message_send", "send_message", "Send one message"),
    "topicList": (".commands.topic", "topic_list", "List topics"),
    "topicRoute": (".commands.topic", "topic_route", "Show where the queues of a topic are"),
    "topicStatus": (".commands.topic", "topic_status", "Show the offsets of a topic's queues"),
    "updateTopic": (".commands.topic", "update_topic", "Create a topic or change it"),
}
_HELP = """Look at and change a RocketMQ cluster.

The most commonly used command is clusterList: the broker with BID 0 is the leader of its group.
"""
_EPILOG = """\b
Examples:
  mqadmin clusterList -n 127.0.0.1:9876
  mqadmin updateTopic -n 127.0.0.1:9876 -c RaftCluster -t TopicTest
  mqadmin sendMessage -n 127.0.0.1:9876 -t TopicTest -p "hello"
  mqadmin consumeMessage -n 127.0.0.1:9876 -t TopicTest
Help of one command: mqadmin help clusterList, or mqadmin clusterList -h"""


class _Group(click.Group):
    """Imports a subcommand's module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "help":
            return _help_command(ctx)
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(
            importlib.import_module(module, package=__package__), attribute
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in sorted(_COMMANDS.items())])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand; an unknown one lists the known ones."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            close = difflib.get_close_matches(name, _COMMANDS, n=1, cutoff=0.5)
            meant = f" Did you mean {close[0]}?" if close else ""
            ctx.fail(
                f"there is no subcommand {name}.{meant}\nKnown ones: {', '.join(sorted(_COMMANDS))}"
            )
        return super().resolve_command(ctx, args)


def _help_command(ctx: click.Context) -> click.Command:
    """`mqadmin help SUBCOMMAND`, as upstream has it."""

    @click.command("help", add_help_option=False)
    @click.argument("name", default="")
    def show(name: str) -> None:
        if not name:
            click.echo(ctx.get_help())
            return
        group = ctx.command
        assert isinstance(group, click.Group)
        _, command, _ = group.resolve_command(ctx, [name])
        assert command is not None
        with click.Context(command, info_name=name, parent=ctx) as inner:
            click.echo(command.get_help(inner))

    return show


@click.group(
    cls=_Group,
    help=_HELP,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="ledgermq %(version)s")
def cli() -> None:
    """The group itself does nothing."""


def main(arguments: list[str] | None = None, **options: Any) -> None:
    """Run mqadmin; exit codes: 0 done, 1 failed, 2 wrong command line."""
    for stream in (sys.stdout, sys.stderr):
        # A message may hold what the terminal's character set (GBK, ASCII) does not.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    cli.main(sys.argv[1:] if arguments is None else arguments, prog_name="mqadmin", **options)


if __name__ == "__main__":
    main()
