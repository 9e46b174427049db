from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from modelpress.data.image_sources import read_hub, read_shards, read_table, shard_files
from modelpress.errors import ModelPressError
from tests.data.pictures import noise, write_captions, write_picture

SPELLING = {"encoding": "utf-8", "delimiter": None, "quote": '"'}


def table(path: Path, **options: Any) -> Any:
    return read_table(
        str(path), **({"image": "path", "caption": "caption", "split": "auto", "root": None} | options | SPELLING)
    )


def test_paths_are_relative_to_the_table_or_to_root(tmp_path: Path) -> None:
    csv = write_captions(tmp_path, 6)
    found = table(csv)
    assert found.image == list(range(6))
    assert found.captions[1] == "good a a"
    assert found.splits == [None] * 6
    assert np.array_equal(np.asarray(found.pictures.open(5)), noise(8, 8, 5))
    elsewhere = tmp_path / "tables" / "captions.csv"
    elsewhere.parent.mkdir()
    csv.rename(elsewhere)
    assert table(elsewhere, root=str(tmp_path)).captions == found.captions


def test_absent_images_are_named_with_their_rows(tmp_path: Path) -> None:
    csv = write_captions(tmp_path, 6)
    (tmp_path / "images/2.png").unlink()
    found = table(csv)
    assert found.missing == [
        f"captions.csv, line 4: images/2.png does not exist (looked in {tmp_path}; dataset.root says where)"
    ]
    assert (len(found.pictures), len(found.captions)) == (5, 5)


def test_an_image_with_several_captions_is_one_picture(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", 0)
    (tmp_path / "t.csv").write_text("path,caption,split\na.png,one,train\na.png,two,dev\n")
    found = table(tmp_path / "t.csv")
    assert (len(found.pictures), found.image, found.splits) == (1, [0, 0], ["train", "validation"])


def test_a_wrong_column_is_named(tmp_path: Path) -> None:
    csv = write_captions(tmp_path, 2, header="file,caption")
    with pytest.raises(ModelPressError, match="captions.csv has no column 'path'; columns there: 'file', 'caption'"):
        table(csv)


def write_shard(path: Path, samples: dict[str, dict[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for key, members in samples.items():
            for kind, content in members.items():
                info = tarfile.TarInfo(f"{key}.{kind}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(noise(8, 8, seed)).save(stream, "png")
    return stream.getvalue()


def test_shards(tmp_path: Path) -> None:
    said = json.dumps({"caption": "from json", "split": "val"}).encode()
    write_shard(
        tmp_path / "s-000.tar", {"x/0": {"png": png(0), "txt": b"zero\n"}, "x/1": {"json": said, "PNG": png(1)}}
    )
    write_shard(
        tmp_path / "s-001.tar", {"0": {"png": png(2)}, "1": {"txt": b"alone"}, "2": {"jpg": png(3), "txt": b"two"}}
    )
    found = read_shards(str(tmp_path), caption="caption")
    assert found.captions == ["zero", "from json", "two"]
    assert found.splits == [None, "validation", None]
    assert [found.pictures.name(i) for i in range(3)] == ["s-000.tar: x/0", "s-000.tar: x/1", "s-001.tar: 2"]
    assert np.array_equal(np.asarray(found.pictures.open(1)), noise(8, 8, 1))
    assert found.missing == ["s-001.tar: sample '0' has no caption", "s-001.tar: sample '1' has no image"]


def test_ways_to_name_shards(tmp_path: Path) -> None:
    files = [write_shard(tmp_path / f"s-{i:03d}.tar", {}) for i in range(3)]
    assert shard_files(str(tmp_path)) == shard_files(str(tmp_path / "s-*.tar")) == files
    assert shard_files(str(tmp_path / "s-{001..002}.tar")) == files[1:]
    assert shard_files(str(files[0])) == files[:1]
    with pytest.raises(ModelPressError, match=r"s-003.tar does not exist; give a tar file"):
        shard_files(str(tmp_path / "s-{002..003}.tar"))
    with pytest.raises(ModelPressError, match="no tar file there"):
        shard_files(str(tmp_path / "t-*.tar"))


def test_a_shard_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"x" * 2000)
    with pytest.raises(ModelPressError, match="a.tar cannot be read as an uncompressed tar file"):
        read_shards(str(tmp_path / "a.tar"), caption="caption")


def hub(path: Path, **options: Any) -> Any:
    asked = {"image": "image", "caption": "caption", "config": None, "revision": None, "data_files": None}
    splits: dict[str, None] = dict.fromkeys(("train", "validation", "test", "calibration"))
    return read_hub(str(path), splits=splits, **(asked | options))


def test_a_dataset_of_the_hub_kind(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.List(datasets.Value("string"))})
    said = [["zero", "null"], ["one"], [" "], ["three"]]
    rows = {"image": [{"bytes": png(i), "path": None} for i in range(4)], "caption": said}
    train = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(train=train, val=train.select([0, 1])).save_to_disk(str(tmp_path / "set"))
    found = hub(tmp_path / "set")
    assert found.captions == ["zero", "null", "one", "three", "zero", "null", "one"]
    assert found.image == [0, 0, 1, 2, 3, 3, 4]
    assert found.splits == ["train"] * 4 + ["validation"] * 3
    assert found.missing == ["set[train], row 3: no caption"]
    assert found.pictures.name(2) == "set[train], row 4"
    assert np.array_equal(np.asarray(found.pictures.open(2)), noise(8, 8, 3))
    assert len(set(found.pictures.content(range(5)))) == 3
    with pytest.raises(ModelPressError, match=r"set\[train\] has no column 'text'; .*choose with dataset.caption"):
        hub(tmp_path / "set", caption="text")


def test_a_builder_of_datasets(tmp_path: Path) -> None:
    for i in range(3):
        write_picture(tmp_path / f"pictures/{i}.png", i)
    lines = [json.dumps({"file_name": f"{i}.png", "text": f"number {i}"}) for i in range(3)]
    (tmp_path / "pictures/metadata.jsonl").write_text("\n".join(lines))
    found = hub(tmp_path / "pictures", caption="text")
    assert found.captions == ["number 0", "number 1", "number 2"]
    assert np.array_equal(np.asarray(found.pictures.open(2)), noise(8, 8, 2))
