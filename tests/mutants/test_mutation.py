"""What is around mutmut: names, places, reasons, the verdict."""

import json
from collections import Counter
from pathlib import Path

import pytest

from . import mutation
from .catalogue import ROOT
from .mutation import Survivor

SURVIVOR = Survivor("dledger/raft/core.py", 7, "RaftCore.step", "a + 1", "a - 1")


@pytest.mark.parametrize("seed", ["1", "2026-11-21", ""])
def test_a_sample_is_the_same_for_one_seed(seed: str) -> None:
    patterns = mutation._patterns(seed)
    assert patterns == mutation._patterns(seed)
    assert len(set(patterns)) == 2
    assert all(p[:-1] == "*__mutmut_*" and p[-1].isdigit() for p in patterns)


def test_without_a_seed_all_are_run() -> None:
    assert mutation._patterns(None) == []


def results(folder: Path, codes: dict[str, int | None]) -> Path:
    path = folder / "mutants" / "ledgermq" / mutation.TARGET / "core.py.meta"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"exit_code_by_key": codes}))
    return folder


def test_verdicts(tmp_path: Path) -> None:
    codes = {"a": 1, "b": 0, "c": 36, "d": 33, "not in the sample": None, "e": -24}
    found = mutation._verdicts(results(tmp_path, codes))
    assert found == {
        "a": "killed", "b": "survived", "c": "timeout", "d": "survived", "e": "timeout",
    }  # fmt: skip


@pytest.mark.parametrize("codes", [{"a": 77}, {}], ids=["an end nobody knows", "no results"])
def test_what_is_no_verdict_is_an_error(codes: dict[str, int | None], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        mutation._verdicts(results(tmp_path, codes))


def test_the_place_in_the_source(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("a = 1\n\n\ndef f():\n    a = 1\n    return a\n\n\ndef g():\n    a = 1\n")
    assert mutation._line_of(path, "f", "a = 1") == 5
    assert mutation._line_of(path, "X.g", "a = 1") == 10
    assert mutation._line_of(path, "g", "gone") == 1


@pytest.mark.parametrize(
    ("killed", "survivors", "explained", "code"),
    [
        pytest.param(95, [SURVIVOR] * 5, True, 0, id="enough, and the rest is explained"),
        pytest.param(94, [SURVIVOR] * 6, True, 1, id="too few"),
        pytest.param(99, [SURVIVOR], False, 1, id="a survivor without a reason"),
        pytest.param(100, [], False, 0, id="all"),
    ],
)
def test_the_verdict(
    killed: int,
    survivors: list[Survivor],
    explained: bool,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reasons = {SURVIVOR.key: "no difference"} if explained else {}
    monkeypatch.setattr(mutation, "explanations", lambda: reasons)
    counts = Counter({"killed": killed, "survived": len(survivors)})
    assert mutation._report(counts, survivors, whole=True) == code
    said = capsys.readouterr().out
    assert f"mutation: {killed}.0 % killed" in said
    place = "survived: dledger/raft/core.py:7 in RaftCore.step\n  - a + 1\n  + a - 1"
    assert (place in said) is (code == 1 and not explained)


def test_the_share_of_a_sample_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutation, "explanations", lambda: {SURVIVOR.key: "no difference"})
    counts = Counter({"killed": 1, "survived": 1})
    assert mutation._report(counts, [SURVIVOR], whole=False) == 0
    assert mutation._report(counts, [SURVIVOR], whole=True) == 1


def test_every_reason_names_a_function_that_exists() -> None:
    for file, function, old, new in mutation.explanations():
        assert f"def {function.rpartition('.')[2]}(" in (ROOT / file).read_text(), function
        assert old != new
    assert all(mutation.explanations().values())
