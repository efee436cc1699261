"""A pytest plugin: the first failure, as JSON, into the file that LEDGERMQ_FIRST_FAILURE names."""

import json
import os
from pathlib import Path
from typing import Any

_told = False


def _tell(test: str, error: str) -> None:
    global _told  # noqa: PLW0603 - a plugin is a module
    if _told:
        return
    _told = True
    Path(os.environ["LEDGERMQ_FIRST_FAILURE"]).write_text(
        json.dumps({"test": test, "error": error.strip()[:300]})
    )


def _error_of(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr)


def pytest_runtest_logreport(report: Any) -> None:
    if report.failed:
        _tell(report.nodeid, _error_of(report))


def pytest_collectreport(report: Any) -> None:
    if report.failed:
        _tell(report.nodeid, _error_of(report))
