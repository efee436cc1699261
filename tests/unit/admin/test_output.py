"""Tables in their three forms."""

import io
import json

import pytest

from ledgermq.admin import mqadmin, output
from ledgermq.admin.output import Table, fitting_columns, say, show, show_json, warn


@pytest.fixture
def table():
    table = Table(
        "%-6s  %4s",
        ("#Name", "#Size"),
        right=frozenset({"#Size"}),
        optional=("#Size",),
    )
    table.add(("a", "1"), {"name": "a", "size": 1})
    table.add(("中文", "22"), {"name": "中文", "size": 22})
    return table


def test_plain_lines_follow_the_format(table, capsys):
    show(table, as_json=False)

    assert capsys.readouterr().out == "#Name   #Size\na          1\n中文        22\n"


def test_an_empty_table_is_its_header(capsys):
    show(Table("%s|", ("#Name",)), as_json=False)

    assert capsys.readouterr().out == "#Name|\n"


def test_json_has_names_types_and_readable_text(table, capsys):
    show(table, as_json=True)

    out = capsys.readouterr().out
    assert json.loads(out) == [{"name": "a", "size": 1}, {"name": "中文", "size": 22}]
    assert "中文" in out


def test_json_of_an_empty_table_is_an_empty_list(capsys):
    show(Table("%s", ("#Name",)), as_json=True)

    assert capsys.readouterr().out == "[]\n"


def test_a_terminal_gets_titles_without_the_sign_and_numbers_to_the_right(
    table, capsys, monkeypatch
):
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")

    show(table, as_json=False)

    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "┃ Name ┃ Size ┃"
    assert lines[3] == "│ a    │    1 │"
    assert lines[4] == "│ 中文 │   22 │"


def test_json_is_asked_for_on_a_terminal_too(table, capsys, monkeypatch):
    monkeypatch.setattr(output, "on_terminal", lambda: True)

    show(table, as_json=True)

    assert len(json.loads(capsys.readouterr().out)) == 2


def test_cells_are_no_markup(capsys, monkeypatch):
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    table = Table("%s", ("#Body",))
    table.add(("[red]x[/red] [/]",), {})

    show(table, as_json=False)

    assert "[red]x[/red] [/]" in capsys.readouterr().out


WIDE = Table(
    "%s %s %s",
    ("#Always", "#Sometimes", "#Rarely"),
    rows=[("x" * 10, "y", "z" * 20)],
    optional=("#Rarely", "#Sometimes"),
)


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        pytest.param(100, [0, 1, 2], id="room for all"),
        pytest.param(50, [0, 1, 2], id="exactly room for all: 10+10+20, 3 each, 1"),
        pytest.param(49, [0, 1], id="one too narrow: the least needed goes"),
        pytest.param(27, [0, 1], id="exactly room for two"),
        pytest.param(26, [0], id="the next one goes"),
        pytest.param(1, [0], id="what is not optional stays"),
    ],
)
def test_which_columns_a_terminal_has_room_for(width, shown):
    assert fitting_columns(WIDE, width) == shown


def test_results_and_remarks_do_not_mix(capsys):
    say("result")
    warn("remark")
    show_json({"a": None})

    captured = capsys.readouterr()
    assert captured.out == 'result\n{\n  "a": null\n}\n'
    assert captured.err == "mqadmin: remark\n"


def test_a_pipe_is_no_terminal():
    assert not output.on_terminal()


def test_a_character_the_terminal_does_not_have_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="gbk"))
    with pytest.raises(SystemExit):
        mqadmin.main(["--version"])
    output.say("\u4f60\u597d\U0001f600")
    assert raw.getvalue().endswith("\u4f60\u597d".encode("gbk") + b"\\U0001f600\n")
