"""A folder of derived files under a content key, made once and checked whenever it is opened. Torch-free."""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from modelpress.data.hashing import file_sha256
from modelpress.errors import ModelPressError

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"


class FolderCache(ABC):
    """``<root>/<kind>-<key>/``: data files and a manifest, file name -> facts, of which ``sha256`` is one.

    A folder appears whole or not at all, so processes may race for it; a file that does not match its checksum is
    written again.
    """

    kind: ClassVar[str]  # begins the name of the folder
    making: ClassVar[str]  # what is done to fill it: "tokenizing"

    def __init__(self, root: Path, key: str) -> None:
        self.root, self.key = root, key
        self.folder = root / f"{self.kind}-{key[:32]}"

    @property
    @abstractmethod
    def files(self) -> Iterable[str]:
        """Names of the files that belong to it."""

    @abstractmethod
    def _fill(self, folder: Path) -> dict[str, dict[str, Any]]:
        """Write every file into ``folder``; what the manifest says about each of them, without the checksum."""

    def ensure(self) -> None:
        """Fill it unless an intact folder is there."""
        if self._intact():
            return
        if self.folder.exists():
            log.warning("The cache %s is damaged: %s again.", self.folder, self.making)
        try:
            self._write()
        except OSError as error:
            raise ModelPressError(f"cannot write the cache in {self.root}: {error.strerror or error}") from error

    def facts(self, file: str) -> dict[str, Any]:
        """What the manifest says about one file; nothing where nothing is cached yet."""
        found = self._manifest().get(file, {})
        return found if isinstance(found, dict) else {}

    def _manifest(self) -> dict[str, Any]:
        try:
            manifest = json.loads((self.folder / MANIFEST).read_text())
        except (OSError, ValueError):
            return {}
        return manifest if isinstance(manifest, dict) else {}

    def _intact(self) -> bool:
        paths = {name: self.folder / name for name in self.files}
        return all(p.is_file() and file_sha256(p) == self.facts(name).get("sha256") for name, p in paths.items())

    def _write(self) -> None:
        draft = self.root / f".draft-{uuid.uuid4().hex}"
        draft.mkdir(parents=True)
        try:
            manifest = self._fill(draft)
            sums = {name: facts | {"sha256": file_sha256(draft / name)} for name, facts in manifest.items()}
            (draft / MANIFEST).write_text(json.dumps(sums))
            self._publish(draft)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _publish(self, draft: Path) -> None:
        if self.folder.exists() and not self._intact():
            shutil.rmtree(self.folder)
        try:
            draft.rename(self.folder)
        except OSError:
            if not self._intact():  # otherwise another process was first, with the same content
                raise
