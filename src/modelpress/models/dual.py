"""A dual encoder (CLIP): an image tower and a text tower whose embeddings meet in one space."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.errors import ModelPressError
from modelpress.models.attention import SCORES, training_kernel
from modelpress.models.base import Batch, Model, Output, Tower
from modelpress.models.clip_network import Parts, open_clip_network, split
from modelpress.models.clip_tower import ImageTower, TextTower, huggingface, resized
from modelpress.models.fit import load_fitted
from modelpress.models.preprocess import FILE as PREPROCESS
from modelpress.models.preprocess import copy_preprocessor
from modelpress.models.probe import evaluating
from modelpress.models.separate import SeparateAttention

CONFIG, WEIGHTS, TEXT = "config.json", "model.safetensors", "text"
LARGEST_SCALE = 100.0  # as CLIP's own training clamps it (arXiv:2103.00020)
EXAMPLE_TOKENS = 16


class DualEncoder(Model):
    """Cosines of images and texts, times a learned scale ("Learning Transferable Visual Models From Natural Language
    Supervision", arXiv:2103.00020).

    With texts to choose from (:meth:`answer`) it is a classifier of images. Images of another size than its own are
    resized: a student and its teacher may look at one batch.

    Args:
        parts: the towers, see :mod:`modelpress.models.clip_network`.
        config: open_clip's, from which the towers were made.
        preprocessor: folder of the tokenizer and of ``preprocess.json``, which travel with the weights.
        weights: where they came from, for the record: ``random``, a tag, a file.
    """

    candidates: Tensor | None  # (C, E), of length 1

    def __init__(
        self, parts: Parts, labels: list[str], preprocessor: Path, *, config: Mapping[str, Any], weights: str
    ) -> None:
        super().__init__()
        self.image, self.text = parts.image, parts.text
        self.logit_scale, self.logit_bias = parts.scale, parts.bias
        self.labels = list(labels)
        self.preprocessor = Path(preprocessor)
        self.preprocess: dict[str, Any] = json.loads((self.preprocessor / PREPROCESS).read_text(encoding="utf-8"))
        self.config, self.weights = dict(config), weights
        self.register_buffer("candidates", None, persistent=False)
        self.eval()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images that the image tower takes."""
        height, width = self.preprocess["size"]
        return height, width

    @property
    def embedding_width(self) -> int:
        """E."""
        return int(self.config["embed_dim"])

    def forward(self, batch: Batch) -> Output:
        """``pixel_values`` (B, 3, H, W) and/or ``input_ids`` (B, S); keys it does not know are ignored.

        ``logits`` are (B, B), images against texts, if both are there, and (B, C), images against the candidates, if
        those are known.
        """
        embeddings: dict[str, Tensor] = {}
        if "pixel_values" in batch:
            embeddings["image"] = self._image(batch["pixel_values"])
        if "input_ids" in batch:
            embeddings["text"] = self._text(batch["input_ids"])
        scale = self.logit_scale.exp().clamp(max=LARGEST_SCALE)
        texts = embeddings.get("text", self.candidates)
        logits = None
        if "image" in embeddings and texts is not None:
            with torch.autocast(scale.device.type, enabled=False):  # bf16 has steps of a half where logits reach 100
                logits = scale.float() * embeddings["image"].float() @ texts.float().T
            logits = logits if self.logit_bias is None else logits + self.logit_bias
        return Output(logits=logits, embeddings=embeddings, scale=scale)

    def _image(self, pixels: Tensor) -> Tensor:
        return F.normalize(self.image(resized(pixels, self.size)), dim=-1)

    def _text(self, ids: Tensor) -> Tensor:
        with training_kernel(ids) if self.training else nullcontext():
            return F.normalize(self.text(ids), dim=-1)

    @torch.no_grad()
    def answer(self, prompts: Iterable[Batch]) -> None:
        """Keep the texts to choose from; ``labels`` say which candidate each belongs to.

        Several texts of one candidate count by the mean of their embeddings, of length 1 again.

        Raises:
            ModelPressError: there is no prompt, or a candidate below the largest label has none.
        """
        device = self.logit_scale.device
        with evaluating(self):
            found = [(batch["labels"].to(device), self._text(batch["input_ids"].to(device))) for batch in prompts]
        if not found:
            raise ModelPressError("A dual encoder chooses between texts, and no prompt was given.")
        owners, embeddings = (torch.cat(parts) for parts in zip(*found, strict=True))
        missing = sorted(set(range(int(owners.max()) + 1)) - set(owners.tolist()))
        if missing:
            raise ModelPressError(f"Candidate {missing[0]} has no prompt ({len(missing)} such in all).")
        self.candidates = means(embeddings, owners)

    def capture(self, needs: frozenset[str]) -> None:
        """See :meth:`Model.capture`: there is nothing to ask for, embeddings are always there."""
        if needs:
            raise ModelPressError(
                f"A dual encoder does not hand out {' or '.join(sorted(needs))}: set those weights of the objective "
                "to 0. Its embeddings can be compared (hidden, cosine, interactive, affinity)."
            )

    def example(self) -> dict[str, Tensor]:
        """Two random images and two texts, the second one shorter."""
        pixels = torch.randn(2, 3, *self.size, generator=torch.Generator().manual_seed(0))
        length = self.preprocess["context_length"]
        length = length if self.preprocess["pad"] else min(length, EXAMPLE_TOKENS)
        last = end_token(self.text)
        ids = torch.arange(2 * length).reshape(2, length) % (last - 1) + 1
        cut = max(2, length * 2 // 3)
        ids[ids == pad_token(self.text)] = last
        ids[1, cut:] = pad_token(self.text)
        ids[0, -1] = ids[1, cut - 1] = last
        device = self.logit_scale.device
        return {"pixel_values": pixels.to(device), "input_ids": ids.to(device)}

    def towers(self) -> list[Tower]:
        """Two graphs that end in embeddings of length 1 (B, E); batch is dynamic, and the sequence where padding
        changes nothing.
        """
        example = self.example()
        axes = {0: "batch"} if self.preprocess["pad"] else {0: "batch", 1: "sequence"}
        image, text = ImageTower(self.image), TextTower(self.text, self.preprocess["context_length"])
        pixels, ids = ({name: example[name]} for name in ("pixel_values", "input_ids"))
        return [
            Tower("image", image, pixels, ("image_embeddings",), {"pixel_values": {0: "batch"}}),
            Tower("text", text, ids, ("text_embeddings",), {"input_ids": axes}),
        ]

    def attention_layers(self) -> list[nn.Module]:
        """See :meth:`Model.attention_layers`; timm's towers run fused kernels and offer none."""
        encoder = huggingface(self.text)
        found: list[nn.Module] = [layer for layer in self.modules() if isinstance(layer, SeparateAttention)]
        if encoder is not None:
            encoder.set_attn_implementation(SCORES)
            found += [layer for layer in encoder.modules() if hasattr(layer, "attention_head_size")]
        if not found:
            raise ModelPressError(
                "The products inside the attention of these towers cannot be quantized: set transform.attention=false."
            )
        return found

    def save(self, folder: Path) -> None:
        """Write weights, config, tokenizer and ``preprocess.json`` into ``folder``."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        copy_preprocessor(self.preprocessor, folder)
        encoder = huggingface(self.text)
        if encoder is not None:
            encoder.config.save_pretrained(folder / TEXT)
        text = {**self.config["text_cfg"], **({"hf_model_name": TEXT} if encoder is not None else {})}
        config = {**self.config, "text_cfg": text}
        record = {
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "labels": self.labels,
            "weights": self.weights,
        }
        for name, content in ((CONFIG, config), ("modelpress.json", record)):
            (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> DualEncoder:
        """Open what :meth:`save` wrote, in evaluation mode. Needs no network and unpickles nothing."""
        from safetensors.torch import load_file

        record, config = (
            json.loads((folder / name).read_text(encoding="utf-8")) for name in ("modelpress.json", CONFIG)
        )
        if "hf_model_name" in config["text_cfg"]:
            config["text_cfg"]["hf_model_name"] = str(folder / TEXT)
        with torch.random.fork_rng(devices=[]):
            parts = split(open_clip_network(config))
        model = cls(parts, record["labels"], folder, config=config, weights=record["weights"])
        load_fitted(model, load_file(folder / WEIGHTS))
        return model


def means(embeddings: Tensor, owners: Tensor) -> Tensor:
    """(C, E) of length 1: the mean of the rows (N, E) that belong to each of the owners (N,), numbered from 0."""
    sums = embeddings.new_zeros(int(owners.max()) + 1, embeddings.shape[1])
    return F.normalize(sums.index_add_(0, owners, embeddings), dim=-1)


def pad_token(text: nn.Module) -> int:
    """Id that fills a text tower's shorter texts."""
    encoder = huggingface(text)
    return int(encoder.config.pad_token_id or 0) if encoder is not None else int(text.pad_id)  # type: ignore[arg-type]


def end_token(text: nn.Module) -> int:
    """Id that ends a text: the one that a tower looks for, or the largest."""
    if getattr(text, "pool_type", None) == "eos":
        return int(text.eos_id)  # type: ignore[arg-type]
    return int(text.vocab_size) - 1  # type: ignore[arg-type]
