from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import clip
from modelpress.benchmark.session import Measurement, Session, latency_of
from modelpress.engines.base import Plan
from modelpress.errors import ModelPressError

MS = {"adopt/image/onnxruntime/fp32": 40.0, "adopt/image/openvino/bf16": 20.0, "ptq/image/openvino/int8": 10.0}
BYTES = {"fp32": 1000, "bf16": 1000, "int8": 260}
SHAPE = "1x3x224x224"


@pytest.fixture
def pressing(tmp_path: Path) -> Any:
    """A network in two engines, its INT8 file, and a BF16 file that one engine cannot run."""
    stages: dict[str, Any] = {
        name: SimpleNamespace(stage=SimpleNamespace(name=name, slug=f"clip/{name}"), plans={}, absent={})
        for name in ("adopt", "ptq", "bf16")
    }
    rows = []
    for key, ms in MS.items():
        stage, tower, engine, precision = key.split("/")
        file = tmp_path / f"{key.replace('/', '_')}.onnx"
        file.write_bytes(b"0" * BYTES[precision])
        stages[stage].plans[f"clip/{key}"] = Plan(engine, "", precision, str(file), tower=tower)
        rounds = [[ms] * 12, [ms] * 12]
        latency = latency_of(rounds)
        rows.append(Measurement(f"clip/{key}", SHAPE, "ok", None, precision, latency, rounds, throughput_per_s=77.0))
    stages["bf16"].absent[("image", "onnxruntime")] = "no kernels"
    session = Session(rows, {}, {}, {}, 1.0, tmp_path / "trace.npz", {}, {})
    graph = SimpleNamespace(baseline=stages["adopt"].stage)
    return SimpleNamespace(
        pressed=list(stages.values()), session=session, graph=graph, other_shapes=lambda tower: [SHAPE]
    )


def test_a_table_names_every_stage_and_says_what_int8_is_worth(pressing: Any) -> None:
    heading, table, claim = clip.table(pressing, "ViT-B/32", "image")
    assert heading == "### ViT-B/32, one image (1x3x224x224)"
    assert "| OpenVINO BF16 | openvino bf16 | 20.00 | 77 | 2.00 [2.00, 2.00] | – |" in table
    assert "| INT8 | openvino int8 | 10.00 | 77 | 4.00 [4.00, 4.00] | 2.00 [2.00, 2.00] |" in table
    assert "- BF16 file, onnxruntime: no kernels" in table
    said = "INT8 in OpenVINO against ONNX Runtime FP32: 4.00x [4.00, 4.00]"
    assert claim == f"* {said} (wanted >= 3.8); 26.0% of the bytes (wanted <= 27%)"


def test_other_shapes_have_no_goal(pressing: Any) -> None:
    assert "wanted" not in clip.table(pressing, "ViT-B/16", "image")[-1]


def test_a_part_replaces_only_what_is_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "clip.md"
    page.write_text("# CLIP\n\n<!-- latency -->\nold\n<!-- end of latency -->\n\nBy hand.\n")
    for text in ("first", "second\n"):
        clip.write_part(page, "latency", text)
    assert page.read_text() == "# CLIP\n\n<!-- latency -->\nsecond\n<!-- end of latency -->\n\nBy hand.\n"
    with pytest.raises(ModelPressError, match="lacks the marks <!-- accuracy -->"):
        clip.write_part(page, "accuracy", "x")


def test_a_page_that_is_not_there_is_made(tmp_path: Path) -> None:
    clip.write_part(tmp_path / "new.md", "latency", "text")
    assert (tmp_path / "new.md").read_text() == "<!-- latency -->\ntext\n<!-- end of latency -->\n"


def test_the_page_of_the_project_has_the_marks_of_every_part() -> None:
    text = (Path(__file__).parents[2] / clip.PAGE).read_text(encoding="utf-8")
    assert all(f"<!-- {name} -->" in text and f"<!-- end of {name} -->" in text for name in clip.PARTS)


def test_parts_and_overrides_are_told_apart() -> None:
    args = clip.parse(["vit_b32", "--preset", "quick", "technique.ptq.transform.attention=true"])
    assert (args.parts, args.overrides) == (["vit_b32"], ["technique.ptq.transform.attention=true"])
    assert args.preset == "quick"
    assert clip.parse([]).parts == []


def test_an_unknown_part_is_an_error() -> None:
    with pytest.raises(ModelPressError, match="part is 'vit_b64'; allowed: 'emoji', 'variants', 'vit_b32', 'vit_b16'"):
        clip.parse(["vit_b64"])
