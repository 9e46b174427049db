"""ViT-B/32's shape at 1x3x224x224: our INT8 file against the float network in ONNX Runtime and OpenVINO.

    make bench PART=quantization_vit

Weights and images are random (latency does not depend on them), so there is no accuracy here.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.contest import Contender, Contest, hold, markdown
from bench.pressed import FOLDER
from modelpress.benchmark.requests import write
from modelpress.benchmark.session import Settings, Workload
from modelpress.config import build, compose
from modelpress.engines.base import Artifact, Plan
from modelpress.export.onnx import export
from modelpress.job import Job
from modelpress.models.attention import SCORES
from modelpress.models.base import Batch, Model, Output, Tower
from modelpress.transforms.base import Context
from modelpress.transforms.quantize import Quantize

SHAPE, SIZE = "1x3x224x224", (3, 224, 224)
WANTED = 1.6  # times OpenVINO bf16


class Classifier(nn.Module):
    """Pixels -> logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *tensors: Tensor) -> Any:
        return self.network(pixel_values=tensors[0]).logits


class VisionTransformer(Model):
    """transformers' ViT with 32 x 32 patches and random weights."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        from transformers import ViTConfig, ViTForImageClassification

        torch.manual_seed(0)
        config = ViTConfig(patch_size=32, num_hidden_layers=layers, num_labels=10)
        self.labels = [str(i) for i in range(10)]
        self.network = ViTForImageClassification(config)
        self.eval()

    def forward(self, batch: Batch) -> Output:
        return Output(logits=self.network(pixel_values=batch["pixel_values"]).logits)

    def capture(self, needs: frozenset[str]) -> None:
        assert not needs

    def example(self) -> dict[str, Tensor]:
        return {"pixel_values": torch.randn(2, *SIZE, generator=torch.Generator().manual_seed(0))}

    def towers(self) -> list[Tower]:
        axes = {"pixel_values": {0: "batch"}}
        return [Tower("main", Classifier(self.network), self.example(), ("logits",), axes)]

    def attention_layers(self) -> list[nn.Module]:
        self.network.set_attn_implementation(SCORES)
        return [module for module in self.network.modules() if hasattr(module, "o_proj")]

    def sensitive(self) -> tuple[str, ...]:
        return ("network.classifier",)


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser("bench.quantization_vit", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--preset", default="publish", help="a name in conf/benchmark")
    parser.add_argument("--layers", type=int, default=12, help="fewer for a quick look")
    parser.add_argument("overrides", nargs="*", help="more overrides, as for run.py")
    args = parser.parse_args(list(arguments))
    contest = compare(args.layers, [f"benchmark={args.preset}", *args.overrides])
    print(markdown(contest, SHAPE))
    for base, wanted in (("onnxruntime/fp32", ""), ("openvino/bf16", f" (wanted >= {WANTED})")):
        found = contest.ratio(base, "ptq/openvino/int8", SHAPE)
        if found is not None:
            speed = f"{found.value:.2f}x [{found.ci_low:.2f}, {found.ci_high:.2f}]"
            print(f"ours in OpenVINO against {contest.contenders[base].title}: {speed}{wanted}")


def compare(layers: int, overrides: Sequence[str]) -> Contest:
    """One session of the float network and of our file."""
    job = Job.of(compose(["technique=ptq", "logger=none", *overrides]), FOLDER, "python -m bench")
    folder = (FOLDER / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_vit").absolute()
    model = VisionTransformer(layers)
    contenders = pressed(job, model, folder / "float", "")
    contenders |= pressed(job, quantized(model, job), folder / "int8", "ptq/")
    images = np.random.default_rng(1).standard_normal((64, *SIZE)).astype(np.float32)
    workloads = [Workload(SHAPE, write(folder / f"{SHAPE}.npz", {"pixel_values": images}))]
    settings: Settings = Settings(**{**job.config["benchmark"], "shapes": [SHAPE]})
    anchors = {"anchor": "onnxruntime/fp32", "lossless": "openvino/bf16"}
    return hold(contenders, workloads, None, settings, job.hardware, folder, **anchors)


def quantized(model: VisionTransformer, job: Job) -> Model:
    """Its INT8 twin, calibrated on random images as technique=ptq would be."""
    images = [{**model.example(), "labels": torch.zeros(2, dtype=torch.long)} for _ in range(4)]
    transform: Quantize = build(job.config["technique"]["ptq"]["transform"])
    made = transform.finalize(transform.prepare(model, Context(model.example(), lambda samples, draw: images, list)))
    assert isinstance(made, Model)
    return made


def pressed(job: Job, model: Model, folder: Path, prefix: str) -> dict[str, Contender]:
    """A contender per engine and precision of a model as it stands."""
    started = time.perf_counter()
    artifact = Artifact(export(model, folder)["main"])
    plans: list[Plan] = []
    for name, engine in job.engines.items():
        (folder / name).mkdir()
        plans += engine.build(artifact, job.hardware, folder / name)
    spent = time.perf_counter() - started
    return {
        f"{prefix}{plan.engine}/{plan.precision}": Contender(
            f"ModelPress {prefix.rstrip('/')}" if prefix else f"{plan.engine} {plan.precision}", plan, spent
        )
        for plan in plans
    }


if __name__ == "__main__":
    main(sys.argv[1:])
