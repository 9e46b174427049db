"""The schema, composition and build()."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from modelpress.config import Config, Stage, build, compose, conf_dir
from modelpress.errors import ModelPressError


def test_no_arguments_mean_the_main_job() -> None:
    cfg = compose()
    assert (cfg.name, list(cfg.technique), cfg.model.name) == ("reviews_tinybert_distill", ["distill"], "tinybert")
    assert (cfg.teacher.name, cfg.dataset.name, cfg.seed, cfg.control) == ("minilm", "reviews", 1, True)
    assert list(cfg.engine) == ["onnxruntime", "openvino"]


def test_stages_keep_their_order() -> None:
    assert list(compose(["technique=[distill,finetune]"]).technique) == ["distill", "finetune"]
    cfg = compose(["technique=[finetune,distill]", "technique.distill.objective.temperature=7"])
    assert list(cfg.technique) == ["finetune", "distill"]
    assert cfg.technique.distill.objective.temperature == 7
    assert cfg.name == "reviews_tinybert_finetune_distill"


def test_a_student_brings_its_teacher_and_the_command_line_wins() -> None:
    assert compose(["model=minilm"]).teacher == {}
    assert compose(["model=tinybert6"]).teacher.name == "bert_base"
    cfg = compose(["model@teacher=hf", "teacher.path=x"])
    assert (cfg.teacher.path, cfg.model.name) == ("x", "tinybert")
    assert compose(["experiment=tinybert_sst2", "model@teacher=minilm"]).teacher.name == "minilm"


def test_fine_tuning_has_its_own_address() -> None:
    cfg = compose(["finetune.optimizer.lr=0.5"])
    assert cfg.finetune.optimizer.lr == 0.5
    assert cfg.technique.distill.optimizer.lr != 0.5


def test_an_engine_list_selects_alone() -> None:
    assert list(compose(["engine=[openvino]"]).engine) == ["openvino"]
    assert list(compose(["engine=onnxruntime"]).engine) == ["onnxruntime"]


def test_the_name_is_safe_as_a_folder() -> None:
    assert compose(["dataset.name=my data/2"]).name == "my-data-2_tinybert_distill"
    assert compose(["model=none"]).name == "reviews_none_distill"


def test_config_dir_adds_options(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mine.yaml").write_text("name: mine\n")
    assert compose(["dataset=mine"], tmp_path).dataset == {"name": "mine"}
    with pytest.raises(ModelPressError, match="no such folder"):
        compose([], tmp_path / "nowhere")


def test_the_store_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELPRESS_STORE", "/elsewhere")
    assert compose().store == "/elsewhere"
    monkeypatch.delenv("MODELPRESS_STORE")
    assert compose().store == "outputs/.store"


@pytest.mark.parametrize("override", ["seed=abc", "nonsense=1", "technique.distill.objective.temprature=2", "budget=x"])
def test_the_schema_refuses(override: str) -> None:
    with pytest.raises(ConfigCompositionException):
        compose([override])


def test_stage_parts_are_missing_until_a_technique_sets_them() -> None:
    stage = OmegaConf.structured(Stage)
    for part in ("transform", "objective", "optimizer", "trainer"):
        with pytest.raises(MissingMandatoryValue):
            _ = stage[part]
    assert OmegaConf.structured(Config).technique == {}


def test_composing_inside_a_hydra_app_leaves_the_app_alone() -> None:
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        running = GlobalHydra.instance().hydra
        assert compose(["seed=5"]).seed == 5
        assert GlobalHydra.instance().hydra is running


def test_build_makes_plain_objects() -> None:
    node = {"_target_": "modelpress.optimizer.OptimizerConfig", "lr": 0.1}
    assert build(node).lr == 0.1
    listed = build(OmegaConf.create({"_target_": "modelpress.engines.base.Engine", "precisions": ["fp32", "bf16"]}))
    assert listed.precisions == ("fp32", "bf16")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "modelpress.optimizer.OptimizerConfig", "lr": -1}, r"here\.it: optimizer\.lr is -1"),
        ({"_target_": "modelpress.optimizer.OptimizerConfig", "speed": 1}, r"here\.it: TypeError: .*speed"),
        ({"_target_": "modelpress.nothing.Here"}, r"here\.it: .*modelpress\.nothing"),
        ({"lr": 1}, r"here\.it has no _target_"),
        ({}, r"here\.it has no _target_"),
    ],
)
def test_build_names_the_key(node: dict[str, object], message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        build(OmegaConf.create({"here": {"it": node}}).here.it)
    with pytest.raises(ModelPressError, match=message):
        build(node, "here.it")


def test_build_refuses_what_was_never_given() -> None:
    cfg = compose(["dataset=csv"])
    assert isinstance(cfg.dataset, DictConfig)
    with pytest.raises(ModelPressError, match=r"dataset: .*path"):
        build(cfg.dataset)


def test_importing_pulls_neither_torch_nor_hydra() -> None:
    heavy = "('torch', 'lightning', 'hydra', 'numpy')"
    code = f"import modelpress.config, sys; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
