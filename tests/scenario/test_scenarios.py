"""Runs every `*.txt` here. `LEDGERMQ_REWRITE=1` records anew; review the diff as code."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from .script import Script

HERE = Path(__file__).parent
MARK = "----"


@dataclass
class Block:
    """Comments and commands as they stand, and what they should print."""

    line: int
    text: list[str]
    expected: list[str]

    @property
    def commands(self) -> list[str]:
        """Lines that do something."""
        return [t for t in self.text if not t.startswith("#")]


def parse(source: str) -> list[Block]:
    """Blocks of a scenario file."""
    blocks: list[Block] = []
    number = 1
    for part in source.split("\n\n"):
        lines = part.strip("\n").split("\n")
        at = lines.index(MARK) if MARK in lines else len(lines)
        if part.strip():
            blocks.append(Block(number, lines[:at], lines[at + 1 :]))
        number += part.count("\n") + 2
    return blocks


def play(path: Path, blocks: list[Block]) -> list[list[str]]:
    """What each block prints."""
    script = Script()
    outputs = []
    for block in blocks:
        try:
            outputs.append([line for c in block.commands for line in script.run(c)])
        except Exception as e:
            e.add_note(f"{path.name}, block at line {block.line}: {block.commands}")
            raise
    return outputs


def rendered(block: Block, output: list[str]) -> str:
    return "\n".join([*block.text, *([MARK, *output] if block.commands else [])])


SCENARIOS = sorted(HERE.glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda p: p.stem)
def test_scenario(path: Path) -> None:
    blocks = parse(path.read_text())
    outputs = play(path, blocks)
    if os.environ.get("LEDGERMQ_REWRITE") == "1":
        texts = (rendered(b, o) for b, o in zip(blocks, outputs, strict=True))
        path.write_text("\n\n".join(texts) + "\n")
        return
    for block, output in zip(blocks, outputs, strict=True):
        where = f"{path.name}, block at line {block.line}: {block.commands}"
        assert output == block.expected, where


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 50


def test_a_wrong_expectation_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEDGERMQ_REWRITE", raising=False)
    path = tmp_path / "x.txt"
    path.write_text("nodes 1\nelect n0\n----\nn0: LEADER term 2\n")
    with pytest.raises(AssertionError, match="block at line 1"):
        test_scenario(path)


def test_rewriting_keeps_comments_and_is_stable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGERMQ_REWRITE", "1")
    path = tmp_path / "x.txt"
    path.write_text("# Why.\n\n# One.\nnodes 1\nelect n0\n----\nwrong\n")
    test_scenario(path)
    first = path.read_text()
    assert first.startswith("# Why.\n\n# One.\nnodes 1\nelect n0\n----\n")
    assert "wrong" not in first
    monkeypatch.delenv("LEDGERMQ_REWRITE")
    test_scenario(path)


def test_an_unknown_command_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("# Why.\n\nnodes 1\nfly\n----\n")
    with pytest.raises(ValueError, match="no command 'fly'") as caught:
        test_scenario(path)
    assert "x.txt, block at line 3" in caught.value.__notes__[0]
