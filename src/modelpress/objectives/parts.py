"""The named parts of a distillation: which there are, for which kind of network, and when each one learns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modelpress.errors import ModelPressError, one_of
from modelpress.objectives.options import number

PARTS = ("hard", "soft", "hidden", "attention", "embedding", "cosine", "interactive", "affinity")
PREDICTION = ("hard", "soft", "affinity")  # of what a network answers, the rest of what it answers from
INTERMEDIATE = ("hidden", "attention", "embedding", "cosine", "interactive")
ONLY_CLASSIFIER, ONLY_DUAL = ("attention", "embedding"), ("interactive", "affinity")


def checked_weights(given: Mapping[str, float]) -> dict[str, float]:
    """The parts above 0, in the order of PARTS."""
    if not isinstance(given, Mapping):
        raise ModelPressError(f"weights is {given!r}; give a mapping, e.g. {{hard: 0.5, soft: 0.5}}.")
    for part in given:
        one_of("The name of a part in objective.weights", part, PARTS)
    checked = {part: number(f"weights.{part}", given[part], at_least=0) for part in PARTS if part in given}
    active = {part: weight for part, weight in checked.items() if weight > 0}
    if not active:
        raise ModelPressError(f"objective.weights are all 0; set at least one above 0 of: {', '.join(PARTS)}.")
    return active


def check_phases(phase_split: float, weights: Mapping[str, float]) -> None:
    """Raise if training is split in two and one phase has nothing to learn."""
    for phase in (INTERMEDIATE, PREDICTION):
        if phase_split and not weights.keys() & set(phase):
            raise ModelPressError(
                f"phase_split is {phase_split:g}, but one of its two phases has no part: "
                f"set a weight above 0 for at least one of {', '.join(phase)}, or phase_split=0."
            )


def check_kind(parts: Iterable[str], dual: bool) -> None:
    """Raise if a part is for the other kind of network. ``dual``: an image and a text tower, not a classifier."""
    kind, other = ("dual encoder", "classifiers") if dual else ("classifier", "dual encoders (CLIP)")
    foreign = [part for part in parts if part in (ONLY_CLASSIFIER if dual else ONLY_DUAL)]
    if foreign:
        given = ", ".join(f"objective.weights.{part}" for part in foreign)
        allowed = ", ".join(part for part in PARTS if part not in (ONLY_CLASSIFIER if dual else ONLY_DUAL))
        raise ModelPressError(
            f"The student is a {kind}, and {given} is for {other} only: set it to 0. A {kind} has: {allowed}."
        )


def matched(student: list[str], teacher: list[str]) -> list[int] | None:
    """Columns of the teacher's logits in the student's order of classes; ``None``: already the same."""
    if set(student) != set(teacher) or len(student) != len(teacher):
        raise ModelPressError(
            f"The student's labels are {student}, the teacher's {teacher}; soft targets need the same set. "
            "Use a teacher trained for this dataset, map its names with teacher.label_map, "
            "or set objective.weights.soft=0."
        )
    return None if student == teacher else [teacher.index(label) for label in student]
