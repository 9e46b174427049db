from __future__ import annotations

import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench import __main__ as bench
from bench import gpu, gpu_page
from bench.contest import Contender, Contest
from bench.pressed import arms
from modelpress.benchmark.requests import write
from modelpress.benchmark.session import Measurement, Session, latency_of
from modelpress.check import inspect
from modelpress.config import compose
from modelpress.engines.base import Plan
from modelpress.engines.driver import Device, Driver
from modelpress.errors import ModelPressError
from modelpress.report.record import Interval
from tests.benchmark import fakes

DEVICE = Device(0, "NVIDIA H100 80GB HBM3", (9, 0), 81559, "0000:01:00.0")
# engine/precision -> ms on the device at batch 32, the rounds all alike; end to end 1 ms more
DEVICE_MS = {"torch/fp32": 12.0, "torch/tf32": 6.0, "torch/fp16": 3.0, "torch/bf16": 4.5, "tensorrt/fp16": 2.0}


def contest(tmp_path: Path) -> Contest:
    """Four rows of PyTorch, one of TensorRT, one that failed and one engine that is not there."""
    measured, contenders = [], {}
    for name, ms in DEVICE_MS.items():
        engine, precision = name.split("/")
        plan = Plan(engine, "", precision, str(tmp_path), {"streams": 1} if engine == "tensorrt" else {})
        contenders[f"adopt/{name}"] = Contender({"torch": "PyTorch", "tensorrt": "TensorRT"}[engine], plan)
        for shape, share in zip(gpu_page.SHAPES, (0.1, 1.0), strict=True):
            rounds = [[share * ms + 1.0] * 12] * 4
            row = Measurement(f"adopt/{name}", shape, "ok", None, precision, latency_of(rounds), rounds)
            on_device = {"device_round_medians_ms": [share * ms] * 4}
            device = latency_of([[share * ms] * 12])
            measured.append(replace(row, device_latency_ms=device, throughput_per_s=32e3 / ms, details=on_device))
    broken = Plan("torch_compile", "", "fp32", str(tmp_path))
    contenders["adopt/torch_compile/fp32"] = Contender("torch.compile", broken)
    measured += [
        Measurement("adopt/torch_compile/fp32", shape, "failed", "it died", "fp32") for shape in gpu_page.SHAPES
    ]
    contenders["adopt/tensorrt_rtx"] = Contender("TensorRT-RTX", None, why="not for this GPU")
    session = Session(measured, {}, {}, {}, 1.0, tmp_path / "trace.npz", {}, {})
    return Contest(contenders, session, None, "adopt/torch/fp32", "adopt/torch/tf32")


def facts(**streams: Interval | str) -> gpu_page.Facts:
    return gpu_page.Facts(DEVICE, "python -m bench gpu", "abc1234", "12 passed, 1 skipped in 40 s", streams)


def test_the_page_says_where_and_how_fast(tmp_path: Path) -> None:
    text = gpu_page.page(contest(tmp_path), facts(**{"adopt/tensorrt/fp16": Interval(1.4, 1.3, 1.5)}))
    assert text.startswith("# NVIDIA H100 80GB HBM3: ViT-B/32's image tower\n")
    assert "at commit abc1234: NVIDIA H100 80GB HBM3 (compute capability 9.0, 81559 MB)" in text
    assert "Tests that need a GPU: 12 passed, 1 skipped in 40 s." in text
    batch_1, batch_32 = text.partition("## Batch 1\n")[2].split("## Batch 32\n")
    same = "4.00x [4.00, 4.00] | 2.00x [2.00, 2.00]"
    assert f"| PyTorch | fp16 | 1.30 | 0.300 | 10667 | {same} | 1.69x [1.69, 1.69] |" in batch_1
    assert f"| PyTorch | fp16 | 4.00 | 3.000 | 10667 | {same} | 3.25x [3.25, 3.25] |" in batch_32
    assert "| PyTorch | fp32 | 13.00 | 12.000 | 2667 | – | 0.50x [0.50, 0.50] | – |" in batch_32
    assert "* adopt/torch_compile/fp32: failed: it died\n* adopt/tensorrt_rtx: not for this GPU" in batch_32
    assert "* adopt/tensorrt/fp16, 4 streams over 1, items per second: 1.40x [1.30, 1.50] (wanted >= 1)" in text
    assert all(f"[{name}]({name})" in text for name in gpu_page.FILES)


def test_claims_compare_an_engine_with_itself(tmp_path: Path) -> None:
    found = gpu_page.claims(contest(tmp_path))
    assert [line.partition(":")[0] for line in found] == [
        f"PyTorch {half} over its own {base}, batch 32" for half in ("FP16", "BF16") for base in ("FP32", "TF32")
    ]  # TensorRT has no FP32 row here
    assert "4.00x [4.00, 4.00] on the device, 3.25x [3.25, 3.25] end to end (wanted >= 3.0: met on the" in found[0]
    assert "2.67x [2.67, 2.67] on the device" in found[2]
    assert found[2].endswith("(wanted >= 3.0: not met on the device)")
    assert found[3].endswith("(wanted >= 1.5: not met on the device)")


def test_nothing_to_compare_is_said(tmp_path: Path) -> None:
    whole = contest(tmp_path)
    few = Contest({"adopt/torch/fp32": whole.contenders["adopt/torch/fp32"]}, whole.session, None, "a", "b")
    assert gpu_page.claims(few) == ["no engine ran in 16 bits and in FP32: nothing to compare"]
    assert gpu_page.stream_claims({}) == ["several streams: no engine with streams could be built"]
    [said] = gpu_page.stream_claims({"x": "worker died"})
    assert said == "x, 4 streams over 1, items per second: worker died"


def test_without_a_gpu_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "probe", lambda: Driver(reason="no usable NVIDIA driver"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"^error: bench gpu measures a GPU, and there is none: no usable NVIDIA driv"):
        gpu.main()
    assert list(tmp_path.iterdir()) == []


def test_each_part_writes_into_the_folder_of_the_day_and_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, Path]] = []
    monkeypatch.setattr(gpu, "probe", lambda: Driver((DEVICE,)))
    monkeypatch.setattr(gpu, "PARTS", {n: lambda d, f, n=n: seen.append((n, f)) for n in ("doctor", "engines")})
    monkeypatch.chdir(tmp_path)
    gpu.main()
    gpu.main(["engines"])
    place = gpu.RESULTS / gpu.name_of(DEVICE, date.today())
    assert place.name.endswith("-nvidia-h100-80gb-hbm3")
    assert (seen, place.is_dir()) == ([("doctor", place), ("engines", place), ("engines", place)], True)
    with pytest.raises(ModelPressError, match="part is 'engine'; allowed: "):
        gpu.main(["engine"])


def test_what_a_command_prints_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.record([sys.executable, "-c", "print('first'); print('== 3 passed ==')"], tmp_path / "out.txt", 60.0)
    assert (tmp_path / "out.txt").read_text() == "first\n== 3 passed ==\n"
    assert capsys.readouterr().out.endswith("3 passed\n")
    assert gpu.last_line(tmp_path / "never.txt") == "not run"


def test_a_command_that_hangs_is_ended(tmp_path: Path) -> None:
    gpu.record([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "out.txt", 0.2)
    assert gpu.last_line(tmp_path / "out.txt") == "ended after 0.2 s"


def test_a_stage_has_rows_where_it_adds_something() -> None:
    plans = [Plan(name, "", "int8", "a") for name in ("torch", "tensorrt", "onnxruntime_cuda")]
    absent = {"torch_compile": "no compiler", "tensorrt_rtx": "no driver"}
    assert set(gpu.rows("ptq", plans, absent)) == {
        *("ptq/tensorrt/int8", "ptq/onnxruntime_cuda/int8", "ptq/tensorrt_rtx")
    }
    assert set(gpu.rows("fp16", plans, absent)) == {"fp16/onnxruntime_cuda/int8"}
    assert len(gpu.rows("adopt", plans, absent)) == 5


SMALL = (
    "model.architecture={embed_dim:16,"
    "vision_cfg:{image_size:32,layers:1,width:64,head_width:16,patch_size:16},"
    "text_cfg:{context_length:16,width:32,heads:4,layers:1}}"
)


@pytest.mark.slow
def test_the_session_of_a_small_network_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it but the GPU: stages, engines of one tower, both batches, the page."""
    shapes = ("1x3x32x32", "4x3x32x32")
    monkeypatch.setattr(gpu, "SHAPES", shapes)
    monkeypatch.setattr(gpu_page, "SHAPES", shapes)
    kept = [line for line in gpu.OVERRIDES if not line.startswith(("hardware", "engine", "benchmark.shapes"))]
    quick = [*("benchmark.rounds=2", "benchmark.requests=4", "benchmark.throughput_s=0.05"), "dataset.limit=4"]
    quick += [f"technique.{stage}.transform.samples=4" for stage in ("fp16", "ptq")]
    own = ["hardware=cpu", "engine=[torch,onnxruntime,tensorrt_rtx]", f"benchmark.shapes=[{','.join(shapes)}]"]
    made = arms(*kept, *own, *quick, SMALL, f"store={tmp_path / 'store'}")
    contest = gpu.measured(made, tmp_path / "work")
    assert {"adopt/torch/fp32", "adopt/onnxruntime/fp32", "fp16/onnxruntime/fp16", "ptq/onnxruntime/int8"} <= set(
        contest.contenders
    )
    assert (tmp_path / "work" / "measurements.json").is_file()
    one, four = (contest.row("adopt/torch/fp32", shape) for shape in shapes)
    assert one is not None
    assert four is not None
    assert one.latency_ms is not None
    assert four.latency_ms is not None
    assert contest.ratio("adopt/torch/fp32", "ptq/onnxruntime/int8", shapes[1]) is not None
    text = gpu_page.page(contest, facts())
    assert "## Batch 4" in text
    assert "tensorrt_rtx" in text


def test_throughput_is_compared_turn_by_turn() -> None:
    found = gpu.faster({"1": [100.0] * 6, "4": [150.0] * 6})
    assert isinstance(found, Interval)
    assert found.value == pytest.approx(1.5)
    assert gpu.faster("worker died") == "worker died"


def test_streams_are_measured_by_turns_in_two_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(gpu, "STREAM_ROUNDS", 2)
    monkeypatch.setattr(gpu, "STREAM_S", 0.01)
    write(tmp_path / "requests" / f"{gpu_page.SHAPES[-1]}.npz", {"input_ids": np.ones((32, 4), np.int64)})
    plan = replace(fakes.plan(), precision="fp16", settings={**fakes.plan().settings, "streams": 1})
    whole = SimpleNamespace(
        contenders={"a": Contender("A", plan), "b": Contender("B", replace(plan, precision="fp32"))}
    )
    found = gpu.by_turns(whole, tmp_path)  # type: ignore[arg-type]
    assert list(found) == ["a"]
    per_s = found["a"]
    assert isinstance(per_s, dict)
    assert {count: len(rates) for count, rates in per_s.items()} == {"1": 2, "4": 2}
    assert min(rate for rates in per_s.values() for rate in rates) > 0


def test_the_run_composes_and_lacks_nothing_but_a_gpu() -> None:
    cfg = compose(["control=false", "logger=none", *gpu.OVERRIDES])
    assert list(cfg.technique) == ["fp16", "ptq"]
    assert list(cfg.benchmark.shapes) == list(gpu_page.SHAPES)
    faults, _ = inspect(cfg)
    assert [fault for fault in faults if "needs an NVIDIA GPU" not in fault] == []


def test_a_gpu_is_only_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(sys, "argv", ["bench"])
    monkeypatch.setattr(bench, "PARTS", {"clip": "", "gpu": ""})
    monkeypatch.setattr(bench.importlib, "import_module", lambda name: SimpleNamespace(main=lambda: ran.append(name)))
    bench.main()
    assert ran == ["bench.clip"]
