from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from modelpress.data.image_batches import normalised, scaled
from modelpress.data.images import Chosen, Files, Pieces, decode
from modelpress.deploying.files.pictures import to_rgb
from tests.data.pictures import MEAN, STD, noise, wanted, write_picture

SIZES = [(8, 8), (20, 20), (21, 34), (34, 21), (7, 5), (97, 31)]
ANY = 10**9


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["bicubic", "bilinear"])
def test_the_shortest_side_is_fitted_as_torchvision_does(size: tuple[int, int], name: str) -> None:
    image = Image.fromarray(noise(*size))
    reference = transforms.Compose(
        [
            transforms.Resize(12, getattr(transforms.InterpolationMode, name.upper())),
            transforms.CenterCrop(12),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    options = wanted(12, 12, filter=name)
    found = normalised(scaled(np.stack([decode(image.copy(), options, ANY)])), options)[0]
    assert torch.equal(found, reference(image))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("frame", [(12, 12), (9, 14)])
def test_every_mode_equals_open_clip(size: tuple[int, int], mode: str, frame: tuple[int, int]) -> None:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    image = Image.fromarray(noise(*size))
    config = PreprocessCfg(size=frame, mean=MEAN, std=STD, interpolation="bicubic", resize_mode=mode)
    options = wanted(*frame, mode=mode)
    found = normalised(scaled(np.stack([decode(image.copy(), options, ANY)])), options)[0]
    assert torch.equal(found, image_transform_v2(config, is_train=False)(image))


def test_a_share_of_the_centre_as_timm_cuts_it() -> None:
    from timm.data import create_transform

    image = Image.fromarray(noise(40, 60))
    options = wanted(14, 14, filter="bilinear", crop_pct=0.875)
    found = normalised(scaled(np.stack([decode(image.copy(), options, ANY)])), options)[0]
    reference: Any = create_transform(
        (3, 14, 14), interpolation="bilinear", mean=MEAN, std=STD, crop_pct=0.875, normalize=True
    )
    assert torch.equal(found, reference(image))


def test_exif_turns_the_image(tmp_path: Path) -> None:
    pixels = noise(8, 8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to see it upright
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        found = decode(image, wanted(), ANY)
    assert np.array_equal(found, np.rot90(pixels, -1))


def test_transparent_parts_are_white_and_half_transparent_ones_mixed() -> None:
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = (0, 255, 51)  # opacity: none, all, a fifth
    pixels[0, :, 0] = 200
    found = np.asarray(to_rgb(Image.fromarray(pixels)))
    assert found[0].tolist() == [[255, 255, 255], [200, 0, 0], [244, 204, 204]]


def test_a_palette_with_a_transparent_colour() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    image.info["transparency"] = 0
    assert np.asarray(to_rgb(image))[0].tolist() == [[255, 255, 255], [200, 100, 50]]


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "YCbCr", "LA", "HSV"])
def test_every_colour_mode_becomes_rgb(mode: str) -> None:
    image = Image.fromarray(noise(6, 6)).convert("L" if mode in "L1LA" else "RGB")
    found = np.asarray(to_rgb(image.convert(mode)), dtype=int)
    assert found.shape == (6, 6, 3)
    if mode != "1":
        assert np.abs(found - np.asarray(image.convert("RGB"), dtype=int)).max() <= (12 if mode == "HSV" else 3)


def test_sixteen_bit_grey_is_scaled_not_cut(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as image:
        assert np.asarray(to_rgb(image))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_an_animation_shows_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "moving.gif") as image:
        assert decode(image, wanted(), ANY)[0, 0].tolist() == [255, 0, 0]


def test_a_huge_image_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(ValueError, match=r"30x20 pixels are more than dataset.max_pixels=599"):
        decode(Image.new("RGB", (30, 20)), wanted(), 599)


def test_files_and_pieces_of_files_hold_the_same(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png", 1)
    data = path.read_bytes()
    (tmp_path / "both").write_bytes(b"before" + data + b"after")
    files = Files([path], ["a"])
    pieces = Pieces([(tmp_path / "both", 6, len(data))], ["a"])
    with files.open(0) as one, pieces.open(0) as other:
        assert np.array_equal(np.asarray(one), np.asarray(other))
    assert (len(files), files.name(0), len(pieces), pieces.name(0)) == (1, "a", 1, "a")
    both = Chosen(Files([tmp_path / "none", path], ["none", "b"]), [1])
    assert (len(both), both.name(0), both.content([0])) == (1, "b", [["b", files.content([0])[0][1]]])  # type: ignore[index]
    before = files.content([0]), pieces.content([0])
    write_picture(path, 2)
    (tmp_path / "both").write_bytes(b"others" + data + b"after")
    assert files.content([0]) != before[0]
    assert pieces.content([0]) != before[1]
