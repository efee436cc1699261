"""The cluster under test, and what to do without a JDK.

`LEDGERMQ_INTEROP_PEER=java-5.3.3` runs the same tests against the Java original of that version, as
a control of the tests. Known there: `clusterList` of 4.9.5 fails on 5.3.3 brokers, which renamed a
key of their runtime information; the 5.3.3 client now and then loses commits on a 4.9.5 group.
"""

import os
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.interop import jvm
from tests.interop.java_client import JavaClient
from tests.interop.java_peer import RELAXED, JavaLauncher, java_group
from tests.support.cluster import Cluster
from tests.support.masters import Masters

# Version of the Java original to test against, "" for our own cluster.
JAVA_PEER = os.environ.get("LEDGERMQ_INTEROP_PEER", "").removeprefix("java-")


def unavailable(reason: str) -> NoReturn:
    """Skip with a word; in CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true needs the Java side: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def jdk() -> None:
    """A JDK and Maven."""
    try:
        jvm.require_tools()
    except jvm.JavaMissingError as e:
        unavailable(str(e))


@pytest.fixture(scope="session")
def cluster(jdk: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One name server and three brokers with a leader, shared by all of these tests."""
    folder: Path = tmp_path_factory.mktemp("cluster")
    ours_or_java = java_group(folder, JAVA_PEER) if JAVA_PEER else Cluster(folder)
    with ours_or_java as running:
        yield running


def masters_under_test(
    folder: Path,
    *names: str,
    conf: Mapping[str, str] | None = None,
    bare: bool = False,
    name_servers: int = 1,
) -> Masters:
    """Brokers without a group, ours or the original; not started."""
    return Masters(
        folder,
        names,
        bare=bare,
        name_servers=name_servers,
        extra_conf=(RELAXED if JAVA_PEER else {}) | dict(conf or {}),
        launcher=JavaLauncher(JAVA_PEER) if JAVA_PEER else None,
    )


def java_client(version: str, cluster: Cluster, home: Path) -> JavaClient:
    """The client of that version; skips where it cannot be had."""
    try:
        jvm.driver_classes(version)
    except jvm.JavaMissingError as e:
        unavailable(str(e))
    return JavaClient(version, cluster.name_server, home)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the nodes' logs below a failure."""
    report = yield
    arguments: dict[str, Any] = getattr(item, "funcargs", {})
    clusters = [a for a in arguments.values() if isinstance(a, Cluster)]
    if report.failed and clusters:
        report.sections.append(("cluster logs", "\n".join(c.logs() for c in clusters)))
    return report
