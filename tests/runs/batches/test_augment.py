import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from attnsearch.runs.batches.augment import YIQ, Augmenter
from attnsearch.runs.batches.mixing import KINDS
from attnsearch.spaces.keys.data import OF_ANOTHER, Augment

ALL: dict[str, Any] = {
    "crop": 2,
    "flip": True,
    "vflip": True,
    "rotate": 15,
    "scale": 0.2,
    "translate": 0.1,
    "brightness": 0.3,
    "contrast": 0.3,
    "noise": 0.05,
    "elastic": 0.05,
    "erase": 0.3,
    "resized_crop": 0.3,
    "saturation": 0.3,
    "hue": 0.2,
    "policy": "trivial_augment",
}
OTHERS = {*OF_ANOTHER, *KINDS}  # that do nothing by themselves, and of `mixing`


def images(count: int = 16, channels: int = 3, height: int = 12, width: int = 10) -> Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(9))


def augment(spec: dict[str, Any], batch: Tensor, seed: int = 0) -> Tensor:
    size = (batch.shape[2], batch.shape[3])
    return Augmenter(spec, size)(batch, torch.Generator().manual_seed(seed))


def test_every_name_is_in_the_test() -> None:
    assert {*ALL, *OTHERS} == set(Augment.model_fields)


@pytest.mark.parametrize(
    "spec", [{}, {name: 0 * value if value is not True else False for name, value in ALL.items()}]
)
def test_nothing_switched_on_changes_nothing(spec: dict[str, Any]) -> None:
    batch = images()
    assert augment(spec, batch) is batch


@pytest.mark.parametrize("name", ALL)
def test_each_changes_images_differently_and_repeats_by_seed(name: str) -> None:
    batch = images()
    before = batch.clone()
    first, again, other = (augment({name: ALL[name]}, batch, seed) for seed in (1, 1, 2))
    assert first.shape == batch.shape
    assert first.dtype == batch.dtype
    assert torch.equal(batch, before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.allclose(first, batch, atol=1e-3)
    assert torch.isfinite(first).all()


def test_images_of_a_batch_have_draws_of_their_own() -> None:
    batch = images(1).expand(32, -1, -1, -1)
    for name, value in ALL.items():
        changed = augment({name: value}, batch)
        distinct = {row.numpy().tobytes() for row in changed}
        assert len(distinct) >= 2, name
        assert len(distinct) <= 2 or name not in {"flip", "vflip"}


def test_consecutive_batches_have_other_draws() -> None:
    generator = torch.Generator().manual_seed(0)
    transform = Augmenter({"brightness": 0.5}, (12, 10))
    batch = images()
    assert not torch.equal(transform(batch, generator), transform(batch, generator))


@pytest.mark.parametrize(("name", "axis"), [("flip", 3), ("vflip", 2)])
def test_flips_mirror_half_of_the_images_exactly(name: str, axis: int) -> None:
    batch = images(400)
    changed = augment({name: True}, batch)
    kept = (changed - batch).abs().amax((1, 2, 3)) < 1e-5
    mirrored = (changed - batch.flip(axis)).abs().amax((1, 2, 3)) < 1e-5
    assert (kept | mirrored).all()
    assert 150 < mirrored.sum() < 250


def test_crop_shifts_by_whole_pixels_and_pads_with_zeros() -> None:
    batch = images(200)
    changed = augment({"crop": 2}, batch)
    padded = torch.nn.functional.pad(batch, (2, 2, 2, 2))
    seen = set()
    for image, source in zip(changed, padded, strict=True):
        fits = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if (source[:, top : top + 12, left : left + 10] - image).abs().max() < 1e-4
        ]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) == 25


def centroid(image: Tensor) -> tuple[float, float]:
    """Of one channel, in pixels from the centre: x to the right, y down."""
    height, width = image.shape
    y = torch.arange(height).float() - (height - 1) / 2
    x = torch.arange(width).float() - (width - 1) / 2
    total = image.sum()
    return float((image.sum(0) @ x) / total), float((image.sum(1) @ y) / total)


def spot(height: int, width: int, x: float, y: float, radius: float = 2.0) -> Tensor:
    rows = torch.arange(height)[:, None] - (height - 1) / 2 - y
    columns = torch.arange(width)[None, :] - (width - 1) / 2 - x
    return torch.exp(-(rows**2 + columns**2) / (2 * radius**2))[None, None]


def test_rotation_keeps_distances_on_images_that_are_not_square() -> None:
    batch = spot(41, 81, 12, 0).expand(200, -1, -1, -1)
    changed = augment({"rotate": 40}, batch)
    points = np.array([centroid(image[0]) for image in changed])
    assert np.abs(np.hypot(*points.T) - 12).max() < 0.15
    angles = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
    assert -40.5 < angles.min() < -35
    assert 35 < angles.max() < 40.5


def test_scale_zooms_both_axes_by_one_factor() -> None:
    batch = spot(61, 81, 12, -8).expand(200, -1, -1, -1)
    points = np.array([centroid(image[0]) for image in augment({"scale": 0.5}, batch)])
    factors = points / np.array([12, -8])
    assert np.abs(factors[:, 0] - factors[:, 1]).max() < 0.02
    assert 0.49 < factors.min() < 0.56
    assert 1.44 < factors.max() < 1.51


def test_translate_is_a_fraction_of_each_side() -> None:
    batch = spot(61, 101, 0, 0).expand(300, -1, -1, -1)
    points = np.array([centroid(image[0]) for image in augment({"translate": 0.2}, batch)])
    assert 0.19 * 101 < np.abs(points[:, 0]).max() < 0.201 * 101
    assert 0.19 * 61 < np.abs(points[:, 1]).max() < 0.201 * 61
    assert np.abs(points.mean(0)).max() < 2.5


def test_the_geometric_ones_combine_in_the_documented_order() -> None:
    """Mirror, zoom, turn, shift; seen on a spot's place, with the draws of each alone."""
    at = np.array([14.0, 6.0])
    batch = spot(121, 141, *at).expand(64, -1, -1, -1)
    spec = {"flip": True, "scale": 0.3, "rotate": 60, "crop": 5, "translate": 0.1}

    def places(*names: str) -> np.ndarray[Any, Any]:
        changed = augment({name: spec[name] for name in names}, batch)
        return np.array([centroid(image[0]) for image in changed])

    mirror = np.sign(places("flip")[:, 0] * at[0])
    zoom = (places("scale") / at).mean(1)
    turned = places("rotate")
    angle = np.arctan2(turned[:, 1], turned[:, 0]) - np.arctan2(at[1], at[0])
    shift = places("crop") - at + places("translate") - at
    x, y = at[0] * mirror * zoom, at[1] * zoom
    expected = np.stack(
        [x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], 1
    )
    assert np.abs(places(*spec) - expected - shift).max() < 0.3


def test_brightness_and_contrast_stay_in_their_ranges() -> None:
    batch = images(300)
    factors = (augment({"brightness": 0.4}, batch) / batch).flatten(1)
    assert (factors.std(1) < 1e-4).all()
    assert 0.6 <= factors.min() < 0.63
    assert 1.37 < factors.max() <= 1.4001
    changed = augment({"contrast": 0.4}, batch)
    assert torch.allclose(changed.mean((1, 2, 3)), batch.mean((1, 2, 3)), atol=1e-5)
    ratios = changed.flatten(1).std(1) / batch.flatten(1).std(1)
    assert 0.6 <= ratios.min() < 0.63
    assert 1.37 < ratios.max() <= 1.4001


def test_noise_has_the_asked_deviation() -> None:
    added = augment({"noise": 0.1}, images(400)) - images(400)
    assert abs(added.std() - 0.1) < 0.001
    assert abs(added.mean()) < 0.001


def test_erase_fills_one_rectangle_with_the_mean() -> None:
    batch = images(300, height=40, width=30)
    changed = augment({"erase": 0.4}, batch)
    erased = (changed != batch).any(1)
    areas = erased.float().mean((1, 2))
    assert areas.max() <= 0.42
    assert areas.max() > 0.35
    assert areas.min() < 0.02
    for i in range(20):
        rows, columns = erased[i].any(1), erased[i].any(0)
        if not rows.any():
            continue
        assert erased[i].sum() == rows.sum() * columns.sum()
        inside = changed[i][:, erased[i]]
        assert torch.allclose(inside, batch[i].mean((1, 2))[:, None].expand_as(inside), atol=1e-6)
    assert all(
        edge.any() for edge in (erased[:, 0], erased[:, -1], erased[..., 0], erased[..., -1])
    )


@pytest.mark.parametrize("name", ["brightness", "noise", "erase"])
def test_switching_one_on_leaves_the_draws_of_another(name: str) -> None:
    batch = images()
    alone = augment({name: ALL[name]}, batch)
    with_flips = augment({name: ALL[name], "flip": True, "crop": 1}, batch)
    moved = augment({"flip": True, "crop": 1}, batch)
    after = augment({name: ALL[name]}, moved)
    assert torch.equal(with_flips, after)
    assert not torch.equal(alone, with_flips)


def cropped(spec: dict[str, Any], height: int, width: int, count: int = 1500) -> Tensor:
    """Left, top, width and height of resized crops, in pixels, read off a map of coordinates."""
    rows = torch.arange(height) + 0.5
    columns = torch.arange(width) + 0.5
    image = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    changed = augment(spec, image.expand(count, -1, -1, -1))
    row, column = changed[:, 0, :, width // 2], changed[:, 1, height // 2]
    tall = (row[:, height // 2 + 1] - row[:, height // 2 - 1]) * height / 2
    wide = (column[:, width // 2 + 1] - column[:, width // 2 - 1]) * width / 2
    top = row[:, height // 2] - tall * (height // 2 + 0.5) / height
    left = column[:, width // 2] - wide * (width // 2 + 0.5) / width
    return torch.stack([left, top, wide, tall], 1)


def test_resized_crops_have_areas_uniform_in_their_range_and_lie_within_the_image() -> None:
    left, top, wide, tall = cropped({"resized_crop": 0.2, "crop_ratio": 1}, 60, 60).unbind(1)
    areas = ((wide * tall) / 3600).sort().values
    expected = torch.linspace(0.2, 1, len(areas))
    assert float((areas - expected).abs().max()) < 0.045  # Kolmogorov-Smirnov at 1,500 draws
    assert torch.allclose(wide, tall, rtol=1e-2)
    for start, length in ((left, wide), (top, tall)):
        assert float(start.min()) > -0.05
        assert float((start + length).max()) < 60.05
        free = start[length < 40] / (60 - length[length < 40])
        assert abs(float(free.mean()) - 0.5) < 0.04


def test_resized_crops_have_ratios_log_uniform_up_to_what_is_asked() -> None:
    _, _, wide, tall = cropped({"resized_crop": 0.1, "crop_ratio": 2}, 80, 80).unbind(1)
    ratios = (wide / tall).log() / np.log(2)
    assert -1.01 < float(ratios.min()) < -0.95
    assert 0.95 < float(ratios.max()) < 1.01
    small = ratios[wide * tall < 0.4 * 6400]  # which always fit
    assert float(small.std()) == pytest.approx(1 / 3**0.5, abs=0.05)
    _, _, wide, tall = cropped({"resized_crop": 0.1}, 80, 80).unbind(1)
    assert 1.3 < float((wide / tall).max()) < 1.345


def test_a_crop_that_never_fits_is_the_middle() -> None:
    left, _, wide, tall = cropped({"resized_crop": 1.0}, 20, 120, 20).unbind(1)
    assert torch.allclose(wide, torch.full_like(wide, 20 * 4 / 3), rtol=1e-2)
    assert torch.allclose(tall, torch.full_like(tall, 20), rtol=1e-2)
    assert torch.allclose(left + wide / 2, torch.full_like(left, 60), atol=0.1)


def test_a_resized_crop_at_the_border_is_not_darkened() -> None:
    changed = augment({"resized_crop": 0.3}, torch.ones(100, 1, 12, 10))
    assert torch.allclose(changed, torch.ones_like(changed), atol=1e-5)


def test_resized_crops_move_masks_alike() -> None:
    masks = (torch.arange(24).expand(24, 24) > 11).long().expand(50, -1, -1)
    transform = Augmenter({"resized_crop": 0.2, "flip": True}, (24, 24))
    pictures, moved = transform.both(
        masks[:, None].float(), masks, torch.Generator().manual_seed(0), outside=255
    )
    assert not torch.equal(moved, masks)
    sharp = (pictures[:, 0] - 0.5).abs() > 0.49
    assert torch.equal((pictures[:, 0] > 0.5).long()[sharp], moved[sharp])
    assert sharp.float().mean() > 0.85


def test_saturation_and_hue_keep_the_brightness_and_grey() -> None:
    batch = images(300)
    grey = batch.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    for spec in ({"saturation": 0.4}, {"hue": 0.3}):
        changed = augment(spec, batch)
        assert torch.allclose((changed * weights).sum(1), (batch * weights).sum(1), atol=1e-3)
        assert torch.allclose(augment(spec, grey), grey, atol=1e-3)
        assert torch.equal(augment(spec, batch[:, :1]), batch[:, :1])
    distance = augment({"saturation": 0.4}, batch) - (batch * weights).sum(1, keepdim=True)
    factors = distance / (batch - (batch * weights).sum(1, keepdim=True))
    factors = factors.flatten(1).median(1).values
    assert 0.6 <= factors.min() < 0.63
    assert 1.37 < factors.max() <= 1.4001


def test_hue_turns_by_up_to_its_part_of_the_circle() -> None:
    red = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None].expand(500, -1, 2, 2)
    yiq = torch.tensor(YIQ) @ augment({"hue": 0.25}, red).flatten(2)
    start = torch.tensor(YIQ) @ red.flatten(2)
    angles = torch.atan2(yiq[:, 2, 0], yiq[:, 1, 0]) - torch.atan2(start[:, 2, 0], start[:, 1, 0])
    turned = (angles / (2 * np.pi) + 0.5) % 1 - 0.5
    assert -0.2501 < float(turned.min()) < -0.24
    assert 0.24 < float(turned.max()) < 0.2501


def test_erasing_has_its_chance_and_ratio() -> None:
    batch = images(600, height=40, width=40)
    erased = (
        augment({"erase": 0.3, "erase_chance": 0.5, "erase_ratio": 3.3}, batch) != batch
    ).any(1)
    share = float(erased.any(1).any(1).float().mean())
    assert 0.4 < share < 0.56  # some are smaller than a pixel
    ratios = erased.any(2).sum(1) / erased.any(1).sum(1).clamp(min=1)
    large = erased.float().mean((1, 2)) > 0.1
    assert 2.6 < float(ratios[large].max()) < 3.7
    assert 0.27 < float(ratios[large].min()) < 0.4


def test_the_generator_advances_alike_whatever_is_switched_on() -> None:
    following = []
    for spec in ({}, {"flip": True}, ALL):
        generator = torch.Generator().manual_seed(5)
        Augmenter(spec, (12, 10))(images(), generator)
        following.append(torch.rand(3, generator=generator).tolist())
    assert following[0] == following[1] == following[2]


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    augment(ALL, images())
    assert torch.equal(torch.rand(1), expected)


def test_odd_shapes_and_half_precision() -> None:
    for batch in (images(1, 1, 1, 1), images(3, 1, 7, 5), images(2, 3, 5, 31)):
        assert torch.isfinite(augment(ALL, batch)).all()
        assert augment(ALL, batch.bfloat16()).dtype == torch.bfloat16


def test_a_batch_of_cifar_size_takes_milliseconds() -> None:
    batch = images(128, 3, 32, 32)
    transform = Augmenter({"crop": 4, "flip": True, "rotate": 10}, (32, 32))
    generator = torch.Generator().manual_seed(0)
    times = []
    for _ in range(5):
        start = time.process_time()
        transform(batch, generator)
        times.append(time.process_time() - start)
    assert min(times) < 0.05


@pytest.mark.gpu
def test_a_cpu_generator_draws_the_same_for_a_gpu() -> None:
    # Of a policy's operations some jump where a pixel rounds the other way.
    spec = {name: value for name, value in ALL.items() if name not in ("noise", "policy")}
    batch = images()
    on_gpu = augment(spec, batch.cuda()).cpu()
    assert torch.allclose(on_gpu, augment(spec, batch), atol=1e-4)
    generator = torch.Generator("cuda").manual_seed(0)
    transform = Augmenter(ALL, (12, 10))
    first, second = transform(batch.cuda(), generator), transform(batch.cuda(), generator)
    assert first.is_cuda
    assert not torch.equal(first, second)
    assert torch.equal(first, transform(batch.cuda(), torch.Generator("cuda").manual_seed(0)))
