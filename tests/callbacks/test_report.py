"""The callback asks for its one step, once, when the test has ended."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import tests.toy as toy
from modelpress.callbacks.report import Report
from modelpress.objectives.task import Task


def test_once_at_the_end_of_the_test(tmp_path: Path) -> None:
    module, pressing = toy.technique(Task()), Mock()
    module.pressing = pressing
    with toy.known_warnings():
        toy.trainer(tmp_path, Report()).test(module, toy.loader(2), verbose=False)
    assert [call[0] for call in pressing.method_calls] == ["finish"]


def test_not_in_training(tmp_path: Path) -> None:
    module, pressing = toy.technique(Task()), Mock()
    module.pressing = pressing
    with toy.known_warnings():
        toy.trainer(tmp_path, Report()).fit(module, toy.loader(2), toy.loader(2))
    assert pressing.method_calls == []
