"""The page as text, and the page in a real browser where one is installed."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from modelpress.compare import page
from modelpress.compare.charts import scatter
from modelpress.compare.command import comparison
from modelpress.compare.parallel import parallel
from modelpress.compare.table import Comparison
from tests.compare.worlds import put, report
from tests.report.test_html import CHROMIUM, QUIET, Outline

DRIVER = """<script>
(() => {
  const filter = document.getElementById("filter");
  filter.value = "candidate temperature>1";
  filter.dispatchEvent(new Event("input"));
  setTimeout(() => {
    const head = document.querySelector('th[data-key="metric"]');
    head.click();
    const drawn = document.getElementById("figure-0").data.filter((trace) => trace.customdata);
    document.body.dataset.points = drawn.map((trace) => trace.x.length).join(" ");
    document.body.dataset.bars = drawn.map((trace) => trace.error_x.array.length).join(" ");
    const rows = [...document.querySelectorAll("#lines tbody tr")].filter((row) => !row.hidden);
    document.body.dataset.order = rows.map((row) => row.cells[head.cellIndex].textContent).join(" | ");
    document.getElementById("figure-0").emit("plotly_click", { points: [{ customdata: 3 }] });
  }, 1000);
})();
</script>"""


def outlined(text: str) -> Outline:
    outline = Outline()
    outline.void = ("meta", "link", "br", "input")
    outline.feed(text)
    return outline


@pytest.fixture(scope="module")
def found(sweep: Path) -> Comparison:
    return comparison([sweep])


@pytest.fixture(scope="module")
def text(found: Comparison, sweep: Path) -> str:
    return page.render(found, sweep.parent)


def test_one_small_file_that_loads_nothing(text: str, sweep: Path) -> None:
    outline = outlined(text)
    assert outline.open == []
    assert outline.scripts == 3
    assert len(text.encode()) < 6e6
    links = [unquote(link) for link in outline.loads if link != "data:,"]
    assert "sweep/0/report.html" in links
    assert "sweep/9" in links  # it has no report
    assert all((sweep.parent / link).exists() for link in links)
    words = " ".join(outline.text)
    for expected in ("Comparison of 13 runs, 4 of them without a report", "temperature", "82.50 ±0.20", "stopped"):
        assert expected in words


def test_bars_and_hover(found: Comparison) -> None:
    figure = scatter(found, found.scenes[0])
    assert figure is not None
    points = next(trace for trace in figure["data"] if trace["name"] == "candidate")
    assert points["error_y"]["array"] == pytest.approx([0.2] * 3)
    assert points["error_x"]["array"] == pytest.approx([0.05] * 3)
    assert "technique.distill.objective.temperature = 1" in points["hovertext"][0]
    assert points["y"] == pytest.approx([81.0, 82.5, 82.0])
    assert [found.lines[number].role for number in points["customdata"]] == ["candidate"] * 3


def test_a_single_run_has_the_interval_of_its_metric(tmp_path: Path) -> None:
    single = comparison([put(tmp_path / "t1", report(p50=4.0, metric=0.8))])
    figure = scatter(single, single.scenes[0])
    assert figure is not None
    points = next(trace for trace in figure["data"] if trace["name"] == "candidate")
    assert points["error_x"]["array"] == pytest.approx([0.08])
    # statsmodels 0.14: proportion_confint(2312, 2890, method="wilson") = (0.78502, 0.81418)
    assert points["error_y"]["array"] == pytest.approx([1.418], abs=2e-3)
    assert parallel(single, single.scenes[0]) is None


def test_parallel_coordinates_follow_the_values(found: Comparison) -> None:
    figure = parallel(found, found.scenes[0])
    assert figure is not None
    assert figure["layout"]["xaxis"]["ticktext"] == ["temperature", "accuracy %", "p50 ms"]
    strands = {trace["customdata"][0]: trace["y"][:3] for trace in figure["data"]}
    assert list(strands.values()) == [[0, 0, 0], [1, 0.5, 1], [0.5, 1, 0.5]]
    ticks = [note["text"] for note in figure["layout"]["annotations"]]
    assert ticks == ["1", "2", "4", "81", "82", "82.5", "3.1", "3.2", "3.4"]


def test_hostile_names_stay_text(found: Comparison, sweep: Path) -> None:
    evil = '</script><script>alert("x")</script>'
    lines = [replace(line, values={**line.values, "model": evil, found.swept[0]: evil}) for line in found.lines]
    text = page.render(replace(found, lines=lines, remarks=[evil]), sweep)
    assert evil not in text
    assert outlined(text).scripts == 3


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: the page is not tried in a browser")
def test_a_browser_draws_filters_sorts_and_finds(text: str, tmp_path: Path) -> None:
    (tmp_path / "compare.html").write_text(text.replace("</body>", DRIVER + "</body>"), encoding="utf-8")
    command = [
        *(str(CHROMIUM), *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0"),
        *("--virtual-time-budget=8000", "--dump-dom", f"file://{tmp_path / 'compare.html'}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    assert done.stdout.count("main-svg") >= text.count('class="plot"') == 2
    assert "2 of 9 lines" in done.stdout
    facts = dict(re.findall(r'data-(points|bars|order)="([^"]*)"', done.stdout.partition("<body")[2]))
    # the baselines' points are gone from the chart, two of three candidates are left, with their bars
    assert (facts["points"], facts["bars"]) == ("0 2", "0 2")
    assert facts["order"] == "82.00 ±0.20 | 82.50 ±0.20"
    assert 'aria-sort="ascending"' in done.stdout
    assert re.search(r'<tr class="[^"]*picked[^"]*" data-line="3"', done.stdout)
