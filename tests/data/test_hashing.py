from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from modelpress.data.hashing import digest, file_sha256, source_sha256


def test_file_sha256_is_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc" * 100_000)
    assert file_sha256(tmp_path / "f") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_digest_tells_values_and_order_apart() -> None:
    assert len({digest(1, "a"), digest("a", 1), digest("1", "a"), digest([1, "a"]), digest(1, "a", None)}) == 5
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_source_sha256_follows_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "some_reader.py").write_text("x = 1\n")
    before = source_sha256("some_reader")
    (tmp_path / "some_reader.py").write_text("x = 2\n")
    assert source_sha256("some_reader") != before
    with pytest.raises(ModuleNotFoundError):
        source_sha256("no_such_module_anywhere")
