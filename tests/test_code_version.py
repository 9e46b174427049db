from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from modelpress.code_version import code_version

WHO = ("-c", "user.name=x", "-c", "user.email=x@example.org")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *WHO, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    code_version.cache_clear()
    git(tmp_path, "init", "-q")
    (tmp_path / "__init__.py").write_text("")
    git(tmp_path, "add", "__init__.py")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_the_commit_and_whether_files_were_changed(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    (checkout / "untracked.py").write_text("")
    assert code_version(checkout) == {"commit": commit, "dirty": False}
    (checkout / "__init__.py").write_text("x = 1\n")
    assert code_version(checkout)["dirty"] is False  # asked once
    code_version.cache_clear()
    assert code_version(checkout) == {"commit": commit, "dirty": True}


def test_a_package_inside_another_projects_checkout_is_not_that_project(checkout: Path) -> None:
    inside = checkout / "site-packages" / "modelpress"
    inside.mkdir(parents=True)
    (inside / "__init__.py").write_text("")
    assert code_version(inside) == {"commit": None, "dirty": None}


def test_without_git(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert code_version(checkout) == {"commit": None, "dirty": None}
