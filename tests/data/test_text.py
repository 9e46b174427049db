from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from modelpress.data import text
from modelpress.data.text import TextDataset
from modelpress.errors import ModelPressError


class Given(TextDataset):
    """Rows that a test writes down: (text, label, split)."""

    def __init__(self, rows: list[tuple[str, int, str]], labels: list[str], **options: Any) -> None:
        super().__init__("given", **options)
        self.rows, self._labels = rows, labels

    @property
    def labels(self) -> list[str]:
        return self._labels

    def _read(self) -> pd.DataFrame:
        frame = pd.DataFrame(self.rows, columns=["text", "label", "split"])
        return frame.assign(text_pair=pd.Series([None] * len(frame), dtype=object))

    def _content(self) -> list[object]:
        return [self.rows]

    def _origin(self) -> dict[str, Any]:
        return {"source": "a test"}


SPLITS = ("train", "calibration", "validation", "test")
ROWS = [(f"{split} {i}", i % 2, split) for split in SPLITS for i in range(6)]


def test_split_numbers_its_rows_from_zero() -> None:
    rows = Given(ROWS, ["no", "yes"]).split("test")
    assert rows.index.tolist() == list(range(6))
    assert rows["text"].tolist() == [f"test {i}" for i in range(6)]


def test_describe_counts_each_split() -> None:
    facts = Given(ROWS, ["no", "yes"]).describe()
    assert facts["splits"] == dict.fromkeys(SPLITS, 6)
    assert facts["label_counts"]["train"] == {"no": 3, "yes": 3}
    assert facts["source"] == "a test"


@pytest.mark.parametrize(
    ("option", "changes_content", "changes_fingerprint"),
    [
        ({"limit": 4}, True, True),
        ({"max_length": 64}, False, True),
        ({"batch_size": 16}, False, True),
        ({"pad_to_multiple": 1}, False, True),
        ({"eval_batch_size": 7}, False, False),
        ({"num_workers": 2}, False, False),
    ],
)
def test_fingerprints_follow_the_options(
    option: dict[str, int], changes_content: bool, changes_fingerprint: bool
) -> None:
    plain, other = Given(ROWS, ["no", "yes"]), Given(ROWS, ["no", "yes"], **option)
    assert (plain.content() != other.content()) == changes_content
    assert (plain.fingerprint() != other.fingerprint()) == changes_fingerprint
    assert plain.fingerprint() == Given(ROWS, ["no", "yes"]).fingerprint()


def test_the_reading_code_is_part_of_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Given(ROWS, ["no", "yes"]).fingerprint()
    monkeypatch.setattr(text, "source_sha256", lambda *modules: f"edited {modules}")
    assert Given(ROWS, ["no", "yes"]).fingerprint() != before


@pytest.mark.parametrize(
    ("option", "value"), [("max_length", 3), ("batch_size", 0), ("num_workers", -1), ("limit", True), ("limit", "10")]
)
def test_options_out_of_range_name_themselves(option: str, value: object) -> None:
    with pytest.raises(ModelPressError, match=f"dataset.{option} is {value!r}"):
        Given(ROWS, ["no", "yes"], **{option: value})


def test_an_empty_split_is_an_error() -> None:
    with pytest.raises(ModelPressError, match="split 'validation' has no rows"):
        Given([row for row in ROWS if row[2] != "validation"], ["no", "yes"]).table()


def test_one_class_in_train_is_an_error() -> None:
    with pytest.raises(ModelPressError, match=r"all training rows are labelled \['no'\]"):
        Given([row for row in ROWS if row[2] != "train" or row[1] == 0], ["no", "yes"]).table()


def test_a_class_that_train_lacks_is_an_error_or_with_limit_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    rows = [*ROWS, ("strange", 2, "test")]
    with pytest.raises(ModelPressError, match=r"\['odd'\] appear in other splits but never in train"):
        Given(rows, ["no", "yes", "odd"]).table()
    with caplog.at_level(logging.WARNING):
        Given(rows, ["no", "yes", "odd"], limit=6).table()
    assert "split 'train' has no row of ['odd']" in caplog.text


def test_imbalance_absence_and_leaks_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    rows = [r for r in ROWS if r[2] != "test"] + [("train 1", 1, "test")] + [(f"t{i}", 0, "train") for i in range(60)]
    with caplog.at_level(logging.WARNING):
        Given(rows, ["no", "yes"]).table()
    assert "the largest class has 63 training rows, the smallest 3" in caplog.text
    assert "split 'test' has no row of ['no']" in caplog.text
    assert "1 of 1 test texts also stand in train" in caplog.text


def test_a_good_table_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(Given(ROWS, ["no", "yes"]).table()) == 24
    assert caplog.text == ""


def test_mean_tokens_are_known_once_tokenized_and_need_no_torch(
    reviews_csv: str, tokenizer_folder: Path, tmp_path: Path
) -> None:
    code = f"""
import sys
from pathlib import Path
from modelpress.data.tables import Table
from modelpress.data.tokenizer import TextTokenizer
from modelpress.data.tokens import TokenCache
data, tokenizer, cache = Table({reviews_csv!r}), Path({str(tokenizer_folder)!r}), Path({str(tmp_path)!r})
print(data.tokens_per_item(tokenizer, cache))
TokenCache(data, TextTokenizer(tokenizer), cache).ensure()
print(data.tokens_per_item(tokenizer, cache) > 5, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["None", "True", "False"]
