"""Every name of TensorRT that the adapter uses exists in 10.16, 11.4 and RTX 1.7, or is asked for before it is used."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ENGINES = Path(__file__).parents[3] / "src" / "modelpress" / "engines"
PLUGIN = ENGINES.parent / "plugins" / "quick_gelu.py"
SOURCES = [
    PLUGIN,
    ENGINES / "tensorrt.py",
    *sorted(set((ENGINES / "trt").glob("*.py")) - {ENGINES / "trt" / "sidecar.py"}),
]
LISTS = {path.stem: json.loads(path.read_text()) for path in sorted((HERE / "api").glob("*.json"))}
CLASSES = {  # what the adapter's variables hold
    "maker": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "made": "IOptimizationProfile",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "kernels": "IRuntimeCache",
}
OWNER = re.compile(r"^(self|buffers|found)\.")
OURS = {
    f"trt.{name}.__init__" for name in ("ILogger", "IInt8EntropyCalibrator2", "IPluginCreatorV3One")
}  # Python's own
PLAIN = {"trt.Builder", "trt.Runtime", "trt.OnnxParser", "trt.ILogger"}  # classes, called
#: names behind a question (hasattr, Capabilities), with the lists that have them
GUARDED = {
    "tensorrt-10.16.1.11": {
        "trt.IInt8EntropyCalibrator2",
        "trt.BuilderFlag.INT8",
        "trt.BuilderFlag.FP16",
        "config.int8_calibrator",
        "config.set_calibration_profile",
    },
    "tensorrt_rtx-1.7.1.116": {
        "trt.ComputeCapability",
        "trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE",
        "trt.EngineInvalidityDiagnostics",
        "config.create_runtime_cache",
        "config.cuda_graph_strategy",
        "config.num_compute_capabilities",
        "config.set_compute_capability",
        "config.set_runtime_cache",
        "kernels.deserialize",
        "kernels.serialize",
        "runtime.get_engine_validity",
    },
}


def chains(tree: ast.AST) -> Iterator[str]:
    """``trt.X``, ``trt.X.Y`` and ``config.x``: the longest chain of every attribute of a variable that we know."""
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            parts = OWNER.sub("", ast.unparse(node)).partition("(")[0].split(".")
            if parts[0] == "trt" and len(parts) > 1 and not parts[1].startswith("__"):
                yield ".".join(part for part in parts[:3] if part != "__members__")
            elif parts[0] in CLASSES and len(parts) > 1:
                yield ".".join(parts[:2])


def used() -> set[str]:
    return {name for path in SOURCES for name in chains(ast.parse(path.read_text()))} - OURS


def has(api: dict[str, dict[str, list[str]]], name: str) -> bool:
    head, first, *rest = name.split(".")
    if head == "trt":
        members = [] if first in api["functions"] else api["enums"].get(first, api["classes"].get(first))
        return members is not None and (not rest or rest[0] in members)
    extra = api["classes"].get("IRuntimeConfig", []) if head == "config" else []
    return first in api["classes"].get(CLASSES[head], []) or first in extra


def test_the_reader_of_sources_sees_what_is_used() -> None:
    found = used()
    assert {"trt.BuilderFlag.TF32", "config.add_optimization_profile", "context.execute_async_v3"} <= found
    assert found >= PLAIN
    assert len(found) > 35
    assert set().union(*GUARDED.values()) <= found


@pytest.mark.parametrize("version", LISTS)
def test_every_name_exists(version: str) -> None:
    elsewhere = set().union(*(names for other, names in GUARDED.items() if other != version))
    missing = sorted(name for name in used() if not has(LISTS[version], name))
    assert set(missing) <= elsewhere, missing


def test_what_is_guarded_is_really_elsewhere_only() -> None:
    for version, names in GUARDED.items():
        assert all(has(LISTS[version], name) for name in names)
        for name in names:
            assert not all(has(api, name) for api in LISTS.values()), name


def test_the_list_of_rtx_is_that_of_the_installed_module() -> None:
    import tensorrt_rtx

    api = LISTS["tensorrt_rtx-1.7.1.116"]
    assert tensorrt_rtx.__version__ == "1.7.1.116"
    for kind in ("classes", "enums"):
        for name, members in api[kind].items():
            found = getattr(tensorrt_rtx, name, None) or getattr(tensorrt_rtx.ILogger, name)
            assert not [member for member in members if not hasattr(found, member)], name
