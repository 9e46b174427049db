"""``modelpress sensitivity RUN`` on tiny INT8 networks that are trained, calibrated and stored once per module."""

from __future__ import annotations

import json
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from modelpress import cli, sensitivity
from modelpress.config import compose
from modelpress.errors import ModelPressError
from modelpress.graph import graph
from modelpress.job import Job
from modelpress.loggers import Tracking
from modelpress.models.numerics import Numerics
from modelpress.pipeline import train_all
from modelpress.report.sensitivity import Study
from modelpress.sensitivity_cli import CONFIG, HYDRA, config_of, of_run
from modelpress.store import digest
from tests import tiny

ATTENTION = "network.bert.encoder.layer.0.attention.self."
POOLER = "network.bert.pooler.dense"


@cache
def world() -> Path:
    """A trained network whose pooler reads an outlier that means nothing, and labels of which one in ten is wrong."""
    root = Path(os.environ["MODELPRESS_STORE"]).parent / f"sensitivity-{os.getpid()}"
    root.mkdir()
    tiny.write_checkpoint(root / "checkpoint")
    lines = tiny.write_reviews(root / "clean.csv", rows=1600).read_text().splitlines()
    swap = {"pos": "neg", "neg": "pos"}
    for number in range(5, len(lines), 10):
        text, label = lines[number].rsplit(",", 1)
        lines[number] = f"{text},{swap[label]}"
    (root / "reviews.csv").write_text("\n".join(lines) + "\n")
    return root


def common(root: Path, model: Path) -> list[str]:
    return [
        *("model=hf", f"model.path={model}", "dataset=csv", f"dataset.path={root / 'reviews.csv'}"),
        *("dataset.max_length=32", f"store={root / 'store'}", "engine=[onnxruntime]", "control=false"),
    ]


def stages(name: str, overrides: list[str]) -> Path:
    """A run's folder as Hydra leaves it; its stages are in the store, nothing was pressed."""
    run = world() / name
    (run / ".hydra").mkdir(parents=True)
    cfg = compose(overrides)
    OmegaConf.save(cfg, run / CONFIG)
    job = Job.of(cfg, run)
    with Tracking(job) as tracking:
        train_all(job, graph(job), tracking)
    return run


@cache
def plain() -> Path:
    spec = "technique.finetune"
    options = [f"{spec}.optimizer.lr=3e-3", f"{spec}.trainer.max_epochs=2"]
    return stages("plain", [*common(world(), world() / "checkpoint"), "technique=finetune", *options])


@cache
def uneven() -> Path:
    """The trained checkpoint with 3000 in a channel that the pooler reads with weight 0."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    job = Job.of(config_of(plain()), plain())
    made = sensitivity.finished(job, network := graph(job))[network.last].folder / "model"
    model = AutoModelForSequenceClassification.from_pretrained(made)
    with torch.no_grad():
        model.bert.encoder.layer[-1].output.LayerNorm.bias[0] = 3000.0
        model.bert.pooler.dense.weight[:, 0] = 0.0
    model.save_pretrained(world() / "uneven")
    AutoTokenizer.from_pretrained(made).save_pretrained(world() / "uneven")
    return world() / "uneven"


@cache
def ptq() -> Path:
    return stages("ptq", [*common(world(), uneven()), *quantized()])


@cache
def mixed() -> Path:
    return stages("mixed", [*common(world(), uneven()), *quantized(), "technique.ptq.transform.max_metric_drop=0.02"])


def quantized() -> list[str]:
    spec = "technique.ptq.transform"
    return ["technique=ptq", f"{spec}.samples=30", f"{spec}.balance=null"]  # balancing would take the outlier away


def entries(kind: str) -> list[Path]:
    found = (world() / "store/entries").glob("*/entry.json")
    return [path.parent for path in found if json.loads(path.read_text())["kind"] == kind]


def test_table_json_and_page(capsys: pytest.CaptureFixture[str]) -> None:
    run = ptq()
    assert cli.main(["sensitivity", str(run), "--samples", "40"]) == 0
    said = capsys.readouterr().out
    assert f"The page: {run / 'sensitivity.html'}" in said
    assert "40 of " in said
    for words in ("one item is 2.5 points", "Output error", "all together", "network.classifier", "float by default"):
        assert words in said
    record = json.loads((run / "sensitivity.json").read_text())
    errors = [group["output_error"] for group in record["groups"]]
    assert errors == sorted(errors, reverse=True)
    assert record["groups"][0]["layers"] == [POOLER]
    assert record["groups"][0]["metric_drop"] > 0.1
    assert errors[0] > 100 * errors[1] > 0
    assert [ATTENTION + name for name in ("query", "key", "value")] in [group["layers"] for group in record["groups"]]
    assert record["together"]["metric_drop"] > 0.1
    parts = {part["part"]: part for part in record["parts"]}
    assert set(parts) == {"embeddings", "attention", "MLP", "projections"}
    assert parts["projections"]["layers"] == [POOLER]
    assert parts["projections"]["output_error"] == errors[0]
    assert 0.7 < record["accuracy"] < 1
    page = (run / "sensitivity.html").read_text()
    assert "encoder.layer.0.attention.self.{query,key,value}" in page
    assert "default-src 'none'" in page
    assert page.count("plotly.js v") == 1


def test_one_group_against_a_network_that_is_switched_by_hand() -> None:
    """The same validation items, one at a time and unpadded, through the loaded network."""
    from modelpress.models.base import load
    from modelpress.quantization.attach import set_mode, twins_of

    study = of_run(ptq(), 24)
    entry = next(folder for folder in entries("stage") if (folder / "model/numerics.json").is_file())
    model = load(entry / "model").eval()
    job = Job.of(config_of(ptq()), ptq())
    data: Any = job.dataset.datamodule(uneven(), seed=1, cache=world() / "other")
    arrays = data.requests("validation", limit=24)
    group = next(group for group in study.groups if group.layers == (POOLER,))
    logits = []
    for on in (False, True):
        set_mode(model, "float")
        twin = twins_of(model)[POOLER]
        assert twin.inputs is not None
        twin.inputs.mode = "int8" if on else "float"
        with torch.no_grad():
            logits.append(np.concatenate([answer(model, arrays, i) for i in range(24)]))
    assert group.output_error == pytest.approx(np.square(logits[1] - logits[0]).mean(), rel=1e-3)
    right = [(found.argmax(1) == arrays["labels"]).mean() for found in logits]
    assert study.accuracy == pytest.approx(right[0])
    assert group.metric_drop == pytest.approx(right[0] - right[1])
    assert group.disagreement == pytest.approx((logits[0].argmax(1) != logits[1].argmax(1)).mean())


def answer(model: Any, arrays: dict[str, np.ndarray], i: int) -> np.ndarray:
    names = ("input_ids", "attention_mask", "token_type_ids")
    item = {name: torch.from_numpy(arrays[name][i : i + 1, : arrays["lengths"][i]]) for name in names}
    found: np.ndarray = model(item).logits.numpy()
    return found


def test_it_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = of_run(ptq(), 16)
    before = len(entries("sensitivity"))
    monkeypatch.setattr("modelpress.sensitivity._measure", lambda *_: pytest.fail("it was measured again"))
    assert of_run(ptq(), 16) == first
    assert len(entries("sensitivity")) == before
    with pytest.raises(pytest.fail.Exception):
        of_run(ptq(), 17)


def test_key_hangs_on_network_data_and_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    run = ptq()
    job = Job.of(config_of(run), run)
    stage, done = sensitivity.subject(job, graph(job))
    assert stage.parent is not None
    base = sensitivity.request(job, stage, done[stage], 16).key
    assert sensitivity.request(job, stage, done[stage], 16).key == base
    other = {sensitivity.request(job, stage, done[stage], 17).key}
    other.add(sensitivity.request(job, stage, done[stage.parent], 16).key)
    monkeypatch.setattr(type(job.dataset), "fingerprint", lambda self: digest("other"))
    other.add(sensitivity.request(job, stage, done[stage], 16).key)
    assert len(other | {base}) == 4


def test_layers_that_the_search_left_in_float_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    run = mixed()
    assert cli.main(["sensitivity", str(run), "--samples", "30"]) == 0
    record = json.loads((run / "sensitivity.json").read_text())
    stage, done = sensitivity.subject(job := Job.of(config_of(run), run), graph(job))
    numerics = sensitivity.numerics_of(done[stage])
    assert isinstance(numerics, Numerics)
    search = numerics.details["search"]
    assert record["groups"][0]["layers"] == [POOLER]
    assert [group["layers"] for group in record["groups"] if group["numbers"] == "float"] == [[POOLER]]
    assert numerics.details["float_layers"] == [POOLER, "network.classifier"]
    why = {layer["name"]: layer["why"] for layer in record["float_layers"]}
    assert why[POOLER] == "the mixed-precision search"
    assert why["network.classifier"].startswith("float by default")
    said = " ".join(capsys.readouterr().out.split())
    assert search["why"] in said
    assert "1 layer stays float" in said
    assert search["drop"] <= 0.02 < search["drop_all_int8"]
    assert record["together"]["metric_drop"] <= 0.05


def of_folder(run: Path) -> Any:
    return OmegaConf.load(run / CONFIG)


def test_excluded_layers_say_so() -> None:
    spec = "technique.ptq_dynamic.transform"
    options = [f"{spec}.samples=30", f"{spec}.exclude=['*.pooler.*']", f"{spec}.embeddings=false"]
    run = stages("dynamic", [*common(world(), uneven()), "technique=ptq_dynamic", *options])
    study = of_run(run, 8)
    why = {layer.name: layer.why for layer in study.float_layers}
    assert why.pop("network.classifier").startswith("float by default")
    assert why.pop(POOLER) == "transform.exclude"
    assert set(why) == {f"network.bert.embeddings.{kind}_embeddings" for kind in ("word", "position", "token_type")}
    assert set(why.values()) == {"transform.embeddings is false"}
    assert not any("embeddings" in name for group in study.groups for name in group.layers)


def test_only_the_validation_split_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from modelpress.data.module import TextData

    asked: list[str] = []
    tokens = TextData.tokens
    monkeypatch.setattr(TextData, "tokens", lambda self, split: asked.append(split) or tokens(self, split))
    study = of_run(ptq(), 10_000)
    assert set(asked) == {"validation"}
    assert study.samples == study.available > 40


def test_relative_paths_hold_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``store=store`` was meant from the folder in which the run was started."""
    run = tmp_path / "run"
    shutil.copytree(ptq() / ".hydra", run / ".hydra")
    cfg = config_of(run)
    cfg.store = "store"
    OmegaConf.save(cfg, run / CONFIG)
    OmegaConf.save(OmegaConf.create({"hydra": {"runtime": {"cwd": str(world())}}}), run / HYDRA)
    monkeypatch.chdir(tmp_path)
    study = of_run(Path("run"), 16)
    assert isinstance(study, Study)
    assert Path.cwd() == tmp_path
    assert not (tmp_path / "store").exists()


def test_clear_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelPressError, match="There is no .*nowhere"):
        of_run(tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    with pytest.raises(ModelPressError, match=r"has no .hydra/config.yaml.*compress\(\) does not"):
        of_run(tmp_path / "bare")
    assert cli.main(["sensitivity", str(ptq()), "--samples", "0"]) == 1
    assert "--samples is 0; at least one" in capsys.readouterr().err
    with pytest.raises(ModelPressError, match="holds .* runs; give one of them: .*ptq"):
        of_run(world())


def test_a_run_without_int8_says_which_technique_makes_it() -> None:
    with pytest.raises(ModelPressError, match="has no INT8 network .*hf · finetune.*technique=ptq"):
        of_run(plain())


def test_a_stage_that_the_store_lost(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(ptq() / ".hydra", run / ".hydra")
    cfg = config_of(run)
    cfg.store = str(tmp_path / "empty")
    OmegaConf.save(cfg, run / CONFIG)
    with pytest.raises(ModelPressError, match="hf · adopt of .* is not in the store .*empty"):
        of_run(run)
