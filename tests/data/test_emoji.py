from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelpress.data import emoji
from modelpress.data.base import SPLITS
from modelpress.data.emoji import Emoji, EmojiGroups, EmojiPairs
from modelpress.data.images import decode
from modelpress.deploying.files.pictures import to_rgb
from modelpress.errors import ModelPressError
from tests.data.pictures import wanted


@pytest.fixture(scope="module")
def pairs() -> EmojiPairs:
    return EmojiPairs()


def test_no_concept_is_in_two_splits(pairs: EmojiPairs) -> None:
    names = {split: set(pairs.candidate_names(split)) for split in SPLITS}
    assert [len(names[split]) for split in SPLITS] == [916, 120, 101, 279]
    assert len(set.union(*names.values())) == sum(map(len, names.values())) == 1416
    for split in SPLITS:
        names_of = pairs.listing().pictures.name
        shown = {emoji.concept_of(names_of(i).rpartition(" (")[0]) for i in pairs.images(split).image}
        assert shown == names[split]


def test_variants_of_a_person_are_one_concept() -> None:
    same = ["farmer", "man farmer", "woman farmer"], ["person biking", "man biking", "woman biking"]
    same += (["person walking: facing right", "woman walking"], ["man: beard", "woman: beard"], ["man", "woman"])
    same += (["Santa Claus", "Mrs. Claus", "Mx Claus"], ["old man", "older person"], ["mermaid", "merperson"])
    for labels in same:
        assert len({emoji.concept_of(label) for label in labels}) == 1
    assert emoji.concept_of("mountain biking") != emoji.concept_of("man biking")


def test_the_unseen_style_shows_the_concepts_of_the_test(pairs: EmojiPairs) -> None:
    assert pairs.extras == ["unseen_style"]
    assert pairs.candidate_names("unseen_style") == pairs.candidate_names("test") == pairs.labels
    pictures, found = pairs.listing().pictures, pairs.images("unseen_style")
    assert all(pictures.name(i).endswith("(openmoji)") for i in found.image)
    assert set(found.labels) == set(pairs.images("test").labels) == set(range(279))
    assert not any("openmoji" in pictures.name(i) for split in SPLITS for i in pairs.images(split).image)
    assert [name for name in pairs.describe()["splits"]] == [
        *("train", "calibration"),
        "validation",
        "test",
        "unseen_style",
    ]


def test_labels_count_the_candidates_of_the_split(pairs: EmojiPairs) -> None:
    found = pairs.images("validation")
    names, pictures = pairs.candidate_names("validation"), pairs.listing().pictures
    for image, label in list(zip(found.image, found.labels, strict=True))[::40]:
        assert emoji.concept_of(pictures.name(image).rpartition(" (")[0]) == names[label]
    numbers, owners = pairs.prompts("validation")
    assert set(owners) == set(range(len(names)))
    assert [emoji.concept_of(pairs.listing().texts[i].split(":")[0]) for i in numbers[:3]] == names[:3]


def test_what_is_named_in_the_code_is_what_lies_in_the_files(pairs: EmojiPairs) -> None:
    records, ambiguous = pairs._records, set()
    concepts = [emoji.concept_of(record["label"]) for record in records]
    for file, styles in emoji.STYLES.items():
        found = emoji.read_styles(emoji.FOLDER / file)
        assert tuple(found) == styles
        for style, images in found.items():
            assert images.shape == (len(records), 64, 64, 4)
            owners: dict[bytes, set[str]] = {}
            seen = [to_rgb(Image.fromarray(image)).tobytes() for image in images]
            for pixels, concept in zip(seen, concepts, strict=True):
                owners.setdefault(pixels, set()).add(concept)
            for pixels, record in zip(seen, records, strict=True):
                if len(owners[pixels]) > 1:
                    ambiguous.add(f"{record['label']} ({style})")
    assert ambiguous == emoji.AMBIGUOUS


def test_a_picture_is_laid_on_white(pairs: EmojiPairs) -> None:
    pictures = Emoji(pairs._records)
    number = 1594 + [record["label"] for record in pairs._records].index("red heart")
    assert pictures.name(number) == "red heart (twemoji)"
    pixels = decode(pictures.open(number), wanted(64, 64), 10**6)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[32, 32, 0] > 180 > pixels[32, 32, 1]


def test_samples_are_what_a_user_would_hand_over(pairs: EmojiPairs) -> None:
    first = pairs.samples(2)  # the first concept of the test is the first emoji
    assert [image.size for image in first] == [(64, 64), (64, 64)]
    assert np.array_equal(np.asarray(first[0]), np.asarray(Emoji(pairs._records).open(0)))


def test_captions() -> None:
    cow = {"label": "cow", "tags": ["animal", "Cow", "milk"]}
    assert emoji.caption_of(cow, tags=True) == "cow: animal, milk"
    assert emoji.caption_of(cow, tags=False) == emoji.caption_of({"label": "cow", "tags": []}, tags=True) == "cow"
    with pytest.raises(ModelPressError, match="dataset.caption is 'tags'; allowed: 'label_and_tags', 'label'"):
        EmojiPairs(caption="tags")


def test_eight_classes_with_the_same_splits(pairs: EmojiPairs) -> None:
    groups = EmojiGroups(templates=["a {}", "the {}"])
    assert len(groups.labels) == 8
    assert groups.labels == groups.candidate_names("train") == groups.candidate_names("unseen_style")
    assert groups.label_counts("test")["food and drink"] == 123
    for split in ("train", "test"):
        flags = {record["label"] for record in pairs._records if record["group"] == "flags"}
        names, all_names = ([d.listing().pictures.name(i) for i in d.images(split).image] for d in (groups, pairs))
        assert names == [name for name in all_names if name.rpartition(" (")[0] not in flags]
    rows = groups.pairs("train")
    assert set(rows.text // 2 - rows.labels) == {0}
    assert set(rows.text % 2) == {0, 1}
    assert groups.prompt_texts("test")[:2] == ["a smileys and emotions", "the smileys and emotions"]


def test_the_attribution_names_every_file() -> None:
    said = (emoji.FOLDER / "ATTRIBUTION.md").read_text()
    files = {path.name for path in Path(emoji.FOLDER).iterdir()} - {"ATTRIBUTION.md"}
    assert files == {*emoji.STYLES, emoji.RECORDS}
    assert all(f"`{name}`" in said for name in files)
    assert np.all([style in said for style in emoji.STYLE_NAMES])
