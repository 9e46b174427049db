"""Reading the curves of a stage, whole or cut off by a kill."""

from __future__ import annotations

import json
from pathlib import Path

from modelpress.curves import FILE, read

LINES = [{"step": step, "metrics": {"distill/train/loss": 1 / step}} for step in (1, 2, 3)]


def write(folder: Path, text: str) -> Path:
    (folder / FILE).write_text(text)
    return folder / FILE


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read(write(tmp_path, "".join(json.dumps(line) + "\n" for line in LINES))) == LINES


def test_a_line_cut_off_by_a_kill_is_dropped(tmp_path: Path) -> None:
    text = "".join(json.dumps(line) + "\n" for line in LINES)
    for cut in range(2, len(json.dumps(LINES[-1])) + 1):
        assert read(write(tmp_path, text[:-cut])) == LINES[:-1]


def test_no_file_is_no_curve(tmp_path: Path) -> None:
    assert read(tmp_path / FILE) == []
    assert read(write(tmp_path, "")) == []
