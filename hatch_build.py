"""Builds the compiled twins of compiled/; only when it is asked to (docs/performance.md).

HATCH_BUILD_HOOKS_ENABLE=1 pip install .     a wheel for this machine
python hatch_build.py                        beside their sources, for tests; needs cython
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Extension
from setuptools.dist import Distribution

ROOT = Path(__file__).resolve().parent
_NEEDS = (
    "The compiled parts need a C compiler, and the headers of Python and zlib. Debian, Ubuntu:"
    " apt-get install gcc python3-dev zlib1g-dev. Without them (LEDGERMQ_COMPILE=0, or no"
    " HATCH_BUILD_HOOKS_ENABLE for pip) the same program is installed in pure Python."
)


def build(into: Path) -> list[Path]:
    """Compile every module of compiled/; the files that were made, in `into`."""
    with tempfile.TemporaryDirectory() as temporary:
        # As a package of its own: Cython does not look through the links in ledgermq/.
        package = Path(temporary) / "ledgermq" / "compiled"
        package.mkdir(parents=True)
        (package.parent / "__init__.py").touch()
        (package / "__init__.py").touch()
        for source in sorted((ROOT / "compiled").glob("*.p[xy][dx]")):
            shutil.copy(source, package)
        modules = [
            Extension(
                f"ledgermq.compiled.{p.stem}", [str(p)], libraries=["z"], extra_compile_args=["-g0"]
            )
            for p in sorted(package.glob("*.pyx"))
        ]
        made = cythonize(modules, include_path=[temporary], quiet=True)
        command = Distribution({"ext_modules": made}).get_command_obj("build_ext")
        command.build_lib, command.build_temp = f"{temporary}/made", f"{temporary}/objects"
        command.ensure_finalized()
        try:
            command.run()
        except Exception as e:
            raise SystemExit(f"{e}\n{_NEEDS}") from e
        found = sorted(Path(command.build_lib).rglob("ledgermq/compiled/*.*"))
        return [Path(shutil.copy(path, into)) for path in found]


class CustomBuildHook(BuildHookInterface[Any]):
    """Called by hatchling when HATCH_BUILD_HOOKS_ENABLE is set."""

    def initialize(self, _version: str, build_data: dict[str, Any]) -> None:
        """Add the compiled modules to the wheel."""
        self._folder = tempfile.mkdtemp()
        build_data["pure_python"], build_data["infer_tag"] = False, True
        for path in build(Path(self._folder)):
            build_data["force_include"][str(path)] = f"ledgermq/compiled/{path.name}"

    def finalize(self, _version: str, _build_data: dict[str, Any], _artifact_path: str) -> None:
        """The wheel is made."""
        shutil.rmtree(self._folder, ignore_errors=True)


if __name__ == "__main__":
    for made in build(ROOT / "compiled"):
        sys.stdout.write(f"{made}\n")
