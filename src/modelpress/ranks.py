"""Training on several devices: rank 0 is the run itself, every other rank a process that trains one stage and ends.

Lightning would start the ranks with the run's own command line: each would compose the config, wait for the store's
lock that rank 0 holds, and begin the sweep anew. Here rank 0 starts them when everything before the training is done
(also what only it may do: measuring latencies, tokenizing), and tells them in a file which stage to train. What comes
after the training, rank 0 does alone.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelpress.benchmark.process import environment, explain_exit, last_words
from modelpress.errors import ModelPressError
from modelpress.store import clear

if TYPE_CHECKING:
    from modelpress.training import Arm

FOLDER, BRIEF = "ranks", "brief.pickle"  # in the folder of the stage, while it trains
POLL_S, END_S = 0.05, 60.0


@contextmanager
def together(arm: Arm) -> Iterator[None]:
    """The processes of a training, from its first step to its last. One device: this one alone.

    Raises :class:`ModelPressError` if another rank ends early.
    """
    world, place = arm.world_size, arm.folder / FOLDER
    if arm.rank:
        (place / f"{arm.rank}.ready").touch()
    if arm.rank or world == 1:
        yield
        return
    clear(place)
    place.mkdir(parents=True)
    (place / BRIEF).write_bytes(pickle.dumps(_brief(arm)))
    with _environment(world):
        others = [_start(place, rank) for rank in range(1, world)]
        try:
            _wait_until_ready(others, place)
            yield
            _end(others, place)
        except Exception as error:
            time.sleep(1.0)  # a rank whose end made our own communication fail is just ending
            if any(process.poll() for process in others) and not isinstance(error, ModelPressError):
                raise _ended_early(others, place) from error
            raise
        finally:
            for process in others:
                process.kill()
                process.wait()
    clear(place)


def _brief(arm: Arm) -> dict[str, Any]:
    return {
        "job": (arm.job.config, arm.job.folder),
        "stage": arm.stage,
        "folder": arm.folder.absolute(),
        "done": dict(arm.done),
    }


def _start(place: Path, rank: int) -> subprocess.Popen[bytes]:
    """In a session of its own: Ctrl-C is for rank 0, which ends the others."""
    variables = {**environment(), "LOCAL_RANK": str(rank)}
    with (place / f"{rank}.log").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", __name__, str(place), str(rank)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=variables,
            start_new_session=True,
        )


def _wait_until_ready(others: Sequence[subprocess.Popen[bytes]], place: Path) -> None:
    """Whoever waits inside torch for a rank that has died before, waits for half an hour."""
    while not all((place / f"{rank}.ready").exists() for rank in range(1, len(others) + 1)):
        if any(process.poll() is not None for process in others):
            raise _ended_early(others, place)
        time.sleep(POLL_S)


def _end(others: Sequence[subprocess.Popen[bytes]], place: Path) -> None:
    deadline = time.monotonic() + END_S
    with suppress(subprocess.TimeoutExpired):
        for process in others:
            process.wait(max(0.0, deadline - time.monotonic()))
    if any(process.poll() for process in others):
        raise _ended_early(others, place)


def _ended_early(others: Sequence[subprocess.Popen[bytes]], place: Path) -> ModelPressError:
    rank, code = next((i, process.poll() or 0) for i, process in enumerate(others, 1) if process.poll() is not None)
    said = last_words(place / f"{rank}.log", 1000)
    return ModelPressError(
        f"hardware.devices: the process of device {rank} ended early ({explain_exit(code)}{said}). The same command "
        "continues from the last checkpoint; hardware.devices=1 trains without it."
    )


@contextmanager
def _environment(world: int) -> Iterator[None]:
    """What torch and Lightning need to find each other; as it was before afterwards, with the group taken apart."""
    import torch

    before, threads = dict(os.environ), torch.get_num_threads()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": "0"}
    os.environ.update({**where, "WORLD_SIZE": str(world)})
    try:
        yield
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
        torch.set_num_threads(threads)


def main(place: Path, rank: int) -> None:
    """Train the stage that rank 0 described in ``place``, as the rank given."""
    from modelpress.benchmark.worker import die_with_parent
    from modelpress.job import Job
    from modelpress.training import Arm, train

    die_with_parent()
    brief = pickle.loads((place / BRIEF).read_bytes())
    train(Arm(Job(*brief["job"]), brief["stage"], brief["folder"], brief["done"], rank=rank))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
