"""``modelpress build FILE.onnx``: an engine of any ONNX file, without training and, for TensorRT-RTX, without a GPU."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelpress.engines.base import Artifact, Hardware, Plan, Unsupported
from modelpress.errors import ModelPressError

ENGINES = ("tensorrt-rtx", "tensorrt")
KINDS = ("min", "opt", "max")


def add_parser(subparsers: Any) -> None:
    """Add ``build`` to the command line of ``modelpress``."""
    parser = subparsers.add_parser("build", help="build an engine of an ONNX file", description=main.__doc__)
    parser.add_argument("file", type=Path, help="an .onnx file")
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0])
    for kind in KINDS:
        parser.add_argument(f"--{kind}", nargs="+", metavar="SHAPE", help="such as 8x64, or by input: input_ids:8x64")
    parser.add_argument("--precision", nargs="+", default=["fp32"], help="of a float32 graph: fp32, fp16, bf16")
    parser.add_argument("--compute-capability", nargs="+", default=[], help="GPUs to build for, such as 86 120 (RTX)")
    parser.add_argument("--tf32", action="store_true", help="let float32 products round their inputs to TF32")
    parser.add_argument("--output", type=Path, help="folder for the engine (default: beside the file)")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    """Build an engine with its sidecar (.json); what TensorRT refuses is said with the node and the way to mend it."""
    from modelpress.engines.tensorrt import TensorRT, TensorRTRtx

    kind = TensorRTRtx if args.engine == "tensorrt-rtx" else TensorRT
    engine = kind(
        precisions=args.precision,
        profiles=[profile] if (profile := profile_of(args)) else "auto",
        tf32=args.tf32,
        compute_capabilities=args.compute_capability,
    )
    artifact = Artifact(args.file, tower=args.file.stem)
    try:
        plans = engine.build(artifact, Hardware(), args.output or args.file.parent)
    except Unsupported as reason:
        raise ModelPressError(str(reason)) from reason
    for plan in plans:
        print(described(plan))
    return 0


def profile_of(args: argparse.Namespace) -> dict[str, Any]:
    """What ``--min``, ``--opt`` and ``--max`` say, as a profile of the configuration; empty without them."""
    given = {kind: getattr(args, kind) for kind in KINDS if getattr(args, kind)}
    if given and len(given) < len(KINDS):
        missing = ", ".join(f"--{kind}" for kind in KINDS if kind not in given)
        raise ModelPressError(f"{missing} is missing; a profile needs --min, --opt and --max.")
    return {kind: _shape(kind, texts) for kind, texts in given.items()}


def _shape(kind: str, texts: Sequence[str]) -> Any:
    """``["8x64"]`` -> ``8x64``; ``["ids:8x64", "mask:8x64"]`` -> by input."""
    if len(texts) == 1 and ":" not in texts[0]:
        return texts[0]
    pairs = [text.rpartition(":") for text in texts]
    if any(not name for name, _, _ in pairs):
        raise ModelPressError(f"--{kind} is {' '.join(texts)}; give one shape for all inputs, or input:shape for each.")
    return {name: shape for name, _, shape in pairs}


def described(plan: Plan) -> str:
    """A built engine in a few lines."""
    from modelpress.engines.trt import sidecar

    file = Path(plan.file)
    known = sidecar.read(file)
    where = known.gpu or "any GPU that TensorRT-RTX supports; not executed here"
    profiles = "; ".join(map(str, known.opened_profiles())) or "one fixed shape"
    return (
        f"{file} ({file.stat().st_size / 1e6:.1f} MB, {known.build_seconds:.1f} s)\n"
        f"  {known.flavour} {known.version}, {known.precision}"
        f"{'' if known.floats == known.precision else f' with {known.floats} floats'}\n"
        f"  shapes: {profiles}\n  runs on: {where}"
    )
