"""Our training loop against a bare one.

step   one distillation step (teacher forward, student forward and backward, clip, AdamW) in the Lightning loop against
       a bare PyTorch loop doing the same work on the same batches: blocks A B B A, ratio of median step times with a
       bootstrap interval over blocks.
epoch  an epoch of ours (length buckets, bf16 where the processor has it, teacher cached after the first epoch; mean of
       three epochs) against the loop that rivals ship (random batches, FP32, teacher recomputed in every epoch).

The networks have the real shapes and random weights: speed does not depend on them.
"""

from __future__ import annotations

import itertools
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer

from modelpress.benchmark.statistics import ratio_interval
from modelpress.config import build, compose
from modelpress.data.batching import pad
from modelpress.job import Job
from modelpress.models.base import Model
from modelpress.optimizer import OptimizerConfig, make
from modelpress.teacher import Teacher
from modelpress.technique import Technique
from modelpress.trainer import known_warnings
from modelpress.transforms.base import Transform

SENTENCES, BLOCKS, STEPS = 1920, 6, 30


class Clock(Callback):
    """Seconds of every step, from one batch's start to the next one's."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.starts.append(time.perf_counter())

    @property
    def steps_ms(self) -> list[float]:
        return [1e3 * (after - before) for before, after in itertools.pairwise(self.starts)]


class Bench:
    """The pieces both sides share."""

    def __init__(self, folder: Path) -> None:
        cfg = compose([f"dataset.limit={SENTENCES}", f"store={folder}"])
        self.job = Job.of(cfg, folder)
        teacher, student = self.job.recipe("teacher"), self.job.recipe("model")
        self.preprocessor = teacher.preprocessor()
        assert self.preprocessor is not None
        labels = self.job.dataset.labels
        self.teacher = teacher.build(labels=labels, preprocessor=self.preprocessor, teacher=None, seed=1)
        self.student = student.build(labels=labels, preprocessor=self.preprocessor, teacher=self.teacher, seed=1)
        self.spec: dict[str, Any] = self.job.config["technique"]["distill"]
        self.data: Any = self.job.dataset.datamodule(self.preprocessor, seed=1, cache=folder / "data")
        self.data.prepare_data()

    def objective(self) -> Any:
        objective = build(self.spec["objective"])
        objective.bind(self.student, self.teacher)
        return objective

    def ours(self, *, epochs: int, batches: int | float, cache: Path | None) -> Clock:
        """Our loop; returns the times of its steps."""
        clock, objective = Clock(), self.objective()
        cached = {"cache": cache, "key": "bench", "items": SENTENCES} if cache else {}
        teacher = Teacher(self.teacher, **cached)
        teacher.layers = objective.teacher_layers()
        optimizer = OptimizerConfig(**self.spec["optimizer"])
        self.student.train()  # from_pretrained leaves evaluation mode
        technique = Technique(
            self.student, objective, Transform(), optimizer, stage="distill", seed=1, steps=1000, teacher=teacher
        )
        trainer = Trainer(
            accelerator="cpu",
            precision=self.job.precision,
            max_epochs=epochs,
            limit_train_batches=batches,  # type: ignore[arg-type]
            limit_val_batches=0,
            gradient_clip_val=1.0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[clock],
            log_every_n_steps=20,
        )
        with known_warnings():
            trainer.fit(technique, train_dataloaders=self.data.train_dataloader())
        teacher.close()
        return clock

    def bare(self, batches: Iterator[dict[str, torch.Tensor]], dtype: torch.dtype | None) -> list[float]:
        """The plain loop: no framework, the same work; times of its steps in ms."""
        objective = self.objective()
        optimizer, schedule = make(
            OptimizerConfig(**self.spec["optimizer"]), (self.student, objective), 1000, fused=True
        )
        parameters = [*self.student.parameters(), *objective.parameters()]
        self.student.train()
        self.teacher.eval().requires_grad_(False)
        needs, weights, times = objective.needs(0.0), objective.weights(0.0), []
        for batch in batches:
            started = time.perf_counter()
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                losses = bare_losses(self.student, self.teacher, objective, batch, needs)
                total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
            optimizer.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            times.append(1e3 * (time.perf_counter() - started))
        return times

    def random_batches(self) -> Iterator[dict[str, torch.Tensor]]:
        """What a plain DataLoader gives: random order, padded to the longest of the batch."""
        tokens, size = self.data.tokens("train"), self.job.dataset.batch_size
        order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(1)).numpy()
        for rows in (order[start : start + size] for start in range(0, len(order), size)):
            arrays = pad(tokens, rows, pad_id=self.data.tokenizer.pad_id, multiple=1, ceiling=1)
            batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
            yield {**batch, "labels": torch.from_numpy(tokens.labels[rows].copy())}


def bare_losses(
    student: Model, teacher: Model, objective: Any, batch: Any, needs: frozenset[str]
) -> dict[str, torch.Tensor]:
    student.capture(needs)
    teacher.capture(needs)
    with torch.no_grad():
        taught = teacher(batch)
    losses: dict[str, torch.Tensor] = objective(student(batch), batch, taught, 0.0)
    return losses


def step_ratio(bench: Bench) -> None:
    """Blocks in the order A B B A; the first steps of each block warm up."""
    ours: list[list[float]] = []
    bare: list[list[float]] = []
    dtype = torch.bfloat16 if bench.job.precision == "bf16-mixed" else None
    for block in range(BLOCKS):
        for side in ("ours", "bare") if block % 2 == 0 else ("bare", "ours"):
            if side == "ours":
                ours.append(bench.ours(epochs=1, batches=STEPS, cache=None).steps_ms[5:])
            else:
                batches = itertools.islice(iter(bench.data.train_dataloader()), STEPS)
                bare.append(bench.bare(batches, dtype)[5:-1])
    ratio = ratio_interval(bare, ours)
    print(
        f"step: ours {median(ours):.1f} ms, bare loop {median(bare):.1f} ms; "
        f"ours runs at {ratio.value:.3f}x its speed (95 % {ratio.ci_low:.3f}-{ratio.ci_high:.3f}; wanted >= 0.95)"
    )


def epoch_ratio(bench: Bench, folder: Path) -> None:
    """Sum of step times: three epochs of ours with the cache against three identical ones of the rivals' loop."""
    started = time.perf_counter()
    bench.ours(epochs=3, batches=1.0, cache=folder / "teacher")
    ours_s = (time.perf_counter() - started) / 3
    rival_s = sum(bench.bare(bench.random_batches(), None)) / 1e3
    print(
        f"epoch of {SENTENCES} sentences: ours {ours_s:.1f} s (mean of three, cache filled in the first), "
        f"as rivals ship it {rival_s:.1f} s: {rival_s / ours_s:.2f}x (wanted >= 3)"
    )


def median(blocks: Sequence[Sequence[float]]) -> float:
    return statistics.median([value for block in blocks for value in block])


def main() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name))
        step_ratio(bench)
        epoch_ratio(bench, Path(name))


if __name__ == "__main__":
    main()
