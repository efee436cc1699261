"""Measures ledgermq beside Java RocketMQ, NATS JetStream and a bare asyncio echo.

    python -m bench list
    python -m bench run --rows lean-128 --rows 'consume-*' --out build/bench
    python -m bench table build/bench/result.json
    python -m bench smoke

Exit status of run and smoke: 0 all bars hold; 1 one was missed; 3 none was missed, but a row could
not be measured. Ctrl-C ends a run; what it measured so far is in the result file.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from . import bars, plots, report, rows, runner
from .commands import Commands
from .programs import last_cpu
from .progress import Progress
from .progress import shown as time_shown
from .shapes import Group
from .sides import SIDES

QUICK_PAIRS, QUICK_SECONDS = 2, 2.0


@click.group(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The command line."""


@main.command("run")
@click.option(
    "--rows", "patterns", multiple=True, metavar="NAME",
    help="A row or a group, or a shell pattern of them; may be repeated. All of them by default.",
)  # fmt: skip
@click.option("--pairs", type=click.IntRange(1), help="Rounds of each group.  [default: 5]")
@click.option("--seconds", type=float, help="Measured seconds of each load.  [default: 5]")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the results.  [default: build/bench/DATE]",
)  # fmt: skip
@click.option("--quick", is_flag=True, help="2 pairs of 2 s, short warm-ups: does it all run?")
def run_command(
    patterns: tuple[str, ...],
    pairs: int | None,
    seconds: float | None,
    out: Path | None,
    quick: bool,
) -> None:
    """Measure; write result.json, table.md and a chart per group."""
    groups = _chosen(patterns)
    options = runner.Options(
        pairs or (QUICK_PAIRS if quick else 5), seconds or (QUICK_SECONDS if quick else 5.0), quick
    )
    out = out or Path("build") / "bench" / datetime.now(UTC).strftime("%Y-%m-%d-%H%M")
    out.mkdir(parents=True, exist_ok=True)
    run = runner.Run(groups, options, _commands(groups, quick=quick), out / runner.RESULT_FILE)
    expected_s = sum(map(run.expected_s, run.starts()))
    progress = Progress(expected_s)
    progress.say(f"{sum(len(g.rows) for g in groups)} rows; results in {out}")
    try:
        found = run.go(progress)
    except KeyboardInterrupt:
        run.save()
        click.echo("\nended early; what was measured is kept", err=True)
        found = run.lines()
    write_pages(run.file)
    click.echo((out / "table.md").read_text("utf-8"))
    sys.exit(bars.exit_code(found))


@main.command("list")
@click.option("--rows", "patterns", multiple=True, metavar="NAME", help="As for `run`.")
def list_command(patterns: tuple[str, ...]) -> None:
    """Show the rows, their bars, and how long they would take."""
    groups = _chosen(patterns)
    options = runner.Options(5, 5.0)
    nowhere = Commands(Path("load"))
    for group in groups:
        run = runner.Run([group], options, nowhere, Path(runner.RESULT_FILE))
        took = time_shown(sum(map(run.expected_s, run.starts())))
        click.echo(f"{group.name}: {', '.join(SIDES[s].title for s in group.sides)}; {took}")
        for row in group.rows:
            bar = report.bar({"bar": row.bar, "aim": row.aim, "at_most": row.at_most})
            other = f"{row.ours} : {row.theirs}" if row.theirs else row.ours
            click.echo(f"  {row.name:32} {row.metric:16} {other:28} {bar}".rstrip())


@main.command("table")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--charts", is_flag=True, help="Write the charts anew, beside the file.")
def table_command(
    file: Path,
    charts: bool,
) -> None:
    """Print a result file as a Markdown table."""
    if charts:
        write_pages(file)
    click.echo(report.markdown(json.loads(file.read_text("utf-8"))))


@main.command("smoke")
@click.option("--record", is_flag=True, help="Store what is measured as what is to be reached.")
@click.option("--pairs", default=5, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=1.5, show_default=True, help="of each load")
def smoke_command(
    record: bool,
    pairs: int,
    seconds: float,
) -> None:
    """For CI, a minute or two: ours against the bare echo, compared with bench/smoke.json."""
    from . import smoke  # noqa: PLC0415 - it needs the tests' cluster

    sys.exit(smoke.run(_commands([], quick=True), pairs=pairs, seconds=seconds, record=record))


@main.command("scale")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/scale"),
    show_default=True,
    help="Folder of scale.json.",
)
@click.option("--quick", is_flag=True, help="Small numbers: does it all run?")
def scale_command(
    out: Path,
    quick: bool,
) -> None:
    """What grows with groups, topics and clients, for docs/scale.md; about three minutes."""
    from .scale import run  # noqa: PLC0415 - it needs the tests' cluster

    points = run.all_points(run.QUICK if quick else run.FULL, click.echo)
    out.mkdir(parents=True, exist_ok=True)
    (out / "scale.json").write_text(run.as_json(points), "utf-8")
    click.echo(run.table(points))


def write_pages(file: Path) -> None:
    """The table and the charts of a result file, beside it."""
    result = json.loads(file.read_text("utf-8"))
    (file.parent / "table.md").write_text(report.markdown(result), "utf-8")
    for name, svg in plots.charts(result).items():
        (file.parent / f"{name}.svg").write_text(svg, "utf-8")


def _chosen(patterns: tuple[str, ...]) -> list[Group]:
    try:
        return rows.chosen(patterns)
    except LookupError as e:
        raise click.UsageError(str(e)) from None


def _commands(groups: list[Group], *, quick: bool) -> Commands:
    """Build what the groups need; the generator always."""
    # `list` and `table` build nothing, and work without the tests' requirements.
    from tests.interop.jvm import JavaMissingError  # noqa: PLC0415

    from . import java_load, tools  # noqa: PLC0415

    sides = {side for group in groups for side in group.sides}
    java = any(load.client == "java" for group in groups for load in group.loads)
    try:
        if java or sides & {rows.JAVA, rows.JAVA_ALONE}:
            java_load.class_path()
        if sides & {rows.NATS, rows.NATS_SYNC}:
            tools.build_nats(tools.cache())
        return Commands(tools.build_load(tools.cache()), last_cpu(), quick)
    except (JavaMissingError, tools.GoMissingError, java_load.LoadError) as e:
        raise click.ClickException(str(e)) from None


if __name__ == "__main__":
    main()
