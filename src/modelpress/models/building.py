"""From a recipe to a network: load a checkpoint, start from noise, or cut out of a teacher."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as hf_logging

from modelpress.errors import ModelPressError
from modelpress.models import architecture as arch
from modelpress.models.base import Model, parameter_count
from modelpress.models.classifier import TextClassifier, head_projection, open_tokenizer
from modelpress.models.init import initialise

if TYPE_CHECKING:
    from modelpress.models.text import TextModel

# Facts about one checkpoint, not about the architecture: a student does not inherit them.
_NOT_INHERITED = ("architectures", "id2label", "label2id", "transformers_version", "_name_or_path", "dtype", "auto_map")


def build(
    recipe: TextModel, *, labels: list[str], preprocessor: Path, teacher: Model | None, seed: int
) -> TextClassifier:
    """See :meth:`modelpress.models.recipe.Recipe.build`."""
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        if recipe.init == "checkpoint":
            network = _from_checkpoint(recipe, labels)
        elif recipe.init == "random":
            network = _from_config(_own_config(recipe, preprocessor, teacher), labels)
        else:
            network = _from_teacher(recipe, labels, preprocessor, teacher, seed)
        return TextClassifier(network, labels, preprocessor, trust_remote_code=recipe.trust_remote_code)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' report of new heads (we check it ourselves) and its progress bars."""
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


def _from_checkpoint(recipe: TextModel, labels: list[str]) -> PreTrainedModel:
    folder, order = recipe.folder(), recipe.head_order(labels)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=recipe.trust_remote_code)
    if order is None:
        config.num_labels = len(labels)
    network, info = _load(folder, config, recipe.trust_remote_code)
    _check_complete(network, info["missing_keys"], str(recipe.path), headless=order is None)
    head = head_projection(network)
    if order is None:
        nn.init.normal_(head.weight, std=getattr(config, "initializer_range", 0.02))
        nn.init.zeros_(head.bias)
    else:
        with torch.no_grad():
            head.weight.copy_(head.weight[order].clone())
            head.bias.copy_(head.bias[order].clone())
    return _named(network, labels)


def _load(folder: Path, config: PreTrainedConfig, trust_remote_code: bool) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Weights in fp32 from safetensors; of a lone ``pytorch_model.bin`` only tensors (``weights_only=True``)."""
    options: dict[str, Any] = {
        "config": config,
        "dtype": torch.float32,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,
        "trust_remote_code": trust_remote_code,
    }
    auto: Any = AutoModelForSequenceClassification
    if any(folder.glob("*.safetensors")):
        network, info = auto.from_pretrained(folder, use_safetensors=True, **options)
    else:
        cls = type(auto.from_config(config, trust_remote_code=trust_remote_code))
        del options["trust_remote_code"]
        network, info = cls.from_pretrained(None, state_dict=_read_bin(folder), **options)
    return network, info


def _read_bin(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise ModelPressError(f"{folder} has no weights: expected model.safetensors (or pytorch_model.bin).")
    state: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            state |= torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ModelPressError(
                f"{file} holds more than tensors, and unpickling it could run foreign code. Save the model again as "
                f"safetensors (model.save_pretrained(folder)). PyTorch said: {str(error).splitlines()[0]}"
            ) from error
    return state


def _check_complete(network: PreTrainedModel, missing: set[str] | list[str], path: str, *, headless: bool) -> None:
    """A checkpoint of another architecture would otherwise load as noise without a word."""
    base = network.base_model_prefix + "."
    absent = sorted(key for key in missing if not headless or (key.startswith(base) and ".pooler." not in key))
    if absent:
        shown = ", ".join(absent[:3]) + (" …" if len(absent) > 3 else "")
        raise ModelPressError(f"{path} lacks {len(absent)} weights of a {network.config.model_type} encoder: {shown}.")


def _from_config(config: PreTrainedConfig, labels: list[str]) -> PreTrainedModel:
    config.num_labels = len(labels)
    network: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
    return _named(network.float(), labels)


def _from_teacher(
    recipe: TextModel, labels: list[str], preprocessor: Path, teacher: Model | None, seed: int
) -> PreTrainedModel:
    if not isinstance(teacher, TextClassifier):
        raise ModelPressError(f"model {recipe.name!r} has init=teacher: it needs a text classifier as its teacher.")
    student = _from_config(_own_config(recipe, preprocessor, teacher), labels)
    chosen = arch.layer_map(recipe.layer_map, student.config.num_hidden_layers, teacher.num_layers)
    ours, theirs = parameter_count(student), parameter_count(teacher)
    initialise(student, teacher.network, chosen, seed=seed, frame=_frame(preprocessor))
    if ours >= theirs:
        raise ModelPressError(
            f"The student {recipe.name!r} has {ours:,} parameters and its teacher {theirs:,}: a student must be "
            "smaller. "
            "Choose a smaller model, or a larger model@teacher."
        )
    if teacher.labels != labels:
        _reorder_head(student, teacher.labels, labels)
    return student


def _frame(preprocessor: Path) -> tuple[int, int] | None:
    """Ids of the tokens around a sentence, as [CLS] and [SEP]."""
    tokenizer = open_tokenizer(preprocessor)
    ends = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    return (int(ends[0]), int(ends[1])) if None not in ends else None


def _reorder_head(student: PreTrainedModel, theirs: list[str], ours: list[str]) -> None:
    """The teacher's head speaks its own order of labels; other labels make its head useless."""
    head = head_projection(student)
    with torch.no_grad():
        if sorted(theirs) == sorted(ours):
            order = [theirs.index(label) for label in ours]
            head.weight.copy_(head.weight[order].clone())
            head.bias.copy_(head.bias[order].clone())
        else:
            head.weight.normal_(std=getattr(student.config, "initializer_range", 0.02))
            head.bias.zero_()


def _own_config(recipe: TextModel, preprocessor: Path, teacher: Model | None) -> PreTrainedConfig:
    """The yaml's architecture, its nulls filled from the teacher, else from the tokenizer and the type's defaults."""
    given = {key: value for key, value in (recipe.architecture or {}).items() if value is not None}
    model_type = str(given.pop("model_type"))
    theirs = teacher.network.config.to_dict() if isinstance(teacher, TextClassifier) else {}
    values: dict[str, Any] = {}
    if theirs.get("model_type") == model_type:
        values = {key: value for key, value in theirs.items() if key not in (*_NOT_INHERITED, "model_type")}
    elif theirs:
        values = {key: theirs[key] for key in ("pad_token_id", "initializer_range") if key in theirs}
    values |= _inherited(recipe.architecture or {}, theirs)
    if not theirs:
        values |= _from_tokenizer(preprocessor)
        _refuse_unknown(recipe, given)
    try:
        config: PreTrainedConfig = AutoConfig.for_model(model_type, **(values | given))
    except (ValueError, TypeError) as error:
        raise ModelPressError(f"model {recipe.name!r}: transformers refuses this architecture: {error}") from error
    return config


def _inherited(own: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    ours, taught = arch.read(own), arch.read(theirs)
    if ours is None or taught is None:
        return {}
    numbers = arch.write(arch.inherit(ours, taught))
    return {key: value for key, value in numbers.items() if value is not None}


def _from_tokenizer(preprocessor: Path) -> dict[str, Any]:
    tokenizer = open_tokenizer(preprocessor)
    known = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    return {key: value for key, value in known.items() if value is not None}


def _refuse_unknown(recipe: TextModel, given: Mapping[str, Any]) -> None:
    numbers = recipe.numbers()
    needed = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    unknown = [name for name in needed if numbers is not None and getattr(numbers, name) is None]
    if unknown:
        raise ModelPressError(f"model {recipe.name!r} has no teacher to take {', '.join(unknown)} from: set them.")


def _named(network: PreTrainedModel, labels: list[str]) -> PreTrainedModel:
    network.config.id2label = dict(enumerate(labels))
    network.config.label2id = {label: i for i, label in enumerate(labels)}
    network.eval()
    return network
