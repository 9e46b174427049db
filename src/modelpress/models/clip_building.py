"""From the recipe of a dual encoder to the network, with the weights it names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from modelpress.errors import ModelPressError
from modelpress.models.base import load
from modelpress.models.building import quiet
from modelpress.models.clip_network import Parts, check_widths, open_clip_network, split
from modelpress.models.dual import DualEncoder

if TYPE_CHECKING:
    from modelpress.models.clip import ClipModel


def build(recipe: ClipModel, *, labels: list[str], preprocessor: Path, seed: int) -> DualEncoder:
    """See :meth:`modelpress.models.recipe.Recipe.build`."""
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        if recipe.path and recipe.checkpoint().is_dir():
            return _reopened(recipe.checkpoint(), labels)
        config = recipe.config()
        made = DualEncoder(_parts(recipe, config), labels, preprocessor, config=config, weights=recipe.origin)
    _check(made)
    return made


def _reopened(folder: Path, labels: list[str]) -> DualEncoder:
    model = load(folder)
    if not isinstance(model, DualEncoder):
        raise ModelPressError(f"model.path={folder} holds a {type(model).__name__}, not a dual encoder.")
    model.labels = list(labels)
    return model


def _parts(recipe: ClipModel, config: Mapping[str, Any]) -> Parts:
    network: Any = open_clip_network(config, text_weights=not recipe.path and not recipe.pretrained)
    if recipe.image_weights:
        load_trunk(network.visual.trunk, recipe.image_weights_file())
    if recipe.path:
        load_checkpoint(network, recipe.checkpoint())
    elif recipe.pretrained:
        load_checkpoint(network, _downloaded(recipe))
    return split(network)


def _downloaded(recipe: ClipModel) -> Path:
    from open_clip.pretrained import download_pretrained

    from modelpress.models.open_clip_names import tag

    facts = tag(str(recipe.architecture), str(recipe.pretrained))
    try:
        return Path(download_pretrained(facts))
    except (OSError, RuntimeError) as error:  # urllib's and the hub's errors among them
        raise ModelPressError(
            f"The weights of {recipe.origin} ({facts.get('hf_hub') or facts.get('url')}) cannot be downloaded: "
            f"{str(error).splitlines()[0]} Download them elsewhere and set model.path=<file> (and model.pretrained="
            "null), or leave both null for random weights."
        ) from error


def load_checkpoint(network: nn.Module, file: Path) -> None:
    """open_clip's own reading, which converts the weights of other libraries.

    Raises:
        ModelPressError: the file holds more than tensors, or they do not fit.
    """
    from open_clip.factory import load_checkpoint as read

    try:
        read(network, str(file), weights_only=True)
    except Exception as error:
        raise ModelPressError(
            f"{file} cannot be loaded into this architecture: {_short(error)} Check model.architecture; a file that "
            "holds more than tensors must be saved again as safetensors, for unpickling it could run foreign code."
        ) from error


def load_trunk(trunk: nn.Module, file: Path) -> None:
    """Weights of a timm network, under its names or under others in the same order; its classifier may be absent.

    Raises:
        ModelPressError: they do not fit.
    """
    given = read_tensors(file)
    wanted = {name: tensor for name, tensor in trunk.state_dict().items()}
    if not set(wanted) <= set(given):
        pairs = zip(wanted.items(), given.values(), strict=False)
        given = {name: tensor for (name, own), tensor in pairs if own.shape == tensor.shape}
    missing = [name for name in wanted if name not in given or wanted[name].shape != given[name].shape]
    if missing:
        raise ModelPressError(
            f"{file} lacks {len(missing)} of {len(wanted)} weights of {type(trunk).__name__}: {missing[0]}, …. Check "
            "the name of the architecture."
        )
    trunk.load_state_dict({name: given[name] for name in wanted})


def read_tensors(file: Path) -> dict[str, Tensor]:
    """A state dict, without unpickling anything but tensors."""
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(file))
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelPressError(
            f"{file} holds more than tensors, and unpickling it could run foreign code. Save it again as "
            f"safetensors. PyTorch said: {_short(error)}"
        ) from error
    return dict(found.get("state_dict", found))


def _short(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] or type(error).__name__


@torch.no_grad()
def _check(model: DualEncoder) -> None:
    """One text and one image go through: widths that do not fit show here, not in an hour."""
    example = {name: tensor[:1] for name, tensor in model.example().items()}
    check_widths(model.image(example["pixel_values"]), model.text(example["input_ids"]))
