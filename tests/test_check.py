"""Every mistake that ``check`` knows, each from the smallest config that makes it."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from modelpress.check import check, inspect
from modelpress.check_rules import repeated_stages
from modelpress.config import compose
from modelpress.engines.driver import Device, Driver
from modelpress.errors import ModelPressError

TINY = {"model_type": "bert", "hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 100}


def _recipe(name: str, layers: int, **more: Any) -> dict[str, Any]:
    architecture = {**TINY, "num_hidden_layers": layers}
    target = "modelpress.models.text.TextModel"
    return {"_target_": target, "name": name, "init": "random", "architecture": architecture, **more}


def _config(*overrides: str, **nodes: Any) -> DictConfig:
    """The real config with a network-free student and teacher, and whole nodes replaced."""
    plain: Any = OmegaConf.to_container(compose(["callbacks=none", *overrides]))
    return OmegaConf.create({**plain, "model": _recipe("student", 2), "teacher": _recipe("teacher", 4), **nodes})


def _faults(*overrides: str, **nodes: Any) -> list[str]:
    return inspect(_config(*overrides, **nodes), overrides)[0]


def test_a_sound_config_passes() -> None:
    assert inspect(_config()) == ([], [])
    assert check(_config()) is None


def test_it_is_quick() -> None:
    check(_config())
    start = time.process_time()
    check(_config())
    assert time.process_time() - start < 5  # an import of torch or a download, not a benchmark: that is `bench startup`


CASES: list[tuple[list[str], str]] = [
    (["press=lats"], "press is 'lats'; allowed: 'last', 'all'. Did you mean 'last'?"),
    (["seed=-1"], "seed is -1; allowed: 0 to 4294967295"),
    (["name=a/b"], "name is 'a/b'; it names a folder"),
    (["technique=[finetune,ptq]", "side_by_side=true"], "technique.finetune: what stands side by side starts from it"),
    (["technique=[]"], "technique selects no stage"),
    (["technique.distill.objective.temperature=hot"], "objective.temperature is 'hot'; Distillation takes float"),
    (["+technique.distill.objective.temprature=2"], "takes no 'temprature'. Did you mean 'temperature'?"),
    (["~technique.distill.objective.weights"], "weights is not given, and Distillation needs it"),
    (["technique.distill.objective._target_=modelpress.objectives.distil.Distillation"], "Did you mean 'distill'?"),
    (["~technique.distill.transform._target_"], "technique.distill.transform has no _target_"),
    (["technique.distill.optimizer.lr=-1"], "technique.distill.optimizer.lr is -1; it must be above 0"),
    (["finetune.optimizer.lr=fast"], "finetune.optimizer.lr is 'fast'; OptimizerConfig takes float"),
    (["+finetune.optimizer.momentum=1"], "finetune.optimizer.momentum: OptimizerConfig takes no 'momentum'"),
    (["trainer.max_epochs=0", "~technique.distill.trainer.max_epochs"], "trainer.max_epochs is 0; it must be above 0"),
    (["technique.distill.trainer.max_epochs=0"], "technique.distill.trainer.max_epochs is 0; it must be above 0"),
    (["technique.distill.trainer.max_epochs=-1"], "neither max_epochs nor max_steps: it would never end"),
    (["trainer.max_steps=0"], "trainer.max_steps is 0; it must be above 0"),
    (["+trainer.max_epoch=3"], "trainer.max_epoch: Trainer takes no 'max_epoch'. Did you mean 'max_epochs'?"),
    (["+trainer.precision=bf16"], "trainer.precision is set by hardware.precision"),
    (["+technique.distill.trainer.logger=true"], "technique.distill.trainer.logger is set by the logger group"),
    (["trainer.checkpoint_seconds=0"], "trainer.checkpoint_seconds is 0; it must be a number above 0"),
    (["technique.distill.trainer.freeze_batch_norm=maybe"], "freeze_batch_norm is 'maybe'; allowed: true, false"),
    (["trainer.early_stopping_patience=soon"], "is 'soon'; it must be a number above 0, or null"),
    (["trainer.gradient_clip_val=much"], "trainer.gradient_clip_val is 'much'; Trainer takes"),
    (["hardware.precision=fp16"], "hardware.precision is 'fp16'; allowed: 'auto', '32-true', 'bf16-mixed', '16-mixed'"),
    (["hardware.precision=16-mixed"], "fp16 training needs a GPU. Use bf16-mixed"),
    (["hardware.threads=many"], "hardware.threads is 'many'; Hardware takes int | None"),
    (["+hardware.cores=2"], "hardware.cores: Hardware takes no 'cores'"),
    (["hardware.engines=[onnxruntime]"], "hardware=cpu runs onnxruntime only. Choose 'engine=[onnxruntime]'"),
    (["hardware.engines=[openvino]"], "engine.onnxruntime: hardware=cpu runs openvino only"),
    (["hardware.accelerator=gpu"], "hardware.accelerator is 'gpu'; allowed: cpu, cuda"),
    (["engine=[]"], "engine selects nothing, and hardware=cpu has no choice of its own. It runs engine=[onnxruntime,"),
    (["engine.openvino.precisions=[fp33]"], "engine.openvino.precisions is 'fp33'; allowed"),
    (["budget.latency_ms=0"], "budget.latency_ms is 0.0; it must be above 0, or null for no goal"),
    (["budget.size_mb=-3"], "budget.size_mb is -3.0"),
    (["budget.memory_mb=-3"], "budget.memory_mb is -3.0"),
    (["budget.max_metric_drop=2"], "budget.max_metric_drop is 2.0; it is absolute, from 0 to 1"),
    (["logger=wandb", "logger.wandb.mode=onlin"], "logger.wandb.mode is 'onlin'; allowed: 'auto', 'online'"),
    (["dataset=csv"], "dataset.path is not given. It is the file with your data: dataset.path=reviews.csv"),
    (["dataset=csv", "dataset.path=nowhere.csv"], "dataset.path nowhere.csv does not exist (looked in"),
    (["trainer.max_epochs=${nothing}"], "trainer.max_epochs is '${nothing}': Interpolation key 'nothing' not found"),
    (["dataset.batch_size=0"], "dataset.batch_size"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "message"), CASES, ids=[" ".join(case[0]) for case in CASES])
def test_each_fault_is_named_alone(overrides: list[str], message: str) -> None:
    faults = _faults(*overrides)
    assert [fault for fault in faults if message in fault], faults
    assert len(faults) == 1, faults


def test_all_faults_come_at_once_and_numbered() -> None:
    with pytest.raises(ModelPressError) as error:
        check(_config("press=lats", "seed=-1", "budget.latency_ms=-1", "hardware.precision=16-mixed"))
    lines = str(error.value).splitlines()
    assert lines[0] == "4 faults in the configuration:"
    assert [line.split()[0] for line in lines[1:]] == ["1.", "2.", "3.", "4."]


def test_one_fault_stands_without_a_number() -> None:
    with pytest.raises(ModelPressError, match=r"^press is 'x'"):
        check(_config("press=x"))


@pytest.mark.parametrize("override", ["technique=[distill,distill]", "technique=[ distill , finetune,'distill']"])
def test_a_stage_named_twice(override: str) -> None:
    assert "distill is named twice" in repeated_stages(["seed=1", override])[0]
    assert inspect(_config(), [override])[0] == repeated_stages([override])


def test_a_stage_named_once_is_fine() -> None:
    assert repeated_stages(["technique=[distill,finetune]", "technique=distill", "engine=[a,a]"]) == []


def test_a_ghost_stage() -> None:
    cfg = _config("technique=finetune", "model.name=x")
    cfg.technique.distill = {"objective": {"temperature": 2}}
    (fault,) = inspect(cfg)[0]
    assert fault.startswith("technique.distill lacks transform, optimizer, trainer")
    assert "'technique=[finetune,distill]'" in fault


def test_a_student_needs_the_teacher_it_learns_from() -> None:
    assert _faults(teacher={}) == [
        "technique.distill learns from a teacher, and teacher is none. Choose one: model@teacher=minilm"
    ]
    assert _faults("technique=finetune", teacher={}) == []
    assert "finetune.objective learns from a teacher" in _faults("technique@finetune=distill")[0]


def test_a_model_cut_out_of_a_teacher_needs_one() -> None:
    (fault,) = _faults("technique=finetune", teacher={}, model=_recipe("student", 2, init="teacher"))
    assert "cut out of a teacher" in fault


def test_a_missing_model() -> None:
    assert "model is none; choose one: model=…" in _faults(model={})


def test_a_student_must_be_smaller() -> None:
    (fault,) = _faults(model=_recipe("big", 4))
    assert re.search(
        r"the student big has 0\.\d M parameters and its teacher teacher 0\.\d M\. A student must be", fault
    )
    assert _faults("technique=finetune", model=_recipe("big", 4)) == []


def test_constructors_speak_under_their_key() -> None:
    (fault,) = _faults(teacher=_recipe("teacher", 4, init="teachr"))
    assert fault.startswith("teacher: model.init is 'teachr'; allowed:")


def _checkpoint(folder: Path, vocabulary: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**TINY, "num_hidden_layers": 4}))
    (folder / "vocab.txt").write_text(vocabulary)
    return folder


def test_tokenizers_must_agree(tmp_path: Path) -> None:
    one, other = _checkpoint(tmp_path / "one", "a\nb\n"), _checkpoint(tmp_path / "other", "b\na\n")
    teacher = _recipe("teacher", 4, init="checkpoint", path=str(one), architecture=None)
    (fault,) = _faults(teacher=teacher, model=_recipe("student", 2, tokenizer=str(other)))
    assert "different tokenizers" in fault
    assert f"model.tokenizer={one}" in fault
    assert _faults(teacher=teacher, model=_recipe("student", 2, tokenizer=str(one))) == []
    assert _faults(teacher=teacher, model=_recipe("student", 2)) == []


def test_a_hub_id_is_not_downloaded_to_check_it() -> None:
    teacher = _recipe("teacher", 4, init="checkpoint", path="nobody/nothing", architecture=None)
    assert _faults(teacher=teacher) == []


def test_a_local_checkpoint_must_exist() -> None:
    teacher = _recipe("teacher", 4, init="checkpoint", path="./nowhere", architecture=None)
    (fault,) = _faults(teacher=teacher)
    assert fault.startswith("teacher: path=./nowhere is not a folder")


def test_the_order_of_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        "from modelpress.transforms.base import Transform\n"
        "class Qat(Transform):\n    kind = 'qat'\n"
        "class Prune(Transform):\n    kind = 'prune'\n    forbidden_after = ('qat',)\n"
    )
    (tmp_path / "press_order.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    cfg = _config()
    stage: Any = OmegaConf.to_container(cfg.technique.distill)
    parts = {name: {**stage, "transform": {"_target_": f"press_order.{name.title()}"}} for name in ("qat", "prune")}
    cfg.technique = parts
    assert inspect(cfg)[0] == [
        "technique.prune may not come after technique.qat (qat). Turn them round: 'technique=[prune,qat]'"
    ]
    cfg.side_by_side = True  # then neither comes after the other
    assert inspect(cfg)[0] == []
    cfg.technique, cfg.side_by_side = dict(reversed(parts.items())), False
    assert inspect(cfg)[0] == []


def test_an_idle_teacher_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check(_config("technique=finetune"))
    assert "no stage learns from teacher" in caplog.text
    assert inspect(_config("technique=finetune", model=_recipe("student", 2, init="teacher")))[1] == []


@pytest.mark.parametrize(("able", "count"), [(True, 0), (False, 1)])
def test_bf16_without_instructions_is_a_warning(able: bool, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelpress.check_rules.has_bf16", lambda: able)
    faults, warnings = inspect(_config("hardware.precision=bf16-mixed"))
    assert (faults, len(warnings)) == ([], count)


def test_a_gpu_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelpress.check_devices.probe", lambda: Driver(reason="no usable NVIDIA driver (libcuda)"))
    [fault] = _faults("hardware=cuda")
    assert fault == "hardware=cuda needs an NVIDIA GPU: no usable NVIDIA driver (libcuda). Here hardware=cpu runs."


T4 = Device(0, "Tesla T4", (7, 5), 15360, "0000:00:04.0")
H100 = Device(1, "NVIDIA H100", (9, 0), 81559, "0000:18:00.0")


@pytest.mark.parametrize("option", ["cuda", "h100", "rtx"])
def test_every_gpu_passes_with_the_engines_of_its_own(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelpress.check_devices.probe", lambda: Driver((H100,)))
    assert inspect(_config(f"hardware={option}")) == ([], [])
    assert _faults(f"hardware={option}", "hardware.precision=16-mixed") == []


def test_what_a_gpu_lacks_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelpress.check_devices.probe", lambda: Driver((T4,)))
    assert _faults("hardware=t4") == []
    [fault] = _faults("hardware=h100")
    assert fault == "hardware.precision is bf16-mixed, and Tesla T4 has no bf16 arithmetic. Use 16-mixed"
    [fault] = _faults("hardware=cuda", "hardware.devices=2")
    assert fault == "hardware.devices is 2, and this machine has 1 (Tesla T4)."


def test_checking_imports_nothing_heavy() -> None:
    code = (
        "from modelpress.config import compose; from modelpress.check import inspect; import sys;"
        "inspect(compose());"
        "print([m for m in ('torch', 'lightning', 'transformers', 'pandas', 'onnxruntime') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_engines_that_cannot_be_deployed_are_not_enough() -> None:
    (fault,) = _faults("engine=[torch]")
    assert "cannot be deployed" in fault
    assert "engine=[onnxruntime,torch]" in fault
    assert _faults("engine=[onnxruntime,torch]") == []
