"""Throughput asks a session for many answers at once, so that an engine may have several requests in flight."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest

from modelpress.benchmark.requests import Requests
from modelpress.benchmark.worker import Worker
from modelpress.engines.base import Arrays, Session


class Eager(Session):
    """Takes ``ahead`` requests before it gives the first answer, as an engine with so many streams does."""

    def __init__(self, ahead: int) -> None:
        self.ahead = ahead
        self.log: list[str] = []

    def run(self, inputs: Arrays) -> dict[str, Any]:
        return {"logits": inputs["x"]}

    def answers(self, requests: Iterable[Arrays]) -> Iterator[dict[str, Any]]:
        waiting: list[Arrays] = []
        for inputs in requests:
            self.log.append("asked")
            waiting.append(inputs)
            if len(waiting) == self.ahead:
                self.log.append("answered")
                yield self.run(waiting.pop(0))
        for inputs in waiting:
            self.log.append("answered")
            yield self.run(inputs)


def throughput(session: Session, min_s: float) -> dict[str, Any]:
    worker = Worker(0.0)
    worker.session = session
    worker.requests = {"data": Requests({"x": np.arange(10).reshape(10, 1)})}
    return worker.throughput("data", 4, min_s)


@pytest.mark.parametrize("ahead", [1, 3])
def test_every_answer_counts_and_none_is_lost(ahead: int) -> None:
    session = Eager(ahead)
    found = throughput(session, 0.02)
    asked = session.log.count("asked")
    assert session.log.count("answered") == asked >= 2
    assert session.log[: ahead + 1] == ["asked"] * ahead + ["answered"]
    assert 2 * asked <= found["samples"] <= 4 * asked  # batches of 4, 4 and 2
    assert found["seconds"] >= 0.02
    assert found["per_s"] == found["samples"] / found["seconds"]


class Seen(Session):
    """Writes down which items it is asked."""

    def __init__(self) -> None:
        self.items: list[list[int]] = []

    def run(self, inputs: Arrays) -> dict[str, Any]:
        self.items.append(inputs["x"][:, 0].tolist())
        return {"logits": inputs["x"]}


@pytest.mark.parametrize(("shape", "size"), [("4x1", 4), ("1x1", 1), ("data", 1)])
def test_a_request_has_as_many_items_as_its_shape_says(shape: str, size: int) -> None:
    worker = Worker(0.0)
    worker.session = session = Seen()
    worker.requests = {shape: Requests({"x": np.arange(12).reshape(12, 1)})}
    worker.block(shape, start=1, min_ms=0.0, min_queries=3, limit_ms=1e6, rewarm_ms=0.0)
    asked = session.items[-3:]
    order = worker.requests[shape].even_order().tolist()
    assert asked == [[order[((1 + turn) * size + place) % 12] for place in range(size)] for turn in range(3)]
    worker.warm(shape, window_ms=0.0, min_ms=0.0, limit_ms=1e6, tolerance=1e6)
    assert {len(items) for items in session.items} == {size}


def test_at_least_two_batches_however_short_the_time() -> None:
    session = Eager(1)
    assert throughput(session, 0.0)["samples"] >= 4
    assert session.log.count("asked") == 2


def test_a_session_that_knows_nothing_of_it_answers_one_after_another() -> None:
    class Plain(Session):
        def run(self, inputs: Arrays) -> dict[str, Any]:
            return {"logits": inputs["x"] + 1}

    given = ({"x": np.array([number])} for number in range(3))
    assert [int(answer["logits"][0]) for answer in Plain().answers(given)] == [1, 2, 3]
