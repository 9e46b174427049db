"""Training code meets a device that is no CPU: PyTorch's fake tensors of a CUDA device, which need no GPU.

They hold no numbers, but an operation on tensors of two devices is an error, as on the real one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorDeviceMismatchError, FakeTensorMode

import tests.tiny as tiny
from modelpress.config import compose
from modelpress.evaluation import accuracy, placed
from modelpress.job import Job
from modelpress.models.base import Model, Output
from modelpress.objectives import functional
from modelpress.objectives.task import Task
from modelpress.pipeline import execute

SIZE, LENGTH, CLASSES = 4, 6, 3


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield torch.device("cuda")


def batch(device: torch.device | str) -> dict[str, Tensor]:
    labels = torch.zeros(SIZE, dtype=torch.int64, device=device)
    mask = torch.ones(SIZE, LENGTH, dtype=torch.int64, device=device)
    return {"labels": labels, "attention_mask": mask, "input_ids": mask}


class Classifier(Model):
    """Its answer is the first input."""

    embedding_width = None

    def __init__(self, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(CLASSES, device=device))

    def forward(self, batch: Mapping[str, Tensor]) -> Output:
        return Output(logits=torch.nn.functional.embedding(batch["input_ids"][:, 0], self.weight))

    def capture(self, needs: frozenset[str]) -> None: ...


class Data:
    def eval_dataloader(self, split: str) -> list[dict[str, Tensor]]:
        return [{"input_ids": torch.tensor([[0], [1], [2], [2]]), "labels": torch.tensor([0, 1, 2, 0])}] * 2


def test_the_fake_device_refuses_to_mix(gpu: torch.device) -> None:
    with pytest.raises(FakeTensorDeviceMismatchError):
        Classifier(gpu)(batch("cpu"))


def test_questions_go_where_the_network_is(gpu: torch.device) -> None:
    network = Classifier(gpu)
    logits = network(placed(batch("cpu"), network)).logits
    assert logits is not None
    assert logits.device.type == "cuda"


def test_the_task_s_loss_stays_on_the_device(gpu: torch.device) -> None:
    found = Task()(Classifier(gpu)(batch(gpu)), batch(gpu), None, 0.0)
    assert found["hard"].device.type == "cuda"
    assert Task().terms("hard", batch(gpu)).device.type == "cuda"
    assert functional.real_tokens({}, SIZE, LENGTH, gpu).device.type == "cuda"


def test_evaluation_counts_the_right_answers() -> None:
    assert accuracy(Classifier(), Data()) == 0.75


@pytest.mark.gpu
def test_evaluation_of_a_network_on_a_gpu() -> None:
    assert accuracy(Classifier("cuda"), Data()) == 0.75


@pytest.mark.gpu
def test_a_run_on_a_gpu_from_end_to_end(tmp_path: Path) -> None:
    """Teacher, cache, student and control on the GPU; PyTorch rows with both times; a report even without TensorRT."""
    world = tiny.make(tmp_path)
    (world / "run").mkdir()
    own = [one for one in tiny.overrides(world) if not one.startswith("engine")]
    cfg = compose([*own, "hardware=cuda", "engine=[onnxruntime_cuda,torch]"])
    report = execute(Job.of(cfg, world / "run", "test"))
    assert report is not None
    rows = [row for row in report.rows if row.engine == "torch"]
    assert rows
    for row in rows:
        assert (row.status in ("ok", "unstable"), row.device, row.precision) == (True, "cuda", "fp32")
        assert row.latency_ms is not None
        assert row.device_latency_ms is not None
        assert row.peak_device_memory_mb is not None
        assert row.metric is not None
        assert row.metric > 0.9
