"""Runs seeds: `python -m tests.sim.group --seeds 2000 --jobs 2`."""

import argparse
import multiprocessing
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .report import Report
from .run import Outcome, run_seed

# After so many broken seeds more of them say nothing new.
_ENOUGH = 10


def main(argv: list[str] | None = None) -> int:
    """Run, print, and say how it went: 0 when nothing broke and enough happened."""
    args = _arguments(argv)
    if args.seed is not None:
        return _one(args.seed)
    seeds = list(range(args.first, args.first + args.seeds))
    fresh = [secrets.randbits(48) for _ in range(args.fresh)]
    if fresh:
        print("fresh seeds:", " ".join(f"{s:#x}" for s in fresh), flush=True)
    report = Report()
    whole = _run([*fresh, *seeds], args.jobs, args.enough, report)
    print()
    print("\n".join(report.lines()))
    breaches = report.breaches()
    if not whole:
        breaches.append(f"interrupted after {report.seeds} seeds; the report is of these")
    for breach in breaches:
        print(f"FAILED: {breach}")
    if args.json:
        args.json.write_text(report.as_json())
    return 1 if breaches else 0


def _run(seeds: list[int], jobs: int, enough: int, report: Report) -> bool:
    """Run them into the report; False when Ctrl-C ended it: what was seen until then counts."""
    began_s = time.monotonic()
    try:
        for outcome in _outcomes(seeds, jobs):
            report.add(outcome)
            report.real_s = time.monotonic() - began_s
            if outcome.violation:
                print(f"\n{outcome.text}\n", flush=True)
                if len(report.violations) >= enough:
                    break
            _progress(report, len(seeds))
    except KeyboardInterrupt:
        return False
    return True


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.group", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many, counted from --first")
    parser.add_argument("--first", type=_number, default=0, help="the first of them")
    parser.add_argument("--fresh", type=int, default=0, help="how many more, never seen before")
    parser.add_argument("--seed", type=_number, help="only this one, with its whole story")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--json", type=Path, help="also write the report to this file")
    parser.add_argument(
        "--enough", type=int, default=_ENOUGH, help="stop after so many broken seeds"
    )
    return parser.parse_args(argv)


def _number(text: str) -> int:
    return int(text, 0)


def _one(seed: int) -> int:
    outcome = run_seed(seed)
    report = Report()
    report.add(outcome)
    if outcome.violation:
        print(outcome.text)
    else:
        print("\n".join(report.lines()))
        print(f"fingerprint {outcome.fingerprint & 0xFFFFFFFFFFFFFFFF:016x}")
    return 1 if outcome.violation else 0


def _outcomes(seeds: list[int], jobs: int) -> Iterator[Outcome]:
    if jobs <= 1:
        yield from map(run_seed, seeds)
        return
    # Fresh processes: nothing of this one's is shared, and a leak dies with its process.
    context = multiprocessing.get_context("spawn")
    # Ctrl-C goes to all of them: this one ends the others, after its report.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    with context.Pool(jobs, signal.signal, ignore, maxtasksperchild=200) as pool:
        yield from pool.imap_unordered(run_seed, seeds, chunksize=4)


def _progress(report: Report, total: int) -> None:
    if report.seeds % 20 and report.seeds != total:
        return
    line = (
        f"{report.seeds}/{total} seeds, {report.events:,} events, {report.ratio:.0f} x real time,"
        f" {len(report.violations)} violations, {report.real_s:.0f} s"
    )
    end = "\r" if sys.stdout.isatty() else "\n"
    if sys.stdout.isatty() or report.seeds % 100 == 0 or report.seeds == total:
        print(line, end=end, flush=True)


if __name__ == "__main__":
    sys.exit(main())
