"""A resolved config with its objects; versions and sources that make keys."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

import pytest

import modelpress.benchmark.machine
import modelpress.technique
import tests.tiny as tiny
from modelpress.config import compose
from modelpress.engines import driver
from modelpress.errors import ModelPressError
from modelpress.job import Job, sources, targets, versions
from modelpress.models.text import TextModel


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("world"))


def job_of(world: Path, *extra: str) -> Job:
    return Job.of(compose(tiny.overrides(world, *extra)), Path("relative"), "python run.py")


def test_the_config_is_resolved_into_plain_values(world: Path) -> None:
    job = job_of(world)
    assert type(job.config) is dict
    assert job.name == "csv_tinybert_distill"
    assert job.seed == 1
    assert job.folder == Path.cwd() / "relative"
    assert job.store.root == world / "store"


def test_objects_are_made_once_from_their_nodes(world: Path) -> None:
    job = job_of(world)
    assert job.dataset is job.dataset
    assert job.dataset.labels == ["neg", "pos"]
    assert {name: engine.precisions for name, engine in job.engines.items()} == {
        "onnxruntime": ("fp32",),
        "openvino": ("fp32",),
    }
    assert job.hardware.engines == ("onnxruntime", "openvino", "torch", "torch_compile", "torchao", "tensorrt_rtx")
    teacher = job.recipe("teacher")
    assert isinstance(teacher, TextModel)
    assert teacher.path == str(world / "checkpoint")


def test_a_fault_names_its_key(world: Path) -> None:
    with pytest.raises(ModelPressError, match=r"^engine\.openvino"):
        _ = job_of(world, "engine.openvino.precisions=[fp64]").engines


@pytest.mark.parametrize(
    ("given", "bf16", "precision"),
    [
        ("auto", True, "bf16-mixed"),
        ("auto", False, "32-true"),
        ("32-true", True, "32-true"),
        ("16-mixed", False, "16-mixed"),
    ],
)
def test_auto_precision_is_what_the_processor_has(
    world: Path, monkeypatch: pytest.MonkeyPatch, given: str, bf16: bool, precision: str
) -> None:
    monkeypatch.setattr(modelpress.benchmark.machine, "has_bf16", lambda: bf16)
    assert job_of(world, f"hardware.precision={given}").precision == precision


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [([], "bf16-mixed"), ([(9, 0)], "bf16-mixed"), ([(7, 5)], "16-mixed"), ([(9, 0), (7, 5)], "16-mixed")],
)
def test_auto_precision_is_what_the_oldest_gpu_has(
    world: Path, monkeypatch: pytest.MonkeyPatch, capabilities: list[tuple[int, int]], precision: str
) -> None:
    devices = tuple(driver.Device(i, "GPU", found, 1024, "") for i, found in enumerate(capabilities))
    monkeypatch.setattr(driver, "probe", lambda: driver.Driver(devices))
    assert job_of(world, "hardware.accelerator=cuda").precision == precision


def test_onnxruntime_gpu_takes_the_place_of_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name != "onnxruntime-gpu":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.31.1"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert versions("onnxruntime") == {"onnxruntime": "1.31.1 (gpu)"}
    with pytest.raises(importlib.metadata.PackageNotFoundError, match="openvino"):
        versions("openvino")


def test_no_onnxruntime_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a `make setup-gpu` whose download failed."""

    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(ModelPressError, match="onnxruntime is not installed, and .* `make setup-gpu` brings the one"):
        versions("onnxruntime")


def test_versions_are_those_installed() -> None:
    assert versions("numpy", "onnx") == {name: importlib.metadata.version(name) for name in ("numpy", "onnx")}


def test_sources_are_digests_of_files_each_once() -> None:
    found = sources("modelpress.technique", "modelpress.store", "modelpress.technique")
    assert list(found) == ["modelpress.store", "modelpress.technique"]
    content = Path(str(modelpress.technique.__file__)).read_bytes()
    assert found["modelpress.technique"] == hashlib.sha256(content).hexdigest()


def test_a_module_without_a_source_is_no_source() -> None:
    with pytest.raises(AssertionError, match="modelpress_absent has no source file"):
        sources("modelpress_absent")


def test_targets_are_found_at_any_depth() -> None:
    node = {
        "_target_": "a.b.Outer",
        "parts": [{"_target_": "c.Inner"}, {"deep": {"_target_": "d.e.Deep"}}, 3, None],
        "name": "f.g.NotATarget",
    }
    assert targets(node) == ["a.b", "c", "d.e"]
    assert targets([]) == targets(None) == targets("x") == []
