"""Loads a ``DatasetDict`` from a folder or the hub, and gives up in seconds, not half a minute, without a network."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modelpress.errors import ModelPressError

if TYPE_CHECKING:
    import datasets

BUILDERS = ("csv", "json", "parquet", "arrow", "text", "imagefolder", "webdataset")
PROBE_S = 3.0  # a hub that does not accept a connection in this time is treated as unreachable


def load(path: str, *, config: str | None, revision: str | None, data_files: Any) -> datasets.DatasetDict:
    """All splits. A lone ``Dataset`` folder counts as a train split."""
    import datasets

    folder = Path(path).expanduser()
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        found = datasets.load_from_disk(str(folder))
        return found if isinstance(found, datasets.DatasetDict) else datasets.DatasetDict(train=found)
    local = folder.exists() or path in BUILDERS
    _refuse_typos(path, folder, local)
    place = str(folder) if folder.exists() else path
    online = local or reachable(datasets.config.HF_ENDPOINT)
    try:
        with _offline(not online):
            loaded = datasets.load_dataset(place, config, revision=revision, data_files=data_files)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise ModelPressError(_explain(path, online, error)) from error
    assert isinstance(loaded, datasets.DatasetDict)
    return loaded


def _refuse_typos(path: str, folder: Path, local: bool) -> None:
    if folder.is_file():
        raise ModelPressError(
            f"dataset.path {path} is a file: use dataset=csv for a file, dataset=hf for a folder or hub id"
        )
    if not local and (path.startswith(("/", "./", "../", "~")) or path.count("/") > 1):
        raise ModelPressError(f"dataset.path {path} is no folder here, and no hub id (owner/name) either")


def _explain(path: str, online: bool, error: Exception) -> str:
    if online:
        return f"{path} cannot be loaded: {error}"
    return (
        f"{path} is not in the local cache of datasets, and the hub cannot be reached (no network, or HF_HUB_OFFLINE "
        f"is set): {error}; connect, load it once where there is a network, or give a local folder as dataset.path"
    )


def reachable(endpoint: str) -> bool:
    """Whether the hub accepts a TCP connection. Behind a proxy the answer is left to the proxy: ``True``.

    Without this ``datasets`` retries for 25 s before it says that there is no network.
    """
    import datasets

    if datasets.config.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    url = urlsplit(endpoint)
    try:
        with socket.create_connection((url.hostname or "", url.port or 443), timeout=PROBE_S):
            return True
    except OSError:
        return False


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """Make ``datasets`` look only into its cache, as HF_HUB_OFFLINE would have done before it was imported."""
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or wanted
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before
