from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelpress.data.emoji import EmojiGroups, EmojiPairs
from modelpress.data.image_text import ImageText
from modelpress.data.image_text_module import ImageTextData
from modelpress.errors import ModelPressError
from tests.data.pictures import write_captions, write_preprocessor


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 images with a caption each, 20 of them with a second image."""
    path = write_captions(tmp_path_factory.mktemp("captioned"), 80)
    header, *lines = path.read_text().splitlines()
    lines[60:] = [f"images/{60 + i}.png,{line.split(',')[1]}" for i, line in enumerate(lines[:20])]
    path.write_text("\n".join([header, *lines]))
    return path


@pytest.fixture
def make(csv: Path, tokenizer_folder: Path, tmp_path: Path) -> Any:
    def make(dataset: Any = None, *, preprocess: dict[str, Any] | None = None, **options: Any) -> ImageTextData:
        dataset = dataset or ImageText(str(csv), **({"batch_size": 16, "eval_batch_size": 8} | options))
        folder = write_preprocessor(tmp_path / "model", tokenizer_folder, **(preprocess or {}))
        return dataset.datamodule(folder, seed=1, cache=tmp_path / "cache")  # type: ignore[no-any-return]

    return make


def test_training_pairs_are_the_files_and_no_caption_comes_twice(make: Any) -> None:
    data = make(views=2, crop=0.5)
    assert type(data) is ImageTextData
    rows, texts = data.rows("train", pairs=True), data.dataset.listing().texts
    seen = []
    for batch in data.train_dataloader():
        assert set(batch) == {"pixel_values", "input_ids", "labels", "index", "item"}
        assert len(set(batch["labels"].tolist())) == len(batch["labels"])
        for ids, index, label in zip(*(batch[k].tolist() for k in ("input_ids", "index", "labels")), strict=True):
            text = texts[rows.text[index]]
            assert [i for i in ids if i != data.tokenizer.pad_id] == data.tokenizer.encode([text]).item(0)[0]
            assert data.dataset.candidate_names("train")[label] == text
        seen += batch["index"].tolist()
    assert sorted(seen) == list(range(len(rows)))
    assert data.items == 2 * len(rows)


def test_captions_that_are_cut_are_mentioned_once(make: Any, csv: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However many data modules a run makes; one that reads less is another matter."""
    dataset = ImageText(str(csv), batch_size=16)
    for context in (4, 4, 3, 4):
        data = make(dataset, preprocess={"context_length": context})
        assert data.texts.lengths(np.arange(8)).max() == data.texts.wanted.context_length == context
    said = [record.message for record in caplog.records if "were cut" in record.message]
    assert [line.partition("than the ")[2][0] for line in said] == ["4", "3"]


def test_evaluation_shows_images_alone_and_prompts_are_their_candidates(make: Any) -> None:
    data = make()
    batches, prompts = list(data.test_dataloader()), data.prompts("test")
    assert set(batches[0]) == {"pixel_values", "labels", "index", "item"}
    assert set(prompts[0]) == {"input_ids", "labels"}
    owners = torch.cat([batch["labels"] for batch in prompts]).tolist()
    assert owners == list(range(len(data.labels)))
    assert {label for batch in batches for label in batch["labels"].tolist()} == set(owners)
    assert data.tokens_per_item == pytest.approx(data.texts.lengths(data.rows("train", pairs=True).text).mean())


def test_calibration_pairs_have_no_padding(make: Any) -> None:
    data = make(preprocess={"attention_mask": True})
    count = len(data.rows("calibration", pairs=True))
    batches = data.calibration(count)
    assert all(batch["attention_mask"].all() for batch in batches)
    assert sorted(i for batch in batches for i in batch["index"].tolist()) == list(range(count))
    fixed = make(preprocess={"pad": True}).calibration(count)
    assert [tuple(batch["input_ids"].shape) for batch in fixed] == [(count, 12)]


@pytest.mark.parametrize("pad", [False, True])
def test_inputs_for_engines(make: Any, pad: bool) -> None:
    data = make(preprocess={"pad": pad})
    found = data.workloads(["1x128"], 4)
    assert {tower: list(shapes) for tower, shapes in found.items()} == {
        "image": ["1x3x8x8"], "text": ["data"], "pair": ["data"]
    }  # fmt: skip
    assert found["pair"]["data"].keys() == found["image"]["1x3x8x8"].keys() | found["text"]["data"].keys()
    assert list(data.workloads(["1x3x8x8", "32x3x8x8"], 4)["image"]) == ["1x3x8x8", "32x3x8x8"]
    assert ("lengths" in found["text"]["data"]) is not pad
    assert all(len(array) == 4 for shapes in found.values() for arrays in shapes.values() for array in arrays.values())
    assert {tower: len(found) for tower, found in data.lengths().items()} == ({} if pad else {"text": data.items})
    evaluation = data.evaluation()
    assert len(evaluation["image"]["pixel_values"]) == len(data.rows("test"))
    assert evaluation["text"]["labels"].tolist() == list(range(len(data.labels)))
    prompts = torch.cat([batch["input_ids"][:, :4] for batch in data.prompts("test")]).numpy()
    assert np.array_equal(evaluation["text"]["input_ids"][:, :4], prompts)


def test_a_dual_encoder_sees_classes_by_their_prompts(make: Any) -> None:
    data = make(EmojiGroups(limit=8, templates=["a {}", "the {}"], batch_size=6), preprocess={"size": [4, 4]})
    assert (data.task, data.metric, len(data.labels)) == ("image-classification", "accuracy", 8)
    assert torch.cat([batch["labels"] for batch in data.prompts("validation")]).tolist() == [
        i for i in range(8) for _ in "ab"
    ]
    batch = next(iter(data.train_dataloader()))
    assert set(batch) == {"pixel_values", "input_ids", "labels", "index", "item"}
    assert list(data.evaluation()) == ["image", "text"]


def test_the_unseen_style_is_a_test_with_the_same_candidates(make: Any) -> None:
    data = make(EmojiPairs(limit=6), preprocess={"size": [4, 4]})
    assert data.extras == ["unseen_style"]
    test, unseen = (data.evaluation(split) for split in ("test", "unseen_style"))
    assert np.array_equal(test["text"]["input_ids"], unseen["text"]["input_ids"])
    assert sorted(set(test["image"]["labels"])) == sorted(set(unseen["image"]["labels"]))
    assert not np.array_equal(test["image"]["pixel_values"], unseen["image"]["pixel_values"])


def test_captions_need_a_model_that_reads_them(csv: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match="reads no text .*model=clip_tiny, or .*dataset=emoji_groups"):
        ImageText(str(csv)).datamodule(write_preprocessor(tmp_path), seed=1, cache=tmp_path)
