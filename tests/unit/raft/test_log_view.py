import pytest

from ledgermq.dledger.errors import InvariantError
from ledgermq.dledger.raft.log_view import LogView

RUNS = ((1, 3), (2, 1), (5, 4))  # 0..2 of term 1, 3 of term 2, 4..7 of term 5


@pytest.mark.parametrize(
    ("runs", "last"),
    [
        pytest.param((), (-1, -1), id="an empty log ends at -1 of term -1"),
        pytest.param(((1, 1),), (0, 1), id="the first index is 0"),
        pytest.param(RUNS, (7, 5), id="counts add up"),
        pytest.param(((1, 1), (1, 2)), (2, 1), id="equal terms join"),
    ],
)
def test_the_end(runs, last):
    log = LogView(runs)
    assert (log.last_index, log.last_term) == last


@pytest.mark.parametrize(
    ("term", "count"),
    [
        pytest.param(4, 1, id="a lower term than the last"),
        pytest.param(5, 0, id="no entry"),
        pytest.param(5, -1, id="a negative count"),
    ],
)
def test_append_refuses(term, count):
    with pytest.raises(InvariantError):
        LogView(RUNS).append(term, count)


@pytest.mark.parametrize(
    ("first", "runs"),
    [
        pytest.param(9, RUNS, id="past the end nothing is cut"),
        pytest.param(8, RUNS, id="just past the end nothing is cut"),
        pytest.param(7, ((1, 3), (2, 1), (5, 3)), id="inside a run"),
        pytest.param(4, ((1, 3), (2, 1)), id="at the first of a run the run goes"),
        pytest.param(3, ((1, 3),), id="two runs go"),
        pytest.param(0, (), id="everything goes"),
    ],
)
def test_truncate(first, runs):
    log = LogView(RUNS)
    log.truncate(first)
    assert log.last_index == sum(count for _, count in runs) - 1
    assert (log.runs(0, log.last_index) if runs else ()) == runs


def test_after_a_cut_a_lower_term_may_follow():
    log = LogView(RUNS)
    log.truncate(4)
    log.append(3, 2)
    assert log.runs(0, 5) == ((1, 3), (2, 1), (3, 2))


@pytest.mark.parametrize(
    ("index", "term"),
    [(-1, -1), (0, 1), (2, 1), (3, 2), (4, 5), (7, 5)],
)
def test_term_at(index, term):
    assert LogView(RUNS).term_at(index) == term


@pytest.mark.parametrize("index", [-2, 8])
def test_term_at_outside_the_log_is_a_mistake(index):
    with pytest.raises(InvariantError, match=r"not in 0\.\.7"):
        LogView(RUNS).term_at(index)


@pytest.mark.parametrize(("index", "first"), [(0, 0), (2, 0), (3, 3), (4, 4), (7, 4)])
def test_first_of_term_at(index, first):
    assert LogView(RUNS).first_of_term_at(index) == first


@pytest.mark.parametrize(
    ("term", "index"),
    [
        pytest.param(0, -1, id="all terms are higher"),
        pytest.param(1, 2, id="last of that term"),
        pytest.param(3, 3, id="of the next lower term when that one is missing"),
        pytest.param(5, 7, id="the last term"),
        pytest.param(9, 7, id="a term beyond"),
    ],
)
def test_last_at_or_below_term(term, index):
    assert LogView(RUNS).last_at_or_below_term(term) == index


def test_an_empty_log_has_nothing_below_any_term():
    assert LogView().last_at_or_below_term(3) == -1


@pytest.mark.parametrize(
    ("first", "runs", "divergence"),
    [
        pytest.param(0, (), 0, id="nothing diverges from nothing"),
        pytest.param(0, RUNS, 8, id="all here"),
        pytest.param(2, ((1, 1), (2, 1)), 4, id="a part, all here"),
        pytest.param(2, ((1, 2),), 3, id="another term at a border"),
        pytest.param(4, ((3, 2),), 4, id="another term at once"),
        pytest.param(6, ((5, 5),), 8, id="goes on past the end"),
        pytest.param(8, ((5, 1),), 8, id="starts at the end"),
        pytest.param(5, ((5, 2), (6, 1)), 7, id="a later term where the log has more"),
    ],
)
def test_first_divergence(first, runs, divergence):
    assert LogView(RUNS).first_divergence(first, runs) == divergence


@pytest.mark.parametrize(
    ("first", "last", "runs"),
    [
        (0, 7, RUNS),
        (2, 5, ((1, 1), (2, 1), (5, 2))),
        (4, 4, ((5, 1),)),
        (8, 7, ()),
    ],
)
def test_runs(first, last, runs):
    assert LogView(RUNS).runs(first, last) == runs


@pytest.mark.parametrize(("first", "last"), [(0, 8), (9, 9), (-1, 3)])
def test_runs_outside_the_log_are_a_mistake(first, last):
    with pytest.raises(InvariantError, match=r"not in 0\.\.7"):
        LogView(RUNS).runs(first, last)
