"""Training compiled: the same losses as eager, one compilation for all lengths, nothing of it in what is saved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

import tests.tiny as tiny
import tests.toy as toy
from modelpress import compiling, optimizer, technique
from modelpress.config import compose
from modelpress.curves import FILE, read
from modelpress.engines import torch as engine
from modelpress.graph import graph
from modelpress.job import Job
from modelpress.models.classifier import TextClassifier
from modelpress.objectives.distill import Distillation
from modelpress.stage import WEIGHTS, Stage
from modelpress.store import Entry, manifest
from modelpress.teacher import Teacher
from modelpress.training import Arm, train
from modelpress.transforms.base import Transform

PARTS = {"hard": 0.5, "soft": 0.5, "hidden": 1.0, "attention": 0.0, "embedding": 0.0, "cosine": 0.0}
CLOSE = 1e-3  # relative, of a loss: float32 sums in another order, through a few steps of AdamW (tests/test_ranks.py)
CLOSE_16 = 5e-2  # of a loss in 16 bits


def network() -> TextClassifier:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=40, max_position_embeddings=64, **sizes)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    return TextClassifier(BertForSequenceClassification(config), ["neg", "pos"], Path()).train()


def texts(size: int, length: int) -> dict[str, Tensor]:
    ids = torch.randint(1, 40, (size, length))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize(("needs", "graphs"), [(frozenset[str](), 1), (frozenset({"hidden_states"}), 4)])
def test_one_compilation_serves_all_lengths(
    needs: frozenset[str], graphs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dynamo's own tracing with a backend that computes the graphs as they are, so that nothing needs a compiler."""
    made: list[Any] = []

    def backend(found: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        made.append(found)
        return found.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    model = network()
    model.capture(needs)
    names, call = list(model.state_dict()), compiling.compiled(model)
    for size, length in [(4, 9), (4, 13), (3, 7), (5, 21)]:
        batch = texts(size, length)
        expected, found = model(batch), call(batch)
        assert torch.equal(expected.logits, found.logits)
        assert len(found.hidden_states or ()) == (3 if needs else 0)
        found.logits.sum().backward()
    assert 1 <= len(made) <= graphs
    assert list(model.state_dict()) == names


class Counted:
    """Stands for ``compiled``: remembers whose forward pass was asked for, and how often each was called."""

    def __init__(self) -> None:
        self.networks: list[nn.Module] = []
        self.calls = 0

    def __call__(self, model: Any) -> Any:
        self.networks.append(model)

        def call(batch: Mapping[str, Tensor]) -> Any:
            self.calls += 1
            return model(batch)

        return call


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    fake = Counted()
    monkeypatch.setattr(technique, "compiled", fake)
    return fake


def fit(folder: Path, transform: Transform, **options: Any) -> tuple[toy.Toy, toy.Toy, Any]:
    student, teacher = toy.Toy(), toy.Toy(seed=7)
    objective = Distillation({**PARTS, "hidden": 0.0})
    objective.bind(student, teacher)
    module = toy.technique(
        objective, student, teacher=Teacher(teacher), transform=transform, steps=toy.BATCHES, **options
    )
    trainer = toy.trainer(folder, limit_val_batches=2)
    with toy.known_warnings():
        trainer.fit(module, toy.loader(), toy.loader(2, seed=9))
    trainer.save_checkpoint(folder / "last.ckpt")
    return student, teacher, torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]


def test_only_training_steps_of_student_and_teacher_are_compiled(counted: Counted, tmp_path: Path) -> None:
    student, teacher, saved = fit(tmp_path, Transform(), compile_forward=True)
    assert counted.networks == [student, teacher]
    assert counted.calls == 2 * toy.BATCHES  # validation asks the network itself
    assert not [name for name in saved if "_orig_mod" in name or "call" in name]


def test_nothing_is_compiled_unless_asked_for(counted: Counted, tmp_path: Path) -> None:
    fit(tmp_path, Transform())
    assert (counted.networks, counted.calls) == ([], 0)


class Swap(Transform):
    """Puts a new layer into the network in the third step."""

    def __init__(self) -> None:
        self.steps = 0

    def step(self, model: nn.Module, progress: float) -> None:
        self.steps += 1
        if self.steps == 3:
            model.head = nn.Linear(toy.WIDTH, 2)


def test_a_network_that_changes_its_shape_is_compiled_anew_and_its_teacher_is_not(
    counted: Counted, tmp_path: Path
) -> None:
    student, teacher, _ = fit(tmp_path, Swap(), compile_forward=True)
    assert counted.networks == [student, teacher, student]


def faults(*overrides: str) -> str:
    from modelpress.check import inspect

    return "\n".join(inspect(compose(["technique=distill", "model=tinybert", *overrides]))[0])


def test_without_a_compiler_it_is_refused_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert faults() == ""
    said = faults("trainer.compile=true")
    assert said.startswith("trainer.compile is true for finetune, technique.distill, and torch.compile needs a C++")
    assert said.endswith("Install it, or set trainer.compile=false")
    assert "is true for technique.distill," in faults("+technique.distill.trainer.compile=true")


def test_without_triton_it_is_refused_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None))
    monkeypatch.setattr(engine, "importlib", nothing)
    monkeypatch.setattr(engine, "compiler", lambda: "/usr/bin/c++")
    assert "needs triton on GPUs" in faults("trainer.compile=true", "hardware=cuda")
    assert faults("trainer.compile=true") == ""


def test_quantizers_that_train_are_refused_and_ptq_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "compiler", lambda: "/usr/bin/c++")
    said = faults("technique=[distill,qat]", "trainer.compile=true")
    assert said.startswith("technique.qat: trainer.compile is true, and quantizers that train break a network")
    assert said.endswith("Set ++technique.qat.trainer.compile=false")
    assert faults("technique=[distill,qat]", "trainer.compile=true", "++technique.qat.trainer.compile=false") == ""
    assert faults("technique=[distill,ptq]", "trainer.compile=true") == ""


def test_it_is_true_or_false() -> None:
    assert faults("trainer.compile=maybe") == "trainer.compile is 'maybe'; allowed: true, false."


def small_world(root: Path) -> Path:
    tiny.write_checkpoint(root / "world" / "checkpoint", layers=1)
    tiny.write_reviews(root / "world" / "reviews.csv")
    return root / "world"


def trained(world: Path, folder: Path, *extra: str) -> Path:
    """A distillation of the tiny checkpoint into itself: neither network has dropout, whose numbers would differ."""
    kept = [line for line in tiny.fast(world) if not line.startswith(("model.", "model=", "store"))]
    chosen = ["model=hf", f"model.path={world / 'checkpoint'}", "finetune.trainer.max_epochs=0", f"store={folder}/s"]
    few = ["trainer.limit_train_batches=6", "trainer.log_every_n_steps=1", "hardware.precision=32-true"]
    few += ["technique.distill.objective.weights.hidden=0.0"]  # fewer graphs to compile
    (folder / "run").mkdir(parents=True)
    job = Job.of(compose([*kept, *chosen, *few, "technique.distill.optimizer.lr=1e-3", *extra]), folder / "run")
    network, done = graph(job), dict[Stage, Entry]()
    for stage in (network.baseline, network.last):
        place = folder / stage.name
        place.mkdir()
        train(Arm(job, stage, place, done))
        done[stage] = Entry("", "stage", stage.title, place, {}, manifest(place), 1.0, "today")
    return folder / network.last.name


@pytest.mark.gpu
def test_compiled_training_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 where the GPU has it, else fp16; the fused optimizer with bf16; the same losses to 8 bits of mantissa."""
    made: list[torch.optim.Optimizer] = []

    def spy(*given: Any, **options: Any) -> Any:
        pair = optimizer.make(*given, **options)
        made.append(pair[0])
        return pair

    monkeypatch.setattr(technique, "make", spy)
    why = engine.cannot_compile("cuda")
    if why is not None:
        pytest.skip(why)
    world = small_world(tmp_path)
    given = ("hardware=cuda", "hardware.precision=auto")
    eager = trained(world, tmp_path / "eager", *given)
    compiled = trained(world, tmp_path / "compiled", *given, "+technique.distill.trainer.compile=true")
    bf16 = torch.cuda.get_device_capability() >= (8, 0)
    assert {group["fused"] for one in made for group in one.param_groups} == {bf16}
    expected, found = losses(eager), losses(compiled)
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=CLOSE_16), name
    assert load_file(eager / WEIGHTS).keys() == load_file(compiled / WEIGHTS).keys()


def losses(folder: Path) -> dict[str, list[float]]:
    rows = [row["metrics"] for row in read(folder / FILE)]
    names = {name for row in rows for name in row if "/train/" in name}
    return {name: [row[name] for row in rows if name in row] for name in sorted(names)}


@pytest.mark.slow
@pytest.mark.timeout(1800)  # a minute of one core; many on a machine that trains something else
@pytest.mark.skipif(engine.compiler() is None, reason="no C++ compiler on this machine")
def test_compiled_training_learns_as_eager_training_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of compiling processes, each importing torch
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    world = small_world(tmp_path)
    eager = trained(world, tmp_path / "eager")
    with caplog.at_level("INFO", logger="modelpress"):
        compiled = trained(world, tmp_path / "compiled", "+technique.distill.trainer.compile=true")
    assert "Compiling distill: the first batches wait for it" in caplog.text
    assert list((tmp_path / "inductor").rglob("*.so")), "inductor has compiled nothing"
    expected, found = losses(eager), losses(compiled)
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert len(values) == 6
        assert found[name] == pytest.approx(values, rel=CLOSE, abs=1e-6), name  # taught by itself, soft is nearly 0
    left, right = load_file(eager / WEIGHTS), load_file(compiled / WEIGHTS)
    assert left.keys() == right.keys()
    assert json.loads((eager / "metrics.json").read_text())["steps"] == 6
