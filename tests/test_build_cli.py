"""``modelpress build``: engines from the command line, by TensorRT-RTX, without a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelpress.cli import main
from tests.engines import graphs


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graphs.write(tmp_path_factory.mktemp("build") / "tiny.onnx")


def test_it_builds_for_the_given_range(onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = ["--min", "1x16", "--opt", "8x64", "--max", "32x128"]
    assert main(["build", str(onnx), "--engine", "tensorrt-rtx", *shapes, "--output", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path / 'tiny_fp32.engine'} (" in said
    assert "tensorrt_rtx 1.7.1.116, fp32" in said
    assert "shapes: input_ids 1x16 to 32x128, attention_mask 1x16 to 32x128" in said
    assert "not executed here" in said
    known = json.loads((tmp_path / "tiny_fp32.json").read_text())
    assert known["profiles"][0]["opt"]["input_ids"] == [8, 64]


def test_shapes_by_input_and_other_types(onnx: Path, tmp_path: Path) -> None:
    shapes = [f"--{k}={v}" for k, v in {"min": "1x4", "opt": "2x8"}.items()]
    by_input = ["--max", "input_ids:4x8", "attention_mask:4x8", "--precision", "fp16", "bf16"]
    assert main(["build", str(onnx), *shapes, *by_input, "--output", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.glob("*.engine")) == ["tiny_bf16.engine", "tiny_fp16.engine"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--min", "1x16"], "--opt, --max is missing; a profile needs --min, --opt and --max"),
        (["--min", "8x16", "--opt", "1x16", "--max", "8x16"], "has min 8, opt 1, max 8; it must be 1 <= min <= opt"),
        (["--min", "1x4", "2x4", "--opt", "1", "--max", "1"], "--min is 1x4 2x4; give one shape for all inputs"),
        (["--compute-capability", "90"], "knows 75, 80, 86, 89, 120, 121"),
        (["--precision", "int8"], "precisions is 'int8'; allowed"),
    ],
)
def test_wrong_usage_is_a_sentence(
    arguments: list[str], message: str, onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", str(onnx), *arguments, "--output", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.engine"))


def test_what_cannot_be_built_here_says_why(
    onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert main(["build", str(onnx), "--engine", "tensorrt", "--output", str(tmp_path)]) == 1
    assert "tensorrt is not installed" in capsys.readouterr().err


def test_no_such_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(tmp_path / "none.onnx")]) == 1
    assert "does not exist" in capsys.readouterr().err
