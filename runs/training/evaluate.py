"""From stored images to a network's logits: the one path that validation and exports share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from attnsearch.blocks.hosts import size_name
from attnsearch.runs.batches import Stored, stream
from attnsearch.runs.data import DataSet
from attnsearch.runs.training.optim import TrainError
from attnsearch.spaces.keys import MULTILABEL

EVALUATION_BATCH = 256  # fixed: convolution kernels, and so the last bits, depend on it


@dataclass(frozen=True)
class Normalisation:
    """Turns stored pixels into a network's input: x / 255, minus mean, over std, per channel.

    Args:
        mean: One value per channel, in 0..1.
        std: One value per channel, in 0..1; 0 (a constant channel) counts as 1.
        channels_last: Memory layout of the input.
    """

    mean: Sequence[float]
    std: Sequence[float]
    channels_last: bool = False

    def scale(self, images: Tensor) -> Tensor:
        """Return images (B, H, W, C) of uint8 to (B, C, H, W) of float in 0..1."""
        return images.permute(0, 3, 1, 2).float() / 255

    def normalise(self, images: Tensor) -> Tensor:
        """Return images (B, C, H, W) in 0..1 to the network's input (B, C, H, W)."""
        mean, std = _on_device(tuple(self.mean), tuple(self.std), images.device)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return ((images - mean) / std).contiguous(memory_format=layout)

    def __call__(self, images: Tensor) -> Tensor:
        """Return images (B, H, W, C) of uint8 to the network's input (B, C, H, W)."""
        return self.normalise(self.scale(images))


@lru_cache(maxsize=16)
def _on_device(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (1, C, 1, 1), put there once: a copy makes it wait."""
    shape = (1, len(mean), 1, 1)
    with torch.inference_mode(False):
        return (
            torch.tensor(mean, dtype=torch.float32, device=device).view(shape),
            torch.tensor([s or 1.0 for s in std], dtype=torch.float32, device=device).view(shape),
        )


def predict(
    network: nn.Module, images: Stored, normalisation: Normalisation, smaller: int = 1
) -> Tensor:
    """Return logits (N, K), on the CPU, in evaluation mode and in fp32.

    Args:
        network: Left in the mode it was in.
        images: (N, H, W, C) of uint8, N > 0, for the network's device.
        normalisation: As in training.
        smaller: So many times smaller than usual are its batches.
    """
    size = max(1, EVALUATION_BATCH // smaller)
    batches = in_batches(network, images, normalisation, size)
    return torch.cat([logits for _, logits in batches]).cpu()


def shares_of(logits: Tensor, task: str) -> Tensor:
    """Return the probabilities (N, K) of classes, which exclude one another but for multilabel."""
    return logits.sigmoid() if task == MULTILABEL else logits.softmax(1)


def in_batches(
    network: nn.Module, images: Stored, normalisation: Normalisation, size: int
) -> Iterator[tuple[slice, Tensor]]:
    """Yield which images (N, H, W, C) a batch holds, and their logits.

    Always in evaluation mode, in fp32, in the order given and in batches of one size: whatever
    precision it was trained in, a network scores the same when it is loaded again later.
    """
    training = network.training
    network.eval()
    try:
        starts = range(0, len(images), size)
        places = [slice(start, min(start + size, len(images))) for start in starts]
        for rows, batch in zip(places, stream(images, places), strict=True):
            # Not inference_mode: what a block caches here must still be usable in training.
            with torch.no_grad():
                yield rows, network(normalisation(batch)).float()
    finally:
        network.train(training)


def check_takes(network: nn.Module, data: DataSet, device: torch.device) -> None:
    """See that a network built for training's images takes those that it is evaluated on.

    Args:
        network: In training mode, on the device.
        data: Its data set.
        device: Where it is.

    Raises:
        TrainError: If it does not.
    """
    if data.eval_size == data.image_size:
        return
    network.eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, data.channels, *data.eval_size, device=device))
    except Exception as error:  # a user's block may raise anything
        raise TrainError(
            f"a network built for images of data.image_size ({size_name(data.image_size)}) does "
            f"not take those of data.eval_size ({size_name(data.eval_size)}): {error}; remove "
            f"data.eval_size, or leave out the block that needs one size"
        ) from error
    finally:
        network.train()
