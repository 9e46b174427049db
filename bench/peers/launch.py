"""ModelPress's side: run the rivals in their environment and make plans of what they left."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.contest import Contender
from bench.peers.record import PEERS, Inputs, find
from modelpress.engines.base import Plan, Unsupported
from modelpress.engines.graph import inspect
from modelpress.engines.onnxruntime import executed_precision, optimized_graph
from modelpress.store import digest, file_digest

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("MODELPRESS_PEERS_PYTHON", ROOT / ".venv-peers" / "bin" / "python"))
ABSENT = "the rivals' environment is not installed: make peers"


def rivals(
    given: Inputs, own: Mapping[str, Plan], store: Path, only: Sequence[str] = tuple(PEERS)
) -> dict[str, Contender]:
    """A contender per rival. ``own``: our float plans by engine, whose session settings all rivals get.

    Files are kept below ``store`` under a key of everything that they were made from.
    """
    if not PYTHON.is_file():
        return {name: Contender(PEERS[name].title, None, why=ABSENT) for name in only}
    output = store / key(given)
    command = [str(PYTHON), "-m", "bench.peers", "--onnx", str(given.onnx), "--model", str(given.model)]
    command += ["--calibration", str(given.calibration), "--samples", str(given.samples), "--output", str(output)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([*command, "--only", *only], cwd=ROOT, env=environment, check=True)
    return {name: contender(name, output, own) for name in only}


def key(given: Inputs) -> str:
    """Names the files by the network, the sentences, the recipes and the versions that make them."""
    code = [*sorted(Path(__file__).parent.glob("*.py")), ROOT / "requirements" / "peers.lock"]
    parts = {"onnx": file_digest(given.onnx), "calibration": file_digest(given.calibration), "samples": given.samples}
    return digest({**parts, "code": [file_digest(path) for path in code]})[:16]


def contender(name: str, output: Path, own: Mapping[str, Plan]) -> Contender:
    """A row for what the rival left: its plan, or why there is none."""
    made, peer = find(output, name), PEERS[name]
    if made is None or made.file is None:
        return Contender(peer.title, None, why=made.why if made else "it left no record")
    if peer.engine not in own:
        return Contender(peer.title, None, why=f"no engine {peer.engine} in this run")
    try:
        return Contender(peer.title, plan(output / name / made.file, own[peer.engine]), made.seconds)
    except Unsupported as reason:
        return Contender(peer.title, None, why=str(reason))


def plan(file: Path, own: Plan) -> Plan:
    """A rival's file in our engine, exactly as it is: no lowering of ours touches it. Raises Unsupported."""
    settings = dict(own.settings)
    if own.engine == "onnxruntime":
        optimized = optimized_graph(file, settings, file.name)
        operators = dict(Counter(node.op_type for node in optimized.node).most_common())
        settings |= {"operators": operators, "effective": executed_precision(operators, inspect(file))}
    return replace(own, precision="int8", file=str(file), settings=settings)
