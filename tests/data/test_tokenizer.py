from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from modelpress.data import tokenizer
from modelpress.data.tokenizer import TextTokenizer
from modelpress.errors import ModelPressError

TEXTS = [
    "A charming film.",
    "",
    "naïve café, 3½ stars — “wow”! 日本",
    "it's " * 100,
    "unbelievably antidisestablishmentarian [SEP] tokens\tand\nlines",
]
PAIRS = ["Yes.", "no " * 90, "it is not " * 40, "short", "the other side of it"]


@pytest.mark.parametrize("max_length", [16, 33, 128])
@pytest.mark.parametrize("paired", [False, True])
def test_same_ids_as_auto_tokenizer(minilm_tokenizer: Path, max_length: int, paired: bool) -> None:
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(minilm_tokenizer, local_files_only=True)
    pairs = PAIRS if paired else None
    wanted = reference(TEXTS, pairs, truncation=True, max_length=max_length, return_token_type_ids=True)
    found = TextTokenizer(minilm_tokenizer).encode(TEXTS, pairs, max_length)
    assert [found.item(i)[0] for i in range(len(TEXTS))] == wanted["input_ids"]
    assert [found.item(i)[1] for i in range(len(TEXTS))] == wanted["token_type_ids"]
    assert TextTokenizer(minilm_tokenizer).pad_id == reference.pad_token_id


def test_its_own_padding_and_truncation_are_not_obeyed(tokenizer_folder: Path) -> None:
    words = TextTokenizer(tokenizer_folder)
    encoded = words.encode(["a good film is the plot", "bad"], max_length=6)
    assert encoded.lengths.tolist() == [6, 3]
    assert encoded.item(1) == ([1, 6, 2], [0, 0, 0])
    assert (words.pad_id, encoded.truncated, words.frame(), words.vocabulary) == (3, 1, ([1], [2]), 24)


def test_chunks_join_without_a_seam(tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{'good ' * (i % 5)}film" for i in range(20)]
    whole = TextTokenizer(tokenizer_folder).encode(texts)
    monkeypatch.setattr(tokenizer, "CHUNK", 3)
    pieces = TextTokenizer(tokenizer_folder).encode(texts)
    assert [pieces.item(i) for i in range(20)] == [whole.item(i) for i in range(20)]


def test_nothing_to_encode(tokenizer_folder: Path) -> None:
    assert len(TextTokenizer(tokenizer_folder).encode([])) == 0


def test_the_fingerprint_follows_the_file(tokenizer_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tokenizer_folder, copy)
    before = TextTokenizer(copy).fingerprint()
    assert before == TextTokenizer(tokenizer_folder).fingerprint()
    changed = (copy / "tokenizer.json").read_text().replace('"good"', '"great"')
    (copy / "tokenizer.json").write_text(changed)
    assert TextTokenizer(copy).fingerprint() != before


def test_folders_without_a_usable_tokenizer(tokenizer_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match=r"no tokenizer.json in"):
        TextTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelPressError, match="is not a tokenizer file"):
        TextTokenizer(tmp_path)
    stored = json.loads((tokenizer_folder / "tokenizer.json").read_text().replace("[PAD]", "[NIL]"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored | {"padding": None}))
    with pytest.raises(ModelPressError, match="no padding token"):
        TextTokenizer(tmp_path)
