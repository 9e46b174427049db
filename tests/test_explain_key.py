"""Where an unknown key leaves the tree."""

from __future__ import annotations

from omegaconf import OmegaConf

from modelpress.explain_key import group_options, key_of, near, unknown_key

GOOD = OmegaConf.create(
    {
        "seed": 1,
        "budget": {"latency_ms": None, "size_mb": None},
        "technique": {"distill": {"optimizer": {"lr": 1}}, "finetune": {"optimizer": {"lr": 1}}},
        "engine": {"_target_": "modelpress.optimizer.OptimizerConfig", "lr": 1},
        "lazy": "???",
    }
)


def test_key_of() -> None:
    assert [key_of(o) for o in ("a.b=1", "+a=b=c", "++a=1", "~a", "~a=1")] == ["a.b", "a", "a", "a", "a"]


def test_near() -> None:
    assert near("tinybrt", ["tinybert", "minilm"]) == " Did you mean 'tinybert'?"
    assert near("zzz", ["tinybert"]) == ""


def test_nearest_name_at_the_same_level_first() -> None:
    assert "Did you mean budget.size_mb=3?" in unknown_key("budget.size=3", GOOD)


def test_then_keys_anywhere_that_end_alike() -> None:
    text = unknown_key("optimiser_lr.lr=2", GOOD)
    assert "Did you mean technique.distill.optimizer.lr=2 or technique.finetune.optimizer.lr=2 or engine.lr=2?" in text


def test_a_key_below_a_value() -> None:
    assert unknown_key("seed.more=2", GOOD) == "seed.more=2: seed is one value, it has no 'more'. Write seed=…"


def test_without_a_guess_the_known_names_are_listed() -> None:
    assert unknown_key("budget.zzz=2", GOOD).endswith("Known here: latency_ms, size_mb.")


def test_a_trainer_key_that_the_technique_does_not_set_itself() -> None:
    good = OmegaConf.create({"trainer": {"max_steps": -1}, "technique": {"distill": {"trainer": {"max_epochs": 2}}}})
    assert unknown_key("technique.distill.trainer.max_steps=1", good) == (
        "technique.distill.trainer.max_steps=1: technique.distill.trainer holds only what differs from the shared "
        "trainer. For all stages write trainer.max_steps=1; for this one add it with "
        "+technique.distill.trainer.max_steps=1"
    )
    assert "Did you mean technique.distill.trainer.max_epochs=3?" in unknown_key(
        "technique.distill.trainer.max_epoch=3", good
    )


def test_an_argument_with_a_default() -> None:
    assert "a + sets it: +engine.warmup=0.2" in unknown_key("engine.warmup=0.2", GOOD)
    assert "a + sets it" not in unknown_key("engine.zzz=0.2", GOOD)


def test_a_stage_that_exists_but_is_not_selected() -> None:
    text = unknown_key("technique.distill_two_phase.optimizer.lr=1", GOOD)
    assert "'technique=[distill,finetune,distill_two_phase]'" in text


def test_group_options_come_from_disk() -> None:
    assert {"csv", "wandb", "none"} <= set(group_options("logger"))
    assert group_options("nothing") == []


def test_a_key_that_exists_but_not_with_the_other_overrides() -> None:
    good = OmegaConf.create({"engine": {"openvino": {"precisions": ["fp32"]}}})
    assert "contradicts another override" in unknown_key("engine.openvino.precisions=[bf16]", good)
