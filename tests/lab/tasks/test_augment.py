"""Bugs that turn these red: one draw for the whole batch, offsets never drawn, changed inputs."""

import pytest
import torch
from torch.nn import functional

from largebatch.lab.tasks.augment import compose, crop, erase, flip

EACH = [flip, crop, erase, compose(crop, flip, erase)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(examples, channels=3, height=6, width=5):
    """Images of which no two pixels are equal, and none is zero."""
    return 1.0 + torch.arange(float(examples * channels * height * width)).reshape(
        examples, channels, height, width
    )


def test_flip_against_a_loop_over_images():
    images = numbered(40)
    coins = torch.rand(40, generator=seeded())
    naive = [
        image.flip(2) if coin < 0.5 else image for image, coin in zip(images, coins, strict=True)
    ]
    assert torch.equal(flip(images, seeded()), torch.stack(naive))


@pytest.mark.parametrize("padding", [0, 1, 4])
def test_crop_against_a_loop_over_images(padding):
    images = numbered(40)
    offsets = torch.randint(2 * padding + 1, (2, 40), generator=seeded())
    naive = []
    for image, top, left in zip(images, *offsets.tolist(), strict=True):
        padded = functional.pad(image, (padding,) * 4)
        naive.append(padded[:, top : top + 6, left : left + 5])
    assert torch.equal(crop(images, seeded(), padding), torch.stack(naive))


@pytest.mark.parametrize("fill", [((0.0,), (0.0,)), ((-2.0, 0.0, 1.0), (-1.0, 0.5, 3.0))])
def test_erase_against_a_loop_over_images(fill):
    images = numbered(60, height=20, width=12)
    generator = seeded()
    draws = torch.rand(23, 60, generator=generator)
    noise = torch.rand(images.shape, generator=generator)
    naive = images.clone()
    for i in range(60):
        coin, down, across, *attempts = draws[:, i].tolist()
        for share, ratio in zip(attempts[:10], attempts[10:], strict=True):
            area, aspect = 240 * (0.02 + 0.38 * share), 0.3 + (1 / 0.3 - 0.3) * ratio
            tall, wide = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
            if tall < 20 and wide < 12:
                top, left = int(down * (20 - tall + 1)), int(across * (12 - wide + 1))
                break
        else:
            continue
        if coin < 0.5:
            for c in range(3):
                low, high = (v[c % len(v)] for v in fill)
                box = (i, c, slice(top, top + tall), slice(left, left + wide))
                naive[box] = low + (high - low) * noise[box]
    torch.testing.assert_close(erase(images, seeded(), fill=fill), naive)


def test_half_of_the_images_are_flipped_each_on_its_own():
    images = numbered(1, width=2).expand(4000, -1, -1, -1)
    flipped = flip(images, seeded())[:, 0, 0, 0] != images[0, 0, 0, 0]
    assert abs(flipped.float().mean() - 0.5) < 0.03  # four standard errors


def test_both_offsets_of_a_crop_are_uniform_and_independent():
    images = numbered(1, channels=1, height=9, width=9).expand(81 * 60, -1, -1, -1)
    centre = crop(images, seeded(), padding=4)[:, 0, 4, 4]
    counts = torch.unique(centre, return_counts=True)[1].double()
    assert len(counts) == 81  # every pixel has come to the middle
    assert ((counts - 60) ** 2 / 60).sum() < 80 + 4 * (2 * 80) ** 0.5  # chi squared, 4 sigma


def test_erased_share_shape_and_place_follow_the_paper():
    images = torch.ones(4000, 2, 32, 32)
    gone = erase(images, seeded()) == 0
    assert torch.equal(gone[:, 0], gone[:, 1])
    touched = gone[:, 0][gone.flatten(1).any(dim=1)]
    assert abs(len(touched) / 4000 - 0.5) < 0.03
    tall, wide = touched.any(dim=2).sum(dim=1), touched.any(dim=1).sum(dim=1)
    share = touched.sum(dim=(1, 2)) / 1024
    assert torch.equal((tall * wide) / 1024, share)  # a rectangle
    assert 0.01 < share.min() < 0.03
    assert 0.38 < share.max() < 0.43
    assert (
        abs(share.mean() - 0.205) < 0.012
    )  # the middle of 0.02 and 0.4; large ones fit less often
    ratio = (tall / wide).double()
    assert ratio.min() < 0.4
    assert ratio.max() > 3
    assert all(edge.any() for edge in (touched[:, 0], touched[:, -1], touched[:, :, 0]))
    assert abs(touched.float().mean(0) - touched.float().mean(0).flip(0, 1)).max() < 0.12


def test_erase_with_certainty_and_never():
    images = torch.ones(200, 1, 32, 32)
    assert (erase(images, seeded(), probability=1.0) == 0).flatten(1).any(dim=1).all()
    assert torch.equal(erase(images, seeded(), probability=0.0), images)


def test_a_rectangle_that_never_fits_leaves_the_image_whole():
    images = torch.ones(50, 1, 8, 8)
    kept = erase(images, seeded(), probability=1.0, area=(1.0, 1.0), aspect=(1.0, 1.0))
    assert torch.equal(kept, images)


def test_compose_applies_in_order_from_one_generator():
    images, generator = numbered(30), seeded()
    expected = flip(crop(images, generator), generator)
    assert torch.equal(compose(crop, flip)(images, seeded()), expected)


@pytest.mark.parametrize("augmentation", EACH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.uint8])
def test_only_the_generator_decides_and_inputs_stay(augmentation, dtype):
    images = numbered(50).to(dtype)
    kept, before = images.clone(), torch.get_rng_state()
    results = [augmentation(images, seeded(seed)) for seed in (1, 1, 2)]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert torch.equal(images, kept)
    assert torch.equal(torch.get_rng_state(), before)
    assert results[0].dtype == dtype
    assert results[0].shape == images.shape


@pytest.mark.parametrize("augmentation", EACH)
def test_what_is_not_a_batch_of_images_is_refused(augmentation):
    message = r"images of shape \(3, 8, 8\): augmentation needs a batch of shape \(examples, chan"
    with pytest.raises(ValueError, match=message):
        augmentation(torch.zeros(3, 8, 8), seeded())
