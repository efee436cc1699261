"""Percentiles of latencies, under the names that all load programs print. Pure."""

from collections.abc import Sequence

_SHARES = {"p50_us": 0.50, "p90_us": 0.90, "p99_us": 0.99, "max_us": 1.0}


def percentiles(latencies_s: Sequence[float]) -> dict[str, float]:
    """Microseconds by name; nothing of nothing.

    The value at a share is the smallest one that so many of the latencies do not exceed.
    """
    if not latencies_s:
        return {}
    ordered = sorted(latencies_s)
    last = len(ordered) - 1
    at = {
        name: min(last, max(0, _ceil(share * len(ordered)) - 1)) for name, share in _SHARES.items()
    }
    return {name: round(ordered[i] * 1e6, 1) for name, i in at.items()}


def _ceil(value: float) -> int:
    return -int(-value // 1)
