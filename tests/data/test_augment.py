from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from modelpress.data.augment import Augment, cropped, jittered


def images(count: int = 3, height: int = 12, width: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_a_crop_is_stretched_as_torchvision_does() -> None:
    batch = images(2)
    boxes = [(3, 4, 6, 8), (0, 0, 12, 16)]  # top, left, height, width
    shares = torch.tensor([[t / 12, left / 16, h / 12, w / 16] for t, left, h, w in boxes])
    found = cropped(batch, *shares.unbind(1), flip=torch.tensor([0, 1]))
    small = batch[0, :, 3:9, 4:12]
    # away from the edges of the crop, beyond which torchvision sees nothing and we see the rest of the image
    reference = functional.resize(small, [12, 16], antialias=False)
    assert torch.allclose(found[0, :, 1:-1, 1:-1], reference[:, 1:-1, 1:-1], atol=1e-5)
    assert torch.allclose(found[1], functional.horizontal_flip(batch[1]), atol=1e-5)


def test_colours_change_as_torchvision_changes_them() -> None:
    batch = images(2)
    factors = torch.tensor([[1.3, 0.8, 1.2], [0.7, 1.25, 0.6]])
    found = jittered(batch, *factors.unbind(1))
    for image, (brightness, contrast, saturation), result in zip(batch, factors.tolist(), found, strict=True):
        image = functional.adjust_brightness(image, brightness)
        image = functional.adjust_saturation(functional.adjust_contrast(image, contrast), saturation)
        assert torch.allclose(result, image, atol=1e-5)


def test_crops_keep_their_share_and_stay_inside() -> None:
    augment = Augment(crop=0.4)
    top, left, height, width = augment._boxes(torch.from_numpy(augment.draws(0, 500)))
    area = height * width
    assert 0.3 < area.min() < 0.45  # extreme proportions do not fit into the image and are cut
    assert area.max() <= 1
    for start, size in ((top, height), (left, width)):
        assert start.min() >= 0
        assert (start + size).max() <= 1 + 1e-6
    assert (width / height).min() < 0.8
    assert (width / height).max() > 1.25


def test_random_numbers_depend_on_seed_view_and_item_alone() -> None:
    augment = Augment(crop=0.5, seed=1)
    assert np.array_equal(augment.draws(0, 10), augment.draws(0, 400)[:10])
    assert not np.array_equal(augment.draws(0, 10), augment.draws(1, 10))
    assert not np.array_equal(augment.draws(0, 10), Augment(crop=0.5, seed=2).draws(0, 10))


def test_an_image_comes_out_the_same_in_any_company() -> None:
    augment, batch = Augment(crop=0.5, flip=True, jitter=0.3), images(5)
    draws = torch.from_numpy(augment.draws(3, 5))
    together = augment(batch, draws)
    for i in range(5):
        assert torch.equal(augment(batch[i : i + 1], draws[i : i + 1])[0], together[i])


def test_half_of_the_images_are_mirrored() -> None:
    batch = images(1).expand(200, -1, -1, -1)
    augment = Augment(flip=True)
    found = augment(batch, torch.from_numpy(augment.draws(0, 200)))
    mirrored = (found - batch.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-5
    kept = (found - batch).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert bool((mirrored ^ kept).all())
    assert 70 < int(mirrored.sum()) < 130


@pytest.mark.parametrize("augment", [Augment(), Augment(seed=3)])
def test_nothing_asked_for_changes_nothing(augment: Augment) -> None:
    batch = images()
    assert augment(batch, torch.from_numpy(augment.draws(0, 3))) is batch
