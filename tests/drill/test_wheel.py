"""ADR 1: installed from its wheel, `import ledgermq` survives a user's client.py and broker/."""

import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.drill.fast_try import ROOT, FastTry
from tests.support import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder)]
    subprocess.run([*pip, str(ROOT)], check=True, timeout=300)
    (built,) = folder.glob("ledgermq-*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the wheel and what it needs, nothing else."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=True)
    own = folder / "bin" / "python"
    install = [str(own), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, str(wheel)], check=True, timeout=300)
    return own


@pytest.fixture
def users_folder(tmp_path: Path) -> Path:
    """A program's folder whose own modules are called like parts of ours."""
    folder = tmp_path / "shop"
    folder.mkdir()
    trap = 'raise SystemExit("the user\'s own file was imported instead of ledgermq")\n'
    for name in ("client.py", "remoting.py"):
        (folder / name).write_text(trap)
    for name in ("admin", "broker", "namesrv", "dledger"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(trap)
    for name in ("quickstart_producer.py", "quickstart_consumer.py"):
        (folder / name).write_text((ROOT / "examples" / name).read_text())
    return folder


def test_the_wheel_has_one_top_level_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"ledgermq"}
    for package in ("remoting", "dledger", "broker", "namesrv", "client", "admin", "compiled"):
        assert f"ledgermq/{package}/py.typed" in names
    assert [name for name in names if name.endswith(("LICENSE", "NOTICE"))]


def test_every_part_comes_from_the_installed_package(python: Path, users_folder: Path) -> None:
    script = "import ledgermq, ledgermq.client, ledgermq.broker as b; print(b.__file__)"
    shown = subprocess.run(
        [python, "-c", script], cwd=users_folder, capture_output=True, text=True, check=True
    ).stdout
    assert str(python.parent.parent) in shown


def test_with_the_hook_the_wheel_has_the_compiled_twins(
    python: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    wheels = tmp_path_factory.mktemp("compiled")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(wheels)]
    env = os.environ | {"HATCH_BUILD_HOOKS_ENABLE": "1"}
    subprocess.run([*pip, str(ROOT)], check=True, timeout=300, env=env)
    (built,) = wheels.glob("ledgermq-*.whl")
    assert "-none-any" not in built.name
    target = tmp_path / "installed"
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, built]
    subprocess.run(install, check=True, timeout=300)
    script = "import ledgermq.broker.app\nfrom ledgermq.compiled import PAIRS; print(len(PAIRS))"
    for pure, twins in (("", 8), ("1", 0)):
        env = os.environ | {"PYTHONPATH": str(target), "LEDGERMQ_PURE": pure}
        shown = subprocess.run(
            [python, "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert shown.stdout.split() == [str(twins)]


def test_both_quickstarts_run_beside_files_of_those_names(
    fast_try: FastTry, python: Path, users_folder: Path
) -> None:
    fast_try("start")
    env = os.environ | {"NAMESRV_ADDR": fast_try.namesrv}
    sent = subprocess.run(
        [python, "quickstart_producer.py"], cwd=users_folder, env=env, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert len(re.findall(r"SEND_OK", sent.stdout)) == 1000
    out = users_folder / "consumed"
    with out.open("w") as file:
        consumer = subprocess.Popen(
            [python, "-u", "quickstart_consumer.py"], cwd=users_folder, env=env, stdout=file,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_until(
            lambda: out.read_text().count("TopicTest") >= 1000,
            timeout_s=60,
            what="1,000 messages printed",
        )
    finally:
        consumer.kill()
        consumer.wait()
