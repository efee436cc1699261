"""Published RocketMQ jars and the JVM that runs them.

Jars are fetched by Maven with whatever settings the machine has, into a cache outside the
repository: `$LEDGERMQ_CACHE` or `~/.cache/ledgermq`, folder `interop/<version>/<artifact>`.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

JAVA = Path(__file__).parent / "java"
FETCH_TIMEOUT_S = 600
# JDK 9 and newer keep these packages shut; the netty of 2018 and Java's broker reach into them.
MODULE_FLAGS = [
    *(
        f"--add-opens=java.base/{package}=ALL-UNNAMED"
        for package in ("java.nio", "sun.nio.ch", "jdk.internal.ref", "java.lang", "java.util")
    ),
    *(
        f"--add-exports=java.base/{package}=ALL-UNNAMED"
        for package in ("sun.nio.ch", "jdk.internal.ref", "sun.nio.cs")
    ),
]
# Small and quick to start: a test run starts a dozen of them on two cores.
QUICK_FLAGS = [
    *("-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"),
    *MODULE_FLAGS,
]


class JavaMissingError(Exception):
    """No JDK, no Maven, or the jars cannot be had; the text says which and what to do."""


def cache_folder() -> Path:
    """Where jars and compiled classes are kept between runs."""
    root = os.environ.get("LEDGERMQ_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "ledgermq") / "interop"


def require_tools() -> None:
    """Check for java, javac and mvn.

    Raises:
        JavaMissingError: one of them is not on the PATH.
    """
    missing = [tool for tool in ("java", "javac", "mvn") if shutil.which(tool) is None]
    if missing:
        raise JavaMissingError(
            f"not on the PATH: {', '.join(missing)}; install a JDK (11 or newer) and Maven,"
            " for example: apt install openjdk-17-jdk-headless maven"
        )


def jars(artifact: str, version: str) -> Path:
    """Folder with the jars of one artifact and of all it needs, fetched when not there yet.

    Raises:
        JavaMissingError: Maven could not fetch them.
    """
    folder = cache_folder() / version / artifact
    with locked(folder):
        if not folder.exists():
            part = _fresh(folder)
            _maven(artifact, version, part)
            part.rename(folder)
    return folder


def class_path(version: str, *artifacts: str) -> str:
    """Class path of the given artifacts, in that order."""
    return os.pathsep.join(f"{jars(a, version)}/*" for a in artifacts)


def driver_classes(version: str) -> Path:
    """Folder with our driver, compiled against the client of that version."""
    sources = sorted((JAVA / "src").rglob("*.java"))
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sources)).hexdigest()[:16]
    folder = cache_folder() / version / f"driver-{digest}"
    libraries = class_path(version, "rocketmq-client")
    with locked(folder):
        if not folder.exists():
            part = _fresh(folder)
            flags = ["-nowarn", "-encoding", "UTF-8", "--release", "8", "-Xlint:-options"]
            argv = ["javac", *flags, "-cp", libraries, "-d", str(part), *map(str, sources)]
            subprocess.run(argv, check=True, capture_output=True, text=True)
            part.rename(folder)
    return folder


def isolation(home: Path) -> list[str]:
    """System properties that keep a JVM's logs and local files inside `home`."""
    return [f"-Duser.home={home}", f"-Drocketmq.client.logRoot={home / 'logs'}"]


def environment() -> dict[str, str]:
    """Our environment without the variables that would change a RocketMQ process."""
    drop = ("NAMESRV_ADDR", "ROCKETMQ_", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS")
    return {k: v for k, v in os.environ.items() if not k.startswith(drop)}


def _maven(artifact: str, version: str, folder: Path) -> None:
    argv = ["mvn", "-B", "-q", "-ntp", "-f", str(JAVA / "pom.xml")]
    argv += [f"-Dartifact={artifact}", f"-Dversion.rocketmq={version}"]
    argv += [f"-DoutputDirectory={folder}", "dependency:copy-dependencies"]
    done = subprocess.run(
        argv, check=False, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S
    )
    if done.returncode:
        raise JavaMissingError(
            f"Maven could not fetch {artifact} {version}; check its settings and the network:\n"
            f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )


def _fresh(folder: Path) -> Path:
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    return part


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Two runs at once must not write into the same folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
