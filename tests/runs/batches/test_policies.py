import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Generator, Tensor

from attnsearch.runs.batches import policies
from attnsearch.runs.batches.augment import Augmenter
from attnsearch.runs.batches.policies import CHANGES, MOVES, OPERATIONS

Reference = Callable[[Image.Image, float], Image.Image]
WITH_PILLOW: dict[str, Reference] = {
    "brightness": lambda image, level: ImageEnhance.Brightness(image).enhance(1 + 0.9 * level),
    "color": lambda image, level: ImageEnhance.Color(image).enhance(1 + 0.9 * level),
    "contrast": lambda image, level: ImageEnhance.Contrast(image).enhance(1 + 0.9 * level),
    "sharpness": lambda image, level: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * level),
    "posterize": lambda image, level: ImageOps.posterize(image, 8 - round(4 * level)),
    "solarize": lambda image, level: ImageOps.solarize(image, math.ceil(255 * (1 - level))),
    "autocontrast": lambda image, level: ImageOps.autocontrast(image),
    "equalize": lambda image, level: ImageOps.equalize(image),
}


def picture(channels: int = 3) -> np.ndarray:
    random = np.random.default_rng(5)
    smooth = np.linspace(20, 190, 24 * 30 * channels).reshape(24, 30, channels)
    return (smooth + random.integers(0, 40, smooth.shape)).astype(np.uint8)


def tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("level", [-0.7, 0.3, 0.8])
@pytest.mark.parametrize("name", CHANGES)
def test_what_an_operation_does_to_colours_is_what_pillow_does(name: str, level: float) -> None:
    if level < 0 and name not in policies.FACTORS:
        return
    pixels = picture()
    changed = CHANGES[name](tensor(pixels), torch.full((1, 1, 1, 1), level), False)
    shown = (changed[0].permute(1, 2, 0).numpy() * 255).round()
    expected = np.asarray(WITH_PILLOW[name](Image.fromarray(pixels), level), dtype=float)
    # Pillow cuts off, and rounds in between.
    assert np.abs(shown - expected).max() <= 2
    assert np.abs(shown - expected).mean() < 1


def test_every_operation_is_there() -> None:
    assert set(WITH_PILLOW) == set(CHANGES)
    assert {"identity", *MOVES, *CHANGES} == set(OPERATIONS)
    assert len(OPERATIONS) == 14  # of both papers


@pytest.mark.parametrize(
    ("name", "level", "expected"),
    [
        # Where a point 6 right of and 3 below the centre goes at a strength of 1/3, in pixels.
        ("shear_x", 1 / 3, (6 - 0.1 * 3, 3)),
        ("shear_y", 1 / 3, (6, 3 - 0.1 * 6)),
        ("translate_x", 1 / 3, (6 - 61 * 50 / 331, 3)),
        ("translate_y", 1 / 3, (6, 3 - 41 * 50 / 331)),
        ("rotate", 1 / 3, None),
    ],
)
def test_moves_go_as_far_as_stated(
    name: str, level: float, expected: tuple[float, float] | None
) -> None:
    y, x = (torch.arange(n).float() - (n - 1) / 2 for n in (41, 61))
    image = torch.exp(-((x - 6)[None] ** 2 + (y - 3)[:, None] ** 2) / 4)[None, None]
    which = torch.tensor([MOVES.index(name)])
    moved = policies._moved(image, which, torch.tensor([level]), False)[0, 0]
    place = (
        float((moved.sum(0) @ x) / moved.sum()),
        float((moved.sum(1) @ y) / moved.sum()),
    )
    if expected is None:
        assert math.hypot(*place) == pytest.approx(math.hypot(6, 3), abs=0.05)
        turned = math.atan2(place[1], place[0]) - math.atan2(3, 6)
        assert abs(math.degrees(turned)) == pytest.approx(10, abs=0.5)
    else:
        assert place == pytest.approx(expected, abs=0.15)


def test_each_operation_comes_equally_often_in_both_directions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[Tensor, Tensor, Tensor]] = []

    def note(
        images: Tensor, which: Tensor, strength: Tensor, signed: Tensor, wide: bool
    ) -> Tensor:
        asked.append((which, strength, signed))
        return images

    monkeypatch.setattr(policies, "_step", note)
    batch = torch.zeros(14_000, 1, 1, 1)
    Augmenter({"policy": "trivial_augment"}, (1, 1))(batch, Generator().manual_seed(0))
    ((which, strength, signed),) = asked
    counts = torch.bincount(which, minlength=14)
    assert len(counts) == 14
    assert int((counts - 1000).abs().max()) < 5 * 31
    levels = torch.bincount((strength * 30).round().long(), minlength=31)
    assert int((levels - 14_000 / 31).abs().max()) < 5 * 21
    assert abs(float((signed < 0).float().mean()) - 30 / 62) < 0.02
    asked.clear()
    spec = {"policy": "randaugment", "policy_steps": 3, "policy_magnitude": 12}
    Augmenter(spec, (1, 1))(batch, Generator().manual_seed(0))
    assert len(asked) == 3
    assert not torch.equal(asked[0][0], asked[1][0])
    assert all(torch.equal(strength, torch.full_like(strength, 0.4)) for _, strength, _ in asked)


def test_an_image_s_change_does_not_depend_on_its_neighbours() -> None:
    """Images are gathered by their operation; each must come back to its own place."""
    images = torch.rand(64, 3, 9, 11, generator=Generator().manual_seed(2))
    which = torch.arange(64) % len(OPERATIONS)
    strength = torch.linspace(0.1, 1, 64)
    together = policies._step(images, which, strength, -strength, True)
    for row in range(64):
        one = slice(row, row + 1)
        alone = policies._step(images[one], which[one], strength[one], -strength[one], True)
        torch.testing.assert_close(together[one], alone)
    assert torch.equal(together[::14], images[::14])  # identity
