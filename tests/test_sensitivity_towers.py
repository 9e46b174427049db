"""``modelpress sensitivity RUN`` on a dual encoder and on an image classifier, both with random weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from modelpress import sensitivity
from modelpress.config import compose
from modelpress.graph import graph
from modelpress.job import Job
from modelpress.loggers import Tracking
from modelpress.models.base import load
from modelpress.pipeline import train_all
from modelpress.quantization.attach import set_mode, twins_of
from modelpress.sensitivity_cli import CONFIG, config_of, of_run
from tests import tinyclip
from tests.data.test_imagefolder import fill
from tests.test_training_clip import write_pairs

SAMPLES = 10
DUAL = (
    *("technique=ptq", "model=clip", "model.trained=true", "dataset=image_text"),
    "model.architecture={embed_dim:16,"
    "vision_cfg:{image_size:32,layers:2,width:32,head_width:8,patch_size:16},"
    "text_cfg:{context_length:12,vocab_size:99,width:32,heads:4,layers:2}}",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@cache
def run_of(world: Path) -> Path:
    text = [f"model.tokenizer={tinyclip.write_tokenizer(world / 'tokenizer')}", f"dataset.path={world / 'pairs.csv'}"]
    return stages(world, "dual", *DUAL, *text)


def stages(world: Path, name: str, *overrides: str) -> Path:
    """A run's folder as Hydra leaves it; its stages are in the store, nothing was pressed."""
    spec = "technique.ptq.transform"
    own = (f"{spec}.samples=4", f"{spec}.balance=null", f"store={world / 'store'}", "control=false")
    cfg = compose([*overrides, *own, "engine=[onnxruntime]"])
    run = world / name
    (run / ".hydra").mkdir(parents=True)
    OmegaConf.save(cfg, run / CONFIG)
    job = Job.of(cfg, run)
    with Tracking(job) as tracking:
        train_all(job, graph(job), tracking)
    return run


def opened(run: Path) -> tuple[Any, Any]:
    """The INT8 network and its data module."""
    job = Job.of(config_of(run), run)
    stage, done = sensitivity.subject(job, graph(job))
    model = load(done[stage].folder / "model").eval()
    return model, job.dataset.datamodule(stage.tokenizer(), seed=1, cache=run / "cache")


def test_every_part_of_both_towers_has_its_row(world: Path) -> None:
    study = of_run(run_of(world), SAMPLES)
    kinds = {"image": ("patch embedding", "attention", "MLP"), "text": ("embeddings", "attention", "MLP")}
    wanted = {f"{tower}: {kind}" for tower, names in kinds.items() for kind in names} | set(kinds)
    found = {group.part: group for group in study.parts}
    assert wanted <= set(found)
    assert all(group.output_error > 0 for group in found.values())
    for tower in kinds:
        assert {name.partition(".")[0] for name in found[tower].layers} == {tower}
    assert study.samples == SAMPLES < study.available == 18
    assert len(study.groups) > len(study.parts)


def test_one_tower_in_int8_against_embeddings_by_hand(world: Path) -> None:
    """The same images, all texts of the validation split; cosines and scale in NumPy."""
    study = of_run(run_of(world), SAMPLES)
    model, data = opened(run_of(world))
    prompts, scores = data.prompts("validation"), []
    rows = data.rows("validation")
    batches = list(data.eval_dataloader("validation"))
    chosen = np.random.default_rng(0).permutation(len(rows))[:SAMPLES]
    for on in (False, True):
        set_mode(model, "float")
        for name, twin in twins_of(model).items():
            if on and name.startswith("image."):
                set_mode(twin, "int8")
        with torch.no_grad():
            images = np.concatenate([model(batch).embeddings["image"].numpy() for batch in batches])[chosen]
            texts = np.concatenate([model(batch).embeddings["text"].numpy() for batch in prompts])
        scale = min(float(model.logit_scale.detach().exp()), 100.0)
        scores.append(scale * images @ texts.T)
    owners = np.concatenate([batch["labels"].numpy() for batch in prompts])
    assert sorted(owners) == list(range(len(owners)))  # a caption each
    labels = rows.labels[chosen]
    part = next(group for group in study.parts if group.part == "image")
    assert part.output_error == pytest.approx(np.square(scores[1] - scores[0]).mean(), rel=1e-3)
    right = [(owners[found.argmax(1)] == labels).mean() for found in scores]
    assert (study.accuracy, part.metric_drop) == pytest.approx((right[0], right[0] - right[1]))


def test_only_the_validation_split_is_read(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelpress.data.image_module import ImageData

    run, asked, rows = run_of(world), [], ImageData.rows
    monkeypatch.setattr(ImageData, "rows", lambda self, split, **kind: asked.append(split) or rows(self, split, **kind))
    assert of_run(run, 10_000).samples == 18
    assert set(asked) == {"validation"}


def test_an_image_classifier(tmp_path: Path) -> None:
    fill(tmp_path / "pictures", {"red_fox": 80, "cow": 80})
    given = ("technique=ptq", "model=timm", "model.architecture=test_vit", "model.path=null", "model.trained=true")
    run = stages(
        tmp_path, "vit", *given, "model.image_size=32", "dataset=imagefolder", f"dataset.path={tmp_path / 'pictures'}"
    )
    study = of_run(run)
    assert {group.part for group in study.parts} == {"patch embedding", "attention", "MLP"}
    assert study.samples == study.available
    assert {layer.name: layer.why for layer in study.float_layers} == {
        "network.head": "float by default: a handful of rows that decide everything"
    }


def test_mixed_precision_of_a_dual_encoder_that_chooses_by_prompts(tmp_path: Path) -> None:
    """Two templates per class; the search and the table judge as the network does with those prompts."""
    fill(tmp_path / "pictures", {"w1": 80, "w2": 80, "w3": 80})
    text = [f"model.tokenizer={tinyclip.write_tokenizer(tmp_path / 'tokenizer')}"]
    folder = [f"dataset.path={tmp_path / 'pictures'}", "dataset.templates=['{}','w9 {} w8']"]
    given = [*DUAL[:3], "dataset=imagefolder", *DUAL[4:], "technique.ptq.transform.max_metric_drop=0.0"]
    run = stages(tmp_path, "prompts", *given, *text, *folder)
    model, data = opened(run)
    search = model.numerics.details["search"]
    assert len(data.prompts("validation")[0]["labels"]) == 6
    assert search["drop"] <= 0
    study = of_run(run, 10_000)
    model.answer(data.prompts("validation"))
    set_mode(model, "float")
    hits = [model(batch).logits.argmax(1) == batch["labels"] for batch in data.eval_dataloader("validation")]
    assert study.accuracy == pytest.approx(float(torch.cat(hits).double().mean()))
    assert study.together.metric_drop == pytest.approx(search["drop"])
