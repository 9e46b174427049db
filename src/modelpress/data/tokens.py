"""The token cache: every split tokenized once, as Arrow files that are mapped into memory. Torch-free."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modelpress.data.base import SPLITS
from modelpress.data.hashing import digest, file_sha256, source_sha256
from modelpress.errors import ModelPressError

if TYPE_CHECKING:
    from modelpress.data.text import TextDataset
    from modelpress.data.tokenizer import TextTokenizer

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
TRUNCATED_SHARE = 0.1  # of the training items, from which truncation is worth a warning


@dataclass(frozen=True)
class Tokens:
    """One split, items end to end: item i owns ``[offsets[i]:offsets[i + 1]]`` of the flat arrays."""

    input_ids: NDArray[np.int32]  # (T,)
    token_type_ids: NDArray[np.int8]  # (T,)
    offsets: NDArray[np.int64]  # (n + 1,)
    labels: NDArray[np.int64]  # (n,)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each item, special tokens included: (n,)."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.labels)


class TokenCache:
    """``<root>/tokens-<key>/``: one Arrow file per split and a manifest with their checksums.

    The key covers the dataset's content, the tokenizer, ``max_length`` and the code that tokenizes. A folder appears
    whole or not at all, so processes may race for it; a file that does not match its checksum is written again.
    """

    def __init__(self, dataset: TextDataset, tokenizer: TextTokenizer, root: Path) -> None:
        self.dataset, self.tokenizer, self.root = dataset, tokenizer, root
        code = source_sha256("modelpress.data.tokenizer", "modelpress.data.tokens")
        self.key = digest(dataset.content(), tokenizer.fingerprint(), dataset.max_length, code)
        self.folder = root / f"tokens-{self.key[:32]}"

    def ensure(self) -> None:
        """Tokenize unless an intact folder is there."""
        if self._intact():
            return
        if self.folder.exists():
            log.warning("The token cache %s is damaged: tokenizing again.", self.folder)
        try:
            self._write()
        except OSError as error:
            raise ModelPressError(f"cannot write the token cache in {self.root}: {error.strerror or error}") from error

    def split(self, name: str) -> Tokens:
        """One split, mapped from disk: pages are read when they are used and shared by all processes."""
        import pyarrow as pa

        table = pa.ipc.open_file(pa.memory_map(str(self._file(name)))).read_all()
        ids, kinds, labels = (table.column(c).chunk(0) for c in ("input_ids", "token_type_ids", "label"))
        return Tokens(*(array.to_numpy() for array in (ids.values, kinds.values, ids.offsets, labels)))

    def tokens_per_item(self, split: str) -> float | None:
        """Mean tokens of an item, special tokens included; ``None`` where nothing is cached yet."""
        facts = self._manifest().get(split)
        return None if facts is None else facts["tokens"] / facts["items"]

    def _file(self, split: str) -> Path:
        return self.folder / f"{split}.arrow"

    def _manifest(self) -> dict[str, Any]:
        try:
            manifest = json.loads((self.folder / MANIFEST).read_text())
        except (OSError, ValueError):
            return {}
        return manifest if isinstance(manifest, dict) else {}

    def _intact(self) -> bool:
        manifest = self._manifest()
        return all(
            self._file(split).is_file() and file_sha256(self._file(split)) == manifest.get(split, {}).get("sha256")
            for split in SPLITS
        )

    def _write(self) -> None:
        started = time.perf_counter()
        draft = self.root / f".draft-{uuid.uuid4().hex}"
        draft.mkdir(parents=True)
        try:
            manifest = {split: self._write_split(draft, split) for split in SPLITS}
            (draft / MANIFEST).write_text(json.dumps(manifest))
            self._publish(draft)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        items = sum(facts["items"] for facts in manifest.values())
        log.info("Tokenized %d texts in %.1f s.", items, time.perf_counter() - started)

    def _publish(self, draft: Path) -> None:
        if self.folder.exists() and not self._intact():
            shutil.rmtree(self.folder)
        try:
            draft.rename(self.folder)
        except OSError:
            if not self._intact():  # otherwise another process was first, with the same content
                raise

    def _write_split(self, folder: Path, split: str) -> dict[str, Any]:
        rows = self.dataset.split(split)
        pairs = rows["text_pair"].tolist() if len(rows) and rows["text_pair"].notna().all() else None
        encoded = self.tokenizer.encode(rows["text"].tolist(), pairs, self.dataset.max_length)
        if split == "train" and encoded.truncated > TRUNCATED_SHARE * len(encoded):
            log.warning(
                "%d of %d training texts are longer than %d tokens and were cut: dataset.max_length decides",
                *(encoded.truncated, len(encoded), self.dataset.max_length),
            )
        file = folder / f"{split}.arrow"
        tokens = Tokens(encoded.input_ids, encoded.token_type_ids, encoded.offsets, rows["label"].to_numpy(np.int64))
        write_arrow(file, tokens)
        facts = {"items": len(encoded), "tokens": len(encoded.input_ids), "truncated": encoded.truncated}
        return facts | {"sha256": file_sha256(file)}


def write_arrow(file: Path, tokens: Tokens) -> None:
    """One record batch (so that reading needs no copy): lists of ids, lists of token types, labels; synced to disk."""
    import pyarrow as pa

    columns = {
        "input_ids": pa.LargeListArray.from_arrays(tokens.offsets, pa.array(tokens.input_ids)),
        "token_type_ids": pa.LargeListArray.from_arrays(tokens.offsets, pa.array(tokens.token_type_ids)),
        "label": pa.array(tokens.labels),
    }
    batch = pa.record_batch(list(columns.values()), names=list(columns))
    with file.open("wb") as sink:
        with pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        sink.flush()
        os.fsync(sink.fileno())
