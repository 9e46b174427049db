"""The recipe of a dual encoder. Torch-free: only :meth:`ClipModel.build` imports torch."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelpress.errors import ModelPressError, one_of
from modelpress.models import open_clip_names, preprocess, source
from modelpress.models.clip_files import OPEN_CLIP_CONFIG, OWN_CONFIG, preprocess_beside, read_config
from modelpress.models.clip_size import parameters
from modelpress.models.recipe import Recipe, Trained

if TYPE_CHECKING:
    from modelpress.models.base import Model

RECORD = "modelpress.json"
WISHES = ("lr", "max_epochs", "freeze_batch_norm")
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
FROM_TOKENIZER = ("vocab_size", "eos_id", "pad_id")  # of text_cfg: null takes them from the tokenizer


@dataclass
class ClipModel(Recipe):
    """Any dual encoder of open_clip, by name or by a config of one's own.

    Weights: those of ``path`` or of the tag ``pretrained``; else random, but for towers that bring their own
    (``image_weights``, and ``hf_model_pretrained`` in ``text_cfg``).

    Args:
        architecture: open_clip's name, as ViT-B-32, or ``{embed_dim, vision_cfg, text_cfg, …}``; null: that of
            ``path``. Numbers of ``text_cfg`` that follow from the tokenizer may be null.
        cache: folder in which tokenizer and preprocessing are put together.
        pretrained: open_clip's tag, downloaded once.
        path: a checkpoint (.safetensors, .pt, .pth, .bin) or a folder of open_clip or of ModelPress.
        image_size: other than the architecture's.
        preprocess: ``mean``, ``std``, ``interpolation``, ``resize_mode``; null: those of the tag, the teacher, or
            open_clip's own.
        tokenizer: source of a tokenizer instead of the architecture's.
        image_weights: file of a timm image tower (``package:…`` or a path), with its size and digest.
        trained: whether the weights already answer the dataset's question; ``auto``: if both towers were loaded.
        training: stage -> ``lr``, ``max_epochs``, ``freeze_batch_norm`` where this network wants others than the
            technique's yaml says; read by the config (``${wanted:…}``), not here.
    """

    name: str
    architecture: str | Mapping[str, Any] | None
    cache: str
    pretrained: str | None = None
    path: str | None = None
    image_size: int | Sequence[int] | None = None
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: str | None = None
    image_weights: str | None = None
    image_weights_sha256: str | None = None
    image_weights_bytes: int | None = None
    trained: Trained = "auto"
    training: Mapping[str, Mapping[str, float | bool]] = field(default_factory=dict)
    init: str = field(init=False, default="random")

    def __post_init__(self) -> None:
        if self.trained not in ("auto", True, False):
            raise ModelPressError(f"model.trained is {self.trained!r}; allowed: auto, true, false.")
        if self.path and self.pretrained:
            raise ModelPressError("model.path and model.pretrained are both given: choose one source of weights.")
        if self.pretrained and not isinstance(self.architecture, str):
            raise ModelPressError("model.pretrained is a tag of an architecture: set model.architecture to its name.")
        if self.architecture is None and not self.path:
            raise ModelPressError(
                f"model {self.name!r} needs model.architecture=<name of open_clip's>, or model.path=<folder>."
            )
        if isinstance(self.architecture, Mapping):
            missing = [key for key in open_clip_names.REQUIRED if key not in self.architecture]
            if missing:
                raise ModelPressError(f"model.architecture lacks {', '.join(missing)}.")
        for stage, wishes in self.training.items():
            for key in wishes:
                one_of(f"A key of model.training.{stage}", key, WISHES)
        self.init = "checkpoint" if self.path or self.pretrained else "random"

    def resolve(self, teacher: Recipe | None) -> ClipModel:
        """This recipe with what it leaves open taken from its teacher: the tokenizer, where the vocabulary is null,
        and the colours' mean and deviation, so that both may look at one batch.
        """
        if not isinstance(teacher, ClipModel) or self.init == "checkpoint":
            return self
        theirs = teacher.settings()
        given = {key: value for key, value in self.preprocess.items() if value is not None}
        made = replace(self, preprocess={"mean": theirs["mean"], "std": theirs["std"], **given})
        if self.tokenizer is None and self._raw()["text_cfg"].get("vocab_size", 0) is None:
            made.tokenizer = str(teacher.preprocessor())
        return made

    def settings(self) -> dict[str, Any]:
        """What ``preprocess.json`` holds."""
        return preprocess.settings(self.config(), self._colours())

    def config(self) -> dict[str, Any]:
        """open_clip's config of this network, complete; sources of a text tower as local folders."""
        config = self._raw()
        vision, text = config["vision_cfg"], config["text_cfg"]
        if self.image_size is not None:
            vision["image_size"] = self.image_size if isinstance(self.image_size, int) else list(self.image_size)
        if self.pretrained:
            config["quick_gelu"] = bool(self._tag().get("quick_gelu", False))
        if text.get("hf_model_name"):
            weights = text.get("hf_model_pretrained") and self.init == "random"
            text["hf_model_name"] = str((source.locate if weights else source.config_folder)(text["hf_model_name"]))
        open_numbers = [key for key in FROM_TOKENIZER if key in text and text[key] is None]
        if open_numbers:
            found = self._tokenizer_numbers()
            text |= {key: found[key] for key in open_numbers}
        return config

    def _raw(self) -> dict[str, Any]:
        if isinstance(self.architecture, Mapping):
            return copy.deepcopy(dict(self.architecture))
        if self.architecture is not None:
            return open_clip_names.architecture(self.architecture)
        return read_config(Path(str(self.path)).expanduser())

    def _tag(self) -> dict[str, Any]:
        return open_clip_names.tag(str(self.architecture), self.pretrained) if self.pretrained else {}

    def _colours(self) -> dict[str, Any]:
        """What is known of the preprocessing, later over earlier: the checkpoint's or the tag's, the yaml's."""
        known = {**preprocess_beside(self.path), **self._tag()}
        chosen = {key: value for key, value in self.preprocess.items() if value is not None}
        return {key: known[key] for key in preprocess.DEFAULTS if key in known} | chosen

    def _tokenizer(self) -> str | None:
        """Source of the tokenizer; ``None``: open_clip's own."""
        text = self._raw()["text_cfg"]
        return self.tokenizer or text.get("hf_tokenizer_name") or text.get("hf_model_name")

    def _tokenizer_numbers(self) -> dict[str, int]:
        from modelpress.data.tokenizer import TextTokenizer

        named = self._tokenizer()
        if named is None:
            return {"vocab_size": 49408, "eos_id": 49407, "pad_id": 0}
        tokenizer = TextTokenizer(source.tokenizer_folder(named))
        ends = tokenizer.frame()[1]
        return {"vocab_size": tokenizer.vocabulary, "eos_id": (ends or [2])[0], "pad_id": tokenizer.pad_id}

    def parameters(self, labels: int = 2) -> int | None:
        """See :meth:`Recipe.parameters`; ``None`` for towers of timm or transformers."""
        return parameters(self.config())

    def fingerprint(self) -> str:
        """See :meth:`Recipe.fingerprint`. ``name``, ``trained``, ``training`` and ``cache`` decide no weight here."""
        apart = ("name", "trained", "training", "cache")
        options = {key: value for key, value in asdict(self).items() if key not in apart}
        config = self.config()
        text = config["text_cfg"].pop("hf_model_name", None)
        options |= {
            "architecture": config,
            "text": source.folder_fingerprint(Path(text)) if text else None,
            "path": {file.name: source.file_sha256(file) for file in self._files()},
            "image_weights": source.file_sha256(self.image_weights_file()) if self.image_weights else None,
            "preprocess": source.file_sha256(self.preprocessor() / preprocess.FILE),
            "tokenizer": preprocess.tokenizer_fingerprint(self.preprocessor()),
        }
        return hashlib.sha256(json.dumps(options, sort_keys=True, default=list).encode()).hexdigest()

    def _files(self) -> list[Path]:
        if not self.path:
            return []
        path = self.checkpoint()
        return [path] if path.is_file() else [*sorted(path.glob("*.safetensors")), path / OWN_CONFIG]

    def preprocessor(self) -> Path:
        """Folder of the tokenizer and of ``preprocess.json``."""
        folder = Path(str(self.path)).expanduser() if self.path else None
        if folder is not None and (folder / preprocess.FILE).is_file():
            return folder
        return preprocess.assemble(self.config(), self._colours(), self._tokenizer(), Path(self.cache))

    def is_trained(self, labels: list[str]) -> bool:
        """See :meth:`Recipe.is_trained`. A dual encoder whose towers were trained together answers any labels."""
        return self.init == "checkpoint" if self.trained == "auto" else bool(self.trained)

    def build(self, *, labels: list[str], preprocessor: Path, teacher: Model | None, seed: int) -> Model:
        """See :meth:`Recipe.build`. Deterministic in ``seed``; PyTorch's global random state is left as it was.

        Raises:
            ModelPressError: weights that do not fit, or embeddings of different widths.
        """
        from modelpress.models.clip_building import build

        return build(self, labels=labels, preprocessor=preprocessor, seed=seed)

    @property
    def origin(self) -> str:
        """Where the weights come from, for the record."""
        text = self._raw()["text_cfg"]
        towers = [self.image_weights, text.get("hf_model_name") if text.get("hf_model_pretrained") else None]
        tag = f"{self.architecture} {self.pretrained}" if self.pretrained else None
        return self.path or tag or ", ".join(filter(None, towers)) or "random"

    def checkpoint(self) -> Path:
        """The file with the weights of ``path``, or the folder of a ModelPress model.

        Raises:
            ModelPressError: there is no such file, or its kind is not known.
        """
        path = Path(str(self.path)).expanduser()
        if (path / RECORD).is_file():
            return path
        files = [path] if path.is_file() else sorted(path.glob("*")) if path.is_dir() else []
        found = sorted(
            (file for file in files if file.suffix in WEIGHT_SUFFIXES), key=lambda file: file.suffix != ".safetensors"
        )
        if not found:
            raise ModelPressError(
                f"model.path={self.path} is no checkpoint. Give a file ({', '.join(WEIGHT_SUFFIXES)}), a folder with "
                f"one and {OPEN_CLIP_CONFIG}, or a folder that ModelPress saved."
            )
        return found[0]

    def image_weights_file(self) -> Path:
        """The file of the image tower's weights, verified against the digest of the yaml."""
        return source.weights_file(
            str(self.image_weights), sha256=self.image_weights_sha256, size=self.image_weights_bytes
        )
