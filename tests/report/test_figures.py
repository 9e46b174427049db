from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from modelpress.report import figures, html_parts, training_figures
from modelpress.report.extras import Curve, Extras, panel_of, part_name
from modelpress.report.numbers import wilson
from modelpress.report.record import Report


def test_plotly_accepts_every_figure(report: Report, extras: Extras) -> None:
    """plotly's own validators are the reference for the hand-written dicts."""
    from plotly.graph_objects import Figure

    drawn = [figures.drops(report), figures.speedups(report)]
    for shape in ("1x128", "data"):
        drawn += [figures.scatter(report, shape), figures.latencies(report, extras.traces, shape)]
    drawn += training_figures.curves(extras.curves)
    drawn += [figure for _, figure in training_figures.loss_parts(extras.curves)]
    for figure in drawn:
        assert figure is not None
        assert len(Figure(figure).data) == len(figure["data"])
        assert json.dumps(figure, allow_nan=False)


def test_scatter_has_every_measured_row_with_bars_both_ways(report: Report) -> None:
    figure = figures.scatter(report, "1x128")
    assert figure is not None
    points = [trace for trace in figure["data"] if trace["x"] != [None]]
    assert sum(len(trace["x"]) for trace in points) == 10
    best = next(row for row in report.rows if row.id == report.verdict["row"])
    trace = next(trace for trace in points if "candidate" in trace["name"])
    index = trace["text"].index("★")
    assert trace["y"][index] == pytest.approx(100 * (best.metric or 0))
    _, high = wilson(best.metric or 0, best.metric_n or 1)
    assert trace["error_y"]["array"][index] == pytest.approx(100 * (high - (best.metric or 0)))
    assert trace["error_x"]["array"][index] > 0
    assert "OpenVINO BF16" in trace["hovertext"][index]
    assert figures.scatter(report, "8x512") is None


def test_the_dashed_lines_are_the_budget_and_one(report: Report) -> None:
    drop, speed = figures.drops(report), figures.speedups(report)
    assert drop is not None
    assert speed is not None
    assert drop["layout"]["shapes"][0]["x0"] == pytest.approx(1.0)
    assert speed["layout"]["shapes"][0]["x0"] == 1


def test_thinned_keeps_the_distribution_and_both_ends() -> None:
    values = np.random.default_rng(0).lognormal(1.0, 0.5, 100_000)
    few = figures.thinned(values.tolist(), 500)
    assert len(few) == 500
    assert (few[0], few[-1]) == (pytest.approx(values.min(), rel=1e-3), pytest.approx(values.max(), rel=1e-3))
    for q in (10, 50, 90):
        assert np.percentile(few, q) == pytest.approx(np.percentile(values, q), rel=0.01)
    assert figures.thinned([3.0, 1.0, 2.0]) == [1.0, 2.0, 3.0]


def test_shortened_keeps_means_and_the_last_step() -> None:
    steps, values = list(range(10_000)), np.random.default_rng(0).random(10_000).tolist()
    x, y = training_figures.shortened((steps, values), 100)
    assert (len(x), len(y), x[-1]) == (100, 100, 9999)
    assert np.mean(y) == pytest.approx(np.mean(values), rel=1e-3)
    assert training_figures.shortened(([1, 2], [0.5, 0.25])) == ([1, 2], [0.5, 0.25])


@pytest.mark.parametrize(
    ("name", "panel"),
    [
        ("lr-AdamW", "rate"),
        ("learning_rate", "rate"),
        ("train/lr", "rate"),
        ("val/accuracy", "validation"),
        ("val_loss", "validation"),
        ("train/loss", "total"),
        ("train_loss", "total"),
        ("loss", "total"),
        ("train/soft", "part"),
        ("loss/hidden", "part"),
        ("train/loss_hard", "part"),
        ("transform/sparsity", "reshaping"),
        ("epoch", "other"),
    ],
)
def test_names_decide_the_panel(name: str, panel: str) -> None:
    assert panel_of(name) == panel


def test_parts_are_named_without_their_prefix() -> None:
    assert [part_name(name) for name in ("train/loss/soft", "train_loss_hard", "loss/cosine")] == [
        *("soft", "hard", "cosine"),
    ]
    curve = Curve("distill", "candidate", {"train/loss/soft": ([0, 1], [1.0, 0.5]), "epoch": ([0, 1], [0.0, 1.0])})
    (heading, figure), *rest = training_figures.loss_parts([curve])
    assert rest == []
    assert heading == "distill (candidate)"
    assert [trace["name"] for trace in figure["data"]] == ["soft"]


def test_the_sparsity_on_the_way_is_a_figure_of_its_own() -> None:
    curve = Curve("prune", "candidate", {"transform/sparsity": ([0, 10], [0.1, 0.7]), "epoch": ([0, 10], [0.0, 1.0])})
    [figure] = training_figures.curves([curve])
    assert figure["layout"]["yaxis"]["title"]["text"] == "transform/sparsity"
    assert figure["data"][0]["y"] == [0.1, 0.7]


def test_of_two_towers_only_the_pair_is_drawn(report: Report) -> None:
    """A tower's answers are those of its pair, at a shape that may be called the same."""
    names = ("scatter", "drops", "speedups")
    tower = [replace(row, id=f"{row.id}/text", tower="text") for row in report.rows]
    doubled = replace(report, rows=[*(replace(row, tower="pair") for row in report.rows), *tower])
    drawn = [figures.scatter(doubled, "1x128"), figures.drops(doubled), figures.speedups(doubled)]
    wanted = [figures.scatter(report, "1x128"), figures.drops(report), figures.speedups(report)]
    for name, ours, theirs in zip(names, drawn, wanted, strict=True):
        assert ours is not None, name
        assert theirs is not None, name
        assert [trace["x"] for trace in ours["data"]] == [trace["x"] for trace in theirs["data"]], name
    alone = replace(report, rows=tower)
    assert [figures.scatter(alone, "1x128"), figures.drops(alone), figures.speedups(alone)] == [None] * 3
    assert html_parts.control_table(doubled) == html_parts.control_table(report) != ""
    assert html_parts.control_table(alone) == ""
