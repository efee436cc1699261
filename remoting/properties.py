"""Reader for configuration files in the manner of Java properties: `key = value` lines.

Full-line comments begin with `#` or `!`; blanks around keys and values are dropped; everything else
stays text as it stands, `;` lists too.
"""

from typing import NamedTuple

from .errors import CallerError


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
    if isinstance(text, bytes):
        text = _decode(text, source)
    found: list[Property] = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        content = line.strip()
        if not content or content[0] in "#!":
            continue
        key, equals, value = content.partition("=")
        if not equals:
            raise CallerError(
                f"{source}:{number}: {content!r} has no '='; write key = value, or # for a comment"
            )
        key = key.rstrip()
        if not key:
            raise CallerError(f"{source}:{number}: no key before '='; write key = value")
        found.append(Property(key, value.lstrip(), number))
    return found


def _decode(data: bytes, source: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise CallerError(
            f"{source}:{line}: byte 0x{data[e.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from e
