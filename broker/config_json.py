"""The JSON of config/*.json: written in upstream's form, read from any version's.

Upstream's writer (fastjson) indents by tabs, sorts the fields of an object by name, and leaves
integer keys without quotes. Ours have quotes, so that every tool can read them; upstream can too.
"""

import json
import re
from typing import cast

import msgspec

from ledgermq.remoting import fastjson

# A text, or an integer key without quotes: the one thing that standard JSON does not know.
_BARE_KEY = re.compile(r'"(?:[^"\\]|\\.)*"|(?P<before>[{,]\s*)(?P<key>-?\d+)(?=\s*:)', re.DOTALL)


class BrokenJsonError(ValueError):
    """Text that cannot be what was written; says where, in lines and bytes."""


def pretty(value: object) -> bytes:
    """A document of structs, maps and single values; keys are texts, or all integers."""
    return _pretty(value, "").encode()


def _pretty(value: object, tabs: str) -> str:
    if isinstance(value, msgspec.Struct):
        value = _fields(value)
    if not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if not value:
        return "{}"
    # Upstream keeps the queues of a topic in one line.
    inner = tabs + "\t"
    lead = "" if isinstance(next(iter(value)), int) else f"\n{inner}"
    items = ",".join(
        f"{lead}{json.dumps(str(key), ensure_ascii=False)}:{_pretty(item, inner)}"
        for key, item in value.items()
    )
    return f"{{{items}\n{tabs}}}"


def _fields(value: msgspec.Struct) -> dict[str, object]:
    """Sorted by their names, as upstream writes them."""
    names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
    return {wire: getattr(value, name) for wire, name in sorted(names)}


def read(data: bytes) -> dict[str, object]:
    """The object that is a whole file.

    Raises:
        BrokenJsonError: it is none.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as e:
        raise _broken(data, e.start, "no UTF-8") from e
    quoted = _BARE_KEY.sub(_quote, text)
    try:
        tree = json.loads(quoted, object_pairs_hook=_once)
        if '"$ref"' in text:
            # Upstream's way to write the same map a second time.
            tree = fastjson.loads(quoted)
    except json.JSONDecodeError as e:
        at = _place_before_quoting(text, e.pos)
        raise _broken(data, len(text[:at].encode()), e.msg) from e
    except fastjson.FastJsonError as e:
        raise BrokenJsonError(e.remark) from e
    except RecursionError as e:
        raise BrokenJsonError("nested too deep") from e
    if not isinstance(tree, dict):
        raise _broken(data, 0, "no JSON object")
    return cast(dict[str, object], tree)


def _quote(match: re.Match[str]) -> str:
    return match[0] if match["key"] is None else f'{match["before"]}"{match["key"]}"'


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BrokenJsonError(f"{twice!r} stands twice in one object")
    return found


def _place_before_quoting(text: str, at: int) -> int:
    """Where in `text` the place `at` of the quoted text is."""
    added = 0
    for match in _BARE_KEY.finditer(text):
        if match["key"] is not None:
            if match.start("key") + added >= at:
                break
            added += 2
    return min(at - added, len(text))


def broken_row(data: bytes, key: str, problem: str) -> BrokenJsonError:
    """The error for a row that cannot be used, with the line where its key stands."""
    at = data.find(json.dumps(key, ensure_ascii=False).encode())
    problem = f"{key!r}: {problem}"
    return _broken(data, at, problem) if at >= 0 else BrokenJsonError(problem)


def _broken(data: bytes, at: int, problem: str) -> BrokenJsonError:
    line = data.count(b"\n", 0, at) + 1
    return BrokenJsonError(f"line {line}, byte {at}: {problem}")
