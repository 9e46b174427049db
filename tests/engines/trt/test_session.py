"""What a session does around its streams, which need a GPU: here a fake of theirs answers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from modelpress.engines.graph import GraphInput
from modelpress.engines.trt.profiles import parse
from modelpress.engines.trt.session import TensorRTSession, cut, padded, precision_of
from modelpress.engines.trt.sidecar import Sidecar, profiles_record
from modelpress.errors import ModelPressError

INPUTS = [GraphInput("ids", "int64", ("batch", "sequence"))]
PROFILE = parse({"min": "2x4", "opt": "2x8", "max": "4x8"}, INPUTS)
SIDECAR = Sidecar(
    flavour="tensorrt", version="11.4", gpu="GPU", compute_capability=[9, 0], precision="fp32", floats="fp32",
    tf32=False, profiles=profiles_record([PROFILE]), inputs={"ids": ["batch", "sequence"]},
    outputs={"logits": ["batch", 2], "hidden": ["batch", "sequence", 1]}, onnx_sha256="", engine_sha256="",
    build_seconds=1.0,
)  # fmt: skip


class FakeStream:
    """Answers with the sums of what it was given; keeps the shapes and the order of calls."""

    inputs = ("ids",)

    def __init__(self, number: int, calls: list[str]) -> None:
        self.number, self.calls = number, calls
        self.given: Any = None

    def begin(self, inputs: Any, profile: int) -> None:
        assert self.given is None, "a stream was given a second request before it had answered"
        self.calls.append(f"begin {self.number} {inputs['ids'].shape} in {profile}")
        self.given = inputs["ids"]

    def finish(self) -> dict[str, Any]:
        self.calls.append(f"finish {self.number}")
        given, self.given = self.given, None
        return {"logits": np.stack([given.sum(1), given.max(1)], 1), "hidden": given[..., None]}


def session(streams: int, padding: str = "refuse") -> tuple[TensorRTSession, list[str]]:
    made = TensorRTSession.__new__(TensorRTSession)
    calls: list[str] = []
    made.sidecar, made.profiles, made.padding = SIDECAR, SIDECAR.opened_profiles(), padding
    made.streams = [FakeStream(number, calls) for number in range(streams)]  # type: ignore[misc]
    return made, calls


def request(start: int, batch: int = 2, length: int = 5) -> dict[str, Any]:
    return {"ids": start + np.arange(batch * length).reshape(batch, length), "token_type_ids": np.zeros(1)}


def test_a_fake_stream_gets_known_inputs_only_and_its_answer_comes_back() -> None:
    made, calls = session(1)
    answer = made.run(request(0))
    assert calls == ["begin 0 (2, 5) in 0", "finish 0"]
    assert answer["logits"].tolist() == [[10, 4], [35, 9]]


def test_fake_streams_work_in_turn_and_answers_keep_their_order() -> None:
    made, calls = session(2)
    answers = list(made.answers(request(100 * turn) for turn in range(5)))
    assert [int(answer["logits"][0, 1]) for answer in answers] == [4, 104, 204, 304, 404]
    assert [call.split(" (")[0] for call in calls] == [
        *("begin 0", "begin 1", "finish 0", "begin 0", "finish 1", "begin 1"),
        *("finish 0", "begin 0", "finish 1", "finish 0"),
    ]


def test_fake_compiled_kernels_are_kept_after_the_warm_up_and_at_the_end() -> None:
    made, calls = session(1)
    made.cache = SimpleNamespace(save=lambda: calls.append("save"))  # type: ignore[assignment]
    made.warmed()
    made.close()
    assert calls == ["save", "save"]
    made.cache = None
    made.close()
    assert len(calls) == 2


def test_padding_is_cut_off_again() -> None:
    made, calls = session(1, "outside")
    answer = made.run(request(1, batch=1, length=3))
    assert calls[0] == "begin 0 (2, 4) in 0"
    assert answer["logits"].tolist() == [[6, 3]]
    assert answer["hidden"].shape == (1, 3, 1)


def test_a_shape_outside_is_an_error_and_the_engine_lives_on() -> None:
    made, _ = session(1)
    with pytest.raises(ModelPressError, match=r"has ids 2x9; the engine takes ids 2x4 to 4x8.*padding=outside"):
        made.run(request(0, length=9))
    assert made.run(request(0))["logits"].shape == (2, 2)


def test_padded_and_cut() -> None:
    array = np.arange(6).reshape(2, 3)
    assert padded(array, (2, 3)) is array
    assert padded(array, (3, 4)).tolist() == [[0, 1, 2, 0], [3, 4, 5, 0], [0, 0, 0, 0]]
    whole = {"logits": np.ones((3, 2)), "hidden": np.ones((3, 4, 1))}
    found = cut(whole, SIDECAR, {"ids": array})
    assert (found["logits"].shape, found["hidden"].shape) == ((2, 2), (2, 3, 1))


@pytest.mark.parametrize(
    ("work", "tf32", "precision"),
    [({"fp32": 4}, False, "fp32"), ({"fp32": 4}, True, "tf32"), ({"fp16": 4}, True, "fp16"), ({}, True, "tf32")],
)
def test_products_that_may_round_to_tf32_are_not_called_fp32(work: dict[str, int], tf32: bool, precision: str) -> None:
    assert precision_of(work, replace(SIDECAR, tf32=tf32)) == precision
