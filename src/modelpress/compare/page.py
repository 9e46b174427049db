"""The comparison as one HTML page that opens offline: Pareto charts, parallel coordinates, a sortable table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from modelpress.compare.charts import scatter
from modelpress.compare.columns import short_names
from modelpress.compare.lines import Line
from modelpress.compare.overrides import Value, spelled
from modelpress.compare.parallel import parallel
from modelpress.compare.run import Run
from modelpress.compare.table import Comparison, notes, scene_title
from modelpress.compare.texts import Column, title_of
from modelpress.report import html
from modelpress.report.html_parts import paragraph

MOST_CHARTS = 12
HINT = (
    "Click a heading to sort. The filter takes words and conditions, e.g. openvino metric>0.8 temperature=4; "
    "it narrows the charts too. Hover for the overrides that differ, click a point to find its line."
)
BARS = "Bars: the standard deviation over seeds; of a single run the 95 % interval of its metric and of its median."


def render(comparison: Comparison, folder: Path) -> str:
    """The whole page as text; links to reports are relative to ``folder``, where the page will lie."""
    book = html.Figures()
    title = f"Comparison of {_counted(comparison)}"
    parts = [
        f"<header><h1>{escape(title)}</h1></header>",
        _charts(comparison, book),
        _section("Lines", _controls() + _table(comparison, folder)),
        _notes(comparison),
    ]
    return html.page(title, "".join(parts), book.content, style=_asset("page.css"), script=_asset("page.js"))


def _asset(name: str) -> str:
    return (files("modelpress.compare") / name).read_text(encoding="utf-8")


def _counted(comparison: Comparison) -> str:
    runs = {run.folder for line in comparison.lines for run in line.runs}
    missing = sum(not line.rows for line in comparison.lines)
    return f"{len(runs)} runs" + (f", {missing} of them without a report" if missing else "")


def _charts(comparison: Comparison, book: html.Figures) -> str:
    scenes = comparison.scenes
    pareto, swept = "", ""
    for scene in scenes[:MOST_CHARTS]:
        title = scene_title(scene, scenes)
        pareto += book.place(scatter(comparison, scene), title)
        swept += book.place(parallel(comparison, scene), title)
    more = len(scenes) - MOST_CHARTS
    rest = paragraph(f"{more} further data sets or shapes have no chart." if more > 0 else "")
    found = _section("Pareto", paragraph(BARS, "soft") + _grid(pareto) + rest) if pareto else ""
    hint = paragraph(
        "One line per candidate; its colour is the fifth of the vertical value it belongs to.",
        "soft",
    )
    return found + (_section("What was swept", hint + _grid(swept)) if swept else "")


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>"


def _grid(placed: str) -> str:
    return f'<div class="charts">{placed}</div>'


def _controls() -> str:
    return (
        f'{paragraph(HINT, "soft")}<div class="controls"><input id="filter" type="search" placeholder="filter" '
        'aria-label="filter the lines" autocomplete="off" spellcheck="false">'
        '<label><input id="front-only" type="checkbox"> Pareto front only</label>'
        '<output id="shown" for="filter front-only"></output></div>'
    )


def columns(comparison: Comparison) -> list[Column]:
    """All columns of the page's table but the first, which links to the reports."""
    short = short_names(comparison.swept, ("sparsity", "metric", "model", "engine"))
    swept = [Column(key, short[key], 1) for key in comparison.swept]
    keys = ("metric", "metric_drop.value", "latency_ms.p50", "latency_ms.p95", "speedup_best.ratio", "speedup.ratio")
    costs = ("size_mb", "peak_memory_mb", "throughput_per_s")
    figures = [Column(key, title_of(key, comparison.metric), 1) for key in (*keys, *costs)]
    asked = [Column(key, title_of(key, comparison.metric), 1) for key in (comparison.y, comparison.x)]
    own = {column.key for column in figures}
    words = [Column(key, key, 1, right=False) for key in ("role", "model", "engine", "precision", "shape")]
    seeds = [Column("n", "seeds", 1)]
    data = [Column("dataset", "dataset", 1, right=False)] if comparison.varies("dataset") else []
    front = [Column("front", "★", 1, right=False), Column("outcome", "verdict", 1, right=False)]
    return [*front, *data, *words, *swept, *(column for column in asked if column.key not in own), *figures, *seeds]


def _table(comparison: Comparison, folder: Path) -> str:
    shown = columns(comparison)
    head = '<th data-key="run">run</th>' + "".join(_head(column) for column in shown)
    body = "".join(_row(number, line, shown, folder) for number, line in enumerate(comparison.lines))
    return (
        f'<div class="scroll rows"><table id="lines"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _head(column: Column) -> str:
    css = ' class="number"' if column.right else ""
    return f'<th{css} data-key="{escape(column.key)}">{escape(column.title)}</th>'


def _row(number: int, line: Line, shown: Sequence[Column], folder: Path) -> str:
    links = " ".join(_link(run, folder, position) for position, run in enumerate(line.runs))
    path = escape(str(line.runs[0].folder))
    cells = "".join(_cell(line, column) for column in shown)
    css = ' class="on-front"' if line.front else "" if line.values.get("status") == "ok" else ' class="doubtful"'
    return f'<tr{css} data-line="{number}"><td data-v="{path}">{links}</td>{cells}</tr>'


def _link(run: Run, folder: Path, position: int) -> str:
    """To the run's report; to its folder where there is none. Further seeds of a line by their seed only."""
    page = run.folder / "report.html"
    target = page if page.is_file() else run.folder
    href = quote(os.path.relpath(str(target), str(folder) or "."))
    text = "/".join(run.folder.parts[-2:]) if position == 0 else f"seed {run.seed}"
    return f'<a href="{escape(href)}" title="{escape(run.reason or run.command)}">{escape(text)}</a>'


def _cell(line: Line, column: Column) -> str:
    css = ' class="number"' if column.right else ""
    value = line.values.get(column.key)
    raw = "" if value is None else f' data-v="{escape(_raw(value))}"'
    text = column.text(line)
    return f"<td{css}{raw}>{escape(text)}</td>"


def _raw(value: Value) -> str:
    return f"{value:.6g}" if isinstance(value, float) else spelled(value)


def _notes(comparison: Comparison) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in notes(comparison, most=10_000))
    return _section("Notes", f"<ul>{lines}</ul>") if lines else ""
