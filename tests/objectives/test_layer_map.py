from __future__ import annotations

import pytest

from modelpress.errors import ModelPressError
from modelpress.objectives.layer_map import check_spec, layer_map, uniform

# (student layers, teacher layers, teacher layer of each student layer), by hand
CASES = [
    (4, 12, (3, 6, 9, 12)),  # TinyBERT-4 in the paper
    (6, 12, (2, 4, 6, 8, 10, 12)),  # TinyBERT-6
    (4, 6, (1, 3, 4, 6)),
    (5, 12, (2, 4, 7, 9, 12)),
    (6, 6, (1, 2, 3, 4, 5, 6)),
    (1, 7, (7,)),
]


@pytest.mark.parametrize(("student", "teacher", "expected"), CASES)
def test_uniform_map(student: int, teacher: int, expected: tuple[int, ...]) -> None:
    assert uniform(student, teacher) == expected
    assert layer_map("uniform", student, teacher) == dict(zip(range(1, student + 1), expected, strict=True))


def test_uniform_map_is_strictly_increasing_and_ends_at_the_last_layer() -> None:
    for teacher in range(1, 25):
        for student in range(1, teacher + 1):
            layers = uniform(student, teacher)
            assert len(set(layers)) == student
            assert list(layers) == sorted(layers)
            assert (layers[0] >= 1, layers[-1]) == (True, teacher)


def test_uniform_map_refuses_a_student_deeper_than_its_teacher() -> None:
    with pytest.raises(ModelPressError, match="student has 6 layers and the teacher 4"):
        layer_map("uniform", 6, 4)


def test_list_maps_and_skips() -> None:
    assert layer_map([3, 6, 9, 12], 4, 12) == {1: 3, 2: 6, 3: 9, 4: 12}
    assert layer_map([None, 0, None, 6], 4, 6) == {2: 0, 4: 6}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ([3, 6], r"2 entries, the student 4 layers.*\[1, 3, 4, 6\]"),
        ([1, 2, 3, 7], r"names teacher layers \[7\], but the teacher has 6"),
        ([-1, 2, 3, 4], r"names teacher layers \[-1\]"),
    ],
)
def test_lists_that_do_not_fit_are_refused(spec: list[int | None], message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        layer_map(spec, 4, 6)


@pytest.mark.parametrize("spec", ["even", [], [None, None], [1, "two"], [True, 2], [1.5], 3, None])
def test_form_is_checked_before_the_models_are_known(spec: object) -> None:
    with pytest.raises(ModelPressError, match="allowed: 'uniform', or a list"):
        check_spec(spec)
    assert check_spec((1, None)) == [1, None]
