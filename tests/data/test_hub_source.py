from __future__ import annotations

import socket
import time
from pathlib import Path

import datasets
import pytest

from modelpress.data import hub_source
from modelpress.data.hub_source import load, reachable
from modelpress.errors import ModelPressError

PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def get(path: str) -> datasets.DatasetDict:
    return load(path, config=None, revision=None, data_files=None)


def test_offline_mode_fails_at_once_and_says_what_to_do() -> None:
    start = time.perf_counter()
    with pytest.raises(ModelPressError, match=r"owner/name is not in the local cache.*HF_HUB_OFFLINE.*local folder"):
        get("owner/name")
    assert time.perf_counter() - start < 5


def test_without_a_network_it_gives_up_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> socket.socket:
        raise socket.gaierror(-2, "Name or service not known")

    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_source.socket, "create_connection", refuse)
    start = time.perf_counter()
    with pytest.raises(ModelPressError, match="the hub cannot be reached"):
        get("owner/name")
    assert time.perf_counter() - start < 5
    assert datasets.config.HF_HUB_OFFLINE is False


def test_reachable_asks_the_endpoint_itself_unless_a_proxy_stands_between(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert not reachable(endpoint)  # HF_HUB_OFFLINE is set in tests
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        assert reachable(endpoint)
    assert not reachable(endpoint)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    assert reachable(endpoint)


def test_what_is_no_folder_and_no_hub_id(tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match="is no folder here, and no hub id"):
        get(str(tmp_path / "nowhere"))
    (tmp_path / "a.csv").write_text("text,label\n")
    with pytest.raises(ModelPressError, match="is a file: use dataset=csv"):
        get(str(tmp_path / "a.csv"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelPressError, match="empty cannot be loaded"):
        get(str(tmp_path / "empty"))
