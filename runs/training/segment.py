"""Segmentation as a task: masks in the loss, and metrics at the size of the original images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from attnsearch.blocks.build import DEFAULT_AUX_WEIGHT, side_outputs
from attnsearch.blocks.errors import BlockError
from attnsearch.blocks.hosts import HEADS, enlarge
from attnsearch.blocks.ranks import Share
from attnsearch.runs.batches import Stored
from attnsearch.runs.data import DataSet, Split
from attnsearch.runs.keeping import count_values
from attnsearch.runs.metrics import (
    OF_MASK,
    confusion,
    constant_masks,
    per_image,
    shares,
    summary,
)
from attnsearch.runs.readers import IGNORED, Masks, scored_classes
from attnsearch.runs.training.evaluate import EVALUATION_BATCH, Normalisation, in_batches
from attnsearch.runs.training.losses import own_metric
from attnsearch.runs.training.mask_losses import mask_loss
from attnsearch.runs.training.task import Classification, Evaluation, MultiLabel, Task
from attnsearch.spaces.keys import CLASSIFICATION, MULTILABEL, SEGMENTATION, own_metrics

EVALUATION_PIXELS = 2**21  # of a batch, so that large maps fit


class Segmentation(Task):
    """One class for each pixel; the data set has masks."""

    chosen_by = "val_dice"

    def __init__(self, config: Mapping[str, Any], data: DataSet, device: torch.device) -> None:
        super().__init__(config, data, device)
        train = config["train"]
        self.loss = self.whole.of(mask_loss(train, data, device))
        # Class weights are the network's classes', which a side output need not have.
        side_loss = mask_loss({**train, "class_weights": None}, data, device)
        self._side_loss = self.whole.of(side_loss)
        self._own_metrics = own_metrics(config)

    def augment(
        self, images: Tensor, targets: Tensor, draws: Generator, share: Share | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return images and masks changed alike."""
        return self._augmenter.both(images, targets, draws, IGNORED, share)

    def auxiliary(self, network: nn.Module, targets: Tensor) -> Tensor | None:
        """Return losses of side outputs that are masks: of blocks, and of the network's own heads.

        A block's `side["logits"]` (B, N, h, w) are trained with the mask at its size: one map for
        everything that is not class 0, or one per class with or without class 0.

        Raises:
            BlockError: A block's side output has another number of maps.
        """
        terms = []
        for site, _, block in side_outputs(network):
            weight = self._aux_weight.get(str(block.side_loss), DEFAULT_AUX_WEIGHT)
            side = getattr(block, "side", None)
            if weight and side:
                logits = side.get("logits")
                if not isinstance(logits, Tensor) or logits.dim() != 4:
                    raise BlockError(
                        f"the block at {site} has a side_loss and no side['logits'] (B, N, h, w), "
                        f"which segmentation trains with the mask"
                    )
                terms.append(weight * self._of_side(logits, targets, site))
        weight = self._aux_weight.get(HEADS, DEFAULT_AUX_WEIGHT)
        for logits in getattr(network, "head_logits", {}).values():
            if weight:
                terms.append(
                    weight * self.loss(enlarge(logits.float(), targets.shape[1:]), targets)
                )
        return torch.stack(terms).sum() if terms else None

    def _of_side(self, logits: Tensor, targets: Tensor, site: str) -> Tensor:
        classes, maps = len(self._class_names), logits.shape[1]
        logits = enlarge(logits.float(), targets.shape[1:])
        if maps == 1 and classes > 2:
            targets = torch.where(targets == IGNORED, targets, (targets > 0).long())
        elif maps not in (classes - 1, classes):
            raise BlockError(
                f"the block at {site} makes {maps} maps for {classes} classes; for a mask it "
                f"needs 1, {classes - 1} or {classes}: set its prototypes to one of these"
            )
        if maps != classes or maps == 1:
            # Class 0 is what no map claims: its logit is 0.
            logits = torch.cat([torch.zeros_like(logits[:, :1]), logits], 1)
        return self._side_loss(logits, targets)

    def count(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Count the pixels of each class in both masks, in the truth, and in the prediction."""
        classes = logits.shape[1]
        counted = (targets != IGNORED)[..., None]
        truth = F.one_hot(torch.where(counted[..., 0], targets, 0), classes) * counted
        predicted = F.one_hot(_largest(logits, 1), classes) * counted
        return torch.stack([part.sum((0, 1, 2)) for part in (truth * predicted, truth, predicted)])

    def rates(self, counts: Tensor) -> dict[str, float]:
        """Return `dice_pooled` of the epoch's batches, as augmented."""
        both, true, predicted = counts.cpu().numpy()[:, scored_classes(self._class_names)]
        present = true + predicted > 0
        if not present.any():
            return {"dice_pooled": 1.0}
        return {"dice_pooled": float((2 * both / (true + predicted).clip(1))[present].mean())}

    def _evaluate(
        self, network: nn.Module, part: Split, images: Stored, every: bool
    ) -> Evaluation:
        """Return what `evaluate_masks` does."""
        setting = self.normalisation, self._class_names
        smaller, own = self.smaller, self._own_metrics
        return evaluate_masks(
            network, part, images, *setting, every=every, smaller=smaller, own=own
        )


TASKS: dict[str, type[Task]] = {
    CLASSIFICATION: Classification,
    MULTILABEL: MultiLabel,
    SEGMENTATION: Segmentation,
}
"""By the config's `task`."""


def evaluate_masks(
    network: nn.Module,
    part: Split,
    images: Stored,
    normalisation: Normalisation,
    class_names: Sequence[str],
    *,
    every: bool = True,
    smaller: int = 1,
    own: Mapping[str, str] = MappingProxyType({}),
) -> Evaluation:
    """Return metrics as `metrics.masks.summary` names them, with `loss`, and each image's.

    Args:
        network: Left in the mode it was in.
        part: With masks at the images' own size.
        images: Its images for the network's device, (N, H, W, C) of uint8.
        normalisation: As in training.
        class_names: One per class.
        every: Also what is too slow for every epoch.
        smaller: So many times smaller than usual are its batches.
        own: The user's metrics of an image, `module:function` by name.

    Returns:
        The metrics, with those of `OF_MASK` if `every`; and `names` (list of M images), each of
        `own` and `OF_MASKS` and, if `every`, of `OF_MASK` (M,) and `constant_<metric>` (), see
        `constant_masks`, with several classes `dice_classes` (M, K), and `groups` where the
        data has groups.
    """
    masks = part.masks
    assert masks is not None
    total = 0.0  # of the loss, over the pixels at the network's size
    counts = []
    slow: dict[str, list[float]] = {name: [] for name in OF_MASK if every}
    theirs: dict[str, list[float]] = {name: [] for name in own}

    def add(rows: slice, logits: Tensor) -> None:
        nonlocal total
        truth = torch.from_numpy(np.array(masks.resized[rows])).to(logits.device).long()
        # A card's own sum is in no order, and an error where repeats are to be equal.
        reduction = "sum" if logits.is_cpu else "none"
        each = F.cross_entropy(logits.double(), truth, ignore_index=IGNORED, reduction=reduction)
        total += float(each.sum())

    for image, logits in enlarged_logits(network, masks, images, normalisation, add, smaller):
        predicted, truth = classes_of(logits), masks.original(image)
        counts.append(confusion(predicted, truth, len(class_names)))
        for name, values in slow.items():
            values.append(OF_MASK[name](predicted, truth, class_names))
        if own:
            probabilities = logits.softmax(0).cpu().numpy()
        for name, values in theirs.items():
            values.append(own_metric(own[name], probabilities, truth))
    confusions = np.stack(counts)
    loss = total / max(1, int(count_values(masks.resized)[:IGNORED].sum()))
    metrics = {"loss": loss, **summary(confusions, class_names)}
    kept: dict[str, Any] = {"names": list(part.names)}
    kept |= per_image(confusions, class_names)
    if every:
        constant = constant_masks(confusions, class_names)
        kept |= {f"constant_{name}": np.array(value) for name, value in constant.items()}
    if len(class_names) > 2:
        kept["dice_classes"] = shares(confusions)["dice"]
    for name, values in (slow | theirs).items():
        kept[name] = np.array(values)
        defined = kept[name][~np.isnan(kept[name])]
        metrics[name] = float(defined.mean()) if len(defined) else float("nan")
    if part.groups is not None:
        kept["groups"] = list(part.groups)
    return metrics, kept


def enlarged_logits(
    network: nn.Module,
    masks: Masks,
    images: Stored,
    normalisation: Normalisation,
    on_batch: Callable[[slice, Tensor], None] = lambda rows, logits: None,
    smaller: int = 1,
) -> Iterator[tuple[int, Tensor]]:
    """Yield the logits of each image, at its own size, in order.

    Logits of whole images are enlarged bilinearly; those of tiles are averaged where tiles
    overlap. Always in fp32, in evaluation mode and in batches of a fixed size, as `predict`.

    Args:
        network: Left in the mode it was in.
        masks: Says which example is of which image, and where.
        images: (N, H, W, C) of uint8, for the network's device.
        normalisation: As in training.
        on_batch: Called with every batch: which examples, and their logits before enlarging.
        smaller: So many times smaller than usual are its batches.

    Yields:
        The image's number and its logits (K, h, w).
    """
    size = min(EVALUATION_BATCH, EVALUATION_PIXELS // (images.shape[1] * images.shape[2]))
    size = max(1, max(1, size) // smaller)
    last_of_image = np.diff(masks.image, append=-1) != 0
    canvas: Tensor | None = None
    for rows, logits in in_batches(network, images, normalisation, size):
        on_batch(rows, logits)
        for row, scores in zip(range(rows.start, rows.stop), logits, strict=True):
            image = int(masks.image[row])
            height, width = masks.sizes[image].tolist()
            if masks.corners is None:
                yield image, enlarge(scores[None], (height, width))[0]
                continue
            if canvas is None:
                canvas = scores.new_zeros(len(scores), height, width)
                seen = scores.new_zeros(height, width)
            top, left = masks.corners[row].tolist()
            window = (slice(top, top + scores.shape[1]), slice(left, left + scores.shape[2]))
            there = canvas[:, *window]
            cut = scores[:, : there.shape[1], : there.shape[2]]
            # A running mean, so that the canvas is right whichever tile was the last.
            seen[window] += 1
            there += (cut - there) / seen[window]
            if last_of_image[row]:
                yield image, canvas
                canvas = None


def reach(part: Split, class_names: Sequence[str], most: int = 32) -> dict[str, float]:
    """Return the Dice that a network right in every pixel would have at the images' own size.

    Below 1 is what its size cannot show: masks are resized to it and, as logits are, enlarged.

    Args:
        part: Of whole images; its masks are kept at their own size.
        class_names: One per class.
        most: Images that are looked at, evenly spaced.

    Returns:
        By each class that counts and is there, the mean over the images that have it.
    """
    masks = part.masks
    assert masks is not None
    counts = []
    for image in np.unique(np.linspace(0, masks.images - 1, most).astype(int)).tolist():
        shown = torch.from_numpy(np.array(masks.resized[image])).long()
        layers = torch.stack([shown == label for label in range(len(class_names))]).float()
        truth = masks.original(image)
        predicted = classes_of(enlarge(layers[None], truth.shape)[0])
        counts.append(confusion(predicted, truth, len(class_names)))
    each = shares(np.stack(counts))["dice"]
    return {
        class_names[label]: float(np.nanmean(each[:, label]))
        for label in scored_classes(class_names)
        if not np.isnan(each[:, label]).all()
    }


def classes_of(logits: Tensor) -> NDArray[np.uint8]:
    """Return the class of each pixel (h, w), from logits (K, h, w)."""
    mask: NDArray[np.uint8] = _largest(logits, 0).to(torch.uint8).cpu().numpy()
    return mask


def _largest(logits: Tensor, dim: int) -> Tensor:
    """Return the place of the largest value along a short dimension, the first of equals.

    As `argmax`, which on a CPU takes several times as long over a dimension that is not the last.
    """
    best, *others = logits.unbind(dim)
    place = torch.zeros_like(best, dtype=torch.int64)
    for number, values in enumerate(others, 1):
        larger = values > best
        place.masked_fill_(larger, number)
        best = torch.where(larger, values, best)
    return place
