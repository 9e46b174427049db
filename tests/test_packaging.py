"""What is installed and how: the lock, the wheel, the Makefile."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INPUTS = ("Makefile", "pyproject.toml", "requirements")


def sh(*command: str | Path, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")} | variables
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False
    )


def locked(name: str) -> dict[str, list[Requirement]]:
    """Pins of a lock file by package; a package may be pinned more than once, for different Pythons."""
    pins: dict[str, list[Requirement]] = {}
    for line in (ROOT / f"requirements/{name}.lock").read_text().replace("\\\n", "").splitlines():
        requirement, *hashes = line.split(" --hash=sha256:")
        requirement, *more = requirement.split("    --hash=sha256:")
        assert [digest for digest in hashes + more if re.fullmatch(r"[0-9a-f]{64}\s*", digest)], f"no hash: {line}"
        pin = Requirement(requirement)
        pins.setdefault(pin.name.lower(), []).append(pin)
    return pins


def test_every_dependency_is_locked_within_its_range() -> None:
    pins = locked("linux")
    wanted = [Requirement(text) for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]]
    for requirement in wanted:
        for pin in pins[requirement.name.lower()]:
            (version,) = (part.version for part in pin.specifier)
            assert requirement.specifier.contains(version), f"{pin} is outside {requirement}"
            lower = next(part for part in requirement.specifier if part.operator in (">=", "=="))
            assert Version(lower.version) <= Version(version)


def test_the_installed_versions_are_the_locked_ones() -> None:
    from importlib.metadata import version

    for requirement in map(Requirement, PROJECT["dependencies"]):
        pins = [pin for pin in locked("linux")[requirement.name.lower()] if pin.marker is None or pin.marker.evaluate()]
        assert [f"=={version(requirement.name)}"] == [str(pin.specifier) for pin in pins]


def test_lock_files_name_no_host_index_or_path() -> None:
    files = [*sorted((ROOT / "requirements").iterdir()), ROOT / "pyproject.toml", ROOT / "Makefile", ROOT / ".ci/run"]
    found = [
        f"{path.name}: {line}"
        for path in files
        for line in path.read_text().splitlines()
        if re.search(r"://|--(extra-)?index-url|--find-links|file:|/(opt|root|home|work)/", line)
    ]
    assert len(files) >= 6
    assert found == []


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source archive and, made from its contents, the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    done = sh(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder)
    assert done.returncode == 0, done.stderr
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    (source,) = (path for path in folder.iterdir() if path.is_dir())
    done = sh(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=source)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_wheel_carries_every_config_and_template(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    conf = {f"modelpress/conf/{path.relative_to(ROOT / 'conf')}" for path in (ROOT / "conf").rglob("*.yaml")}
    conf = {name for name in conf if "/local/" not in name}
    assert len(conf) > 10
    assert conf <= names
    package = [path for path in (ROOT / "src/modelpress").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {str(path.relative_to(ROOT / "src")) for path in package} <= names
    assert {"modelpress/deploying/files/predict.py", "modelpress/py.typed"} <= names
    assert not [name for name in names if "/local/" in name or "__pycache__" in name or name.startswith("tests/")]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_an_installed_wheel_works_from_any_folder(built: Path, tmp_path: Path) -> None:
    """A new environment that borrows this one's libraries, but not its editable install."""
    env, uv = tmp_path / "env", [sys.executable, "-m", "uv", "--quiet"]
    wheel = next(built.glob("*.whl"))
    assert sh(*uv, "venv", "--python", sys.executable, env).returncode == 0
    done = sh(*uv, "pip", "install", "--offline", "--no-deps", "--python", env / "bin/python", wheel)
    assert done.returncode == 0, done.stderr
    (site,) = env.glob("lib/python3*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")

    script = "import modelpress.config as c; print(c.conf_dir()); print(c.compose(['technique=distill']).name)"
    done = sh(env / "bin/python", "-I", "-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder, name = done.stdout.split()
    assert Path(folder).is_relative_to(site)
    assert name == "reviews_tinybert_distill"
    done = sh(env / "bin/modelpress", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "predict" in done.stdout


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout with nothing but what `make setup` reads."""
    for name in INPUTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    return tmp_path


def fake_python(folder: Path, version: str) -> Path:
    """A python3 that says it is ``version`` and otherwise does as told by ours."""
    path = folder / "python"
    numbers = tuple(map(int, version.split(".")))
    prelude = f"import sys; sys.version_info = {numbers}; sys.version = '{version} (fake)'; sys.executable = '{path}';"
    path.write_text(f'#!/bin/bash\n[ "$1" = -c ] && exec "{sys.executable}" -c "{prelude} $2"\nexit 9\n')
    path.chmod(0o755)
    return path


def test_help_lists_every_target() -> None:
    listed = set(re.findall(r"^  make ([\w-]+) ", sh("make", "help").stdout, re.MULTILINE))
    assert {"help", "setup", "demo", "test", "check", "bench", "clean"} <= listed
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert listed == set(phony[1].split())


def test_setup_refuses_an_old_or_missing_python_in_one_line(bare: Path) -> None:
    done = sh("make", "setup", f"PYTHON={fake_python(bare, '3.10.1')}", cwd=bare)
    assert done.returncode != 0
    assert "is Python 3.10.1; ModelPress needs 3.11 or newer" in done.stderr
    done = sh("make", "setup", "PYTHON=no_such_python", cwd=bare)
    assert done.returncode != 0
    assert "no_such_python not found" in done.stderr
    assert not (bare / ".venv").exists()


def stamp(folder: Path) -> Path:
    """What setup would touch last."""
    (line,) = re.findall(r"^touch (\S+)$", sh("make", "-n", "setup", cwd=folder).stdout, re.MULTILINE)
    return folder / line


def test_setup_does_nothing_until_a_lock_changes(bare: Path) -> None:
    done = stamp(bare)
    done.parent.mkdir()
    done.touch()
    assert sh("make", "-q", "setup", cwd=bare).returncode == 0
    with (bare / "requirements/demo.lock").open("a") as lock:
        lock.write("\n")
    assert sh("make", "-q", "setup", cwd=bare).returncode == 1
    assert stamp(bare) != done


def test_ci_runs_make_test_and_nothing_else() -> None:
    commands = [line for line in (ROOT / ".ci/run").read_text().splitlines() if not re.match(r"#|set |cd |$", line)]
    assert commands == ["exec make test"]
    assert os.access(ROOT / ".ci/run", os.X_OK)
    steps = sh("make", "-n", "test").stdout.splitlines()
    tests = [line for line in steps if line.strip()][-1]
    assert tests.endswith("-m pytest -n 2 --dist loadfile --max-worker-restart 0")
    assert [line.split(" -m ")[1] for line in steps if re.search(r" -m (ruff|mypy)", line)] == [
        "ruff check .",
        "ruff format --check .",
        "mypy --strict src",
    ]
