"""Bar charts as SVG: the ratio of each row, from the lowest to the highest pair. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

_LABEL_PX, _PLOT_PX, _TAIL_PX = 220, 460, 90
_LINE_PX, _BAR_PX, _TOP_PX = 24, 13, 46
_HELD, _MISSED, _PLAIN = "#2f7d4f", "#b3402f", "#5b7ea6"
_STEPS = (1, 2, 5)


def charts(result: Mapping[str, Any]) -> dict[str, str]:
    """SVG text by the name of its group; rows without a ratio are left out."""
    rows = [row for row in result["rows"] if row["ratio"] and row["theirs"]]
    groups = dict.fromkeys(row["group"] for row in rows)
    sides = result.get("sides", {})
    return {g: chart(g, [r for r in rows if r["group"] == g], sides) for g in groups}


def chart(title: str, rows: Sequence[Mapping[str, Any]], sides: Mapping[str, str]) -> str:
    """One chart; a bar per row, the line at 1 is the other side, a tick is the bar to reach."""
    top = max([1.0, *(row["ratio"]["high"] for row in rows), *(row["bar"] or 0.0 for row in rows)])
    scale = _PLOT_PX / top
    height = _TOP_PX + _LINE_PX * len(rows) + 34
    parts = [*_grid(top, scale, height)]
    for number, row in enumerate(rows):
        parts += _bar(row, _TOP_PX + number * _LINE_PX, scale)
    others = sorted({sides.get(row["theirs"], row["theirs"]) for row in rows})
    head = f"{title}: ratio to {', '.join(others)}"
    width = _LABEL_PX + _PLOT_PX + _TAIL_PX
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
            f' width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            f'<text x="12" y="20" font-size="14" font-weight="bold">{escape(head)}</text>',
            *parts,
            "</svg>",
            "",
        ]
    )


def ticks(top: float) -> list[float]:
    """Round numbers from 0 to `top`, four to ten of them."""
    rough = top / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((s * power for s in _STEPS if s * power >= rough), 10 * power)
    return [round(n * step, 10) for n in range(int(top / step + 1e-9) + 1)]


def _grid(top: float, scale: float, height: int) -> Iterable[str]:
    foot = height - 30
    for tick in ticks(top):
        x = _LABEL_PX + tick * scale
        yield _line(x, _TOP_PX - 8, x, foot, "#dddddd")
        yield _text(x, foot + 16, f"{tick:g}", "middle", "#666666")
    one = _LABEL_PX + scale
    yield _line(one, _TOP_PX - 8, one, foot, "#444444")


def _bar(row: Mapping[str, Any], y: float, scale: float) -> Iterable[str]:
    found = row["ratio"]
    colour = {True: _HELD, False: _MISSED, None: _PLAIN}[row["holds"]]
    middle = y + _BAR_PX / 2
    name = row["name"].removeprefix(f"{row['group']}-")
    yield _text(_LABEL_PX - 8, y + 11, name, "end", "#222222")
    yield (
        f'<rect x="{_LABEL_PX}" y="{y:.1f}" width="{found["median"] * scale:.1f}"'
        f' height="{_BAR_PX}" fill="{colour}"/>'
    )
    low, high = (_LABEL_PX + found[end] * scale for end in ("low", "high"))
    yield _line(low, middle, high, middle, "#111111")
    for x in (low, high):
        yield _line(x, middle - 4, x, middle + 4, "#111111")
    if row["bar"] is not None:
        x = _LABEL_PX + row["bar"] * scale
        yield _line(x, y - 4, x, y + _BAR_PX + 4, "#111111", dashed=True)
    sign = "<=" if row["at_most"] else ">="
    bar = f" ({sign} {row['bar']:g})" if row["bar"] is not None else ""
    yield _text(_LABEL_PX + _PLOT_PX + 8, y + 11, f"{found['median']:.2f}{bar}", "start", "#222222")


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="3 2"' if dashed else ""
    points = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {points} stroke="{colour}"{dash}/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}">{escape(text)}</text>'
