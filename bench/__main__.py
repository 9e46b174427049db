"""``python -m bench [PART …]``: measure the project's claims on this machine. Without a part: all but ``gpu``."""

from __future__ import annotations

import argparse
import importlib

PARTS = {
    "startup": "how long --help, --cfg job and a typo take",
    "compare": "modelpress compare over 1,000 reports: time to the table, size of the page",
    "training": "a distillation step against a bare PyTorch loop, and an epoch against the loop that rivals ship",
    "benchmark_app": "our p50 against OpenVINO's own benchmark_app on the same file",
    "accuracy": "teacher, student and control over three seeds on reviews",
    "speed": "TinyBERT and its aligned shape in every engine, with the PyTorch reference rows",
    "quantization": "MiniLM's INT8 files, ours and the rivals' (make peers first), in one session",
    "quantization_shapes": "the BERT-base shape: our INT8 file, NNCF's, FP32 and bf16",
    "quantization_seeds": "PTQ (3 seeds x 5 draws, and without its parts) and QAT (3 seeds): drop and agreement",
    "quantization_cost": "seconds of PTQ, and a QAT step against a plain one",
    "pruning": "metric against sparsity and against measured latency: unstructured, n:m, structured, layers",
    "sweep": "8 temperatures in one sweep against 8 fresh runs, a job's start, Ray against one process",
    "clip": "the page of CLIP: ViT-B/32 and ViT-B/16 as FP32, BF16, INT8 and pruned, both towers and the pair",
    "tensorrt_rtx": "seconds to build every network of conf/model with TensorRT-RTX, without a GPU",
    "gpu": "a GPU at hand: its tests, and ViT-B/32's image tower in every engine and precision (10 minutes)",
    "summary": "every variant of MiniLM in one session: size, speed-up, metric drop",
}

NEEDS_GPU = "gpu"


def main() -> None:
    listing = "\n".join(f"  {name:20s}{text}" for name, text in PARTS.items())
    parser = argparse.ArgumentParser(
        "bench", description=f"{__doc__}\n\n{listing}", formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], default=[], metavar="PART")
    for part in parser.parse_args().part or [name for name in PARTS if name != NEEDS_GPU]:
        print(f"\n== {part}: {PARTS[part]}", flush=True)
        importlib.import_module(f"bench.{part}").main()


if __name__ == "__main__":
    main()
