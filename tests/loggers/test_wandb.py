"""What W&B really received, read back from the offline run's own file: a leveldb log of protobuf records."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelpress.errors import ModelPressError
from modelpress.loggers import offline, server
from modelpress.loggers.wandb import Wandb, effective_mode, flat, headline
from modelpress.report.record import Interval, Latency, Ratio, Report, Row
from modelpress.store import Entry
from tests.loggers.stand_in import StandIn, serving


def records(folder: Path) -> Iterator[Any]:
    """Every record of the one offline run under ``folder``."""
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    return offline.records(path)


def found(folder: Path, kind: str) -> list[Any]:
    return [getattr(record, kind) for record in records(folder) if record.WhichOneof("record_type") == kind]


def items(pairs: Any) -> dict[str, Any]:
    return {pair.key or "/".join(pair.nested_key): json.loads(pair.value_json) for pair in pairs}


def row(**changes: Any) -> Row:
    names = {"id": "distill/onnxruntime/fp32/1x128", "stage": "distill", "model": "tiny", "role": "candidate"}
    kinds = {"tower": "main", "engine": "onnxruntime", "precision": "fp32", "device": "cpu", "shape": "1x128"}
    measured = {
        "metric": 0.828,
        "size_mb": 50.5,
        "latency_ms": Latency(2.5, 3.0, None, None, 2.0, 0.1, 100),
        "metric_drop": Interval(0.004, -0.002, 0.009),
        "speedup": Ratio("b", 4.5, 4.2, 4.8),
        "speedup_best": Ratio("b", 1.4, 1.3, 1.5),
        "verdict": "pays",
        "why": "fast",
    }
    return Row(**{**names, **kinds, "status": "ok", **measured, **changes})


def report() -> Report:
    rows = [row(id="baseline", role="baseline", latency_ms=None, metric_drop=None, speedup=None, verdict=None), row()]
    verdict = {"verdict": "pays", "row": rows[1].id}
    lineage = [
        {"kind": "stage", "name": "tiny · distill", "key": "abc123", "inputs": {}},
        {"kind": "export", "name": "tiny → ONNX", "key": "def456", "inputs": {}},
    ]
    return Report("demo", "run", {"name": "reviews"}, "accuracy", 1, rows, verdict, True, {}, lineage, {"total": 1.0})


def entry(name: str, weights: str, reused: bool, **inputs: Any) -> Entry:
    """A finished stage as the store hands it out."""
    files = {"model/model.safetensors": {"sha256": weights, "bytes": 1}}
    return Entry(f"key-{weights}", "stage", name, Path(), {"seed": 1, **inputs}, files, 1.0, "", reused)


TEACHER = entry("big · finetune", "aaa", reused=True)
STUDENT = entry("tiny · distill", "bbb", reused=False, parent=None, teacher="aaa")


def run_folder(folder: Path) -> Path:
    (folder / "deploy/engines").mkdir(parents=True)
    (folder / "report.html").write_text("<p>report</p>")
    (folder / "deploy/engines/tiny.onnx").write_bytes(b"onnx")
    (folder / "deploy/labels.json").write_text("[]")
    return folder


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job of two stages that both trained with Lightning, reported, and then failed."""
    import torch
    from lightning import LightningModule, Trainer
    from torch.utils.data import DataLoader

    class Tiny(LightningModule):
        def __init__(self, stage: str) -> None:
            super().__init__()
            self.layer, self.stage = torch.nn.Linear(1, 1), stage
            self.save_hyperparameters()

        def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
            loss = self.layer(batch).square().mean()
            self.log(f"{self.stage}/train/loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    folder = tmp_path_factory.mktemp("run")
    run = Wandb(folder, name="demo", config={"seed": 3, "budget": {"size_mb": 5}}, group="sweep", tags=["x"])
    for stage in ("finetune", "tiny/distill"):
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=run.stage(stage),
            log_every_n_steps=1,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Tiny(stage.rpartition("/")[2]), DataLoader(torch.ones(3, 1), num_workers=0))
    for stage in (TEACHER, STUDENT):
        run.log_stage(stage)
    run.log_report(report(), run_folder(folder / "job"))
    run.finish("failed")
    deadline = time.monotonic() + 60
    while not found(folder, "exit") and time.monotonic() < deadline:  # wandb's own process writes the file
        time.sleep(0.1)
    return folder


def test_one_run_carries_name_group_tags_and_the_whole_config(logged: Path) -> None:
    (run,) = found(logged, "run")
    assert (run.project, run.display_name, run.run_group, list(run.tags)) == ("modelpress", "demo", "sweep", ["x"])
    config = items(run.config.update)
    assert config["seed"] == 3
    assert config["budget"] == {"size_mb": 5}


def test_metrics_of_two_stages_have_their_own_names_and_steps(logged: Path) -> None:
    history = [items(record.item) for record in found(logged, "history")]
    for stage in ("finetune", "tiny/distill"):
        steps = [entry[f"{stage}/step"] for entry in history if f"{stage}/train/loss" in entry]
        assert steps == [0, 1, 2]
    axes = {record.glob_name: record.step_metric for record in found(logged, "metric") if record.glob_name}
    assert axes == {"finetune/*": "finetune/step", "tiny/distill/*": "tiny/distill/step"}
    assert not [key for entry in history for key in entry if key.startswith(("trainer/", "tiny/distill/distill"))]


def test_the_hyperparameters_of_a_module_do_not_overwrite_the_config(logged: Path) -> None:
    updates = {key for record in found(logged, "config") for key in items(record.update)}
    assert {"hyperparameters/finetune", "hyperparameters/tiny/distill"} <= updates
    assert "stage" not in updates


def test_the_summary_has_the_headline_figures(logged: Path) -> None:
    summary: dict[str, Any] = {}
    for record in found(logged, "summary"):
        summary.update(items(record.update))
    expected = {"verdict": "pays", "metric": 0.828, "latency_ms_p50": 2.5, "size_mb": 50.5}
    expected |= {"speedup_ratio": 4.5, "speedup_ci_low": 4.2, "speedup_ci_high": 4.8, "speedup_best_ci_low": 1.3}
    assert expected.items() <= summary.items()


def test_the_report_table_has_one_line_per_row(logged: Path) -> None:
    (path,) = logged.glob("wandb/offline-run-*/files/media/table/report_*.table.json")
    table = json.loads(path.read_text())
    lines = [dict(zip(table["columns"], line, strict=True)) for line in table["data"]]
    assert [line["role"] for line in lines] == ["baseline", "candidate"]
    assert [line["latency_ms_p50"] for line in lines] == [None, 2.5]


def test_report_and_deploy_are_artefacts_that_name_their_parent(logged: Path) -> None:
    artifacts = {record.name: record for record in found(logged, "artifact")}
    files = {name: sorted(entry.path for entry in record.manifest.contents) for name, record in artifacts.items()}
    assert files["demo-report"] == ["report.html"]
    assert files["demo-deploy"] == ["engines/tiny.onnx", "labels.json"]
    assert artifacts["demo-deploy"].type == "model"
    distilled = {"name": "stage-tiny-distill", "digest": artifacts["stage-tiny-distill"].digest}
    assert json.loads(artifacts["demo-deploy"].metadata)["parents"] == [distilled]
    (teacher,) = json.loads(artifacts["stage-tiny-distill"].metadata)["parents"]
    assert teacher["name"] == "stage-big-finetune"
    assert json.loads(artifacts["demo-report"].metadata)["parents"] == [teacher, distilled]
    assert "stage-big-finetune" not in artifacts  # found in the store: another run's output


def test_a_stage_has_the_same_digest_whoever_found_or_trained_it(logged: Path, tmp_path: Path) -> None:
    run = Wandb(tmp_path)
    run.log_stage(entry("big · finetune", "aaa", reused=False))
    run.finish("finished")
    (file,) = logged.glob("wandb/offline-run-*/run-*.wandb")
    (trained,) = found(tmp_path, "artifact")
    student = offline.read(file)
    assert student is not None
    assert [(parent.name, parent.digest) for parent in student.parents] == [(trained.name, trained.digest)]
    assert sorted(trained.aliases) == sorted(["latest", trained.digest])


def test_a_failed_job_is_finished_as_failed(logged: Path) -> None:
    assert [record.exit_code for record in found(logged, "exit")] == [1]


def test_sigterm_finishes_the_run_as_killed(tmp_path: Path) -> None:
    code = f"""
        import time
        from modelpress.loggers.wandb import Wandb
        run = Wandb({str(tmp_path)!r})
        try:
            run.open().log({{"metric": 1}})
            print("ready", flush=True)
            time.sleep(60)
        finally:
            run.finish("killed")
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    assert [record.exit_code for record in found(tmp_path, "exit")] == [143]
    assert len(found(tmp_path, "history")) == 1


def test_a_second_run_of_the_process_is_a_run_of_its_own(tmp_path: Path) -> None:
    first, second = Wandb(tmp_path / "a"), Wandb(tmp_path / "b", log_artifacts=False)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        assert first.open() is first.open()
        assert first.open().id != second.open().id
        second.log_report(report(), run_folder(tmp_path / "job"))
    finally:
        second.finish("finished")
        first.finish("finished")
    assert [record.exit_code for record in found(tmp_path / "b", "exit")] == [0]
    assert {record.type for record in found(tmp_path / "b", "artifact")} == {"run_table"}
    assert signal.getsignal(signal.SIGTERM) is handler
    first.finish("finished")  # harmless when nothing is open


def test_auto_is_offline_without_a_key_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    with caplog.at_level("INFO"):
        assert effective_mode("auto") == "offline"
    assert "no API key" in caplog.text


def test_auto_is_online_with_a_key_and_a_server_that_answers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    with serving(StandIn()) as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        assert effective_mode("auto") == "online"
    assert effective_mode("auto") == "offline"
    assert f"This run is kept offline. The W&B server {url} cannot be reached" in caplog.text


def test_online_without_a_server_is_an_error_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    with pytest.raises(ModelPressError, match=r"127.0.0.1:9 cannot be reached .*logger\.wandb\.mode=offline"):
        Wandb(tmp_path, mode="online").open()


def test_a_refused_run_is_an_error_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    with serving(StandIn(status=401)) as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        with pytest.raises(ModelPressError, match=r"starts no run \(.*logger\.wandb\.mode=offline"):
            Wandb(tmp_path, mode="online").open()


@pytest.mark.parametrize("host", [*server.PUBLIC, "wandb.example.org"])
def test_a_key_in_netrc_is_found_under_every_name_of_the_server(
    host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = f"https://{server.PUBLIC[0] if host in server.PUBLIC else host}"
    assert not server.has_key(url)
    (tmp_path / "netrc").write_text(f"machine {host}\n  login user\n  password {'k' * 40}\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert server.has_key(url)
    assert not server.has_key("https://other.example.org")


def test_only_the_first_rank_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert effective_mode("offline") == "disabled"
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert effective_mode("offline") == "offline"


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match=r"logger\.wandb\.mode is 'ofline'.*Did you mean 'offline'"):
        Wandb(tmp_path, mode="ofline")
    with pytest.raises(ModelPressError, match="status is 'done'"):
        Wandb(tmp_path).finish("done")


def test_flat_rows_have_the_same_columns_whatever_was_measured() -> None:
    assert flat(row()).keys() == flat(row(latency_ms=None, speedup=None, metric_drop=None)).keys()


def test_a_report_without_a_verdict_has_no_figures() -> None:
    empty = report()
    empty.verdict = {"verdict": None, "row": None}
    assert headline(empty) == {"verdict": None, "complete": True}
