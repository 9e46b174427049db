"""The classic calibrator: where it is refused, and its control flow with a fake of TensorRT 10."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from modelpress.benchmark.requests import write
from modelpress.engines.base import Artifact, Hardware
from modelpress.engines.tensorrt import TensorRT, TensorRTRtx
from modelpress.engines.trt.calibrator import BATCH, batches, calibrator
from modelpress.errors import ModelPressError


def requests(folder: Path, items: int = 20) -> Path:
    ids = np.arange(items * 6).reshape(items, 6)
    return write(folder / "calibration.npz", {"input_ids": ids, "attention_mask": np.ones_like(ids)})


class FakeBase:
    """Stands for ``tensorrt.IInt8EntropyCalibrator2``."""


def test_fake_every_whole_batch_is_given_once_then_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device: tensor)  # there is no GPU to copy to
    given = batches(requests(tmp_path))
    made: Any = calibrator(SimpleNamespace(IInt8EntropyCalibrator2=FakeBase), iter(given))
    assert isinstance(made, FakeBase)
    assert (made.get_batch_size(), len(given)) == (BATCH, 2)
    for batch in given:
        pointers = made.get_batch(["attention_mask", "input_ids"])
        assert pointers == [made.held[name].data_ptr() for name in ("attention_mask", "input_ids")]
        assert np.array_equal(made.held["input_ids"].numpy(), batch["input_ids"])
    assert made.get_batch(["input_ids"]) is None
    assert made.read_calibration_cache() is None


def test_too_few_items_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match="has 3 items; it needs at least 8"):
        batches(requests(tmp_path, 3))


def test_where_it_does_not_exist_the_way_out_is_named(float_graph: Path, tmp_path: Path) -> None:
    engine = TensorRTRtx(calibration="entropy_calibrator_2", calibration_requests=str(requests(tmp_path)))
    with pytest.raises(
        ModelPressError, match=r"tensorrt_rtx 1.7.1.116 does not have .*calibration=qdq .*technique=ptq"
    ):
        engine.build(Artifact(float_graph), Hardware(), tmp_path)


@pytest.mark.parametrize("options", [{"calibration": "entropy_calibrator_2"}, {"calibration_requests": "a.npz"}])
def test_it_needs_its_requests_and_nothing_else_reads_them(options: dict[str, str]) -> None:
    with pytest.raises(ModelPressError, match="needs a requests file and nothing else reads one"):
        TensorRT(**options)  # type: ignore[arg-type]
