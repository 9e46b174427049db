from __future__ import annotations

import io
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from modelpress.report import sensitivity, sensitivity_page
from modelpress.report.sensitivity import FloatLayer, Group, Study, common_parent, label
from tests.report.test_html import CHROMIUM, QUIET, Outline

LAYER = "network.bert.encoder.layer"
QKV = tuple(f"{LAYER}.0.attention.self.{name}" for name in ("query", "key", "value"))


def study() -> Study:
    groups = [
        Group(("network.bert.pooler.dense",), 147_456, 0.0332, 2.3e-2, 0.0410, "float"),
        Group(QKV, 442_368, 0.0039, 4.1e-3, 0.0078),
        Group((f"{LAYER}.0.output.dense",), 589_824, -0.0020, 7.7e-5, 0.0020),
        Group(("network.bert.embeddings.token_type_embeddings",), 768, 0.0, 0.0, 0.0),
    ]
    return Study(
        title="minilm · ptq",
        command="modelpress sensitivity outputs/latest",
        accuracy=0.8457,
        samples=512,
        available=1_234,
        together=Group(
            tuple(name for group in groups[1:] for name in group.layers),
            *(1_032_960, 0.0059, 5e-3, 0.0098),
            part="all together",
        ),
        parts=[Group(QKV, 442_368, 0.0039, 4.2e-3, 0.0098, part="attention")],
        groups=groups,
        float_layers=[
            FloatLayer("network.bert.pooler.dense", 147_456, "the mixed-precision search"),
            FloatLayer("network.classifier", 768, "float by default"),
        ],
        notes=["Mixed-precision search: 1 layer stays float. Limit 0.50 points, drop on validation 0.40."],
    )


def printed(found: Study, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    sensitivity.render(found, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def line_of(text: str, name: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(name))


def test_table_has_every_group_in_order_and_all_together() -> None:
    text = printed(study())
    names = ["pooler.dense", "encoder.layer.0.attention.self.{query,key,value}", "encoder.layer.0.output.dense"]
    names += ["embeddings.token_type_embeddings", "all together"]
    places = [text.index(f"\n{name}") for name in names]
    assert places == sorted(places)
    assert line_of(text, "pooler.dense")[1:] == ["147", "3.32", "2.3e-02", "4.10", "float"]
    assert line_of(text, names[1])[1:] == ["442", "0.39", "4.1e-03", "0.78", "int8"]
    assert line_of(text, names[2])[1:] == ["590", "-0.20", "7.7e-05", "0.20", "int8"]
    assert line_of(text, names[3])[1:] == ["0.768", "0.00", "0", "0.00", "int8"]
    assert line_of(text, "all together")[2:] == ["1033", "0.59", "5.0e-03", "0.98", "int8"]


def test_parts_stand_before_the_layers() -> None:
    text = printed(study())
    assert line_of(text, "attention") == ["attention", "3", "442", "0.39", "4.2e-03", "0.98"]
    assert text.index("\nattention") < text.index("\npooler.dense")


def test_it_says_what_was_measured_and_why_layers_are_float() -> None:
    text = " ".join(printed(study()).split())
    assert "Names begin with network.bert." in text
    assert "512 of 1,234 items of the validation split" in text
    assert "right on 84.57 % of them; one item is 0.20 points" in text
    assert "network.bert.pooler.dense the mixed-precision search" in text
    assert "network.classifier float by default" in text
    assert "1 layer stays float. Limit 0.50 points" in text
    assert "on all 512 items" in printed(replace(study(), available=512))
    assert "In float" not in printed(replace(study(), float_layers=[]))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_the_terminal(width: int) -> None:
    text = printed(study(), width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert text.count("int8") == 4


@pytest.mark.parametrize(
    ("layers", "prefix", "words"),
    [
        (("a.b.c",), "a.", "b.c"),
        (("a.b.c",), "", "a.b.c"),
        (("a.b.q", "a.b.k"), "a.", "b.{q,k}"),
        (("a.b.q", "a.b.k"), "a.b.", "{q,k}"),
        (("a.self.q", "a.cross.k"), "", "a.{self.q,cross.k}"),
        (("q", "k"), "", "{q,k}"),
    ],
)
def test_labels(layers: tuple[str, ...], prefix: str, words: str) -> None:
    assert label(layers, prefix) == words


def test_a_common_parent_ends_at_a_dot() -> None:
    assert common_parent(["net.layer.0.key", "net.layer.10.key"]) == "net.layer."
    assert common_parent(["net.key", "network.key"]) == ""
    assert common_parent(["net.key"]) == "net."
    assert common_parent([]) == ""


def test_figure_is_valid_and_holds_every_number() -> None:
    """plotly's own validators are the reference for the hand-written dict."""
    from plotly.graph_objects import Figure

    figure = sensitivity_page.figure(study())
    assert len(Figure(figure).data) == 4
    json.dumps(figure, allow_nan=False)
    errors = {trace["name"]: dict(zip(trace["y"], trace["x"], strict=True)) for trace in figure["data"][::2]}
    assert errors["left in float by the search"] == {"pooler.dense": 2.3e-2}
    assert errors["in INT8"]["embeddings.token_type_embeddings"] is None  # a logarithm has no zero
    assert errors["in INT8"]["encoder.layer.0.output.dense"] == 7.7e-5
    drops = {name: x for trace in figure["data"][1::2] for name, x in zip(trace["y"], trace["x"], strict=True)}
    assert drops["pooler.dense"] == pytest.approx(3.32)
    assert drops["encoder.layer.0.output.dense"] == pytest.approx(-0.2)
    assert figure["layout"]["xaxis"]["type"] == "log"
    low, high = figure["layout"]["xaxis"]["range"]
    assert 10**low < 7.7e-5 < 2.3e-2 < 10**high
    assert figure["layout"]["yaxis"]["categoryarray"][-1] == "pooler.dense"  # drawn from below: the worst on top


def test_hover_names_every_layer_of_a_group() -> None:
    texts = [text for trace in sensitivity_page.figure(study())["data"] for text in trace["hovertext"]]
    shared = next(text for text in texts if "query" in text)
    assert all(name in shared for name in QKV)
    assert "0.78 % of the predictions changed" in shared
    assert "442,368 parameters" in shared


def test_figure_without_any_error() -> None:
    calm = [replace(group, output_error=0.0) for group in study().groups]
    figure = sensitivity_page.figure(replace(study(), groups=calm))
    low, high = figure["layout"]["xaxis"]["range"]
    assert low < 0 < high


def test_page_is_one_file_that_loads_nothing() -> None:
    text = sensitivity_page.page(study())
    outline = Outline()
    outline.feed(text)
    assert outline.open == []
    assert outline.loads == ["data:,"]
    assert "default-src 'none'" in text
    assert text.count("plotly.js v") == 1
    words = " ".join(outline.text)
    for expected in ("Names begin with network.bert.", "Layers in float", "each part", "0.39", "4.1e-03", "4.2e-03"):
        assert expected in words
    assert "modelpress sensitivity outputs/latest" in words


def test_hostile_names_stay_text() -> None:
    evil = '</script><script>alert("x")</script>'
    groups = [replace(group, layers=(f"net.{evil}{number}",)) for number, group in enumerate(study().groups)]
    text = sensitivity_page.page(replace(study(), title=evil, groups=groups, float_layers=[FloatLayer(evil, 1, evil)]))
    assert evil not in text
    outline = Outline()
    outline.feed(text)
    assert outline.scripts == 3
    assert evil in "".join(outline.text)
    assert "[bold]x[/bold]" in printed(replace(study(), title="[bold]x[/bold]"))


def test_json_is_plain() -> None:
    record = json.loads(json.dumps(study().to_json(), allow_nan=False))
    assert record["groups"][1]["layers"] == list(QKV)
    assert record["float_layers"][0]["why"] == "the mixed-precision search"
    assert record["together"]["metric_drop"] == 0.0059


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: the page is not tried in a browser")
def test_a_browser_draws_both_panels(tmp_path: Path) -> None:
    (tmp_path / "sensitivity.html").write_text(sensitivity_page.page(study()), encoding="utf-8")
    command = [
        *(str(CHROMIUM), *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0"),
        *("--virtual-time-budget=5000", "--dump-dom", f"file://{tmp_path / 'sensitivity.html'}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    assert "main-svg" in done.stdout
    for title in (
        "output error (logarithmic)",
        "metric drop, points",
        "encoder.layer.0.attention.self.{query,key,value}",
    ):
        assert re.search(rf"<text[^>]*>{re.escape(title)}", done.stdout)
