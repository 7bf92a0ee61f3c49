"""Examples on their way to a training's device, from wherever they lie.

A part lies on the device whole, as a tensor, or it is a `Feed`: its batches come from the memory
of the machine, from a mapped file, or from files that a pool of processes decodes ahead. Which
rows a batch has is decided before, by the seed; how many processes there are changes time alone.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from attnsearch.runs.batches.waiting import uploaded
from attnsearch.runs.keeping import Anywhere, Lazy, is_decoded_anew, on_card

AHEAD = 2  # batches that each process decodes before they are asked for

Rows: TypeAlias = Tensor | slice


class Feed:
    """A part's images or masks that do not lie on the device whole.

    Args:
        array: (N, ...) of uint8.
        device: Where batches go.
    """

    def __init__(self, array: Anywhere, device: torch.device) -> None:
        self._array = array
        self.device = device
        self.shape = array.shape

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, rows: Rows) -> Tensor:
        """Return some rows, on the device."""
        return uploaded(_rows(self._array, rows), self.device)

    def stream(self, batches: Sequence[Rows]) -> Iterator[Tensor]:
        """Yield rows, batch by batch, on the device; files are decoded ahead."""
        if not isinstance(self._array, Lazy) or not is_decoded_anew(self._array):
            for rows in batches:
                yield self[rows]
            return
        loader: DataLoader[Any] = DataLoader(
            _Batches(self._array, batches),
            batch_size=None,
            num_workers=torch.get_num_threads(),
            prefetch_factor=AHEAD,
            pin_memory=self.device.type == "cuda",
            # Its own: it draws a number, and the stream of dropout must not lose one.
            generator=Generator(),
        )
        for stored in loader:
            yield stored.to(self.device, non_blocking=True)


class _Batches(Dataset[Tensor]):
    """Batches by their number, as torch's loader asks its processes for them."""

    def __init__(self, array: Anywhere, batches: Sequence[Rows]) -> None:
        self._array, self._batches = array, batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> Tensor:
        return _rows(self._array, self._batches[number])


Stored: TypeAlias = Tensor | Feed
"""Images or masks of a part, on the device or on their way."""


def place(array: Anywhere, device: torch.device, *, whole: bool = True) -> Stored:
    """Put a part's images where a training takes its batches from.

    Args:
        array: (N, ...) of uint8.
        device: Of the training.
        whole: Whether those in memory go there all at once.
    """
    if isinstance(array, Lazy) or not whole:
        return Feed(array, device)
    return upload(array, device)


def fits_on(device: torch.device, config: Mapping[str, Any], size: int) -> bool:
    """Return whether the images of a training go to its device whole.

    Args:
        device: Of the training.
        config: A resolved config: `data.keep`, and the trial's share of a card.
        size: Of the images, in bytes.
    """
    if device.type != "cuda":
        return True
    gpus = config.get("resources", {}).get("gpus")
    share = gpus if isinstance(gpus, float) and 0 < gpus < 1 else 1.0
    card = torch.cuda.get_device_properties(device).total_memory * share
    return on_card(config["data"].get("keep"), size, card)


def stream(
    stored: Stored, batches: Sequence[Rows], on_host: Sequence[Rows] | None = None
) -> Iterator[Tensor]:
    """Yield rows batch by batch, on the device.

    Args:
        stored: What has the rows.
        batches: Which; tensors are on the device.
        on_host: The same, with tensors on the CPU: to read them from a card makes it wait.
    """
    if isinstance(stored, Feed):
        yield from stored.stream(batches if on_host is None else on_host)
        return
    for rows in batches:
        yield stored[rows]


def upload(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Put images (N, H, W, C) on a device; on the CPU the array itself, only read."""
    return _tensor(images).to(device)


def _rows(array: Anywhere, rows: Rows) -> Tensor:
    return _tensor(array[rows if isinstance(rows, slice) else rows.cpu().numpy()])


def _tensor(array: NDArray[np.uint8]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
