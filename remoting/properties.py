"""Reader for configuration files in the manner of Java properties: `key = value` lines.

Full-line comments begin with `#` or `!`; blanks around keys and values are dropped; everything else
stays text as it stands, `;` lists too. One comment may follow a value: the one that `with_source`
writes, so that what `mqbroker -p` prints is a configuration file.
"""

import re
from typing import NamedTuple

from .errors import CallerError

DEFAULT = "default"
COMMAND_LINE = "command line"
NO_EFFECT = "no effect"
_SOURCE = re.compile(
    f" {{2}}# (?:{DEFAULT}|{COMMAND_LINE}|{NO_EFFECT}|environment [A-Z_]+|[^ ].*:[0-9]+)"
)


class Property(NamedTuple):
    """One setting and the line it stands on (from 1)."""

    key: str
    value: str
    line: int


def parse(text: str | bytes, source: str) -> list[Property]:
    """Read a configuration file's text; `source` names it in errors.

    A key that stands twice is returned twice: the last one counts, the caller may warn.

    Raises:
        CallerError: not UTF-8, a line without `=`, or one without a key.
    """
    found, problems = parse_all(text, source)
    if problems:
        raise CallerError(problems[0])
    return found


def parse_all(text: str | bytes, source: str) -> tuple[list[Property], list[str]]:
    """The same, reading on behind a wrong line: the settings, and what is wrong.

    Raises:
        CallerError: not UTF-8.
    """
    if isinstance(text, bytes):
        text = _decode(text, source)
    found: list[Property] = []
    problems: list[str] = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        content = _without_source(line.strip())
        if not content or content[0] in "#!":
            continue
        key, equals, value = content.partition("=")
        key = key.rstrip()
        if not equals:
            problems.append(
                f"{source}:{number}: {content!r} has no '='; write key = value, or # for a comment"
                + ("; \uff1d is no '='" if "\uff1d" in content else "")
            )
        elif not key:
            problems.append(f"{source}:{number}: no key before '='; write key = value")
        else:
            found.append(Property(key, value.lstrip(), number))
    return found, problems


def with_source(key: str, value: str, source: str) -> str:
    """One line `key=value` that says where the value is from.

    Args:
        key: as in a file.
        value: as in a file.
        source: one of the words above, `environment NAME`, or `FILE:LINE`.
    """
    # Two blanks begin the comment, so the source has none.
    return f"{key}={value}  # {' '.join(source.split())}"


def _without_source(line: str) -> str:
    setting, two_blanks, comment = line.rpartition("  # ")
    return setting if setting and _SOURCE.fullmatch(two_blanks + comment) else line


def comment_above(text: bytes, line: int) -> str:
    """The comment lines right above a line (from 1), joined; "" for none."""
    lines = text.decode(errors="replace").split("\n")[: line - 1]
    found: list[str] = []
    while lines and lines[-1].lstrip()[:1] in {"#", "!"}:
        found.insert(0, lines.pop().strip())
    return " ".join(found)


def _decode(data: bytes, source: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise CallerError(
            f"{source}:{line}: byte 0x{data[e.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from e
