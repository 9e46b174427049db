"""A job that goes on in another process, as in the second wave of a parallel sweep, goes on in its W&B run."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelpress.loggers.wandb import Wandb, earlier


@pytest.mark.slow
def test_the_same_folder_is_the_same_run(tmp_path: Path) -> None:
    ids = []
    for _ in range(2):
        logger = Wandb(tmp_path / "job/logs", name="x", mode="offline")
        ids.append(logger.open().id)
        logger.finish("finished")
    other = Wandb(tmp_path / "other/logs", name="x", mode="offline")
    ids.append(other.open().id)
    other.finish("finished")
    assert ids[0] == ids[1] != ids[2]
    assert len(list((tmp_path / "job/logs/wandb").glob("offline-run-*"))) == 2  # `wandb sync` joins them by their id


def test_the_newest_run_of_a_folder_counts(tmp_path: Path) -> None:
    assert earlier(tmp_path) is None
    for name in ("offline-run-20261122_010000-aaa", "run-20261122_020000-bbb", "latest-run"):
        (tmp_path / "wandb" / name).mkdir(parents=True)
    assert earlier(tmp_path) == "bbb"
