"""What quantization costs: PTQ from calibration to built engines, and a QAT step against the same model's plain step.

    make bench PART=quantization_cost

The networks are real and fine-tuned; nothing of what is timed comes from the store. Steps are timed in blocks A B B A
in the hardware's training precision, on the same batches; the ratio has a bootstrap interval over blocks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.pressed import Arms, arms
from bench.training import Clock, median
from modelpress import training
from modelpress.benchmark.statistics import ratio_interval
from modelpress.stage import IDENTITY, TASK, Stage

BLOCKS, WARM_UP = 6, 5  # steps that do not count: the first ones of a block
PTQ_LIMIT_S, STEP_LIMIT = 60.0, 2.0


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser("bench.quantization_cost", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=45, help="of a block")
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    parser.add_argument("--models", type=lambda text: text.split(","), default=["minilm"])
    parser.add_argument("overrides", nargs="*", help="more overrides, as for run.py")
    args = parser.parse_args(list(arguments))
    spent = ptq_seconds(args.overrides)
    print(f"PTQ of MiniLM, 256 samples, calibration to built engines: {spent:.1f} s (wanted <= {PTQ_LIMIT_S:.0f})")
    for model in args.models:
        step_ratio(model, args.steps, args.blocks, args.overrides)


def ptq_seconds(overrides: Sequence[str]) -> float:
    """Wall time of calibration, conversion, export, lowering and both engines, with a draw that the store never saw."""
    _ = arms("technique=ptq", "model=minilm", *overrides).parent.plans  # the FP32 network and its engines, untimed
    draw = f"technique.ptq.transform.draw={time.time_ns() % 2**31}"
    started = time.perf_counter()
    made = arms("technique=ptq", "model=minilm", draw, *overrides).candidate
    assert made.plans
    assert not made.entry.reused
    return time.perf_counter() - started


def step_ratio(model: str, steps: int, blocks: int, overrides: Sequence[str]) -> None:
    """Medians of the steps of both and how many times longer a QAT step takes."""
    chain = "technique=[distill,qat]" if model == "tinybert" else "technique=qat"
    made = arms(chain, f"model={model}", "callbacks=none", *overrides)
    stages = {"qat": short(made.graph.last, steps), "plain": plain(short(made.graph.last, steps))}
    times: dict[str, list[list[float]]] = {side: [] for side in stages}
    for block in range(blocks):
        for side in list(stages) if block % 2 == 0 else list(stages)[::-1]:
            times[side].append(step_times(made, stages[side])[WARM_UP:])
    longer = ratio_interval(times["qat"], times["plain"])
    print(
        f"QAT step of {model} in {made.job.precision}: {median(times['qat']):.1f} ms, plain step "
        f"{median(times['plain']):.1f} ms; {longer.value:.2f}x as long "
        f"[{longer.ci_low:.2f}, {longer.ci_high:.2f}] (wanted <= {STEP_LIMIT})"
    )


def short(stage: Stage, steps: int) -> Stage:
    """The stage with that many steps, little validation and a small calibration: only its steps are of interest."""
    assert stage.spec is not None
    trainer = {**stage.spec["trainer"], "max_epochs": -1, "max_steps": steps, "limit_val_batches": 1}
    transform = {**stage.spec["transform"], "samples": 16, "balance": 0.5}
    return replace(stage, spec={**stage.spec, "trainer": trainer, "transform": transform})


def plain(stage: Stage) -> Stage:
    """The same start, optimizer and batches without quantization."""
    assert stage.spec is not None
    spec = {**stage.spec, "transform": {"_target_": IDENTITY}, "objective": {"_target_": TASK}}
    return replace(stage, spec=spec)


def step_times(made: Arms, stage: Stage) -> list[float]:
    """Train a stage in a folder of its own with a clock in the loop; ms of every step."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, clocked(clock):
        training.train(training.Arm(made.job, stage, Path(folder), made.done))
    return clock.steps_ms


@contextmanager
def clocked(clock: Clock) -> Iterator[None]:
    """The trainer of the pipeline with one more callback."""
    usual: Callable[..., Any] = training.make_trainer

    def with_clock(*args: Any, **options: Any) -> Any:
        trainer = usual(*args, **options)
        trainer.callbacks.append(clock)
        return trainer

    training.make_trainer = with_clock
    try:
        yield
    finally:
        training.make_trainer = usual


if __name__ == "__main__":
    main(sys.argv[1:])
