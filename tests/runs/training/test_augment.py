import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from attnsearch.runs.training.augment import Augmenter
from attnsearch.spaces.keys.data import Augment

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
}


def images(count: int = 16, channels: int = 3, height: int = 12, width: int = 10) -> Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(9))


def augment(spec: dict[str, Any], batch: Tensor, seed: int = 0) -> Tensor:
    size = (batch.shape[2], batch.shape[3])
    return Augmenter(spec, size)(batch, torch.Generator().manual_seed(seed))


def test_every_name_is_in_the_test() -> None:
    assert set(ALL) == set(Augment.model_fields)


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
    spec = {name: value for name, value in ALL.items() if name != "noise"}
    batch = images()
    on_gpu = augment(spec, batch.cuda()).cpu()
    assert torch.allclose(on_gpu, augment(spec, batch), atol=1e-4)
    generator = torch.Generator("cuda").manual_seed(0)
    transform = Augmenter(ALL, (12, 10))
    first, second = transform(batch.cuda(), generator), transform(batch.cuda(), generator)
    assert first.is_cuda
    assert not torch.equal(first, second)
    assert torch.equal(first, transform(batch.cuda(), torch.Generator("cuda").manual_seed(0)))
