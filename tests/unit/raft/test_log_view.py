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


# --- a log that does not begin at 0 ---------------------------------------------------------------

BASE = (9, 2)  # 0..9 are gone
HELD = ((2, 2), (5, 1), (6, 3))  # 10..11 of term 2, 12 of term 5, 13..15 of term 6


def based() -> LogView:
    return LogView(HELD, *BASE)


def test_the_end_of_a_log_with_a_base():
    assert (based().last_index, based().last_term) == (15, 6)
    assert (LogView((), *BASE).last_index, LogView((), *BASE).last_term) == BASE


@pytest.mark.parametrize(("index", "term"), [(9, 2), (10, 2), (12, 5), (15, 6)])
def test_the_term_of_the_base_is_known(index, term):
    assert based().term_at(index) == term


@pytest.mark.parametrize("index", [8, -1, 16])
def test_no_other_before_it(index):
    with pytest.raises(InvariantError, match=r"not in 10\.\.15"):
        based().term_at(index)


@pytest.mark.parametrize(
    ("index", "term", "held"),
    [
        pytest.param(9, 2, True, id="the base"),
        pytest.param(9, 1, False, id="not with another term"),
        pytest.param(8, 2, False, id="nothing before it"),
        pytest.param(15, 6, True, id="the end"),
        pytest.param(15, 5, False, id="not with another term either"),
        pytest.param(16, 6, False, id="nothing behind it"),
    ],
)
def test_holds(index, term, held):
    assert based().holds(index, term) is held


def test_entries_of_the_base_term_may_follow():
    log = LogView((), *BASE)
    log.append(2, 1)
    assert log.runs(10, 10) == ((2, 1),)
    with pytest.raises(InvariantError, match="append of 1 at term 1 behind term 2"):
        log.append(1, 1)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        pytest.param(16, (15, 6), id="nothing is there"),
        pytest.param(13, (12, 5), id="a whole run"),
        pytest.param(10, (9, 2), id="down to the base"),
    ],
)
def test_truncate_leaves_the_base(first, last):
    log = based()
    log.truncate(first)
    assert (log.last_index, log.last_term) == last


def test_a_cut_before_the_base_is_a_mistake():
    with pytest.raises(InvariantError, match="cut from 9 of a log that begins behind 9"):
        based().truncate(9)


@pytest.mark.parametrize(
    ("index", "base", "runs"),
    [
        pytest.param(4, (9, 2), HELD, id="backwards"),
        pytest.param(9, (9, 2), HELD, id="where it is"),
        pytest.param(10, (10, 2), ((2, 1), (5, 1), (6, 3)), id="into a run"),
        pytest.param(11, (11, 2), ((5, 1), (6, 3)), id="to the end of a run"),
        pytest.param(12, (12, 5), ((6, 3),), id="over a whole run"),
        pytest.param(14, (14, 6), ((6, 1),), id="into the last run"),
        pytest.param(15, (15, 6), (), id="to the end"),
    ],
)
def test_move_base(index, base, runs):
    log = based()
    log.move_base(index)
    assert (log.base_index, log.base_term, log.last_index, log.last_term) == (*base, 15, 6)
    assert log.runs(log.base_index + 1, 15) == runs
    assert [log.term_at(i) for i in range(base[0], 16)] == [
        based().term_at(i) for i in range(base[0], 16)
    ]


def test_a_base_past_the_end_is_a_mistake():
    with pytest.raises(InvariantError, match=r"not in 10\.\.15"):
        based().move_base(16)


@pytest.mark.parametrize(("index", "first"), [(9, 9), (10, 10), (11, 10), (12, 12), (15, 13)])
def test_first_of_term_with_a_base(index, first):
    assert based().first_of_term_at(index) == first


@pytest.mark.parametrize(("term", "index"), [(1, 9), (2, 11), (5, 12), (9, 15)])
def test_last_at_or_below_term_with_a_base(term, index):
    assert based().last_at_or_below_term(term) == index


def test_without_entries_it_is_the_base():
    assert LogView((), *BASE).last_at_or_below_term(1) == 9


@pytest.mark.parametrize(
    ("first", "runs", "divergence"),
    [
        pytest.param(3, ((1, 4),), 7, id="all before the base"),
        pytest.param(3, ((1, 7),), 9, id="another term at the base"),
        pytest.param(3, ((2, 7),), 10, id="up to the base"),
        pytest.param(3, ((1, 2), (2, 7)), 12, id="across the base"),
        pytest.param(3, ((1, 2), (2, 8)), 12, id="then another term"),
        pytest.param(10, ((2, 2),), 12, id="behind the base"),
    ],
)
def test_first_divergence_with_a_base(first, runs, divergence):
    assert based().first_divergence(first, runs) == divergence


@pytest.mark.parametrize(
    ("first", "count", "last"),
    [
        pytest.param(10, 1, 11, id="one run"),
        pytest.param(11, 1, 11, id="the rest of one"),
        pytest.param(11, 2, 12, id="two"),
        pytest.param(11, 3, 15, id="all"),
        pytest.param(11, 99, 15, id="no more than there are"),
    ],
)
def test_last_within_runs(first, count, last):
    assert based().last_within_runs(first, count) == last
