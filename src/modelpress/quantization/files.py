"""What quantization adds to a saved model: ``numerics.json`` (what was done) and ``numerics.safetensors`` (ranges).

The weights beside them keep their names and stay float32, so that the folder opens in transformers too.
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modelpress.models.base import NUMERICS, Model
from modelpress.models.numerics import Numerics
from modelpress.quantization import batch_norm
from modelpress.quantization.attach import Scope, attach, quantizers_of, set_mode, twins_of

TENSORS = "numerics.safetensors"


def save(model: Model, folder: Path) -> None:
    """Write both files; a float model gets none (and loses those of an earlier save)."""
    for name in (NUMERICS, TENSORS):
        (folder / name).unlink(missing_ok=True)
    if model.numerics is None:
        return
    if twins_of(model):
        save_file(ranges(model), folder / TENSORS)
    (folder / NUMERICS).write_text(model.numerics.to_json() + "\n", encoding="utf-8")


def ranges(model: nn.Module) -> dict[str, Tensor]:
    """``<first reader>.scale``; where there are, ``<first reader>.balance`` and ``<layer>.correction``."""
    twins = twins_of(model)
    found = {
        f"{name}.correction": twin.correction.clone() for name, twin in twins.items() if twin.correction is not None
    }
    for name, quantizer in quantizers_of(model).items():
        found[f"{name}.scale"] = quantizer.scale.detach().clone()
        if quantizer.balance is not None:
            found[f"{name}.balance"] = quantizer.balance.clone()
    return found


def restore(model: Model, folder: Path) -> None:
    """Give a freshly loaded float model its numerics back."""
    model.numerics = Numerics.from_json((folder / NUMERICS).read_text(encoding="utf-8"))
    if model.numerics.kind != "int8":
        return
    batch_norm.refold(model, model.numerics.details["folded"])
    attach(model, scope_of(model.numerics))
    tensors = load_file(folder / TENSORS)
    for name, quantizer in quantizers_of(model).items():
        quantizer.scale = tensors[f"{name}.scale"]
        quantizer.balance = tensors.get(f"{name}.balance")
    for name, twin in twins_of(model).items():
        twin.correction = tensors.get(f"{name}.correction")
        twin.refresh()
    set_mode(model, "int8")


def scope_of(numerics: Numerics) -> Scope:
    """The scope that was attached, with the layers a search left in float."""
    details = numerics.details
    return Scope(
        activations=details["activations"],
        embeddings=details["embeddings"],
        attention=details["attention"],
        exclude=tuple(details["float_layers"]),
    )
