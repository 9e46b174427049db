"""report.html: one page that opens offline. plotly.js is inlined once; the page forbids itself every network load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files

from modelpress.report import figures, html_parts, numerics, repeat, training_figures
from modelpress.report.extras import Curve, Extras
from modelpress.report.figures import Figure
from modelpress.report.html_parts import paragraph
from modelpress.report.record import Report
from modelpress.report.sections import arm_words, budget_lines, footnotes, headline, notes, shapes

__all__ = ["Curve", "Extras", "Figures", "page", "render"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"


def render(report: Report, extras: Extras) -> str:
    """The whole page as text. Sections without content are left out; long traces and curves are thinned."""
    book = Figures()
    sections = [
        ("Accuracy and latency", _scatters(report, book)),
        ("Intervals that decide", _forests(report, book)),
        ("Control arm", _control(report)),
        ("Numbers of the network", "".join(map(paragraph, numerics.paragraphs(report)))),
        ("Latency distributions", _latencies(report, extras, book)),
        ("Training", _training(extras, book)),
        ("Diagnostics", html_parts.diagnostics_table(extras.diagnostics) if extras.diagnostics else ""),
        ("All rows", _rows(report)),
        ("Lineage", html_parts.records_table(report.lineage) if report.lineage else ""),
        ("Dataset and environment", _environment(report)),
        (repeat.TITLE, _repeat(report)),
        ("How this was measured", _footnotes(report)),
    ]
    body = "".join(f"<section><h2>{title}</h2>{content}</section>" for title, content in sections if content)
    return page(report.name, _header(report) + body, book.content)


class Figures:
    """Collects figures under the ids of their places in the page."""

    def __init__(self) -> None:
        self.content: dict[str, Figure] = {}

    def place(self, figure: Figure | None, caption: str) -> str:
        """The ``<figure>`` for it; nothing where there is no figure."""
        if figure is None:
            return ""
        name = f"figure-{len(self.content)}"
        self.content[name] = figure
        height = figure["layout"]["height"]
        label = f'role="img" aria-label="{escape(caption)}"'
        box = f'<div class="plot" id="{name}" style="min-height: {height}px" {label}></div>'
        return f"<figure><figcaption>{escape(caption)}</figcaption>{box}</figure>"


def page(title: str, body: str, content: Mapping[str, Figure], *, style: str = "", script: str = "") -> str:
    """A whole page around ``body`` (HTML), with the figures placed in it; ``style`` and ``script`` are added."""
    from plotly.offline import get_plotlyjs

    data = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">'
        f"<style>{_asset('page.css')}{style}</style></head>\n"
        f"<body><main>{body}</main>\n"
        f'<script type="application/json" id="figures">{data}</script>\n'
        f"<script>{get_plotlyjs()}</script>\n<script>{_asset('page.js')}{script}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return (files("modelpress.report") / name).read_text(encoding="utf-8")


def _header(report: Report) -> str:
    found = report.verdict
    title, words = headline(report)
    subject, _, rest = words.partition(". ")
    ceilings = (found.get("ceilings") or {}).get("words") or ""
    goals = "; ".join(budget_lines(report))
    incomplete = "" if report.complete else paragraph("This report is incomplete.", "incomplete")
    return (
        f"<header><h1>{escape(report.name)}</h1>"
        f'<div class="verdict {found.get("verdict") or "none"}"><p class="title">{escape(title)}</p>'
        f"<p><strong>{escape(subject)}{'.' if rest else ''}</strong> {escape(rest)}</p>{incomplete}"
        f"{paragraph(ceilings)}{paragraph(f'Budget: {goals}.' if goals else '')}</div>"
        f"{html_parts.tiles(report)}"
        f"{html_parts.command(report.command, 'command')}"
        "<noscript>The charts need JavaScript; the text and the tables do not.</noscript></header>"
    )


def _scatters(report: Report, book: Figures) -> str:
    placed = "".join(book.place(figures.scatter(report, s), f"Input shape {s}") for s in shapes(report.rows))
    hint = (
        "Up and to the left is better. Colour says role, the symbol engine and precision, ★ the best row. Bars are "
        "95 % intervals; the vertical ones are of each row alone, the paired drop below is narrower. Hover for numbers."
    )
    return paragraph(hint, "soft") + _charts(placed) if placed else ""


def _forests(report: Report, book: Figures) -> str:
    drop = book.place(figures.drops(report), "Metric drop against the baseline, paired; dashed: the budget.")
    speed = book.place(figures.speedups(report), "Speed against the baseline's best lossless engine; dashed: equal.")
    return _charts(drop + speed)


def _latencies(report: Report, extras: Extras, book: Figures) -> str:
    drawn = [(shape, figures.latencies(report, extras.traces, shape)) for shape in shapes(report.rows)]
    placed = "".join(book.place(figure, f"Input shape {shape}") for shape, figure in drawn)
    hint = "Every timed query; the box holds the middle half, dots are the tails. None is dropped."
    return paragraph(hint, "soft") + _charts(placed) if placed else ""


def _training(extras: Extras, book: Figures) -> str:
    drawn = [(figure["layout"]["yaxis"]["title"]["text"], figure) for figure in training_figures.curves(extras.curves)]
    drawn += [(f"loss parts: {stage}", figure) for stage, figure in training_figures.loss_parts(extras.curves)]
    return _charts("".join(book.place(figure, caption.capitalize()) for caption, figure in drawn))


def _charts(placed: str) -> str:
    return f'<div class="charts">{placed}</div>' if placed else ""


def _control(report: Report) -> str:
    return "".join(paragraph(words) for words in arm_words(report)) + html_parts.control_table(report)


def _rows(report: Report) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in notes(report.rows))
    hint = paragraph("Hover or focus a dash to read why the value is missing, a heading to read what it means.", "soft")
    return hint + html_parts.rows_table(report) + (f"<ul>{lines}</ul>" if lines else "")


def _environment(report: Report) -> str:
    facts = {"dataset": report.dataset, "seed": report.seed, **report.environment}
    parts = f"<h3>Seconds</h3>{html_parts.seconds_table(report.seconds)}" if report.seconds else ""
    return html_parts.facts_table(facts) + parts


def _repeat(report: Report) -> str:
    line = repeat.command(report)
    block = f"{paragraph(repeat.WHERE)}{html_parts.command(line, 'repeat')}" if line else ""
    items = "".join(f"<li>{escape(remark)}</li>" for remark in repeat.remarks(report))
    return block + (f"<ul>{items}</ul>" if items else "")


def _footnotes(report: Report) -> str:
    return '<ol class="notes">' + "".join(f"<li>{escape(line)}</li>" for line in footnotes(report)) + "</ol>"
