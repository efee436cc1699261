"""Rows, samples and result files for the tests."""

from dataclasses import replace

from bench.shapes import Row


def row(**changes):
    base = Row("g-l", "g", "l", "per_s", "ours", "java", bar=2.0, aim=3.0)
    return replace(base, **changes)


def sample(side, value, *, number=0, load="l", metric="per_s", **more):
    values = {} if value is None else {metric: value}
    return {
        "group": "g", "round": number, "side": side, "load": load, "values": values,
        "errors": {}, **more,
    }  # fmt: skip


def pairs(*values):
    """Samples of (ours, theirs), one round each."""
    return [
        one
        for number, (ours, theirs) in enumerate(values)
        for one in (sample("ours", ours, number=number), sample("java", theirs, number=number))
    ]


def result(rows, samples, **more):
    from bench import bars

    return {
        "date": "2026-01-02T03:04:05+00:00",
        "machine": {"cpu": "2 x Some CPU"},
        "versions": {"python": "3.11.2"},
        "options": {"pairs": 5, "seconds": 5.0, "quick": False},
        "sides": {"ours": "ledgermq", "java": "Java DLedger"},
        "rows": [bars.as_json(line) for line in bars.lines(rows, samples)],
        "failures": [],
        **more,
    }
