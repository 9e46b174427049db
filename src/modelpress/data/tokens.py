"""The token cache: every split tokenized once, as Arrow files that are mapped into memory. Torch-free."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from modelpress.data.base import SPLITS
from modelpress.data.cache import FolderCache
from modelpress.data.hashing import digest, source_sha256

if TYPE_CHECKING:
    from modelpress.data.text import TextDataset
    from modelpress.data.tokenizer import TextTokenizer

log = logging.getLogger(__name__)

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


class TokenCache(FolderCache):
    """``<root>/tokens-<key>/``: one Arrow file per split.

    The key covers the dataset's content, the tokenizer, ``max_length`` and the code that tokenizes.
    """

    kind: ClassVar[str] = "tokens"
    making: ClassVar[str] = "tokenizing"

    def __init__(self, dataset: TextDataset, tokenizer: TextTokenizer, root: Path) -> None:
        self.dataset, self.tokenizer = dataset, tokenizer
        code = source_sha256("modelpress.data.tokenizer", "modelpress.data.tokens")
        super().__init__(root, digest(dataset.content(), tokenizer.fingerprint(), dataset.max_length, code))

    @property
    def files(self) -> list[str]:
        """``train.arrow`` and so on."""
        return [f"{split}.arrow" for split in SPLITS]

    def split(self, name: str) -> Tokens:
        """One split, mapped from disk: pages are read when they are used and shared by all processes."""
        import pyarrow as pa

        table = pa.ipc.open_file(pa.memory_map(str(self.folder / f"{name}.arrow"))).read_all()
        ids, kinds, labels = (table.column(c).chunk(0) for c in ("input_ids", "token_type_ids", "label"))
        return Tokens(*(array.to_numpy() for array in (ids.values, kinds.values, ids.offsets, labels)))

    def tokens_per_item(self, split: str) -> float | None:
        """Mean tokens of an item, special tokens included; ``None`` where nothing is cached yet."""
        facts = self.facts(f"{split}.arrow")
        return facts["tokens"] / facts["items"] if facts else None

    def _fill(self, folder: Path) -> dict[str, dict[str, Any]]:
        started = time.perf_counter()
        manifest = {f"{split}.arrow": self._write_split(folder, split) for split in SPLITS}
        items = sum(facts["items"] for facts in manifest.values())
        log.info("Tokenized %d texts in %.1f s.", items, time.perf_counter() - started)
        return manifest

    def _write_split(self, folder: Path, split: str) -> dict[str, Any]:
        rows = self.dataset.split(split)
        pairs = rows["text_pair"].tolist() if len(rows) and rows["text_pair"].notna().all() else None
        encoded = self.tokenizer.encode(rows["text"].tolist(), pairs, self.dataset.max_length)
        if split == "train" and encoded.truncated > TRUNCATED_SHARE * len(encoded):
            log.warning(
                "%d of %d training texts are longer than %d tokens and were cut: dataset.max_length decides",
                *(encoded.truncated, len(encoded), self.dataset.max_length),
            )
        tokens = Tokens(encoded.input_ids, encoded.token_type_ids, encoded.offsets, rows["label"].to_numpy(np.int64))
        write_arrow(folder / f"{split}.arrow", tokens)
        return {"items": len(encoded), "tokens": len(encoded.input_ids), "truncated": encoded.truncated}


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
