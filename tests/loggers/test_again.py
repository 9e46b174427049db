"""A job that goes on in another process, the second wave of a parallel sweep, goes on in its W&B run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from modelpress.loggers.wandb import Wandb


@pytest.mark.slow
def test_a_job_to_be_continued_is_one_run_and_one_that_runs_again_is_not(tmp_path: Path) -> None:
    ids = []
    for last in (False, True, True):
        logger = Wandb(tmp_path / "logs", name="x", mode="offline")
        ids.append(logger.open().id)
        if not last:
            logger.to_be_continued()
        logger.finish("finished")
        time.sleep(1.1)  # W&B names the folder of a run by the second
    assert ids[0] == ids[1] != ids[2]
    assert len(list((tmp_path / "logs/wandb").glob(f"offline-run-*-{ids[0]}"))) == 2
