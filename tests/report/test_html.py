"""The page as text, and the page in a real browser where one is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from modelpress.report import html
from modelpress.report.columns import columns
from modelpress.report.extras import Extras
from modelpress.report.record import Report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


class Outline(HTMLParser):
    """Tags that load something, visible text, and whether every tag is closed."""

    void = ("meta", "link", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.text: list[str] = []
        self.reasons: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        known = dict(attributes)
        self.loads += [str(known[name]) for name in ("src", "href", "action", "data") if name in known]
        if tag == "abbr":
            self.reasons.append(str(known["title"]))
        self.scripts += tag == "script"
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text.append(data)


@pytest.fixture(scope="module")
def page(report: Report, extras: Extras) -> str:
    return html.render(report, extras)


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    outline = Outline()
    outline.feed(page)
    return outline


def test_one_file_that_loads_nothing(page: str, outline: Outline) -> None:
    assert outline.open == []
    assert outline.loads == ["data:,"]  # the empty favicon
    assert "default-src 'none'" in page
    assert page.count("plotly.js v") == 1
    assert len(page.encode()) < 8e6


def test_everything_is_on_the_page(report: Report, outline: Outline) -> None:
    text = " ".join(outline.text)
    for heading in (
        *("It pays", "Accuracy and latency", "Intervals that decide", "Control arm", "Latency distributions"),
        *("Training", "Diagnostics", "All rows", "Lineage", "Dataset and environment", "How this was measured"),
    ):
        assert heading in text
    assert report.command in text
    assert report.reproduction["command"] in text
    assert f"It needs reviews.csv (dataset.path), sha256 {'3f' * 32}." in text
    assert "the command runs without them" in text
    assert str(report.verdict["control"]["words"]) in text
    assert "agreement where the teacher is wrong" in text
    assert "amx_bf16" in text
    for column in columns(report):
        assert column.title in text


def test_every_dash_has_its_reason(report: Report, outline: Outline) -> None:
    missing = sum(column.text(row) is None for row in report.rows for column in columns(report))
    assert len(outline.reasons) >= missing > 100
    assert all(len(reason) > 10 for reason in outline.reasons)
    for words in ("RAPL", "out of memory", "Only candidate rows", "no device memory"):
        assert any(words in reason for reason in outline.reasons)


def test_a_percentile_that_the_sample_does_not_bound_says_so(report: Report) -> None:
    row = report.rows[0]
    assert row.latency_ms is not None
    few = replace(row, latency_ms=replace(row.latency_ms, p99=None, n=200))
    text = html.render(replace(report, rows=[few]), Extras())
    assert "p99 needs 662 queries to be bounded with 99 % confidence; there are 200." in text


def test_hostile_names_stay_text(report: Report, extras: Extras) -> None:
    evil = '</script><script>alert("x")</script>'
    rows = [replace(row, model=evil, why=evil) for row in report.rows]
    text = html.render(replace(report, name=evil, command=evil, rows=rows), extras)
    assert evil not in text
    outline = Outline()
    outline.feed(text)
    assert outline.scripts == 3  # the figures' data, plotly.js and the page's own
    assert evil in "".join(outline.text)


def test_a_bare_report_still_renders(report: Report) -> None:
    bare = replace(report, rows=[], verdict={}, complete=False, lineage=[], seconds={}, environment={})
    outline = Outline()
    outline.feed(html.render(bare, Extras()))
    text = " ".join(outline.text)
    assert outline.open == []
    assert "No verdict" in text
    assert "This report is incomplete." in text
    assert "Training" not in text


def test_long_traces_stay_within_the_limit(report: Report) -> None:
    traces = {row.id: [1.0 + 0.001 * (i % 997) for i in range(60_000)] for row in report.rows}
    assert len(html.render(report, Extras(traces=traces)).encode()) < 8e6


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: the page is not tried in a browser")
def test_a_browser_draws_it_without_errors_or_network(page: str, tmp_path: Path) -> None:
    """Chromium logs console errors, violations of the page's own no-network policy among them."""
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    command = [
        *(str(CHROMIUM), *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0"),
        *("--virtual-time-budget=8000", "--window-size=1280,2600", "--dump-dom", f"file://{tmp_path / 'report.html'}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    plots = page.count('class="plot"')
    assert plots == 11
    assert done.stdout.count("main-svg") >= plots  # every figure was drawn
    loads = re.findall(r'<(?:script|link|img|iframe)[^>]*\b(?:src|href)="(?!data:|blob:)([^"]+)"', done.stdout)
    assert loads == []


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: the page is not tried in a browser")
def test_the_browser_test_would_notice(tmp_path: Path) -> None:
    """The same check fails on a page that loads from the network and throws."""
    head = f'<meta http-equiv="Content-Security-Policy" content="{html.POLICY}">'
    bad = head + '<img src="http://127.0.0.1:9/x.png"><script>throw new Error("oops")</script>'
    (tmp_path / "bad.html").write_text(bad, encoding="utf-8")
    command = [str(CHROMIUM), *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0"]
    command += ["--virtual-time-budget=3000", "--dump-dom", f"file://{tmp_path / 'bad.html'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert any("oops" in line for line in console)
    assert any("Content Security Policy" in line for line in console)


def test_diagnostics_show_their_stage_and_seconds_their_parts(report: Report) -> None:
    lines = [{"stage": "distill", "name": "entropy", "value": None, "meaning": "How flat the teacher is."}]
    text = html.render(replace(report, seconds={"total": 61.25, "distill": 50.0}), Extras(diagnostics=lines))
    outline = Outline()
    outline.feed(text)
    words = " ".join(outline.text)
    assert "stage diagnostic value what it means distill entropy" in " ".join(words.split())
    assert "total 61.2 distill 50.0" in " ".join(words.split())
    assert "not measured" in outline.reasons
