"""The modelpress command: dispatch, errors, and what it does not import."""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from modelpress import __version__, cli
from modelpress.errors import ModelPressError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[argparse.Namespace], Any]], None]:
    """Put a subcommand of the given behaviour in place of ``show``."""

    def replace(behaviour: Callable[[argparse.Namespace], Any]) -> None:
        module: Any = types.ModuleType("modelpress_test_command")

        def add_parser(subparsers: Any) -> None:
            parser = subparsers.add_parser("show")
            parser.add_argument("folder", nargs="?")
            parser.set_defaults(main=behaviour)

        module.add_parser = add_parser
        monkeypatch.setitem(sys.modules, "modelpress_test_command", module)
        monkeypatch.setitem(cli.COMMANDS, "show", cli.Command("modelpress_test_command", "…"))

    return replace


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    for name, known in cli.COMMANDS.items():
        assert f"  {name}" in text
        assert known.help in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"modelpress {__version__}\n"


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("plna", "Did you mean `modelpress plan`?"),
        ("technique=distill", "Did you mean `modelpress run technique=distill`?"),
    ],
)
def test_unknown_commands(given: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([given]) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_exists(name: str) -> None:
    module = importlib.import_module(cli.COMMANDS[name].module)
    assert callable(getattr(module, "main" if cli.COMMANDS[name].raw else "add_parser"))


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_exit_codes(command: Any, returned: int | None, code: int) -> None:
    command(lambda args: returned)
    assert cli.main(["show", "somewhere"]) == code


def test_faults_of_the_user_have_no_traceback(
    command: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(args: argparse.Namespace) -> int:
        raise ModelPressError(f"there is no run in {args.folder}")

    command(fails)
    assert cli.main(["show", "nowhere"]) == 1
    assert capsys.readouterr().err == "there is no run in nowhere\n"
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ModelPressError):
        cli.main(["show", "nowhere"])


def test_stopping(command: Any) -> None:
    def stopped(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    command(stopped)
    assert cli.main(["show"]) == 130


def test_run_passes_everything_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], str, tuple[str, ...]]] = []

    def launch(arguments: list[str], program: str, prefix: tuple[str, ...]) -> int:
        seen.append((arguments, program, prefix))
        return 7

    monkeypatch.setattr("modelpress.launch.main", launch)
    assert cli.main(["run", "-m", "seed=1,2", "--help"]) == 7
    assert seen == [(["-m", "seed=1,2", "--help"], "modelpress run", ("run",))]


def test_help_imports_nothing() -> None:
    code = (
        "import sys; from modelpress.cli import main; main(['--help']);"
        "heavy = [m for m in ('hydra', 'omegaconf', 'numpy', 'torch', 'rich') if m in sys.modules];"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_python_m_modelpress_and_a_closed_pipe() -> None:
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run([sys.executable, "-m", "modelpress", "--version"], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert b"Traceback" not in result.stderr
    shown = subprocess.run([sys.executable, "-m", "modelpress", "--version"], capture_output=True, text=True)
    assert shown.stdout == f"modelpress {__version__}\n"
