"""One table, three forms: rich on a terminal, upstream's columns in a pipe, or JSON.

Upstream's columns are printf formats that scripts cut with awk: they stay byte for byte.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Table:
    """Rows to show.

    Attributes:
        plain: printf format of upstream for one line, header line included.
        columns: upstream's titles, "#" included.
        rows: texts in the order of `columns`.
        records: the same with names and types, for JSON.
        right: titles of columns to align right on a terminal.
        optional: titles of columns that a narrow terminal goes without, least needed first.
    """

    plain: str
    columns: Sequence[str]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    records: list[Mapping[str, Any]] = field(default_factory=list)
    right: frozenset[str] = frozenset()
    optional: Sequence[str] = ()

    def add(self, row: tuple[str, ...], record: Mapping[str, Any]) -> None:
        """Add a row in both forms."""
        self.rows.append(row)
        self.records.append(record)


def show(table: Table, *, as_json: bool) -> None:
    """Write the table to stdout."""
    if as_json:
        show_json(table.records)
    elif on_terminal():
        _show_rich(table)
    else:
        lines = [table.plain % tuple(table.columns), *(table.plain % row for row in table.rows)]
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def show_json(value: object) -> None:
    """Write a value as one JSON document."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def say(text: str) -> None:
    """Write a line to stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def warn(text: str) -> None:
    """Write a line to stderr: for what is not the command's result."""
    sys.stderr.write(f"mqadmin: {text}\n")


def on_terminal() -> bool:
    """True when a person looks at stdout."""
    return sys.stdout.isatty()


def fitting_columns(table: Table, width: int) -> list[int]:
    """Numbers of the columns that a terminal of `width` characters has room for."""
    shown = list(range(len(table.columns)))
    widths = [
        max(len(text.strip()) for text in (title, *(row[i] for row in table.rows)))
        for i, title in enumerate(table.columns)
    ]
    for title in table.optional:
        # A border and two blanks a column, and the last border.
        if sum(widths[i] + 3 for i in shown) + 1 <= width:
            break
        shown.remove(list(table.columns).index(title))
    return shown


def _show_rich(table: Table) -> None:
    # Imported here: rich costs more time than the whole rest of the start.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table as RichTable  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    columns = fitting_columns(table, console.width)
    shown = RichTable(header_style="bold")
    for title in (table.columns[i] for i in columns):
        justify: Any = "right" if title in table.right else "left"
        shown.add_column(title.removeprefix("#"), justify=justify, overflow="fold")
    for row in table.rows:
        # Text, not markup: a topic or a body may hold brackets.
        shown.add_row(*(Text(row[i].strip()) for i in columns))
    console.print(shown)
