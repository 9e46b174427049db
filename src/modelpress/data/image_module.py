"""The Lightning data module of images with labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor

from modelpress.benchmark.requests import batch_of
from modelpress.data import preprocess
from modelpress.data.augment import Augment
from modelpress.data.base import SPLITS
from modelpress.data.batching import Batches, epoch_batches
from modelpress.data.image_batches import ImageItems, TaughtItems, Texts, pixel_values
from modelpress.data.loader import BatchLoader
from modelpress.data.pixels import Bad, PixelCache
from modelpress.errors import ModelPressError

if TYPE_CHECKING:
    from modelpress.data.image_dataset import ImageDataset, Rows

Arrays = dict[str, NDArray[np.generic]]
Workloads = dict[str, dict[str, Arrays]]  # tower -> shape -> inputs by name, leading axis n


class ImageData(LightningDataModule):
    """Decodes every image once (on disk, under ``cache``) and feeds batches.

    A batch: ``pixel_values`` (B, 3, H, W) float32, resized, cropped and normalised as ``preprocess.json`` says;
    ``labels`` (B,); ``index`` (B,), the row within the split; ``item`` (B,): ``index + view * rows`` where training
    shows several augmented views of each row, else ``index``. All but the pixels are int64. Where a :attr:`teacher`
    wants its inputs otherwise, training batches hold those too, as ``teacher/<name>``, of the same augmented view.

    Args:
        dataset: the images and the options of the loaders.
        preprocessor: folder with ``preprocess.json``.
        seed: orders the training batches; the augmented views follow ``dataset.augment_seed``.
        cache: folder for pixel tables.
    """

    tower = "main"
    teacher: ImageData | None = None  # the same data as the teacher of this training wants them, where that differs

    def __init__(self, dataset: ImageDataset, preprocessor: Path, *, seed: int, cache: Path) -> None:
        super().__init__()
        self.dataset, self.preprocessor, self.seed = dataset, preprocessor, seed
        self.wanted = preprocess.read(preprocessor)
        self.cache = PixelCache(dataset, self.wanted, cache)
        self.share = 0, 1  # rank and number of the processes that share the batches of training and validation
        self._rows: dict[tuple[str, bool], Rows] = {}

    @property
    def labels(self) -> list[str]:
        """Names of the classes or of the test's candidates, in the order of their indices."""
        return self.dataset.labels

    @property
    def task(self) -> str:
        """The kind of task."""
        return self.dataset.task

    @property
    def metric(self) -> str:
        """The name of the task's metric."""
        return self.dataset.metric

    @property
    def extras(self) -> list[str]:
        """Tests beside ``test``: names that every method with a ``split`` takes."""
        return self.dataset.extras

    @property
    def label_counts(self) -> dict[str, dict[str, int]]:
        """Split -> candidate -> images."""
        return {split: self.dataset.label_counts(split) for split in SPLITS}

    @property
    def items(self) -> int:
        """Different training items, augmented views counted: one more than the largest ``item`` of a batch."""
        return len(self.rows("train", pairs=True)) * self.dataset.views

    def prepare_data(self) -> None:
        """Decode what is not cached; Lightning calls this in one process per machine."""
        self.cache.ensure()
        if self.teacher is not None:
            self.teacher.prepare_data()

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """All images, (n, H, W, 3), mapped from disk; decodes them if nobody has yet."""
        self.cache.ensure()
        return self.cache.table()

    @cached_property
    def bad(self) -> Bad:
        """Images that cannot be decoded, by number: name and reason. They are in no split."""
        self.cache.ensure()
        return self.cache.bad()

    def rows(self, split: str, *, pairs: bool = False) -> Rows:
        """The rows of a split without bad images: each image once, or (``pairs``) with each of its texts."""
        if (split, pairs) not in self._rows:
            found = self.dataset.pairs(split) if pairs else self.dataset.images(split)
            kept = found.take(~np.isin(found.image, list(self.bad)))
            if not len(kept):
                raise ModelPressError(f"dataset {self.dataset.name!r}: no image of split {split!r} can be read")
            self._rows[split, pairs] = kept
        return self._rows[split, pairs]

    def train_dataloader(self) -> BatchLoader:
        """Batches in an order of their own every epoch; resumable after any batch. Epoch e shows view e % views."""
        rows, views = self.rows("train", pairs=True), self.dataset.views

        def plan(epoch: int) -> Batches:
            return [batch + epoch % views * len(rows) for batch in self._epoch(rows, epoch)]

        items = self._views(rows)
        return self._loader(items if self.teacher is None else TaughtItems(items, self.teacher._views(rows)), plan)

    def _views(self, rows: Rows) -> ImageItems:
        options = self.dataset
        augment = Augment(options.crop, options.flip, options.jitter, options.augment_seed)
        return ImageItems(self.pixels, rows, self.wanted, self._texts(), augment)

    def _epoch(self, rows: Rows, epoch: int) -> Batches:
        rank, world_size = self.share
        size, alike = self.dataset.batch_size, np.zeros(len(rows), np.int64)
        return epoch_batches(alike, size, seed=self.seed, epoch=epoch, rank=rank, world_size=world_size)

    def _texts(self) -> Texts | None:
        return None

    def val_dataloader(self) -> BatchLoader:
        """This process's share of the validation images."""
        return self._evaluation("validation", *self.share)

    def test_dataloader(self) -> BatchLoader:
        """The test images."""
        return self.eval_dataloader("test")

    def predict_dataloader(self) -> BatchLoader:
        """The test images."""
        return self.eval_dataloader("test")

    def eval_dataloader(self, split: str) -> BatchLoader:
        """Any split, every image once and as it is, without texts."""
        return self._evaluation(split)

    def _evaluation(self, split: str, rank: int = 0, world_size: int = 1) -> BatchLoader:
        rows, size = self.rows(split), self.dataset.eval_batch_size
        batches = np.split(np.arange(len(rows)), range(size, len(rows), size))[rank::world_size]
        return self._loader(ImageItems(self.pixels, rows, self.wanted), lambda epoch: batches)

    def size(self, split: str) -> int:
        """Images of a split."""
        return len(self.rows(split))

    def labelled(self, split: str, limit: int, draw: int = 0) -> BatchLoader:
        """At most ``limit`` images of any split as they are, without texts, drawn by ``draw``."""
        chosen, size = np.random.default_rng(draw).permutation(self.size(split))[:limit], self.dataset.eval_batch_size
        batches = np.split(chosen, range(size, len(chosen), size))
        return self._loader(ImageItems(self.pixels, self.rows(split), self.wanted), lambda epoch: batches)

    def calibration_dataloader(self) -> BatchLoader:
        """All of the calibration split in random order (always the same)."""
        batches = [batch["index"].numpy() for batch in self.calibration(len(self.rows("calibration", pairs=True)))]
        return self._loader(self._calibrating(), lambda epoch: batches)

    def calibration(self, samples: int, draw: int = 0) -> list[dict[str, Tensor]]:
        """``samples`` items of the calibration split as they are; ``draw`` seeds the choice and the order.

        Raises ModelPressError if the split holds fewer.
        """
        items = self._calibrating()
        if not 1 <= samples <= len(items):
            raise ModelPressError(
                f"{samples} calibration samples were asked for; dataset {self.dataset.name} has {len(items)} in its "
                f"calibration split. Set transform.samples to 1 … {len(items)}."
            )
        generator = np.random.default_rng(draw)
        batches = self._alike(generator.permutation(len(items))[:samples])
        return [items[batches[turn]] for turn in generator.permutation(len(batches))]

    def _calibrating(self) -> ImageItems:
        return ImageItems(self.pixels, self.rows("calibration", pairs=True), self.wanted, self._texts(), multiple=1)

    def _alike(self, rows: NDArray[np.int64]) -> Batches:
        """``rows`` in batches that need no padding."""
        size = self.dataset.eval_batch_size
        return np.split(rows, range(size, len(rows), size))

    def _loader(self, items: ImageItems | TaughtItems, plan: object) -> BatchLoader:
        workers = self.dataset.num_workers
        return BatchLoader(items, plan, num_workers=workers, pin_memory=torch.cuda.is_available())  # type: ignore[arg-type]

    @property
    def shape(self) -> str:
        """The one shape of a request: ``1x3x224x224``."""
        return f"1x3x{self.wanted.size[0]}x{self.wanted.size[1]}"

    def workloads(self, shapes: Sequence[str], limit: int, split: str = "test", seed: int = 0) -> Workloads:
        """Inputs to time each tower with: at most ``limit`` items, drawn by ``seed``.

        The size of an image is fixed: of ``shapes`` the batches count (``32x3x224x224``: 32 images per request).
        """
        rows = self._some(self.rows(split), limit, seed)
        return {self.tower: self._images(shapes, rows)}

    def _images(self, shapes: Sequence[str], rows: Rows) -> dict[str, Arrays]:
        images: Arrays = {"pixel_values": pixel_values(self.pixels, rows.image, self.wanted)}
        return {f"{batch_of(shape)}{self.shape[1:]}": images for shape in shapes}

    def lengths(self) -> dict[str, list[int]]:
        """Tower -> length of every training item; images have none."""
        return {}

    def evaluation(self, split: str = "test") -> dict[str, Arrays]:
        """Every image of a split with its label, for the evaluation on engines."""
        rows = self.rows(split)
        values = pixel_values(self.pixels, rows.image, self.wanted)
        return {self.tower: {"pixel_values": values, "labels": rows.labels}}

    @staticmethod
    def _some(rows: Rows, limit: int, seed: int) -> Rows:
        if limit >= len(rows):
            return rows
        return rows.take(np.random.default_rng(seed).permutation(len(rows))[:limit])
