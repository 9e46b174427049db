from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelpress.data.image_module import ImageData
from modelpress.data.imagefolder import ImageFolder
from modelpress.errors import ModelPressError
from tests.data.pictures import write_picture, write_preprocessor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for i in range(60):
        write_picture(root / ("cow" if i % 3 else "fox") / f"{i}.png", i, size=9)
    return root


def make(folder: Path, tmp_path: Path, *, seed: int = 1, **options: Any) -> ImageData:
    dataset = ImageFolder(str(folder), **({"batch_size": 7, "eval_batch_size": 4} | options))
    return dataset.datamodule(write_preprocessor(tmp_path / "model"), seed=seed, cache=tmp_path / "cache")


def everything(loader: Any) -> dict[str, torch.Tensor]:
    batches = list(loader)
    assert len(batches) == len(loader)
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def test_every_loader_gives_its_split_once(folder: Path, tmp_path: Path) -> None:
    data = make(folder, tmp_path)
    assert type(data) is ImageData
    assert (data.labels, data.task, data.metric, data.extras) == (
        ["cow", "fox"],
        "image-classification",
        "accuracy",
        [],
    )
    loaders = {"train": data.train_dataloader(), "calibration": data.calibration_dataloader()}
    loaders |= {"validation": data.val_dataloader(), "test": data.test_dataloader()}
    for split, loader in loaders.items():
        found, rows = everything(loader), data.rows(split)
        assert set(found) == {"pixel_values", "labels", "index", "item"}
        assert sorted(found["index"].tolist()) == list(range(len(rows)))
        assert found["labels"].tolist() == rows.labels[found["index"]].tolist()
    assert sum(data.label_counts["test"].values()) == 6


def test_augmented_views_take_turns_and_are_numbered(folder: Path, tmp_path: Path) -> None:
    data = make(folder, tmp_path, crop=0.4, jitter=0.2, views=2)
    loader, seen = data.train_dataloader(), []
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        found = everything(loader)
        assert (found["item"] - found["index"]).unique().tolist() == [epoch % 2 * 48]
        seen.append(found["pixel_values"][found["index"].argsort()])
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])
    assert data.items == 96
    assert torch.equal(
        everything(make(folder, tmp_path, crop=0.4, jitter=0.2, seed=5).train_dataloader())["index"].sort()[0],
        torch.arange(48),
    )


def test_views_depend_on_their_own_seed_and_the_order_on_the_runs(folder: Path, tmp_path: Path) -> None:
    def train(**options: Any) -> dict[str, torch.Tensor]:
        return everything(make(folder, tmp_path, crop=0.4, **options).train_dataloader())

    one, other, third = train(seed=1), train(seed=2), train(seed=1, augment_seed=1)
    assert one["index"].tolist() != other["index"].tolist()
    assert one["index"].tolist() == third["index"].tolist()
    pixels = [found["pixel_values"][found["index"].argsort()] for found in (one, other, third)]
    assert torch.equal(pixels[0], pixels[1])
    assert not torch.equal(pixels[0], pixels[2])


def test_a_resumed_epoch_goes_on_where_it_stopped(folder: Path, tmp_path: Path) -> None:
    data = make(folder, tmp_path, crop=0.4)
    whole = list(data.train_dataloader())
    first = data.train_dataloader()
    iterator = iter(first)
    for _ in range(3):
        next(iterator)
    second = make(folder, tmp_path, crop=0.4).train_dataloader()
    second.load_state_dict(first.state_dict())
    rest = list(second)
    assert len(rest) == len(whole) - 3
    for batch, wanted in zip(rest, whole[3:], strict=True):
        assert all(torch.equal(batch[name], wanted[name]) for name in wanted)


def test_loader_workers_change_nothing(folder: Path, tmp_path: Path) -> None:
    alone, helped = (everything(make(folder, tmp_path, crop=0.4, num_workers=n).train_dataloader()) for n in (0, 1))
    assert all(torch.equal(alone[name], helped[name]) for name in alone)


def test_ranks_share_the_batches_of_training_and_validation(folder: Path, tmp_path: Path) -> None:
    seen: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for rank in range(2):
        data = make(folder, tmp_path, eval_batch_size=2)
        data.share = rank, 2
        loaders = {"train": data.train_dataloader(), "validation": data.val_dataloader()}
        for name, loader in {**loaders, "test": data.test_dataloader()}.items():
            seen[name] += everything(loader)["index"].tolist()
    assert sorted(seen["train"]) == list(range(48))
    assert sorted(seen["validation"]) == list(range(3))
    assert sorted(seen["test"]) == sorted([*range(6)] * 2)  # what is not trained with is seen whole by every rank


def test_calibration_takes_as_many_as_asked_for(folder: Path, tmp_path: Path) -> None:
    data = make(folder, tmp_path, crop=0.4)
    batches = data.calibration(2)
    assert [len(batch["index"]) for batch in batches] == [2]
    plain = everything(data.eval_dataloader("calibration"))
    assert torch.equal(batches[0]["pixel_values"], plain["pixel_values"][batches[0]["index"]])
    with pytest.raises(
        ModelPressError, match=r"4 calibration samples were asked for; .* has 3 .*Set transform.samples"
    ):
        data.calibration(4)


def test_some_labelled_images_of_any_split(folder: Path, tmp_path: Path) -> None:
    data = make(folder, tmp_path, crop=0.4, eval_batch_size=2)
    plain = everything(data.eval_dataloader("test"))
    loader = data.labelled("test", 3)
    found = everything(loader)
    assert [len(batch["index"]) for batch in loader] == [2, 1]
    assert torch.equal(found["pixel_values"], plain["pixel_values"][found["index"]])
    assert torch.equal(found["labels"], plain["labels"][found["index"]])
    assert sorted(everything(data.labelled("test", 99))["index"].tolist()) == list(range(data.size("test")))


def test_inputs_for_engines(folder: Path, tmp_path: Path) -> None:
    data = make(folder, tmp_path)
    test = everything(data.test_dataloader())
    found = data.evaluation()
    assert list(found) == ["main"]
    assert np.array_equal(found["main"]["pixel_values"], test["pixel_values"].numpy())
    assert found["main"]["labels"].tolist() == test["labels"].tolist()
    requests = data.workloads(["1x128", "data"], 4)
    assert list(requests) == ["main"]
    assert {shape: arrays["pixel_values"].shape for shape, arrays in requests["main"].items()} == {
        "1x3x8x8": (4, 3, 8, 8)
    }
    assert list(data.workloads(["1x3x8x8", "32x3x8x8"], 4)["main"]) == ["1x3x8x8", "32x3x8x8"]
    assert data.lengths() == {}
    assert data.evaluation("validation")["main"]["pixel_values"].shape == (3, 3, 8, 8)


def test_bad_images_are_in_no_batch(folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(folder, tmp_path / "copy")
    name = ImageFolder(str(folder)).listing().pictures.name(int(ImageFolder(str(folder)).pairs("train").image[0]))
    (tmp_path / "copy" / name).write_bytes(b"nothing")
    data = make(tmp_path / "copy", tmp_path, max_bad_share=0.05)
    assert [reason.split(":")[0] for reason in data.bad.values()] == [name]
    assert len(data.rows("train")) == 47
    assert sorted(everything(data.train_dataloader())["index"].tolist()) == list(range(47))


def test_an_unknown_split_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match=r"split is 'tset'; allowed: .* Did you mean 'test'"):
        make(folder, tmp_path).eval_dataloader("tset")


def test_a_model_of_texts_alone(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match="reads no images"):
        ImageFolder(str(folder)).datamodule(tmp_path, seed=1, cache=tmp_path)
