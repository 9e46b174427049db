"""Any network of timm as a :class:`Model` that classifies images."""

from __future__ import annotations

import json
import warnings
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from modelpress.errors import ModelPressError
from modelpress.models.base import Batch, Model, Output, Tower
from modelpress.models.clip_tower import resized
from modelpress.models.fit import load_fitted
from modelpress.models.image import CONFIG, RECORD, WEIGHTS
from modelpress.models.preprocess import FILE as PREPROCESS

if TYPE_CHECKING:
    from modelpress.models.image import ImageModel


class Graph(nn.Module):
    """(B, 3, H, W) -> (B, C)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, *tensors: Tensor) -> Tensor:
        logits: Tensor = self.network(*tensors)
        return logits


class ImageClassifier(Model):
    """Logits of one image. ``architecture`` is timm's name; ``preprocessor`` the folder of ``preprocess.json``."""

    def __init__(self, network: Any, labels: list[str], preprocessor: Path, *, architecture: str, weights: str) -> None:
        super().__init__()
        self.network = network
        self.labels = list(labels)
        self.preprocess: dict[str, Any] = json.loads((Path(preprocessor) / PREPROCESS).read_text(encoding="utf-8"))
        self.architecture, self.weights = architecture, weights
        self.eval()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images that the network takes."""
        height, width = self.preprocess["size"]
        return height, width

    def forward(self, batch: Batch) -> Output:
        """``pixel_values`` (B, 3, H, W); other sizes than the network's own are resized."""
        return Output(logits=self.network(resized(batch["pixel_values"], self.size)))

    def capture(self, needs: frozenset[str]) -> None:
        """See :meth:`Model.capture`: an image classifier hands out nothing but logits."""
        if needs:
            raise ModelPressError(
                f"An image classifier does not hand out {' or '.join(sorted(needs))}: set those weights of the "
                "objective to 0 (hidden, attention, embedding, cosine)."
            )

    def example(self) -> dict[str, Tensor]:
        """Two random images."""
        pixels = torch.randn(2, 3, *self.size, generator=torch.Generator().manual_seed(0))
        return {"pixel_values": pixels.to(next(self.parameters()).device)}

    def towers(self) -> list[Tower]:
        """One graph, ``main``; batch is dynamic."""
        axes = {"pixel_values": {0: "batch"}}
        return [Tower("main", Graph(self.network), self.example(), ("logits",), axes)]

    def sensitive(self) -> tuple[str, ...]:
        """The classifier: a handful of rows that decide everything."""
        head = self.network.get_classifier()
        return tuple(name for name, module in self.named_modules() if module is head)

    def save(self, folder: Path) -> None:
        """Write weights, timm's name and ``preprocess.json`` into ``folder``."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        record = {
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "labels": self.labels,
            "weights": self.weights,
        }
        config = {"architecture": self.architecture, "num_classes": len(self.labels)}
        for name, content in ((RECORD, record), (CONFIG, config), (PREPROCESS, self.preprocess)):
            (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        tensors = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
        save_file(tensors, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> ImageClassifier:
        """Open what :meth:`save` wrote, in evaluation mode."""
        from safetensors.torch import load_file

        record, config, settings = (
            json.loads((folder / name).read_text(encoding="utf-8")) for name in (RECORD, CONFIG, PREPROCESS)
        )
        with torch.random.fork_rng(devices=[]):
            network = create(config["architecture"], len(record["labels"]), settings["size"])
        load_fitted(network, load_file(folder / WEIGHTS))
        return cls(network, record["labels"], folder, architecture=config["architecture"], weights=record["weights"])


def create(architecture: str, classes: int, size: list[int], *, pretrained: bool = False) -> Any:
    """Timm's network for images of this size. Raises :class:`ModelPressError` with the nearest names."""
    import timm

    default_config(architecture)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's notes on its own registry
        network: Any = timm.create_model(architecture, pretrained=pretrained, num_classes=classes)
    if hasattr(network, "set_input_size"):
        network.set_input_size(tuple(size))
    return network


def default_config(architecture: str) -> dict[str, Any]:
    """Timm's preprocessing of an architecture."""
    import timm
    from timm.models import get_pretrained_cfg

    if not timm.is_model(architecture):
        names = timm.list_models()
        near = get_close_matches(architecture, names, n=5, cutoff=0.3)
        raise ModelPressError(
            f"model.architecture is {architecture!r}, which timm does not know. Nearest: {', '.join(near)} "
            f"({len(names)} in all)."
        )
    found: Any = get_pretrained_cfg(architecture)
    return {key: getattr(found, key) for key in ("mean", "std", "interpolation", "input_size", "crop_pct")}


def build(recipe: ImageModel, *, labels: list[str], preprocessor: Path, seed: int) -> ImageClassifier:
    """See :meth:`modelpress.models.recipe.Recipe.build`."""
    from modelpress.models.clip_building import load_trunk

    if recipe.saved_labels() == labels:
        return ImageClassifier.load(Path(str(recipe.path)).expanduser())
    size = json.loads((preprocessor / PREPROCESS).read_text(encoding="utf-8"))["size"]
    architecture = recipe.timm_name()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = create(architecture, 0, size, pretrained=recipe.pretrained)
        file = recipe.file()
        if file is not None:
            load_trunk(network, file)
        network.reset_classifier(len(labels))
    weights = recipe.path or ("timm" if recipe.pretrained else "random")
    return ImageClassifier(network, labels, preprocessor, architecture=architecture, weights=weights)
