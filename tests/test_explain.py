"""Every kind of mistake on the command line, and what the user reads."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from modelpress.config import compose
from modelpress.errors import ModelPressError
from modelpress.explain import MORE, describe, explain


def _explained(*arguments: str) -> str:
    with pytest.raises(HydraException) as error:
        compose(arguments)
    return explain(error.value, arguments)


CASES: list[tuple[list[str], list[str]]] = [
    (["technique.distill.objective.temprature=2"], ["Did you mean technique.distill.objective.temperature=2?"]),
    (["temperature=2"], ["there is no 'temperature'", "Did you mean technique.distill.objective.temperature=2?"]),
    (["lr=0.1"], ["finetune.optimizer.lr=0.1 or technique.distill.optimizer.lr=0.1"]),
    (["model=tinybrt"], ["there is no conf/model/tinybrt.yaml. Did you mean 'tinybert'?", "Options: bert_base,"]),
    (["modle=tinybert"], ["Did you mean model=tinybert?"]),
    (["modle.path=x"], ["Did you mean model.path=x?"]),
    (["technique=[distill,distil_two_phase]"], ["distil_two_phase.yaml. Did you mean 'distill_two_phase'?"]),
    (["technique=finetune", "technique.distill.objective.temperature=2"], ["'technique=[finetune,distill]'"]),
    (["technique.distil.optimizer.lr=1"], ["Did you mean technique.distill.optimizer.lr=1?"]),
    (["seed=abc"], ["seed=abc: Value 'abc' of type 'str' could not be converted to Integer."]),
    (["seed=1,2"], ["seed=1,2: several values need -m"]),
    (["seed=range(1,3)"], ["several values need -m"]),
    (["teacher=hf"], ["write model@teacher=hf"]),
    (["finetune=distill"], ["write technique@finetune=distill"]),
    (["model@techer=hf"], ["Did you mean 'model@teacher'?"]),
    (["dataset@other=csv"], ["dataset@other is not mounted anywhere"]),
    (["technique=[distill"], ["Cannot read 'technique=[distill'", "quotes"]),
    (["two words"], ["Cannot read 'two words'"]),
    (["+technique=finetune"], ["technique is there already; leave out the +"]),
    (["+seed=2"], ["seed is there already; leave out the +"]),
    (["~nothing"], ["there is no nothing to take away"]),
    (["budget.latency=5"], ["budget has no 'latency'", "Did you mean budget.latency_ms=5?", "Known here: latency_ms"]),
    (["experiment=quik"], ["Did you mean 'quick'?"]),
    (["hydra/launcher=joblib"], ["basic"]),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "expected"), CASES, ids=[" ".join(case[0]) for case in CASES])
def test_one_mistake(arguments: list[str], expected: list[str]) -> None:
    text = _explained(*arguments)
    for part in expected:
        assert part in text
    assert "Traceback" not in text
    assert text.endswith(MORE)
    assert not text.startswith("1.")


def test_all_mistakes_at_once() -> None:
    lines = _explained("model=tinybrt", "seed=x", "control=true", "budget.latency=5").splitlines()
    assert [line[:2] for line in lines if line[0].isdigit()] == ["1.", "2.", "3."]


def test_an_argument_that_the_yaml_does_not_list() -> None:
    text = _explained("callbacks.progress.every_s=5")
    assert "a + sets it: +callbacks.progress.every_s=5" in text


def test_sweeps_are_explained_like_runs() -> None:
    arguments = ["-m", "seed=1,2", "trainer.gradient_clip_val=choice(1,2)", "model=tinybrt,tinybert"]
    with pytest.raises(HydraException) as error:
        compose(["model=tinybrt"])
    text = explain(error.value, arguments)
    assert text.startswith("model=tinybrt: there is no conf/model/tinybrt.yaml")


def test_config_dir_is_searched_too(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "shop_reviews.yaml").write_text("name: shop\n")
    with pytest.raises(HydraException) as error:
        compose(["dataset=shop_review"], tmp_path)
    text = explain(error.value, ["--config-dir", str(tmp_path), "dataset=shop_review"])
    assert "Did you mean 'shop_reviews'?" in text


def test_disks() -> None:
    denied = explain(PermissionError(errno.EACCES, "Permission denied", "outputs/x"), [], Path("outputs/x/1"))
    assert denied.startswith("Cannot write outputs/x/1: Permission denied.")
    assert "hydra.run.dir=" in denied
    full = explain(OSError(errno.ENOSPC, "No space left on device", "f"), [])
    assert full.startswith("Cannot write f: No space left on device.")
    assert "store gc" in full
    assert "store gc" in describe(OSError(errno.ENOSPC, "No space left on device", "f"))


def test_describe_is_one_line_with_its_place() -> None:
    assert describe(ModelPressError("as written\non two lines")) == "as written\non two lines"
    with pytest.raises(ZeroDivisionError) as bug:
        _ = 1 / 0
    assert describe(bug.value).startswith("ZeroDivisionError: division by zero (test_explain.py:")
    with pytest.raises(OmegaConfBaseException) as missing:
        _ = OmegaConf.create({"a": "${b}"}).a
    assert describe(missing.value) == "Interpolation key 'b' not found"
    assert explain(ValueError("odd"), []) == "ValueError: odd"
