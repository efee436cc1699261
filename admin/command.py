"""What all subcommands share: the options -n, --json and -h, the session, and how they fail."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, NoReturn

import click

from ledgermq.remoting.errors import LedgerMQError, PeerError

from .errors import AdminError
from .session import Session, parse_name_servers


class Command(click.Command):
    """A click command with examples at the end of its help."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, line by line as they stand."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"  {line.strip()}\n")


@dataclass(frozen=True, slots=True)
class Call:
    """What every subcommand gets besides its own options."""

    name_servers: list[str]
    as_json: bool

    def session(self) -> Session:
        """A session with the name servers of the command line."""
        return Session(self.name_servers)


Body = Callable[..., Awaitable[None]]


def subcommand(name: str, *, help_text: str, examples: str) -> Callable[[Body], click.Command]:
    """Make a click command of an async function `(call: Call, **options)`."""

    def decorate(function: Body) -> click.Command:
        @wraps(function)
        def run(namesrv_addr: str, as_json: bool, **options: Any) -> None:
            try:
                call = Call(parse_name_servers(namesrv_addr), as_json)
                asyncio.run(_run(function, call, options))
            except LedgerMQError as e:
                fail(e)

        shared = [
            click.option(
                "-n",
                "--namesrvAddr",
                "namesrv_addr",
                envvar="NAMESRV_ADDR",
                default="",
                show_envvar=True,
                metavar="HOST:PORT",
                help="Name servers, joined by ';'.",
            ),
            click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        ]
        for option in shared:
            run = option(run)
        return click.command(
            name,
            cls=Command,
            help=help_text,
            examples=examples,
            context_settings={"help_option_names": ["-h", "--help"]},
        )(run)

    return decorate


def fail(error: LedgerMQError) -> NoReturn:
    """End the command with the error's text on stderr and exit code 1."""
    if isinstance(error, PeerError):
        error = AdminError(str(error), "The server refused; its log says more.")
    raise click.ClickException(str(error)) from error


async def _run(function: Body, call: Call, options: dict[str, Any]) -> None:
    await function(call, **options)
