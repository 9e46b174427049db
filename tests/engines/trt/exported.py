"""Every kind of network that the project exports, in miniature, in all its numbers, as ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelpress.transforms.base import Context
from tests import tinyclip
from tests.quantization import small

FAMILIES = ("bert", "clip_vit", "clip_cnn")
NUMBERS = ("fp32", "int8")


def network(family: str, folder: Path) -> tuple[Any, Context]:
    """A network and what its calibration is given."""
    if family == "convolutions":
        return small.model(small.Convolutions), small.context(small.Convolutions)
    if family == "bert":
        return _bert(folder)
    made = tinyclip.CONFIG
    if family == "clip_cnn":
        made = tinyclip.bert(folder / "bert", vision_cfg=tinyclip.cnn()["vision_cfg"])
    model = tinyclip.dual(folder / "tokenizer", made)
    return model, Context(
        model.example(),
        lambda samples, draw=0: [tinyclip.batch(8, seed=10 + draw + i) for i in range(2)],
        lambda: [tinyclip.batch(12, seed=30)],
    )


def _bert(folder: Path) -> tuple[Any, Context]:
    import torch

    from modelpress.models.classifier import TextClassifier
    from tests.models.conftest import tiny

    network = tiny("bert", labels=3, num_hidden_layers=2)
    model = TextClassifier(network, ["a", "b", "c"], tinyclip.write_tokenizer(folder / "tokenizer"))

    def texts(samples: int, draw: int = 0) -> list[dict[str, torch.Tensor]]:
        numbers = torch.Generator().manual_seed(draw)
        ids = [torch.randint(5, 95, (8, length), generator=numbers) for length in (6, 9, 20)]
        return [{"input_ids": x, "attention_mask": x * 0 + 1, "token_type_ids": x * 0} for x in ids]

    return model, Context(model.example(), texts, lambda: texts(8, 7))


def export(family: str, numbers: str, folder: Path) -> dict[str, Path]:
    """The files of its towers: float32 or INT8."""
    from modelpress.export.onnx import export as write
    from modelpress.transforms.quantize import Quantize

    model, context = network(family, folder)
    if numbers == "int8":
        transform = Quantize(samples=16)
        model = transform.finalize(transform.prepare(model, context))
    return write(model, folder / "onnx")
