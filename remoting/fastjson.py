"""Reader for the JSON that Java's fastjson 1.x writes.

Where it leaves standard JSON: integer keys without quotes, objects as keys, and a reference
`{"$ref": "$.a[0]"}` for an object that was written before. Writing is always standard JSON and
needs nothing of this.

An object key becomes its compact standard JSON text with sorted names, e.g.
'{"brokerName":"b","queueId":0,"topic":"t"}'; an integer key becomes its digits.
"""

import json
import re
from collections.abc import Iterator
from typing import cast

import msgspec

from .codes import ResponseCode
from .errors import PeerError

# Deeper nesting is no body of ours; the parser is recursive.
MAX_DEPTH = 64
# Most values of a document in the dialect: it is read slowly, and nobody else is served meanwhile.
MAX_VALUES = 100_000

_BLANK = re.compile(r"[ \t\r\n\0]*")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NUMBER = re.compile(r"-?\d{1,400}(\.\d{1,400})?([eE][+-]?\d{1,5})?", re.ASCII)
_INTEGER = re.compile(r"-?\d{1,20}", re.ASCII)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d{1,9})\]", re.ASCII)
_WORDS = {"true": True, "false": False, "null": None}


class FastJsonError(PeerError):
    """Text that is neither JSON nor fastjson's dialect of it."""

    def __init__(self, problem: str, at: int) -> None:
        super().__init__(ResponseCode.SYSTEM_ERROR, f"not JSON: {problem} at character {at}")


def loads(data: bytes | str) -> object:
    """Read a document: standard JSON fast, the dialect otherwise.

    A reference becomes the very object it names; one to an enclosing object ("@", "..", "$") makes
    the result endless for whoever walks it, see `size_within`.

    Raises:
        FastJsonError: unreadable, nested deeper than `MAX_DEPTH`, a reference to nothing, or of
            more than `MAX_VALUES` in the dialect.
    """
    text = _text(data)
    if '"$ref"' not in text:
        try:
            return cast(object, msgspec.json.decode(text))
        except (msgspec.DecodeError, RecursionError):
            pass  # The dialect, or broken: the reader below says which, and where.
    return _Reader(text).document()


def size_within(tree: object, limit: int) -> bool:
    """True when walking `tree`, references followed every time, meets at most `limit` values.

    A few lines with references can stand for billions of values, or for endlessly many.
    """
    left = limit
    stack = [tree]
    while stack:
        value = stack.pop()
        left -= 1
        if left < 0:
            return False
        stack.extend(item for _, item in _items(value))
    return True


def _text(data: bytes | str) -> str:
    try:
        # A str may hold half of a surrogate pair, which nothing after us could encode.
        return data.encode().decode() if isinstance(data, str) else data.decode()
    except UnicodeError as e:
        raise FastJsonError(f"text that is not UTF-8 ({e})", 0) from e


class _Reader:
    """One document; `_at` is the next character to look at."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._left = MAX_VALUES
        self._in_key = False

    def document(self) -> object:
        root = self._value()
        if self._peek():
            raise self._error("more after the document's end")
        if '"$ref"' in self._text:
            _resolve_references(root)
        return root

    def _error(self, problem: str) -> FastJsonError:
        return FastJsonError(problem, self._at)

    def _peek(self) -> str:
        """The next character that is no blank, not yet taken; "" at the end."""
        self._at = cast(re.Match[str], _BLANK.match(self._text, self._at)).end()
        return self._text[self._at : self._at + 1]

    def _take(self, wanted: str) -> bool:
        if self._peek() != wanted:
            return False
        self._at += 1
        return True

    def _value(self) -> object:
        self._left -= 1
        if self._left < 0:
            raise self._error(f"more than {MAX_VALUES} values")
        match self._peek():
            case "{":
                return self._object()
            case "[":
                return self._array()
            case '"':
                return self._string()
            case _:
                return self._word_or_number()

    def _enter(self) -> None:
        self._at += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"nested deeper than {MAX_DEPTH}")

    def _object(self) -> dict[str, object]:
        self._enter()
        items: dict[str, object] = {}
        while not self._take("}"):
            if items and not self._take(","):
                raise self._error("',' or '}' expected")
            key = self._key()
            if not self._take(":"):
                raise self._error("':' expected")
            items[key] = self._value()
        self._depth -= 1
        return items

    def _key(self) -> str:
        first = self._peek()
        if first == '"':
            return self._string()
        if first == "{":
            return self._object_key()
        digits = _INTEGER.match(self._text, self._at)
        if digits is None:
            raise self._error("a key expected")
        self._at = digits.end()
        return digits.group()

    def _object_key(self) -> str:
        if self._in_key:
            # As text in text in text its escapes would double with each level.
            raise self._error("an object as key within a key")
        self._in_key = True
        key = self._object()
        self._in_key = False
        return json.dumps(key, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def _array(self) -> list[object]:
        self._enter()
        items: list[object] = []
        while not self._take("]"):
            if items and not self._take(","):
                raise self._error("',' or ']' expected")
            items.append(self._value())
        self._depth -= 1
        return items

    def _string(self) -> str:
        found = _STRING.match(self._text, self._at)
        if found is None:
            raise self._error("a text without end")
        literal = found.group()
        if "\\" in literal:
            try:
                text: str = json.loads(literal, strict=False)
                text.encode()
            except (json.JSONDecodeError, UnicodeEncodeError) as e:
                raise self._error("a text with a bad escape") from e
        else:
            text = literal[1:-1]
        self._at = found.end()
        return text

    def _word_or_number(self) -> object:
        for word, value in _WORDS.items():
            if self._text.startswith(word, self._at):
                self._at += len(word)
                return value
        found = _NUMBER.match(self._text, self._at)
        if found is None:
            raise self._error("a value expected")
        self._at = found.end()
        if found[1] or found[2]:
            return float(found[0])
        return int(found[0])


# --- references -------------------------------------------------------------------------------

# The containers around a value, innermost first; None outside the root.
_Chain = tuple[object, "_Chain"] | None


def _items(container: object) -> list[tuple[str | int, object]]:
    if isinstance(container, dict):
        return list(container.items())
    if isinstance(container, list):
        return list(enumerate(container))
    return []


def _reference(value: object) -> str | None:
    if isinstance(value, dict) and len(value) == 1:
        path = value.get("$ref")
        return path if isinstance(path, str) else None
    return None


def _resolve_references(root: object) -> None:
    """Put the object it names in the place of every reference."""
    found: list[tuple[object, str | int, object]] = []
    stack: list[tuple[object, _Chain]] = [(root, None)]
    while stack:
        container, around = stack.pop()
        chain = (container, around)
        for key, value in _items(container):
            path = _reference(value)
            if path is None:
                stack.append((value, chain))
            else:
                found.append((container, key, _target(path, root, chain)))
    # Only now: a path never leads through another reference.
    for container, key, value in found:
        container[key] = value  # type: ignore[index]


def _target(path: str, root: object, chain: tuple[object, _Chain]) -> object:
    if path == "@":
        return chain[0]
    if path == ".." and chain[1] is not None:
        return chain[1][0]
    value = root
    for step in _steps(path):
        try:
            value = value[step]  # type: ignore[index]
        except (KeyError, IndexError, TypeError) as e:
            raise FastJsonError(f"reference {path!r} names nothing", 0) from e
    if _reference(value) is not None:
        raise FastJsonError(f"reference {path!r} names another reference", 0)
    return value


def _steps(path: str) -> Iterator[str | int]:
    """'$.a.b[0]' -> 'a', 'b', 0."""
    at = 1
    while path[:1] == "$" and at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            break
        yield int(step[2]) if step[1] is None else step[1]
        at = step.end()
    if path[:1] != "$" or at < len(path):
        raise FastJsonError(f"reference {path!r} is no path", 0)
