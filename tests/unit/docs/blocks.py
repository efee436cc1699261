"""The blocks of a README that a reader types, runs or saves."""

import re
from pathlib import Path
from typing import NamedTuple

_BLOCK = re.compile(r"^```(sh|python|properties)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# (\w+\.py)\n")


class Block(NamedTuple):
    """One block: its language, its text, and the line of the page where it begins."""

    language: str
    text: str
    line: int

    @property
    def file_name(self) -> str:
        """The name that a Python block gives itself in its first line."""
        found = _FILE_NAME.match(self.text)
        assert found, f"line {self.line}: a Python block begins with '# name.py'"
        return found[1]


def blocks_of(page: Path) -> list[Block]:
    """The shell, Python and configuration blocks in their order; pictures are left out."""
    text = page.read_text("utf-8")
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 2) for m in _BLOCK.finditer(text)]
