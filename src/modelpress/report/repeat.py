"""How to repeat a run, in words: the same lines on every page of a report."""

from __future__ import annotations

from modelpress.report.record import Report

TITLE = "Repeat this run"
WHERE = "At the top of any clone of ModelPress's repository:"


def command(report: Report) -> str | None:
    """One line for a shell, if there is one."""
    found: str | None = report.reproduction.get("command")
    return found


def remarks(report: Report) -> list[str]:
    """What a clone does not bring, and what the command cannot promise."""
    needs = [
        f"It needs {need['path']} ({need['key']}), sha256 {need['sha256']}."
        for need in report.reproduction.get("needs", [])
    ]
    return [*report.reproduction.get("remarks", []), *needs]


def plain(report: Report) -> list[str]:
    """All of it as lines of text; empty for a report that was written before there was such a command."""
    line = command(report)
    return [*([WHERE, f"  {line}"] if line else []), *remarks(report)]
