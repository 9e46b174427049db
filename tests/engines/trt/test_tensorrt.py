"""The engines from graph to row: plans, sidecars, refusal of foreign engines, and what is said without a GPU."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from modelpress.config import build as built
from modelpress.config import conf_dir
from modelpress.engines import driver
from modelpress.engines.base import Artifact, Hardware, Plan, Unsupported
from modelpress.engines.tensorrt import TensorRT, TensorRTRtx
from modelpress.engines.trt import sidecar
from modelpress.engines.trt.load import load
from modelpress.engines.trt.runtime import cache_path
from modelpress.engines.trt.session import padded
from modelpress.errors import ModelPressError
from tests.engines import graphs

RTX_MAJORS = (7, 8, 12)  # of the compute capabilities that TensorRT-RTX is for
LENGTHS = {5: 30, 9: 3, 12: 1}
H100 = driver.Device(0, "NVIDIA H100", (9, 0), 80_000, "0000:01:00.0")
NONE = driver.Driver(reason="no usable NVIDIA driver (libcuda.so.1: cannot open shared object file); install one")


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "probe", lambda: NONE)


@pytest.fixture(scope="module")
def plan(float_graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("engine")
    [made] = TensorRTRtx().build(Artifact(float_graph, lengths=LENGTHS), Hardware(threads=2), folder)
    return made


def changed(plan: Plan, folder: Path, **fields: Any) -> Plan:
    """The engine elsewhere, its sidecar with other facts."""
    file = folder / Path(plan.file).name
    file.write_bytes(Path(plan.file).read_bytes())
    replace(sidecar.read(Path(plan.file)), **fields).save(file)
    return replace(plan, file=str(file))


def test_a_plan_with_its_sidecar(plan: Plan, float_graph: Path) -> None:
    assert (plan.engine, plan.precision) == ("tensorrt_rtx", "fp32")
    assert plan.settings == {
        "threads": 2,
        "streams": 1,
        "cuda_graphs": False,
        "padding": "refuse",
        "runtime_cache": False,
    }
    known = json.loads(sidecar.path_of(Path(plan.file)).read_text())
    assert (known["flavour"], known["version"]) == ("tensorrt_rtx", "1.7.1.116")
    assert (known["gpu"], known["compute_capability"], known["tf32"]) == (None, None, False)
    assert known["onnx_sha256"] == sidecar.digest(float_graph.read_bytes())
    assert known["inputs"]["input_ids"] == ["batch", "sequence"]
    assert known["outputs"] == {"logits": ["batch", 3]}
    assert known["fit"]["edges"] == [5, 9, 12]
    assert known["fit"]["gain"] == pytest.approx(34 * 12 / (5 * 30 + 9 * 3 + 12))
    assert [profile["max"]["input_ids"] for profile in known["profiles"]] == [[32, 5], [32, 9], [32, 12], [32, 128]]


def test_one_engine_per_precision_and_rows_with_and_without_cuda_graphs(float_graph: Path, tmp_path: Path) -> None:
    engine = TensorRTRtx(["fp32", "fp16"], cuda_graphs=[False, True], streams=3, profiles=[PROFILE])
    plans = engine.build(Artifact(float_graph), Hardware(), tmp_path)
    assert [(plan.engine, plan.precision, Path(plan.file).name, plan.settings["padding"]) for plan in plans] == [
        ("tensorrt_rtx", "fp32", "main_fp32.engine", "refuse"),
        ("tensorrt_rtx_graph", "fp32", "main_fp32.engine", "edges"),
        ("tensorrt_rtx", "fp16", "main_fp16.engine", "refuse"),
        ("tensorrt_rtx_graph", "fp16", "main_fp16.engine", "edges"),
    ]
    assert {plan.settings["streams"] for plan in plans} == {3}
    assert not engine.wants_lengths


PROFILE = {"min": "1x4", "opt": "2x8", "max": "4x16"}


@pytest.mark.usefixtures("no_driver")
def test_without_a_gpu_the_row_says_built_and_not_executed(plan: Plan) -> None:
    with pytest.raises(Unsupported, match=r"built, not executed: no usable NVIDIA driver \(libcuda.so.1"):
        TensorRTRtx.open(Plan.from_json(plan.to_json()))


@pytest.mark.usefixtures("no_driver")
def test_full_tensorrt_is_not_touched_without_a_gpu(
    float_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RTX's module stands for TensorRT's, which has no way to build for a GPU that is not there."""
    import sys

    import tensorrt_rtx

    fake = type(sys)("tensorrt")
    fake.__dict__.update({k: v for k, v in vars(tensorrt_rtx).items() if k not in ("ComputeCapability", "Builder")})
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    with pytest.raises(Unsupported, match="no usable NVIDIA driver"):
        TensorRT().build(Artifact(float_graph), Hardware(accelerator="cuda"), tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"version": "1.6.1.120"},
            "built by tensorrt_rtx 1.6.1.120 and this is tensorrt_rtx 1.7.1.116.*build it again",
        ),
        ({"flavour": "tensorrt", "version": "11.4"}, "built by tensorrt 11.4 and this is tensorrt_rtx"),
        ({"engine_sha256": "0"}, "is not the engine that main_fp32.json describes"),
        (
            {"gpu": "NVIDIA T4", "compute_capability": [7, 5]},
            r"NVIDIA T4 \(compute capability 7.5\) and this is .*H100",
        ),
    ],
)
def test_foreign_engines_are_refused(
    plan: Plan, fields: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "probe", lambda: driver.Driver((H100,), (13, 0), "580.1"))
    with pytest.raises(Unsupported, match=message):
        TensorRTRtx.open(changed(plan, tmp_path, **fields))


def test_an_engine_without_its_sidecar_or_with_a_damaged_one(plan: Plan, tmp_path: Path) -> None:
    lone = changed(plan, tmp_path)
    sidecar.path_of(Path(lone.file)).write_text('{"flavour": "tensorrt"')
    with pytest.raises(Unsupported, match="main_fp32.json is damaged .*; build the engine again"):
        TensorRTRtx.open(lone)
    sidecar.path_of(Path(lone.file)).unlink()
    with pytest.raises(Unsupported, match="has no main_fp32.json beside it; ModelPress opens engines that it built"):
        TensorRTRtx.open(lone)


def test_version_and_gpu_are_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "probe", lambda: NONE)
    before = TensorRTRtx().surroundings()
    assert before == {"tensorrt_rtx": {"tensorrt-rtx-cu13": "1.7.1.116"}, "gpu": []}
    monkeypatch.setattr(driver, "probe", lambda: driver.Driver((H100,), (13, 0), "580.1"))
    assert TensorRTRtx().surroundings()["gpu"][0]["name"] == "NVIDIA H100"
    assert TensorRT().surroundings()["tensorrt"] == {}


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt_rtx"])
def test_the_yaml_says_what_the_constructor_says(name: str) -> None:
    values: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / "engine" / f"{name}.yaml"))
    engine: Any = built(values, f"engine={name}")
    plain = type(engine)()
    different = {key for key in vars(plain) if getattr(engine, key) != getattr(plain, key)}
    assert different == ({"timing_cache"} if name == "tensorrt" else {"max_profiles", "runtime_cache"})
    assert engine.name == name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precisions": ["int8"]}, "precisions is 'int8'; allowed: 'fp32', 'fp16', 'bf16'"),
        ({"profiles": "fitted"}, "profiles is 'fitted'; allowed: 'auto'"),
        ({"batch": [1, 8, 4]}, r"batch is \[1, 8, 4\]; it needs three sizes"),
        ({"streams": 0}, "streams is 0; it must be at least 1"),
        ({"padding": "always"}, "padding is 'always'; allowed: 'refuse', 'outside', 'edges'"),
    ],
)
def test_faults_of_the_configuration(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelPressError, match=f"engine.tensorrt_rtx.{message}"):
        TensorRTRtx(**options)


def test_a_profile_that_does_not_fit_says_which(float_graph: Path, tmp_path: Path) -> None:
    engine = TensorRTRtx(profiles=[PROFILE, {**PROFILE, "opt": "8x8"}])
    with pytest.raises(ModelPressError, match=r"engine.tensorrt_rtx.profiles\[1\]: axis 0 .* min 1, opt 8, max 4"):
        engine.build(Artifact(float_graph), Hardware(), tmp_path)


def test_kept_kernels_are_rtxs_own() -> None:
    with pytest.raises(ModelPressError, match="engine.tensorrt.runtime_cache is TensorRT-RTX's; .*set it to false"):
        TensorRT(runtime_cache=True)


def test_fake_an_engine_is_opened_with_the_kernels_kept_for_it_on_this_gpu(
    float_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deserializing needs a GPU: what the session is given is looked at."""
    from modelpress.engines.trt import session

    card = replace(H100, name="NVIDIA GeForce RTX 4090", compute_capability=(8, 9))
    monkeypatch.setattr(driver, "probe", lambda: driver.Driver((card,), (13, 0), "580.1"))
    monkeypatch.setattr(session, "deserialized", lambda trt, data: len(data))
    monkeypatch.setattr(session, "TensorRTSession", lambda trt, engine, plan, known, cache: cache)
    for keep in (True, False):
        [made] = TensorRTRtx(runtime_cache=keep).build(Artifact(float_graph), Hardware(), tmp_path)
        cache: Any = TensorRTRtx.open(made)
        file = cache_path(Path(made.file), sidecar.read(Path(made.file)), card)
        assert (cache and cache.file) == (file if keep else None)


@pytest.mark.gpu
def test_on_a_gpu_a_second_opening_finds_the_kernels_of_the_first(float_graph: Path, tmp_path: Path) -> None:
    usable(TensorRTRtx)
    [made] = TensorRTRtx(runtime_cache=True).build(Artifact(float_graph), Hardware(), tmp_path)
    for kept in (False, True):
        session: Any = TensorRTRtx.open(made)
        session.run(graphs.batch(2, 5, seed=5))
        assert session.kernels_kept is kept
        session.warmed()
        session.close()


def usable(kind: type[TensorRT]) -> None:
    """Skip where the package, its libraries, or a GPU that it knows is missing."""
    try:
        load(kind.name)
    except Unsupported as reason:
        pytest.skip(str(reason))
    device = driver.probe().devices[0]
    if kind is TensorRTRtx and device.compute_capability[0] not in RTX_MAJORS:
        pytest.skip(f"TensorRT-RTX does not know {device.name} (compute capability {device.compute_capability})")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [TensorRT, TensorRTRtx])
def test_several_streams_answer_at_least_as_many_requests(
    kind: type[TensorRT], float_graph: Path, tmp_path: Path
) -> None:
    """The best of five turns each; a tenth is left to a busy host."""
    usable(kind)
    [plan] = kind().build(Artifact(float_graph), Hardware(), tmp_path)
    asked = [graphs.batch(32, 64, seed=seed) for seed in range(64)]
    best = {}
    for streams in (1, 4):
        session = kind.open(replace(plan, settings={**plan.settings, "streams": streams}))
        list(session.answers(asked))
        spent = []
        for _ in range(5):
            began = time.perf_counter()
            assert sum(1 for _ in session.answers(asked)) == len(asked)
            spent.append(time.perf_counter() - began)
        best[streams] = len(asked) / min(spent)
        session.close()
    assert best[4] >= 0.9 * best[1]


@pytest.mark.gpu
def test_an_engine_built_for_every_rtx_card_runs_on_this_one(plan: Plan) -> None:
    """``plan`` is built without looking at the GPU, as on a machine that has none."""
    usable(TensorRTRtx)
    inputs = graphs.batch(3, 9)
    answers = TensorRTRtx.open(plan).run(inputs)["logits"]
    expected = graphs.reference(inputs["input_ids"], inputs["attention_mask"])
    np.testing.assert_allclose(answers, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [TensorRT, TensorRTRtx])
def test_on_a_gpu_it_answers_like_numpy(kind: type[TensorRT], float_graph: Path, tmp_path: Path) -> None:
    """With two streams, without and with CUDA graphs; with them, the mean in this graph runs over the padding too."""
    usable(kind)
    asked = [graphs.batch(2, length, seed=length) for length in (4, 9, 4)]
    for plan in kind(streams=2, cuda_graphs=[False, True]).build(Artifact(float_graph), Hardware(), tmp_path):
        session = kind.open(plan)
        for inputs, answer in zip(asked, session.answers(asked), strict=True):
            width = 128 if plan.settings["cuda_graphs"] else inputs["input_ids"].shape[1]
            seen = [padded(inputs[name], (2, width)) for name in ("input_ids", "attention_mask")]
            np.testing.assert_allclose(answer["logits"], graphs.reference(*seen), rtol=1e-3, atol=1e-4)
        session.run(asked[0])
        assert set(session.device_ms()) == {"h2d", "compute", "d2h"}
        assert min(session.device_ms().values()) > 0
        assert session.precision == "fp32"
