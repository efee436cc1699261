"""Programs that the benchmark needs and Go builds: the load generator and a NATS server.

    python -m bench.tools        # builds both, prints where they are

Each is built once and kept in a cache folder: the load generator per state of its sources, the
server per version. Two benchmarks may ask for them at once.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import click

from tests.interop.jvm import locked

LOAD = Path(__file__).parent / "load"
NATS_MODULE = "github.com/nats-io/nats-server/v2"
NATS_VERSION = "v2.15.2"
BUILD_TIMEOUT_S = 900


class GoMissingError(Exception):
    """There is no Go, or it could not build; the text says what to do."""


def cache() -> Path:
    """Where built programs are kept: `$LEDGERMQ_CACHE` or `~/.cache/ledgermq`, folder `bench`."""
    root = os.environ.get("LEDGERMQ_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "ledgermq") / "bench"


def build_load(cache: Path) -> Path:
    """The load generator (`bench/load`), built unless this very state of it was built before.

    Args:
        cache: folder for built programs; made when missing.

    Returns:
        Path of the program.

    Raises:
        GoMissingError: no Go, or it does not compile; the text has the compiler's words.
    """
    programs = (p for p in LOAD.glob("*.go") if not p.name.endswith("_test.go"))
    sources = sorted([LOAD / "go.mod", *programs])
    return _built(
        cache, f"load-{_digest(sources)}", "load", lambda out: _go(["build", "-o", out], cwd=LOAD)
    )


def build_nats(cache: Path, version: str = NATS_VERSION) -> Path:
    """The NATS server, fetched and built by Go with its own settings (GOPROXY and so on).

    Args:
        cache: folder for built programs; made when missing.
        version: tag of the module.

    Returns:
        Path of the program.

    Raises:
        GoMissingError: no Go, or the module could not be fetched or built.
    """

    def build(out: Path) -> None:
        _go(["install", f"{NATS_MODULE}@{version}"], GOBIN=str(out.parent))

    return _built(cache, f"nats-server-{version}", "nats-server", build)


def _built(cache: Path, name: str, program: str, build: Callable[[Path], None]) -> Path:
    folder = cache / name
    with locked(folder):
        if not folder.exists():
            part = folder.with_name(f"{name}.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            build(part / program)
            part.rename(folder)
    return folder / program


def _digest(sources: list[Path]) -> str:
    """Changes with any byte of the sources, and with the compiler."""
    version = subprocess.run([_go_tool(), "version"], check=True, capture_output=True).stdout
    parts = [version, *(part for p in sources for part in (p.name.encode(), p.read_bytes()))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _go(arguments: list[str | Path], cwd: Path | None = None, **env: str) -> None:
    done = subprocess.run(
        [_go_tool(), *arguments],
        cwd=cwd,
        env={**os.environ, "CGO_ENABLED": "0", **env},
        check=False,
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
    )
    if done.returncode:
        what = " ".join(map(str, arguments))
        raise GoMissingError(
            f"`go {what}` failed with status {done.returncode}. If it could not fetch a module,"
            f" check the network and `go env GOPROXY`:\n{done.stderr[-3000:]}"
        )


def _go_tool() -> str:
    found = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if found is None:
        raise GoMissingError(
            "`go` is not on the PATH; install Go 1.22 or newer, for example"
            " `apt install golang-go` or the archive from https://go.dev/dl/"
        )
    return found


def main() -> None:
    """Build everything and say where it is."""
    folder = cache()
    click.echo(build_load(folder))
    click.echo(build_nats(folder))


if __name__ == "__main__":
    main()
