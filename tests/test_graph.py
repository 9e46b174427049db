"""Which stages a config means: teacher, fine-tuning first, pipelines, control arm, what is pressed."""

from __future__ import annotations

from pathlib import Path

import pytest

import tests.tiny as tiny
from modelpress.check import check
from modelpress.config import compose
from modelpress.errors import ModelPressError
from modelpress.graph import Graph, graph, merged
from modelpress.job import Job


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("world"))


def graph_of(world: Path, *extra: str) -> Graph:
    return graph(Job.of(compose(tiny.overrides(world, *extra)), world / "run"))


def titles(network: Graph) -> list[str]:
    return [stage.title for stage in network.order]


def test_distillation_fine_tunes_its_teacher_first(world: Path) -> None:
    network = graph_of(world)
    assert titles(network) == ["hf · finetune", "tinybert · control", "tinybert · distill"]
    assert [stage.role for stage in network.pressed] == ["baseline", "control", "candidate"]
    assert network.last.needs_teacher
    assert network.last.starts_from_teacher
    assert network.control is not None
    assert not network.control.needs_teacher
    assert network.control.starts_from_teacher


def test_a_pipeline_passes_weights_on(world: Path) -> None:
    network = graph_of(world, "technique=[distill,distill_logits]")
    assert titles(network) == [
        "hf · finetune",
        "tinybert · distill",
        "tinybert · control",
        "tinybert · distill_logits",
    ]
    assert network.last.parent is not None
    assert network.last.parent.name == "distill"
    assert network.control is not None
    assert network.control.parent is network.last.parent
    assert network.control.teacher is None  # so that one control serves whatever teaches


def test_press_all_shows_every_stage(world: Path) -> None:
    network = graph_of(world, "technique=[distill,distill_logits]", "press=all")
    assert [stage.title for stage in network.pressed] == [
        "hf · finetune",
        "tinybert · control",
        "tinybert · distill",
        "tinybert · distill_logits",
    ]


def test_fine_tuning_alone_is_its_own_baseline(world: Path) -> None:
    extra = ("technique=finetune", "~technique.distill", "model=hf", f"model.path={world / 'checkpoint'}")
    base = [o for o in tiny.overrides(world) if not o.startswith(("technique", "model", "teacher"))]
    network = graph(Job.of(compose([*base, extra[0], *extra[2:], "model@teacher=none"]), world / "run"))
    assert titles(network) == ["hf · finetune"]
    assert network.baseline is network.last
    assert network.control is None
    assert not network.control_expected


def test_control_can_be_left_out_but_stays_expected(world: Path) -> None:
    network = graph_of(world, "control=false")
    assert network.control is None
    assert network.control_expected


def test_a_techniques_own_trainer_values_win(world: Path) -> None:
    job = Job.of(compose(tiny.overrides(world)), world / "run")
    spec = merged(job, job.config["technique"]["distill"])
    assert spec["trainer"]["max_epochs"] == 2
    assert spec["trainer"]["gradient_clip_val"] == job.config["trainer"]["gradient_clip_val"]


def test_one_yaml_as_teacher_and_subject_gives_two_names(world: Path) -> None:
    base = [o for o in tiny.overrides(world) if not o.startswith(("technique", "model."))]
    given = [o for o in base if o != "model=tinybert"]
    extra = ["technique=finetune", "model=hf", f"model.path={world / 'checkpoint'}"]
    network = graph(Job.of(compose([*given, *extra]), world / "run"))
    assert titles(network) == ["hf_teacher · finetune", "hf · finetune"]


def test_a_run_without_any_tokenizer_says_what_to_do(world: Path) -> None:
    base = [o for o in tiny.overrides(world) if not o.startswith(("technique", "teacher", "model@"))]
    cfg = compose([*base, "technique=finetune", "model@teacher=none", "model.init=random"])
    with pytest.raises(ModelPressError, match="no model of this run brings a tokenizer"):
        graph(Job.of(cfg, world / "run")).last.tokenizer()


def test_quantization_wants_a_trained_network_first(world: Path) -> None:
    base = [o for o in tiny.overrides(world) if not o.startswith(("technique", "model", "teacher"))]
    subject = ["model=hf", f"model.path={world / 'checkpoint'}"]
    for technique, expected in {
        "ptq": ["hf · finetune", "hf · ptq"],
        "qat": ["hf · finetune", "hf · control", "hf · qat"],
    }.items():
        network = graph(Job.of(compose([*base, *subject, f"technique={technique}"]), world / "run"))
        assert titles(network) == expected
        assert network.control_expected is (technique != "ptq")
        assert network.baseline.name == "finetune"
        assert network.last.teacher is (network.last.parent if technique == "qat" else None)


def test_qat_distill_learns_from_the_runs_teacher(world: Path) -> None:
    network = graph_of(world, "technique=[distill,qat_distill]")
    assert titles(network)[-1] == "tinybert · qat_distill"
    assert network.last.teacher is network.order[0]
    assert network.last.parent is network.order[1]


def test_after_distillation_the_student_is_quantized(world: Path) -> None:
    network = graph_of(world, "technique=[distill,qat]")
    assert titles(network) == ["hf · finetune", "tinybert · distill", "tinybert · control", "tinybert · qat"]
    assert network.control is not None
    assert network.control.parent is network.last.parent
    assert network.control.spec is not None
    assert network.control.spec["trainer"]["max_epochs"] == 0
    assert not graph_of(world, "technique=[distill,ptq]").control_expected


STRUCTURED = ("technique=[distill,prune_structured]",)
REMOVE = "technique.prune_structured.transform.remove"


def test_a_structured_result_gets_a_dense_rival_of_equal_latency(world: Path) -> None:
    network = graph_of(world, *STRUCTURED)
    assert titles(network) == [
        "hf · finetune",
        "tinybert · distill",
        "tinybert · control",
        "tinybert · prune_structured",
        "tinybert · control_layers",
    ]
    assert [stage.name for stage in network.pressed] == ["finetune", "control", "control_layers", "prune_structured"]
    assert network.equal is not None
    assert network.last.spec is not None
    assert network.equal.spec is not None
    assert network.equal.rival is network.last
    assert (network.equal.parent, network.equal.teacher) == (network.last.parent, network.last.teacher)
    assert network.equal.spec["transform"]["remove"] == ["layers"]
    for part in ("objective", "optimizer", "trainer"):
        assert network.equal.spec[part] == network.last.spec[part]
    assert network.equal_expected


@pytest.mark.parametrize(("control", "arms"), [("true", 2), ("same_steps", 1), ("false", 0)])
def test_which_arms_is_a_choice(world: Path, control: str, arms: int) -> None:
    network = graph_of(world, *STRUCTURED, f"control={control}")
    assert sum(stage.role == "control" for stage in network.pressed) == arms
    assert network.equal_expected
    assert network.control_expected


def test_where_only_layers_go_the_rival_is_narrower(world: Path) -> None:
    equal = graph_of(world, *STRUCTURED, f"{REMOVE}=[layers]").equal
    assert equal is not None
    assert equal.spec is not None
    assert equal.spec["transform"]["remove"] == ["heads", "neurons", "width"]
    assert graph_of(world, *STRUCTURED, f"{REMOVE}=[channels]").equal is None


def test_other_techniques_have_no_rival(world: Path) -> None:
    for last in ("qat", "prune"):
        network = graph_of(world, f"technique=[distill,{last}]")
        assert (network.equal, network.equal_expected) == (None, False)


def test_teacher_and_student_are_each_trained_as_their_yaml_asks() -> None:
    """A student that PTQ has to train first follows its own wishes, not those of the teacher beside it."""
    stages = graph(Job.of(compose(["technique=ptq", "model=clip_tiny"]), Path("run"))).order
    wanted = compose(["model=clip_tiny"])
    check(wanted)
    by_model = {stage.recipe.name: stage.spec for stage in stages if stage.name == "finetune"}
    for name, who in (("clip_small", "teacher"), ("clip_tiny", "model")):
        spec = by_model[name]
        assert spec is not None
        assert spec["optimizer"]["lr"] == wanted[who].training.finetune.lr
        assert spec["trainer"]["max_epochs"] == wanted[who].training.finetune.max_epochs
        assert spec["trainer"]["freeze_batch_norm"] is (name == "clip_small")
    assert wanted.teacher.training.finetune.lr != wanted.model.training.finetune.lr


def test_a_technique_follows_the_wishes_of_its_model_unless_the_user_says_otherwise() -> None:
    ours = compose(["model=clip_tiny", "technique=distill"])
    assert ours.technique.distill.optimizer.lr == ours.model.training.distill.lr
    plain = compose(["model=tinybert", "technique=distill"])
    assert (plain.technique.distill.optimizer.lr, plain.technique.distill.trainer.max_epochs) == (2e-4, 5)
    assert plain.technique.distill.trainer.freeze_batch_norm is False
    frozen = compose(["model=tinybert", "technique=distill", "trainer.freeze_batch_norm=true"])
    assert frozen.technique.distill.trainer.freeze_batch_norm is True
    told = compose(["model=clip_tiny", "technique=distill", "technique.distill.optimizer.lr=0.5"])
    assert told.technique.distill.optimizer.lr == 0.5
    both = compose(["model=clip_tiny", "finetune.trainer.max_epochs=1"])
    stages = graph(Job.of(both, Path("run"))).order
    assert {s.spec["trainer"]["max_epochs"] for s in stages if s.spec and s.name == "finetune"} == {1}


def test_techniques_side_by_side_start_from_one_network(world: Path) -> None:
    base = [o for o in tiny.overrides(world) if not o.startswith(("technique", "model", "teacher"))]
    subject = ["model=hf", f"model.path={world / 'checkpoint'}", "side_by_side=true"]
    network = graph(Job.of(compose([*base, *subject, "technique=[ptq,prune]"]), world / "run"))
    assert titles(network) == ["hf · finetune", "hf · ptq", "hf · prune"]
    assert network.pressed == network.order  # press=last, and yet all are shown
    assert [stage.role for stage in network.pressed] == ["baseline", "candidate", "candidate"]
    assert [stage.parent for stage in network.order] == [None, network.baseline, network.baseline]
    assert (network.control, network.control_expected) == (None, True)


def test_side_by_side_a_student_that_is_taught_starts_untrained(world: Path) -> None:
    network = graph_of(world, "technique=[distill,ptq]", "side_by_side=true")
    assert titles(network) == ["hf · finetune", "tinybert · finetune", "tinybert · distill", "tinybert · ptq"]
    roles = {stage.title: stage.role for stage in network.pressed}
    assert roles["hf · finetune"] == "baseline"
    assert list(roles.values()).count("candidate") == 3
    distilled, quantized = network.order[2:]
    assert distilled.parent is None
    assert quantized.parent is network.order[1]


def test_arms_are_expected_of_any_technique_side_by_side(world: Path) -> None:
    base = [o for o in tiny.overrides(world) if not o.startswith(("technique", "model", "teacher"))]
    subject = ["model=hf", f"model.path={world / 'checkpoint'}", "side_by_side=true"]
    for techniques, expected in {"prune_structured,ptq": (True, True), "ptq,bf16": (False, False)}.items():
        network = graph(Job.of(compose([*base, *subject, f"technique=[{techniques}]"]), world / "run"))
        assert (network.control_expected, network.equal_expected) == expected
        assert (network.control, network.equal) == (None, None)
