"""Load by the official Java client (4.9.5): compiles bench/java and runs it.

    python -m bench.java_load send --name-server 127.0.0.1:9876 --topic T --threads 64 --seconds 10

takes the options of bench/java/src/Load.java; the process becomes the JVM, which prints the JSON.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.interop import jvm

from . import programs

VERSION = "4.9.5"
SOURCE = Path(__file__).parent / "java" / "src" / "Load.java"
# One size, so that the collector works alike in each run; compilers and collector as by default.
HEAP = ["-Xms512m", "-Xmx512m"]


def send(
    name_server: str,
    topic: str,
    *,
    threads: int = 1,
    async_in_flight: int = 0,
    batch: int = 1,
    size: int = 128,
    topics: int = 1,
    seconds: int = 10,
    warm_up: int = 3,
) -> dict[str, Any]:
    """Send for some seconds, from threads or with a window of messages without an answer.

    Raises:
        LoadError: not one message could be sent.
    """
    options = programs.flags(
        name_server=name_server,
        topic=topic,
        threads=threads,
        async_in_flight=async_in_flight,
        batch=batch,
        size=size,
        topics=topics,
        seconds=seconds,
        warm_up=warm_up,
    )
    return programs.run(argv("send", *options), seconds + warm_up)


def consume(name_server: str, topic: str, count: int, *, seconds: int = 120) -> dict[str, Any]:
    """Consume so many messages with a group of its own, from the first on; at most for `seconds`.

    Raises:
        LoadError: the consumer could not start.
    """
    options = programs.flags(name_server=name_server, topic=topic, count=count, seconds=seconds)
    return programs.run(argv("consume", *options), seconds)


def argv(command: str, *options: str) -> list[str]:
    """Its command line."""
    return programs.python("bench.java_load", command, *options)


def class_path() -> str:
    """Class path with the load, compiled when there is none of this source yet.

    Raises:
        LoadError: it does not compile.
        JavaMissingError: no JDK, no Maven, or the jars cannot be had.
    """
    jvm.require_tools()
    libraries = jvm.class_path(VERSION, "rocketmq-client")
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    folder = jvm.cache_folder() / VERSION / f"load-{digest}"
    if not folder.exists():
        part = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
        try:
            _compile(libraries, part)
            part.rename(folder)
        except FileExistsError:
            pass  # another run was faster
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return f"{folder}{os.pathsep}{libraries}"


def _compile(libraries: str, folder: Path) -> None:
    flags = ["-encoding", "UTF-8", "--release", "11"]
    done = subprocess.run(
        ["javac", *flags, "-cp", libraries, "-d", str(folder), str(SOURCE)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise programs.LoadError(f"{SOURCE} does not compile:\n{done.stdout}{done.stderr}")


def java() -> list[str]:
    """How the JVM starts, up to the load's own command; compiles what is not compiled yet.

    Raises:
        LoadError: it does not compile.
        JavaMissingError: no JDK, no Maven, or the jars cannot be had.
    """
    home = jvm.cache_folder() / VERSION / "load-home"
    return ["java", *HEAP, *jvm.MODULE_FLAGS, *jvm.isolation(home), "-cp", class_path(), "Load"]


def main() -> None:
    """Become the JVM: whoever ends this process ends the load."""
    try:
        command = [*java(), *sys.argv[1:]]
    except (jvm.JavaMissingError, programs.LoadError) as e:
        sys.exit(str(e))
    os.execvpe(command[0], command, jvm.environment())


if __name__ == "__main__":
    main()
