"""Every kind of network that the project exports, in miniature, in all its numbers, as ONNX files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modelpress.transforms.base import Context, Transform
from tests import tinyclip

TEXTS = ("bert", "distilbert", "roberta", "electra")
IMAGES = {"convolutions": "test_efficientnet", "vit": "test_vit"}  # timm's own miniatures
SIDE = 64
CLIPS = ("clip_vit", "clip_cnn")
PRUNED: Mapping[str, tuple[str, Mapping[str, Any]]] = {  # family -> what it was, and what PruneStructured is told
    "bert_layers_heads_neurons_width": ("bert", {"remove": ["layers", "heads", "neurons", "width"]}),
    "clip_blocks": ("clip_vit", {"remove": ["heads", "neurons"]}),
    "convolutions_channels": (
        "convolutions",
        {"remove": ["channels"], "importance": "magnitude", "sparsity": 0.3, "round_to": 4},
    ),
}
ONCE = {"importance": "magnitude", "schedule": "one_shot", "begin": 0.0}
ZEROS: Mapping[str, tuple[str, Mapping[str, Any]]] = {  # the same of Prune
    "bert_2_of_4": ("bert", {"sparsity": None, "pattern": "2:4", **ONCE}),
    "convolutions_zeros": ("convolutions", ONCE),
}
FAMILIES = (*TEXTS, *IMAGES, *CLIPS, *PRUNED, *ZEROS)
THOROUGH = ("bert", "clip_vit", "convolutions")  # built in every number and with several profiles, which takes time
#: numbers -> families of which nothing but these numbers is new
FURTHER = {
    "attention": ("bert", "clip_vit"),  # INT8 in the products inside attention too
    "dynamic": ("bert", "convolutions"),
    "fp16": ("bert", "convolutions"),  # technique=fp16: the file itself is typed
    "bf16": ("bert", "convolutions"),
}


def export(family: str, numbers: str, folder: Path) -> dict[str, Path]:
    """The files of its towers: fp32, int8 or one of :data:`FURTHER`."""
    from modelpress.export.onnx import export as write

    model = network(family, folder)
    context = context_of(model)
    for transform in (_reshaping(family), _rounding(numbers)):
        if transform is not None:
            model = transform.prepare(model, context)
            transform.step(model, 0.0)
            model = transform.finalize(model)
    return write(model, folder / "onnx")


def network(family: str, folder: Path) -> Any:
    """Random weights, before anything is removed."""
    start = {**PRUNED, **ZEROS}.get(family, (family,))[0]
    if start in TEXTS:
        return _text(start, folder)
    if start in IMAGES:
        return _image(IMAGES[start], folder)
    made = tinyclip.CONFIG
    if start == "clip_cnn":
        made = tinyclip.bert(folder / "bert", vision_cfg=tinyclip.cnn()["vision_cfg"])
    return tinyclip.dual(folder / "tokenizer", made)


def _text(model_type: str, folder: Path) -> Any:
    from modelpress.models.classifier import TextClassifier
    from tests.models.conftest import tiny

    layers = {"n_layers" if model_type == "distilbert" else "num_hidden_layers": 2}
    labels = ["a", "b", "c"]
    return TextClassifier(tiny(model_type, labels=3, **layers), labels, tinyclip.write_tokenizer(folder / "tokenizer"))


def _image(architecture: str, folder: Path) -> Any:
    from modelpress.models.image import ImageModel

    recipe = ImageModel("timm", architecture, str(folder / "preprocessor"), image_size=SIDE)
    return recipe.build(labels=["a", "b", "c"], preprocessor=recipe.preprocessor(), teacher=None, seed=0)


def context_of(model: Any) -> Context:
    """What calibration is given: two batches of random items, or three of texts of different lengths."""

    def batches(samples: int = 16, draw: int = 0) -> list[dict[str, Any]]:
        return _batches(list(model.example()), draw)

    return Context(model.example(), batches, lambda: batches(draw=7))


def _batches(inputs: list[str], draw: int) -> list[dict[str, Any]]:
    import torch

    if "pixel_values" in inputs and "input_ids" in inputs:
        return [tinyclip.batch(8, seed=10 + draw + i) for i in range(2)]
    numbers = torch.Generator().manual_seed(draw)
    labels = {"labels": torch.arange(8) % 3}
    if "pixel_values" in inputs:
        return [{"pixel_values": torch.randn(8, 3, SIDE, SIDE, generator=numbers), **labels} for _ in range(2)]
    ids = [torch.randint(5, 95, (8, length), generator=numbers) for length in (6, 9, 20)]
    made: Mapping[str, Callable[[Any], Any]] = {
        "input_ids": lambda x: x, "attention_mask": torch.ones_like, "token_type_ids": torch.zeros_like
    }  # fmt: skip
    return [{name: made[name](x) for name in inputs} | labels for x in ids]


def _reshaping(family: str) -> Transform | None:
    from modelpress.transforms.prune import Prune
    from modelpress.transforms.prune_structured import PruneStructured

    if family in PRUNED:
        return PruneStructured(**{"sparsity": 0.5, "round_to": 1, **PRUNED[family][1]})
    return Prune(**ZEROS[family][1]) if family in ZEROS else None


def _rounding(numbers: str) -> Transform | None:
    from modelpress.transforms.precision import Precision
    from modelpress.transforms.quantize import Quantize

    if numbers in ("fp16", "bf16"):
        return Precision(numbers, max_difference=10.0, min_agreement=0.0, samples=16)
    options = {"int8": {}, "attention": {"attention": True}, "dynamic": {"activations": "dynamic"}}
    return Quantize(samples=16, **options[numbers]) if numbers in options else None
