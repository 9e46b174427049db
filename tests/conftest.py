"""What every test shares: no network, no state outside a temporary folder, one core per worker, fixed seeds."""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from modelpress.engines.driver import probe

# Set while pytest starts, because libraries read these when they are imported. Child processes inherit them.
SCRATCH = Path(tempfile.mkdtemp(prefix="modelpress-tests-"))
os.environ.update(
    {
        "HF_HUB_OFFLINE": "1",  # offline, transformers would try the hub for 27 s
        "HF_HOME": str(SCRATCH / "huggingface"),
        "HF_DATASETS_CACHE": str(SCRATCH / "huggingface/datasets"),
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MODELPRESS_STORE": str(SCRATCH / "store"),
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_CONSOLE": "off",
        "WANDB_DIR": str(SCRATCH / "wandb"),
        "WANDB_CACHE_DIR": str(SCRATCH / "wandb/cache"),
        "WANDB_CONFIG_DIR": str(SCRATCH / "wandb/config"),
        "WANDB_DATA_DIR": str(SCRATCH / "wandb/data"),
        "NETRC": str(SCRATCH / "netrc"),
        "MODELPRESS_LOCK_FOLDER": str(SCRATCH),  # neither wait for a run on this machine nor stop it
    }
)
for name in ("HF_TOKEN", "WANDB_API_KEY", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_RUN_GROUP"):
    os.environ.pop(name, None)
(SCRATCH / "wandb").mkdir()
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    threads = str(max(1, len(os.sched_getaffinity(0)) // workers))
    os.environ.update({"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads})


def pytest_unconfigure() -> None:
    shutil.rmtree(SCRATCH, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with a reason that the summary shows, what this machine cannot do."""
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu and (reason := probe().reason) is not None:
        for item in gpu:
            item.add_marker(pytest.mark.skip(reason=f"needs a GPU: {reason}"))
    if os.environ.get("MODELPRESS_TEST_NETWORK") != "1":
        for item in items:
            if item.get_closest_marker("network"):
                item.add_marker(pytest.mark.skip(reason="needs the network: set MODELPRESS_TEST_NETWORK=1"))


@pytest.fixture(autouse=True)
def seeds() -> None:
    """The same random numbers in every test, whichever tests ran before it. Imports nothing by itself."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules and hasattr(sys.modules["torch"], "manual_seed"):
        sys.modules["torch"].manual_seed(0)
