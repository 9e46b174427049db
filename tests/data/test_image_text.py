from __future__ import annotations

import logging
from pathlib import Path

import pytest

from modelpress.data.base import SPLITS
from modelpress.data.image_text import ImageText, kind_of
from modelpress.errors import ModelPressError
from tests.data.pictures import write_captions, write_picture


def test_splits_drawn_by_hash_never_share_a_caption(tmp_path: Path) -> None:
    csv = write_captions(tmp_path)
    lines = csv.read_text().splitlines()
    csv.write_text(
        "\n".join([*lines, *(line.replace(f"{i}.png", f"{i + 1}.png") for i, line in enumerate(lines[1:31]))])
    )
    data = ImageText(str(csv))
    texts = data.listing().texts
    said = {split: {texts[i] for i in data.pairs(split).text} for split in SPLITS}
    shown = {split: set(data.images(split).image) for split in SPLITS}
    assert len(set.union(*said.values())) == sum(map(len, said.values())) == 60
    assert len(set.union(*shown.values())) == sum(map(len, shown.values())) == 60
    assert all(len(data.candidates(split)) >= 2 for split in ("train", "validation", "test"))
    assert "drawn by sha256 of the caption" in data.describe()["splitting"]


def test_the_order_of_the_file_does_not_matter(tmp_path: Path) -> None:
    csv = write_captions(tmp_path)
    texts = ImageText(str(csv)).prompt_texts("test")
    header, *lines = csv.read_text().splitlines()
    csv.write_text("\n".join([header, *lines[::-1]]))
    assert sorted(ImageText(str(csv)).prompt_texts("test")) == sorted(texts)
    assert sorted(ImageText(str(csv), split_seed=1).prompt_texts("test")) != sorted(texts)


def given(tmp_path: Path, rows: list[str]) -> ImageText:
    for name in {row.split(",")[0] for row in rows}:
        write_picture(tmp_path / name, hash(name) % 1000)
    (tmp_path / "t.csv").write_text("path,caption,split\n" + "\n".join(rows) + "\n")
    return ImageText(str(tmp_path / "t.csv"))


def test_captions_that_share_an_image_are_one_candidate(tmp_path: Path) -> None:
    rows = [f"{i}.png,cat {i},train" for i in range(12)]
    rows += ["a.png,a fox,test", "a.png,red fox,test", "b.png,red fox,test", "c.png,a cow,test"]
    data = given(tmp_path, rows)
    assert data.labels == data.candidate_names("test") == ["a fox", "a cow"]
    assert (len(data.pairs("test")), len(data.images("test"))) == (4, 3)
    assert data.images("test").labels.tolist() == [0, 0, 1]
    assert (data.prompt_texts("test"), data.prompts("test")[1].tolist()) == (["a fox", "red fox", "a cow"], [0, 0, 1])
    assert data.label_counts("test") == {"a fox": 2, "a cow": 1}
    assert {split: len(data.candidates(split)) for split in SPLITS} == {
        "train": 8, "calibration": 2, "validation": 2, "test": 2
    }  # fmt: skip


def test_a_caption_in_train_and_test_is_worth_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [f"{i}.png,cat {i},train" for i in range(12)] + ["a.png,cat 3,test", "b.png,a cow,test"]
    with caplog.at_level(logging.WARNING):
        data = given(tmp_path, rows)
        assert len(data.images("test")) == 2
    assert "1 of 2 captions or images of test also stand in train" in caplog.text


def test_missing_images_up_to_the_limit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    csv = write_captions(tmp_path)
    (tmp_path / "images/2.png").unlink()
    with caplog.at_level(logging.WARNING):
        assert ImageText(str(csv), max_bad_share=0.02).describe()["missing_images"] == 1
    assert "1 images are left out, the first: captions.csv, line 4: images/2.png does not exist" in caplog.text
    with pytest.raises(
        ModelPressError, match=r"at least 1 of 60 images cannot be read, .*captions.csv, line 4: images/2"
    ):
        ImageText(str(csv)).listing()


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    csv = write_captions(tmp_path)
    csv.rename(tmp_path / "images" / "captions.csv")
    with pytest.raises(
        ModelPressError, match=r"60 of 60 .*line 2: images/0.png does not exist .*dataset.root.*55 more"
    ):
        ImageText(str(tmp_path / "images" / "captions.csv")).listing()


def test_content_and_options_in_the_fingerprint(tmp_path: Path) -> None:
    csv = write_captions(tmp_path)
    plain = ImageText(str(csv))
    assert plain.fingerprint() == ImageText(str(csv), num_workers=2).fingerprint()
    for options in (
        {"views": 2},
        {"crop": 0.5},
        {"augment_seed": 1},
        {"batch_size": 5},
        {"jitter": 0.1},
        {"flip": True},
    ):
        other = ImageText(str(csv), **options)  # type: ignore[arg-type]
        assert other.fingerprint() != plain.fingerprint()
        assert other.content() == plain.content()
    assert ImageText(str(csv), limit=9).content() != plain.content()


def test_too_little_data(tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match="5 different captions are too few"):
        ImageText(str(write_captions(tmp_path, 5))).listing()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"format": "zip"}, "dataset.format is 'zip'; allowed: 'table', 'webdataset', 'hub'"),
        ({"crop": 0}, "dataset.crop is 0; allowed: a share of the area above 0"),
        ({"jitter": 2}, "dataset.jitter is 2; allowed: a number from 0 to 1"),
        ({"views": 0}, "dataset.views is 0; allowed: a whole number, 1 or more"),
        ({"max_bad_share": "5%"}, "dataset.max_bad_share is '5%'; allowed: a number from 0 to 1"),
    ],
)
def test_wrong_options(option: dict[str, object], message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        ImageText("a.csv", **option)  # type: ignore[arg-type]


def test_the_kind_of_a_path(tmp_path: Path) -> None:
    assert kind_of(str(tmp_path)) == "hub"
    (tmp_path / "a.tar").touch()
    assert [kind_of(path) for path in (str(tmp_path), "a/*.tar", "b.parquet", "owner/name")] == [
        "webdataset", "webdataset", "table", "hub"
    ]  # fmt: skip
