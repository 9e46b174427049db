"""ModelPress's quantized MiniLM and the rivals' (``make peers``), same weights and sentences, in one session.

    make peers && make bench PART=quantization
    python -m bench.quantization --preset quick --samples 16 dataset.limit=100     # a quick look; any overrides follow

Accuracy is that on the engine, on the full test split. Drop (Tango's interval) and agreement are paired with the FP32
file in ONNX Runtime; speed-ups are ratios over balanced rounds. All calibrate on the same sentences. The
table is also written to outputs/bench_quantization.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from bench.contest import Contender, Contest, hold, markdown
from bench.peers.launch import rivals
from bench.peers.record import Inputs
from bench.pressed import FOLDER, Arms, arms, engine
from modelpress.engines.base import Artifact, Plan, Unsupported
from modelpress.engines.torch import compiler
from modelpress.press import Pressed

OURS = ("ptq", "ptq_dynamic")
SHAPE = "1x128"
FLOATS = {"onnxruntime/fp32": "ONNX Runtime FP32", "openvino/fp32": "OpenVINO FP32", "openvino/bf16": "OpenVINO bf16"}


def main(arguments: Sequence[str] = ()) -> None:
    args = parse(arguments)
    shared = ["model=minilm", f"benchmark={args.preset}", *args.overrides]
    same = {name: f"technique.{name}.transform.samples={args.samples}" for name in args.techniques}
    made = {name: arms(f"technique={name}", samples, *shared) for name, samples in same.items()}
    contest = compare(next(iter(made.values())), {name: one.candidate for name, one in made.items()}, args.samples)
    text = f"{markdown(contest, SHAPE)}\n"
    (contest.session.trace.parent / "quantization.md").write_text(text, encoding="utf-8")
    print(text)
    print(f"in {contest.session.trace.parent}")


def compare(first: Arms, ours: dict[str, Pressed], samples: int) -> Contest:
    """One session of the float network, ours, the rivals' files and torchao."""
    folder = FOLDER / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    parent, inputs = first.parent, folder / "requests"
    given = Inputs(parent.onnx["main"], first.calibration(inputs, samples), parent.entry.folder / "model", samples)
    contenders = floats(parent)
    contenders |= {key: entry for name, one in ours.items() for key, entry in quantized(name, one).items()}
    contenders |= rivals(given, settings_of(contenders), FOLDER / "peers")
    contenders["torchao"] = torchao(first, parent, folder)
    return hold(
        contenders,
        first.workloads(inputs, SHAPE),
        first.test(inputs),
        first.settings,
        first.job.hardware,
        folder,
        anchor="onnxruntime/fp32",
        lossless="openvino/bf16",
    )


def floats(parent: Pressed) -> dict[str, Contender]:
    """The network as it is, in every engine: what a quantized file has to beat."""
    plans = {key.removeprefix(f"{parent.stage.slug}/"): plan for key, plan in parent.plans.items()}
    made_s = parent.export.seconds
    found = {key: Contender(title, plans[key], made_s) for key, title in FLOATS.items() if key in plans}
    reasons = {name: why for (_, name), why in parent.absent.items() if not any(key.startswith(name) for key in plans)}
    return found | {name: Contender(f"{name} FP32", None, why=why) for name, why in reasons.items()}


def quantized(technique: str, made: Pressed) -> dict[str, Contender]:
    """Our files of one technique, one row per engine."""
    made_s = made.entry.seconds + made.export.seconds
    rows = {
        f"{technique}/{plan.engine}": Contender(f"ModelPress {technique}", plan, made_s) for plan in made.plans.values()
    }
    absent = {
        name: Contender(f"ModelPress {technique} in {name}", None, why=why) for (_, name), why in made.absent.items()
    }
    return rows | {f"{technique}/{name}": entry for name, entry in absent.items()}


def settings_of(contenders: dict[str, Contender]) -> dict[str, Plan]:
    """Our float plan per engine, the fastest precision last and so preferred."""
    plans = [entry.plan for key, entry in contenders.items() if key in FLOATS and entry.plan is not None]
    return {plan.engine: plan for plan in plans}


def torchao(first: Arms, parent: Pressed, folder: Path) -> Contender:
    """PyTorch's own dynamic INT8, compiled where there is a compiler. Its file is the FP32 one: no size is given."""
    title = "torchao dynamic" + (", compiled" if compiler() else "")
    made = engine(first.job, "torchao", compile=compiler() is not None)
    artifact = Artifact(parent.onnx["main"], parent.entry.folder / "model")
    try:
        [plan] = made.build(artifact, first.job.hardware, (folder / "torchao").absolute())
    except Unsupported as reason:
        return Contender(title, None, why=str(reason))
    return Contender(title, plan, sized=False)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench.quantization", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--preset", default="publish", help="a name in conf/benchmark")
    parser.add_argument("--samples", type=int, default=256, help="calibration sentences, ours and the rivals'")
    parser.add_argument("--techniques", type=lambda text: text.split(","), default=list(OURS), help="a,b")
    parser.add_argument("overrides", nargs="*", help="more overrides, as for run.py")
    return parser.parse_args(list(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
