"""Text to token ids with the Rust ``tokenizers`` library alone: the same ids as ``AutoTokenizer``. Torch-free."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelpress.data.hashing import digest, file_sha256
from modelpress.errors import ModelPressError

CHUNK = 4096  # items encoded at once: the library's own objects are large
PAD_SPELLINGS = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>", "</s>")


@dataclass(frozen=True)
class Encoded:
    """Items end to end: item i owns ``[offsets[i]:offsets[i + 1]]`` of the flat arrays."""

    input_ids: NDArray[np.int32]  # (T,)
    token_type_ids: NDArray[np.int8]  # (T,)
    offsets: NDArray[np.int64]  # (n + 1,)
    truncated: int  # items that lost tokens

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each item, special tokens included: (n,)."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def item(self, i: int) -> tuple[list[int], list[int]]:
        """``(input_ids, token_type_ids)`` of item i."""
        part = slice(self.offsets[i], self.offsets[i + 1])
        return self.input_ids[part].tolist(), self.token_type_ids[part].tolist()


class TextTokenizer:
    """The tokenizer in ``folder`` (``tokenizer.json``, and the pad token as the other files name it).

    Truncation and padding stored in ``tokenizer.json`` are ignored: the caller decides.
    """

    def __init__(self, folder: Path | str) -> None:
        from tokenizers import Tokenizer

        # unset, the library warns at every fork of a loader worker; the workers never tokenize
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        self.folder = Path(folder)
        self._file = self.folder / "tokenizer.json"
        if not self._file.is_file():
            raise ModelPressError(
                f"no tokenizer.json in {folder}; write one with "
                "transformers.AutoTokenizer.from_pretrained(<name>).save_pretrained(<folder>)"
            )
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(self._file))
        except Exception as error:  # the Rust library raises bare Exception
            raise ModelPressError(f"{self._file} is not a tokenizer file: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.pad_id = self._pad_id()

    def _pad_id(self) -> int:
        named = [_pad_token(self.folder / name) for name in ("tokenizer_config.json", "special_tokens_map.json")]
        stored = (json.loads(self._file.read_text(encoding="utf-8")).get("padding") or {}).get("pad_token")
        for token in (*named, stored, *PAD_SPELLINGS):
            index = None if token is None else self._tokenizer.token_to_id(token)
            if index is not None:
                return int(index)
        raise ModelPressError(
            f"the tokenizer in {self.folder} has no padding token; set pad_token in tokenizer_config.json"
        )

    @property
    def vocabulary(self) -> int:
        """Number of tokens, added ones included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def fingerprint(self) -> str:
        """sha256 over ``tokenizer.json`` and the padding token."""
        return digest(file_sha256(self._file), self.pad_id)

    def frame(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after a single text: ``([CLS], [SEP])`` for BERT."""
        self._tokenizer.no_truncation()
        encoding = self._tokenizer.encode("a")
        text = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
        return encoding.ids[: text[0]], encoding.ids[text[-1] + 1 :]

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None, max_length: int = 128) -> Encoded:
        """Token ids of every text or pair, special tokens added, at most ``max_length`` each.

        The longer text of a pair loses tokens first (longest_first), as ``AutoTokenizer(truncation=True)`` does.
        """
        self._tokenizer.enable_truncation(max_length, strategy="longest_first")
        inputs: list[Any] = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        chunks = [self._chunk(inputs[start : start + CHUNK]) for start in range(0, len(inputs), CHUNK)]
        lengths = [np.zeros(1, dtype=np.int64), *[chunk[2] for chunk in chunks]]
        return Encoded(
            np.concatenate([np.zeros(0, dtype=np.int32), *[chunk[0] for chunk in chunks]]),
            np.concatenate([np.zeros(0, dtype=np.int8), *[chunk[1] for chunk in chunks]]),
            np.cumsum(np.concatenate(lengths)),
            sum(chunk[3] for chunk in chunks),
        )

    def _chunk(self, inputs: list[Any]) -> tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.int64], int]:
        encodings = self._tokenizer.encode_batch(inputs)
        return (
            np.concatenate([np.asarray(e.ids, dtype=np.int32) for e in encodings]),
            np.concatenate([np.asarray(e.type_ids, dtype=np.int8) for e in encodings]),
            np.asarray([len(e.ids) for e in encodings], dtype=np.int64),
            sum(bool(e.overflowing) for e in encodings),
        )


def _pad_token(file: Path) -> str | None:
    """``pad_token`` of a json file: a string, or an object with ``content``."""
    if not file.is_file():
        return None
    token: Any = json.loads(file.read_text(encoding="utf-8")).get("pad_token")
    content: str | None = token["content"] if isinstance(token, dict) else token
    return content
