"""The recipe of an image classifier of timm. Torch-free, unless timm has to be asked for what the yaml leaves null."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelpress.errors import ModelPressError
from modelpress.models import preprocess, source
from modelpress.models.recipe import Recipe, Trained

if TYPE_CHECKING:
    from modelpress.models.base import Model

RECORD, WEIGHTS, CONFIG = "modelpress.json", "model.safetensors", "config.json"


@dataclass
class ImageModel(Recipe):
    """Any network of timm that ends in a classifier, resized to the dataset's labels.

    Args:
        architecture: timm's name; null: that of ``path``.
        cache: folder in which ``preprocess.json`` is put.
        path: weights (.safetensors, .pth, ``package:…``) or a folder that ModelPress saved; null: random ones.
        pretrained: download timm's own weights of this name (then ``path`` is null).
        image_size: side of the square that the network takes; null: timm's.
        preprocess: ``mean``, ``std``, ``interpolation``, ``crop_pct``; null: timm's.
        trained: whether the weights already answer the dataset's question; ``auto``: if ``path`` is ModelPress's and
            has the same labels.
        weights_sha256, weights_bytes: refuse a file that differs.
    """

    name: str
    architecture: str | None
    cache: str
    path: str | None = None
    pretrained: bool = False
    image_size: int | None = None
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    trained: Trained = "auto"
    weights_sha256: str | None = None
    weights_bytes: int | None = None
    init: str = field(init=False, default="random")

    def __post_init__(self) -> None:
        if self.trained not in ("auto", True, False):
            raise ModelPressError(f"model.trained is {self.trained!r}; allowed: auto, true, false.")
        if self.path and self.pretrained:
            raise ModelPressError("model.path and model.pretrained are both given: choose one source of weights.")
        if self.architecture is None and self._saved() is None:
            raise ModelPressError(f"model {self.name!r} needs model.architecture=<name of timm's>, or a saved path.")
        self.init = "checkpoint" if self.path or self.pretrained else "random"

    def _saved(self) -> Path | None:
        """``path`` if ModelPress saved it."""
        folder = Path(str(self.path)).expanduser()
        return folder if self.path and (folder / RECORD).is_file() else None

    def saved_labels(self) -> list[str] | None:
        """Labels of a network that ModelPress saved."""
        folder = self._saved()
        if folder is None:
            return None
        found: list[str] = json.loads((folder / RECORD).read_text(encoding="utf-8"))["labels"]
        return found

    def timm_name(self) -> str:
        """``architecture``, or that of ``path``."""
        folder = self._saved()
        if self.architecture is not None or folder is None:
            return str(self.architecture)
        return str(json.loads((folder / CONFIG).read_text(encoding="utf-8"))["architecture"])

    def file(self) -> Path | None:
        """The weights, verified; ``None``: timm's or random ones."""
        if self.path is None:
            return None
        folder = self._saved()
        given = str(folder / WEIGHTS) if folder else self.path
        return source.weights_file(given, sha256=self.weights_sha256, size=self.weights_bytes)

    def settings(self) -> dict[str, Any]:
        """What ``preprocess.json`` holds."""
        chosen = {key: value for key, value in self.preprocess.items() if value is not None}
        known = {"mean", "std", "interpolation"} <= chosen.keys() and self.image_size is not None
        asked = {} if known else self._timm()
        crop = float(chosen.pop("crop_pct", asked.get("crop_pct", 1.0)))
        side = self.image_size or asked["input_size"][-1]
        made = {key: chosen.get(key, asked.get(key)) for key in ("mean", "std", "interpolation")}
        config = {"vision_cfg": {"image_size": side}, "text_cfg": {}}
        settings = preprocess.settings(config, {**made, "resize_mode": chosen.get("resize_mode")})
        return {key: value for key, value in settings.items() if key not in ("context_length", "pad")} | {
            "crop_pct": crop
        }

    def _timm(self) -> dict[str, Any]:
        from modelpress.models.image_classifier import default_config

        return default_config(self.timm_name())

    def preprocessor(self) -> Path:
        """Folder of ``preprocess.json``."""
        folder = self._saved()
        if folder is not None:
            return folder
        text = json.dumps(self.settings(), indent=2) + "\n"
        folder = Path(self.cache) / hashlib.sha256(text.encode()).hexdigest()[:16]
        if not (folder / preprocess.FILE).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            preprocess.write_whole(folder / preprocess.FILE, text)
        return folder

    def fingerprint(self) -> str:
        """See :meth:`Recipe.fingerprint`."""
        options = {key: value for key, value in asdict(self).items() if key not in ("name", "trained", "cache", "path")}
        file = self.file()
        options["weights"] = source.file_sha256(file) if file else None
        options["preprocess"] = source.file_sha256(self.preprocessor() / preprocess.FILE)
        return hashlib.sha256(json.dumps(options, sort_keys=True, default=list).encode()).hexdigest()

    def parameters(self, labels: int = 2) -> int | None:
        """``None``: only timm knows."""
        return None

    def is_trained(self, labels: list[str]) -> bool:
        """See :meth:`Recipe.is_trained`."""
        return self.saved_labels() == labels if self.trained == "auto" else bool(self.trained)

    def build(self, *, labels: list[str], preprocessor: Path, teacher: Model | None, seed: int) -> Model:
        """See :meth:`Recipe.build`. Deterministic in ``seed``.

        Raises:
            ModelPressError: an architecture that timm does not know, or weights that do not fit.
        """
        from modelpress.models.image_classifier import build

        return build(self, labels=labels, preprocessor=preprocessor, seed=seed)
