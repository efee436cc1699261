"""With CI=true nothing may be skipped: a skip there would hide that the tests never ran."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the tests in the background ignores Ctrl-C, and so would all they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_NO_SKIPS = os.environ.get("CI") == "true"


def _forbid_skip(report: Any) -> Any:
    if _NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"CI=true allows no skip, this one would have been: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """A test that skips itself fails."""
    return _forbid_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """So does a module."""
    return _forbid_skip((yield))
