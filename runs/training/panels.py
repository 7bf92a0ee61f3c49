"""The panel of a trained network: its worst and median validation images, and where it looks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attnsearch.blocks.hosts import enlarge
from attnsearch.blocks.measure import attention_maps, mapped_blocks
from attnsearch.runs.batches import Stored
from attnsearch.runs.data import DataSet
from attnsearch.runs.readers import Masks
from attnsearch.runs.training.evaluate import Normalisation
from attnsearch.runs.training.pictures import Case, Map, panel_bytes
from attnsearch.runs.training.segment import classes_of, enlarged_logits

WORST, MEDIAN = 3, 3
TILES_AT_ONCE = 16


def validation_panel(
    network: nn.Module,
    data: DataSet,
    images: Stored,
    normalisation: Normalisation,
    dice: NDArray[np.floating],
) -> bytes:
    """Return the panel of a network for segmentation, the bytes of a PNG.

    Args:
        network: With the weights that count; left in the mode it was in.
        data: Its data set.
        images: Its validation images for the network's device, (N, H, W, C) of uint8.
        normalisation: As in training.
        dice: The Dice of each validation image, (M,).
    """
    masks = data.val.masks
    assert masks is not None
    worst, median = chosen_cases(dice)
    rank = {image: place for place, image in enumerate(_ranked(dice), 1)}
    cases = []
    for image in [*worst, *median]:
        rows = np.flatnonzero(masks.image == image)
        alone = masks.take(np.array([image]), keep_original=True)
        tiles = images[torch.from_numpy(rows).to(images.device)]
        ((_, logits),) = enlarged_logits(network, alone, tiles, normalisation)
        kind = "worst" if image in worst else "median"
        caption = f"{data.val.names[image]}   Dice {dice[image]:.3f}   {kind}, "
        cases.append(
            Case(
                caption + f"rank {rank[image]} of {len(rank)} from the worst",
                whole_image(tiles.cpu().numpy(), alone),
                alone.original(0),
                classes_of(logits),
                whole_maps(network, alone, tiles, normalisation),
            )
        )
    title = (
        f"{data.name}: the {len(worst)} worst and {len(median)} median of "
        f"{len(rank)} validation images by Dice"
    )
    return panel_bytes(cases, data.class_names, title)


def chosen_cases(dice: NDArray[np.floating]) -> tuple[list[int], list[int]]:
    """Return the worst images and those around the median, by number; no image is in both.

    Args:
        dice: Of each image; NaN where it has none.
    """
    ranked = _ranked(dice)
    worst, rest = ranked[:WORST], ranked[WORST:]
    middle = max(0, (len(ranked) - 1) // 2 - WORST - MEDIAN // 2)
    start = min(middle, max(0, len(rest) - MEDIAN))
    return worst, rest[start : start + MEDIAN]


def whole_image(tiles: NDArray[np.uint8], masks: Masks) -> NDArray[np.uint8]:
    """Return one image (h, w, C) from its tiles; as the network sees it where it is not tiled.

    Args:
        tiles: (n, H, W, C).
        masks: Of this image alone.
    """
    if masks.corners is None:
        first: NDArray[np.uint8] = tiles[0]
        return first
    return _stitched(tiles, masks).astype(np.uint8)  # exact: tiles agree where they overlap


def whole_maps(
    network: nn.Module, masks: Masks, tiles: Tensor, normalisation: Normalisation
) -> dict[str, Map]:
    """Return where a network looks in one image, by site; maps of tiles are put together.

    Args:
        network: Left as it was.
        masks: Of this image alone.
        tiles: The image (1, H, W, C) or its tiles (n, H, W, C), of uint8, on the device.
        normalisation: As in training.
    """
    if not mapped_blocks(network):
        return {}
    parts: dict[str, list[Tensor]] = {}
    for part in torch.split(tiles, TILES_AT_ONCE):
        for site, maps in attention_maps(network, normalisation(part)).items():
            parts.setdefault(site, []).append(maps.float().cpu())
    if masks.corners is None:
        return {site: maps[0][0].numpy() for site, maps in parts.items()}
    size = (tiles.shape[1], tiles.shape[2])
    return {
        site: _stitched(enlarge(torch.cat(maps)[:, None], size)[:, 0].numpy(), masks)
        for site, maps in parts.items()
    }


def _stitched(tiles: NDArray[Any], masks: Masks) -> Map:
    """Return what tiles (n, H, W, ...) show as one, the mean where they overlap."""
    assert masks.corners is not None
    height, width = masks.sizes[0].tolist()
    total = np.zeros((height, width, *tiles.shape[3:]), dtype=np.float32)
    seen = np.zeros_like(total)
    for tile, (top, left) in zip(tiles, masks.corners.tolist(), strict=True):
        window = (slice(top, top + tile.shape[0]), slice(left, left + tile.shape[1]))
        rows, columns = total[window].shape[:2]
        total[window] += tile[:rows, :columns]
        seen[window] += 1
    mean: Map = total / seen.clip(min=1)
    return mean


def _ranked(dice: NDArray[np.floating]) -> list[int]:
    """Return the images that have a Dice, the worst first; equals by number."""
    scored: Sequence[int] = np.flatnonzero(~np.isnan(dice)).tolist()
    return sorted(scored, key=lambda image: (float(dice[image]), image))
