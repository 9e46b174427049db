"""The one command that repeats a run: what is in it, what it needs, and that it does repeat it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tests.tiny as tiny
from modelpress.config import compose
from modelpress.job import Job
from modelpress.reproduction import reproduction
from modelpress.store import file_digest

ROOT = Path(__file__).resolve().parents[1]
CLEAN = {"commit": "0123456789abcdef", "dirty": False}
FAKE_MAKE = """#!/bin/sh
mkdir -p .venv/bin && printf '#!/bin/sh\\nexec {python} "$@"\\n' > .venv/bin/python && chmod +x .venv/bin/python
"""


def made(command: str, code: dict[str, Any], *overrides: str, only_here: str = "") -> dict[str, Any]:
    return reproduction(Job.of(compose(list(overrides)), Path("run"), command, only_here), code)


def test_one_line_for_a_shell_at_the_top_of_a_clone() -> None:
    found = made("python run.py technique=qat 'name=a b' store=/mine logger=wandb logger.wandb.project=p", CLEAN)
    assert found == {
        "command": "git clone . ../modelpress-01234567 && cd ../modelpress-01234567 && git checkout --quiet "
        "0123456789abcdef && make setup && .venv/bin/python run.py technique=qat 'name=a b'",
        "needs": [],
        "remarks": [],
    }
    assert made("modelpress run seed=2", CLEAN)["command"].endswith(".venv/bin/python run.py seed=2")


def test_changes_and_a_missing_checkout_are_said() -> None:
    assert "changes that are not in that commit" in made("python run.py", {**CLEAN, "dirty": True})["remarks"][0]
    unknown = made("python run.py seed=2", {"commit": None, "dirty": None})
    assert unknown["command"] == "modelpress run seed=2"
    assert "commit is unknown" in unknown["remarks"][0]


def test_what_no_command_repeats_says_why() -> None:
    assert made("", CLEAN)["command"] is None
    found = made("modelpress run dataset=csv", CLEAN, only_here="its data came from memory.")
    assert found == {
        "command": None,
        "needs": [],
        "remarks": ["No command repeats this run: its data came from memory."],
    }


def test_files_that_a_clone_lacks_are_named_with_their_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/extra.yaml").write_text("a: 1")
    (tmp_path / "conf/local").mkdir(parents=True)
    (tmp_path / "conf/local/default.yaml").write_text("seed: 3")
    given = ["dataset=csv", "dataset.path=reviews.csv", "model@teacher=hf", "teacher.path=./checkpoint"]
    found = made(f"python run.py --config-dir mine {shlex.join(given)}", CLEAN, *given)["needs"]
    named = {need["path"]: need for need in found}
    assert {"reviews.csv", "checkpoint/model.safetensors", "mine/extra.yaml", "conf/local/default.yaml"} <= named.keys()
    assert named["reviews.csv"]["key"] == "dataset.path"
    assert all(need["sha256"] == file_digest(tmp_path / path) for path, need in named.items())


def shell(command: str, folder: Path, **variables: str) -> None:
    who = {f"GIT_{role}_{what}": "x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **who, **variables}
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_command_of_a_report_makes_the_same_weights_in_a_clean_clone(tmp_path: Path) -> None:
    """The checkout as it is now, committed; ``make`` is replaced, because the packages are here already."""
    tiny.make(tmp_path)
    clone, tools = tmp_path / "clone", tmp_path / "tools"
    shell(f"git clone --quiet {ROOT} {clone}", tmp_path)
    shell(f"git ls-files -co --exclude-standard -z | xargs -0 cp --parents -t {clone} 2> /dev/null || true", ROOT)
    shell("git add -A && (git commit --quiet -m now || true)", clone)
    tools.mkdir()
    (tools / "make").write_text(FAKE_MAKE.replace("{python}", sys.executable))
    (tools / "make").chmod(0o755)
    given = [line for line in tiny.fast(tmp_path) if not line.startswith("store=")]
    first, again = tmp_path / "first", tmp_path / "again"
    shell(shlex.join([sys.executable, "run.py", *given]), clone, MODELPRESS_STORE=str(first))
    report = json.loads((clone / "outputs/latest/report.json").read_text())
    command = report["reproduction"]["command"]
    assert report["reproduction"]["remarks"] == []
    assert {need["key"] for need in report["reproduction"]["needs"]} == {"dataset.path", "teacher.path"}
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    shell(command, clone, MODELPRESS_STORE=str(again), PATH=path)
    repeated = json.loads(next(tmp_path.glob("modelpress-*/outputs/latest/report.json")).read_text())
    keys = [[(e["name"], e["key"]) for e in r["lineage"] if e["kind"] == "stage"] for r in (report, repeated)]
    assert keys[0] == keys[1]
    assert not any(entry["reused"] for entry in repeated["lineage"] if entry["kind"] == "stage")
    for _, key in keys[0]:
        weights = [file_digest(store / "entries" / key / "model/model.safetensors") for store in (first, again)]
        assert weights[0] == weights[1]
