from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from modelpress.engines.openvino_core import capabilities, core, lacking

# A signal with a Python handler, after the session that was opened first is closed first.
SIGNALLED = """
import faulthandler, os, signal, sys
from modelpress.engines.base import Plan
from modelpress.engines.openvino import OpenVino

faulthandler.enable()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
plan = Plan.from_json(sys.stdin.read())
first, second = OpenVino.open(plan), OpenVino.open(plan)
del first
del second
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_signal_after_sessions_died_in_any_order(float_graph: Path, tmp_path: Path) -> None:
    """With one core per session this ended in SIGSEGV: the signal stack was one that OpenVINO had freed."""
    from modelpress.engines.base import Artifact, Hardware
    from modelpress.engines.openvino import OpenVino

    [plan] = OpenVino(["fp32"]).build(Artifact(float_graph), Hardware(threads=1), tmp_path)
    done = subprocess.run([sys.executable, "-c", SIGNALLED], input=plan.to_json(), text=True, capture_output=True)
    assert (done.returncode, done.stdout.strip()) == (0, "handled"), done.stderr


def test_there_is_one_core() -> None:
    assert core() is core()


def test_what_this_machine_lacks_is_said() -> None:
    assert lacking("fp32") is None
    missing = [name for name, word in (("bf16", "BF16"), ("fp16", "FP16")) if word not in capabilities()]
    assert all(f"no {name} instructions" in str(lacking(name)) for name in missing)
