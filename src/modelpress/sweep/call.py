"""One job of a sweep as something that any process on any machine can start: arguments, folder and environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from modelpress.status import TRAINED, Status, read
from modelpress.sweep.member import ENV, ONE_RUN, Member

OUTPUT = "output.log"  # what a job in a process of its own prints
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Call:
    """``member.arguments`` repeat the job; ``folder`` is its own; ``env`` is added to the environment it starts in."""

    name: str
    title: str
    member: Member
    command: str
    folder: Path
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    measures: bool = True  # its callbacks write a report, and so measure

    @property
    def given(self) -> list[str]:
        """Arguments of the process that runs it: its own, and where to write."""
        own = self.member.arguments or ()
        mode = [] if ONE_RUN in own else [ONE_RUN]
        return [*own, *mode, f"hydra.run.dir='{self.folder}'"]

    @property
    def full_env(self) -> dict[str, str]:
        """``env`` and what tells the process which job it is."""
        return {**self.env, ENV: self.member.to_env()}

    def to_train(self) -> Call:
        """The first of two parts, up to the benchmark. The second is the whole job, which finds this in the store."""
        return replace(self, member=replace(self.member, only_train=True))


def environment(threads: int) -> dict[str, str]:
    """What a job's process needs: this process's modules, and how many threads to train with."""
    paths = [os.path.abspath(path) for path in sys.path if Path(path).exists()]
    package = str(Path(__file__).resolve().parents[2])
    known = os.pathsep.join(dict.fromkeys([package, *paths]))
    return {"PYTHONPATH": known, **dict.fromkeys(THREADS, str(threads))}


def start(call: Call) -> subprocess.Popen[bytes]:
    """A process of its own for the job; what it prints goes to ``output.log`` in its folder."""
    call.folder.mkdir(parents=True, exist_ok=True)
    with (call.folder / OUTPUT).open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "modelpress", "run", *call.given],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=call.cwd,
            env={**os.environ, **call.full_env},
        )


def run(call: Call) -> None:
    """The job in a process of its own, waited for: for a scheduler that has given us a place to do so."""
    finish(call, start(call).wait())


def perform(call: Call) -> None:
    """The job in this very process, which may have done others before: nothing is imported twice."""
    from modelpress.launch import main

    call.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(call.cwd)
    os.environ.update(call.full_env)
    main(call.given, program="modelpress run", prefix=("run",))


def finish(call: Call, code: int) -> None:
    """See to it that a job whose process has ended with ``code`` says how it ended, even if it could not itself."""
    from modelpress.benchmark.process import explain_exit, last_words  # imports NumPy

    ends = ("failed", TRAINED) if call.member.only_train else ("failed", "done")
    if read(call.folder).get("status") not in ends:
        why = explain_exit(code) if code else "it ended without a word"
        settle(call, f"the job's process ended early: {why}{last_words(call.folder / OUTPUT)}")


def settle(call: Call, reason: str) -> None:
    """Write down that a job failed which could not do so itself."""
    call.folder.mkdir(parents=True, exist_ok=True)
    Status(call.folder, call.command, {**_facts(call), "pid": -1}).failed(reason)


def _facts(call: Call) -> dict[str, object]:
    known = read(call.folder)
    return {key: known[key] for key in ("sweep", "overrides", "swept") if key in known}
