"""A result file as a Markdown table. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

_UNITS = {
    "per_s": "/s",
    "pull_per_s": "/s",
    "p50_us": " us",
    "p99_us": " us",
    "lag_p99_ms": " ms",
    "gap_ms": " ms",
    "start_s": " s",
    "pss_mb": " MB",
    "leader_cpu_us": " us",
    "follower_cpu_us": " us",
    "all_cpu_us": " us",
}
_HEAD = "| Row | Ours | Compared with | It | Ratio (lowest to highest) | Bar | |"
_RULE = "| --- | ---: | --- | ---: | ---: | --- | --- |"


def markdown(result: Mapping[str, Any]) -> str:
    """The whole page: what was measured on what, a table per group, what failed."""
    parts = [_facts(result)]
    rows = result["rows"]
    for group in dict.fromkeys(row["group"] for row in rows):
        mine = [row for row in rows if row["group"] == group]
        parts.append("\n".join([f"### {group}", "", _HEAD, _RULE, *map(_row(result), mine)]))
    parts += [part for part in (_counts(rows), _failures(result.get("failures", []))) if part]
    return "\n\n".join(parts) + "\n"


def value(number: float, metric: str) -> str:
    """A number with its unit, three or four digits of it."""
    digits = 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2
    return f"{number:,.{digits}f}{_UNITS.get(metric, '')}"


def ratio(found: Mapping[str, float] | None) -> str:
    """The median and the ends."""
    if found is None:
        return "not measured"
    ends = f"{found['low']:.2f} to {found['high']:.2f}"
    return f"{found['median']:.2f} ({ends}, {found['count']:.0f} pairs)"


def verdict(row: Mapping[str, Any]) -> str:
    """One word on the bar."""
    if row["holds"] is None:
        return "not measured" if row["bar"] is not None or row["ratio"] is None else ""
    if not row["holds"]:
        return "**missed**"
    if row["aim"] is None:
        return "held"
    median = row["ratio"]["median"]
    reached = median <= row["aim"] if row["at_most"] else median >= row["aim"]
    return "aim reached" if reached else "held"


def bar(row: Mapping[str, Any]) -> str:
    """What was asked for."""
    if row["bar"] is None:
        return ""
    sign = "at most" if row["at_most"] else "at least"
    aim = f", aim {row['aim']:g}" if row["aim"] is not None else ""
    return f"{sign} {row['bar']:,g}{aim}"


def _row(result: Mapping[str, Any]) -> Any:
    sides = result.get("sides", {})

    def line(row: Mapping[str, Any]) -> str:
        ours, theirs = row["value"], row["their_value"]
        other = sides.get(row["theirs"], row["theirs"]) if row["theirs"] else ""
        if row["theirs"] and row["their_load"] != row["load"]:
            other += f", {row['their_load']}"
        cells = [
            row["name"] + (f" ({row['errors']:,} errors)" if row["errors"] else ""),
            value(ours["median"], row["metric"]) if ours else "",
            other,
            value(theirs["median"], row["metric"]) if theirs else "",
            ratio(row["ratio"]) if row["theirs"] else "",
            bar(row),
            verdict(row),
        ]
        return f"| {' | '.join(cells)} |"

    return line


def _facts(result: Mapping[str, Any]) -> str:
    options = result["options"]
    facts = {"date": result["date"], **result["machine"], **result["versions"]}
    facts["measured"] = f"{options['pairs']} pairs, {options['seconds']:g} s each"
    if options.get("quick"):
        facts["measured"] += "; quick: too short to judge by"
    return "\n".join(f"- {name}: {text}" for name, text in facts.items())


def _counts(rows: Iterable[Mapping[str, Any]]) -> str:
    barred = [row for row in rows if row["bar"] is not None]
    missed = [row["name"] for row in barred if row["holds"] is False]
    absent = [row["name"] for row in barred if row["holds"] is None]
    text = f"{len(barred) - len(missed) - len(absent)} of {len(barred)} bars hold."
    if missed:
        text += f" Missed: {', '.join(missed)}."
    if absent:
        text += f" Not measured: {', '.join(absent)}."
    return text


def _failures(failures: Iterable[Mapping[str, Any]]) -> str:
    def line(one: Mapping[str, Any]) -> str:
        first = str(one["error"]).strip().splitlines()[0]
        return f"- {one['group']}, round {one['round'] + 1}, {one['side']}, {one['load']}: {first}"

    found = [line(one) for one in failures]
    return "\n".join(["Failed:", "", *found]) if found else ""
