"""Augmented training images: a function of the augmentation seed, the view and the number of the item alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

DRAWS = 8  # uniform numbers per image: area, proportions, top, left, flip, brightness, contrast, saturation
PROPORTIONS = 4 / 3  # a crop is at most this much wider than high, or higher than wide, before it is stretched
GREY = (0.2989, 0.587, 0.114)  # ITU-R 601-2 luma, which PIL and torchvision use


@dataclass(frozen=True)
class Augment:
    """How training images vary.

    ``crop``: the smallest share of the area that a random crop keeps, 1: no cropping. ``flip``: half of the images are
    mirrored. ``jitter``: brightness, contrast and saturation change by up to this share.
    """

    crop: float = 1.0
    flip: bool = False
    jitter: float = 0.0
    seed: int = 0

    def draws(self, view: int, count: int) -> NDArray[np.float32]:
        """The random numbers of ``count`` items in one view, (count, 8); row i does not depend on ``count``."""
        return np.random.default_rng([self.seed, view]).random((count, DRAWS), dtype=np.float32)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Augment images (B, 3, H, W) in [0, 1] by their random numbers (B, 8)."""
        if self.crop < 1 or self.flip:
            images = cropped(images, *self._boxes(draws), flip=self.flip * (draws[:, 4] < 0.5))
        if self.jitter:
            images = jittered(images, *(1 + self.jitter * (2 * draws[:, 5:] - 1)).unbind(1))
        return images

    def _boxes(self, draws: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Top, left, height and width of each crop, as shares of the image: each (B,)."""
        area = self.crop + (1 - self.crop) * draws[:, 0]
        stretch = torch.exp(math.log(PROPORTIONS) * (2 * draws[:, 1] - 1)) if self.crop < 1 else torch.ones_like(area)
        height, width = (area / stretch).sqrt().clamp(max=1), (area * stretch).sqrt().clamp(max=1)
        return draws[:, 2] * (1 - height), draws[:, 3] * (1 - width), height, width


def cropped(images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, flip: Tensor) -> Tensor:
    """Boxes (shares of the image, each (B,)) stretched bilinearly to its size, mirrored where ``flip`` is 1."""
    zero, sign = torch.zeros_like(top), 1 - 2 * flip.to(top)
    rows = torch.stack([zero, height, 2 * top + height - 1], dim=1)
    columns = torch.stack([sign * width, zero, 2 * left + width - 1], dim=1)
    grid = functional.affine_grid(torch.stack([columns, rows], dim=1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def jittered(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Factors (B,) for brightness, contrast (around the mean grey) and saturation (away from grey), in this order."""
    brightness, contrast, saturation = (factor.view(-1, 1, 1, 1) for factor in (brightness, contrast, saturation))
    images = (images * brightness).clamp(0, 1)
    mean = _grey(images).mean(dim=(1, 2, 3), keepdim=True)
    images = (contrast * images + (1 - contrast) * mean).clamp(0, 1)
    return (saturation * images + (1 - saturation) * _grey(images)).clamp(0, 1)


def _grey(images: Tensor) -> Tensor:
    red, green, blue = images.unbind(1)
    return (GREY[0] * red + GREY[1] * green + GREY[2] * blue).unsqueeze(1)
