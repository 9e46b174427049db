"""``python -m bench.peers …`` in the peers' environment: let every rival quantize one network.

    make peers
    PYTHONPATH=src .venv-peers/bin/python -m bench.peers --onnx FILE --model FOLDER --calibration NPZ --output FOLDER

Each rival gets a folder below the output with its file and ``made.json`` (settings, versions, seconds, or why it
failed). What is there already is kept; ``--only`` names some rivals, ``--samples`` takes fewer sentences.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shutil
import time
import traceback
from importlib import metadata
from pathlib import Path

from bench.peers.record import PEERS, Inputs, Made, find

LIBRARIES = ("nncf", "onnx", "onnxruntime", "openvino", "optimum", "optimum-intel", "transformers", "torch", "numpy")


def main() -> None:
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    args = arguments()
    given = Inputs(args.onnx.absolute(), args.calibration.absolute(), args.model.absolute(), args.samples)
    output = args.output.absolute()
    for name in args.only or PEERS:
        known = find(output, name)
        made = known if known is not None and known.why is None else make(name, given, output / name)
        print(f"{PEERS[name].title}: {made.why or f'{made.seconds:.1f} s'}", flush=True)


def make(name: str, given: Inputs, folder: Path) -> Made:
    """Run one rival. A rival that stops is a result: its reason goes into the record, the trace to the terminal."""
    module, _, function = PEERS[name].target.partition(":")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    started = time.perf_counter()
    try:
        recipe = getattr(importlib.import_module(f"bench.peers.{module}"), function)
        started = time.perf_counter()  # without the imports
        with contextlib.chdir(folder):  # some rivals leave files where they stand
            file, settings = recipe(given, folder)
        made = Made(name, file.name, time.perf_counter() - started, settings, versions())
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
        made = Made(name, None, time.perf_counter() - started, {}, versions(), reason[:300])
    made.save(folder)
    return made


def versions() -> dict[str, str]:
    """Installed versions of what rivals are made of."""
    found = {dist.metadata["Name"].lower(): dist.version for dist in metadata.distributions()}
    return {name: found[name] for name in LIBRARIES if name in found}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench.peers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--onnx", type=Path, required=True, help="the FP32 graph")
    parser.add_argument("--model", type=Path, required=True, help="the saved network that the graph was made from")
    parser.add_argument("--calibration", type=Path, required=True, help="requests file of the calibration split")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--only", nargs="+", choices=PEERS, metavar="PEER", help=", ".join(PEERS))
    return parser.parse_args()


if __name__ == "__main__":
    main()
