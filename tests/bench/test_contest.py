from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.contest import Contender, Contest, markdown, without_timing
from modelpress.benchmark.file import preset
from modelpress.benchmark.session import Measurement, Session, latency_of
from modelpress.engines.base import Plan

LABELS = np.array([0, 1, 1, 0, 1, 0, 1, 1])


def logits(answers: list[int]) -> np.ndarray:
    return np.eye(2, dtype=np.float32)[answers]


def measurement(key: str, ms: float, status: str = "ok", why: str | None = None) -> Measurement:
    rounds = [[ms] * 12, [ms] * 12]
    return Measurement(key, "1x128", status, why, "fp32", latency_of(rounds), rounds)


@pytest.fixture
def contest(tmp_path: Path) -> Contest:
    right = LABELS.tolist()
    one_wrong = [1 - right[0], *right[1:]]
    paths = {}
    for key, answers in (("base", right), ("fast", one_wrong)):
        paths[key] = tmp_path / f"{key}.npy"
        np.save(paths[key], logits(answers))
        (tmp_path / f"{key}.bin").write_bytes(b"0" * 2_000_000)
    rows = [measurement("base", 10.0), measurement("fast", 4.0, "unstable", "it was busy")]
    session = Session(rows, paths, {}, {}, 1.0, tmp_path / "trace.npz", {}, {})
    contenders = {
        key: Contender(title, Plan("onnxruntime", "", "fp32", str(tmp_path / f"{key}.bin")), 3.0)
        for key, title in (("base", "Base"), ("fast", "Fast"))
    }
    return Contest(
        {**contenders, "gone": Contender("Gone", None, why="not installed")}, session, LABELS, "base", "base"
    )


def test_quality_is_paired_with_the_anchor(contest: Contest) -> None:
    found = contest.quality("fast")
    assert found is not None
    accuracy, drop, agreement = found
    assert (accuracy, agreement) == (7 / 8, 7 / 8)
    assert drop.value == pytest.approx(1 / 8)
    assert drop.ci_low < 1 / 8 < drop.ci_high
    assert contest.quality("gone") is None


def test_ratios_are_over_rounds_and_absent_without_a_plan(contest: Contest) -> None:
    ratio = contest.ratio("base", "fast", "1x128")
    assert ratio is not None
    assert ratio.value == pytest.approx(2.5)
    assert contest.ratio("base", "gone", "1x128") is None
    assert contest.ratio("never", "fast", "1x128") is None


def test_the_table_has_every_contender_and_says_what_is_wrong(contest: Contest) -> None:
    lines = markdown(contest, "1x128").splitlines()
    assert lines[0].startswith("| file | runs in | accuracy |")
    assert "speed-up over Base" in lines[0]
    assert lines[2].startswith("| Base | onnxruntime fp32 | 1.0000 | – | – | 10.00 | – |")
    assert "| 87.50 | 4.00 | 2.50 [2.50, 2.50] |" in lines[3]
    assert lines[3].endswith("| 2.0 | 3 |")
    assert lines[4].startswith("| Gone | – |")
    assert lines[-2:] == ["- Fast: unstable: it was busy", "- Gone: not installed"]


def test_columns_without_a_value_are_left_out(contest: Contest) -> None:
    bare = Contest(contest.contenders, contest.session, None, contest.anchor, contest.lossless)
    header = markdown(bare, "1x128").splitlines()[0]
    assert "accuracy" not in header
    assert "p50, ms" in header


def test_without_timing_is_still_a_valid_session() -> None:
    settings = without_timing(preset("quick"))
    assert settings.rounds == 2
    assert settings.evaluate_batch == preset("quick").evaluate_batch
    assert settings.block_ms < preset("quick").block_ms
