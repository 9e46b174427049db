"""What a dual encoder reaches whose towers are never trained: two linear projections on their frozen features.

The features are those of the offline teacher as `make setup` installs it, of plain training images and whole captions.
The weight decay is chosen on validation, as everything else is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.objectives.contrastive import info_nce, similarities

WIDTH, BATCH, EPOCHS, RATE = 256, 256, 60, 1e-3
INPUTS = {"image": "pixel_values", "text": "input_ids"}
DECAYS = (0.01, 0.1, 1.0)
FIRST_SCALE, LARGEST_SCALE = 2.66, 100.0  # CLIP's own


@dataclass(frozen=True)
class Features:
    """Of one split: images (N, 1280) with their label, and prompts (P, 384) with theirs."""

    images: Tensor
    labels: Tensor
    texts: Tensor
    owners: Tensor


class Probe(nn.Module):
    """Standardised features, projected into one space; no bias, as in the teacher's own heads."""

    def __init__(self, train: Features) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(FIRST_SCALE))
        self.sides = nn.ModuleDict(
            {
                name: nn.Sequential(Standard(values), nn.Linear(values.shape[1], WIDTH, bias=False))
                for name, values in (("image", train.images), ("text", train.texts))
            }
        )

    def forward(self, name: str, features: Tensor) -> Tensor:
        return F.normalize(self.sides[name](features), dim=-1)

    @torch.no_grad()
    def hits(self, split: Features) -> Tensor:
        """(N,): whether an image's own text is the nearest of the split."""
        cosines = self("image", split.images) @ self("text", split.texts).T
        return split.owners[cosines.argmax(1)] == split.labels


class Standard(nn.Module):
    """Mean 0 and deviation 1 over the training features."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.mean, self.deviation = values.mean(0), values.std(0) + 1e-6

    def forward(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.deviation


def best(model: Any, data: Any) -> tuple[Probe, dict[str, Features]]:
    """The probe of the weight decay that finds most on validation, and the features of validation and test."""
    features = {split: frozen(model, data, split) for split in ("train", "validation", "test")}
    probes = [trained(features["train"], decay) for decay in DECAYS]
    return max(probes, key=lambda probe: float(probe.hits(features["validation"]).float().mean())), features


def trained(train: Features, decay: float) -> Probe:
    """InfoNCE over random batches, AdamW with a cosine down to 0."""
    torch.manual_seed(0)
    probe = Probe(train)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=RATE, weight_decay=decay)
    steps = EPOCHS * (len(train.images) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randperm(len(train.images))[:BATCH]
        image, text = probe("image", train.images[rows]), probe("text", train.texts[rows])
        logits = similarities(image, text, probe.scale.exp().clamp(max=LARGEST_SCALE))
        loss = info_nce(logits, train.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return probe


@torch.no_grad()
def frozen(model: Any, data: Any, split: str) -> Features:
    """What goes into the last layer of each tower. A training image stands with its own caption."""
    model.eval()
    heads = {"image": last_linear(model.image), "text": last_linear(model.text)}
    seen: dict[str, Tensor] = {}
    hooks = [layer.register_forward_pre_hook(keeper(seen, name)) for name, layer in heads.items()]
    images, labels = _through(model, data.eval_dataloader(split), "image", seen)
    texts, owners = _through(model, data.prompts(split), "text", seen)
    for hook in hooks:
        hook.remove()
    if split == "train":
        rows = data.rows("train")
        captions = {int(text): number for number, text in enumerate(data.dataset.prompts("train")[0])}
        texts = texts[[captions[int(text)] for text in rows.text]]
        owners = labels
    return Features(images, labels, texts, owners)


def keeper(seen: dict[str, Tensor], name: str) -> Any:
    def keep(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[name] = inputs[0]

    return keep


def _through(model: Any, batches: Any, tower: str, seen: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    found, labels = [], []
    for batch in batches:
        model({INPUTS[tower]: batch[INPUTS[tower]]})
        found.append(seen[tower])
        labels.append(batch["labels"])
    return torch.cat(found), torch.cat(labels)


def last_linear(tower: nn.Module) -> nn.Linear:
    return [layer for layer in tower.modules() if isinstance(layer, nn.Linear)][-1]
