"""Which teacher layer each student layer learns from.

Layers count from 1; 0 is the embedding layer, as in ``Output.hidden_states``.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelpress.errors import ModelPressError

Spec = str | Sequence[int | None]


def layer_map(spec: Spec, student: int, teacher: int) -> dict[int, int]:
    """Student layer -> teacher layer, for a student of ``student`` and a teacher of ``teacher`` layers.

    ``"uniform"``, or a list with one entry per student layer; ``None`` in the list: that layer is not taught.

    >>> layer_map("uniform", 4, 12)
    {1: 3, 2: 6, 3: 9, 4: 12}
    >>> layer_map([None, None, None, 6], 4, 6)
    {4: 6}
    """
    if isinstance(spec, str):
        return dict(enumerate(uniform(student, teacher), start=1))
    if len(spec) != student:
        raise ModelPressError(
            f"layer_map has {len(spec)} entries, the student {student} layers; "
            f"give one teacher layer (1 to {teacher}) or null for each student layer, "
            f"e.g. {_example(student, teacher)}."
        )
    outside = [layer for layer in spec if layer is not None and not 0 <= layer <= teacher]
    if outside:
        raise ModelPressError(
            f"layer_map names teacher layers {outside}, but the teacher has {teacher}; "
            f"allowed are 1 to {teacher}, 0 for the embeddings, null for none."
        )
    return {place: layer for place, layer in enumerate(spec, start=1) if layer is not None}


def uniform(student: int, teacher: int) -> tuple[int, ...]:
    """Teacher layer ``floor(m * N / M)`` for the student's layer m = 1..M, N layers in the teacher.

    "TinyBERT", arXiv:1909.10351, where M divides N. Otherwise rounding down keeps the map strictly increasing and
    ends at the last layer; it is also the choice of layers that a student cut from its teacher starts with.

    >>> uniform(4, 6)
    (1, 3, 4, 6)
    """
    if not 1 <= student <= teacher:
        raise ModelPressError(
            f"layer_map is 'uniform', but the student has {student} layers and the teacher {teacher}; "
            "it needs a teacher at least as deep. Give a list with one teacher layer or null for each student layer."
        )
    return tuple(place * teacher // student for place in range(1, student + 1))


def check_spec(given: object) -> Spec:
    """``given`` if it has the form of a layer map: checked before the models are known."""
    if given == "uniform":
        return "uniform"
    if isinstance(given, Sequence) and not isinstance(given, str):
        taught = [layer for layer in given if layer is not None]
        if taught and all(type(layer) is int for layer in taught):
            return list(given)
    raise ModelPressError(
        f"layer_map is {given!r}; allowed: 'uniform', or a list with one teacher layer (a whole number) or null "
        "for each student layer, e.g. [3,6,9,12]."
    )


def _example(student: int, teacher: int) -> list[int]:
    return [max(1, place * teacher // student) for place in range(1, student + 1)]
