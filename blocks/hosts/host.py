"""What every host network has: sites with chains of added blocks, and where it came from.

Inserted blocks belong to the network (`Host.inserted`), not to the parts between which they stand,
so that no state-dict name of the host changes. Shapes are (B, C, H, W): batch, channels, height,
width.
"""

from typing import Any

from torch import Tensor, nn

from attnsearch.blocks.hosts.weights import WeightsReport


class Inserted(nn.ModuleDict):
    """The added blocks: for each site, by its name with ``_`` for dots, a chain run in order."""

    def at(self, site: str, x: Tensor) -> Tensor:
        """Return what the blocks at a site make of x; x itself where there are none."""
        y: Tensor = self[site](x) if site in self else x
        return y


NOTHING = Inserted()
"""For a part of a host that holds no added blocks."""


class HostBlock(nn.Module):
    """A residual block with sites.

    Attributes:
        site: Name of the block in the network, with ``_`` for dots: ``layer1_0``.
        relu: The activation, in place.
        downsample: Shortcut where the shape changes; None for the identity.
    """

    site: str
    relu: nn.Module
    downsample: nn.Module | None

    def add_shortcut(self, residual: Tensor, x: Tensor, inserted: Inserted) -> Tensor:
        """Return the activation of a residual plus the shortcut, with the blocks added there.

        Args:
            residual: What the block's convolutions make of its input.
            x: The block's input.
            inserted: The network's added blocks.
        """
        y = inserted.at(f"{self.site}_residual", residual)
        shortcut = x if self.downsample is None else self.downsample(x)
        # Not in place: an inserted block may need its output for the backward pass.
        return inserted.at(self.site, self.relu(y + shortcut))


class Host(nn.Module):
    """A network with sites.

    Attributes:
        segments: Whether it gives a class for each pixel, and not one for the image.
        inserted: The added blocks; state-dict names ``inserted.<site, dots as _>.<index>.``
        auxiliary: Heads that training alone uses: in classification one for each block with a
            side loss, state-dict names ``auxiliary.<site, dots as _>.<index>.``; in segmentation
            those of ``network.aux_heads``, ``auxiliary.head_<stage>.``
        head_logits: What the latter made of the last forward pass in training mode, by stage.
        side_paths: For each of these blocks its site, its index there, and its module path.
        config: The resolved config that the network was built from.
        input_shape: (channels, height, width) of an image.
        weights_report: What was loaded from ``network.weights``; None without it.
    """

    segments: bool = False
    config: dict[str, Any]
    input_shape: tuple[int, int, int]
    side_paths: list[tuple[str, int, str]]
    weights_report: WeightsReport | None

    def __init__(self) -> None:
        super().__init__()
        self.inserted = Inserted()
        self.auxiliary = nn.ModuleDict()
        self.side_paths = []
        self.weights_report = None
        self.head_logits: dict[str, Tensor] = {}

    def follow(self, site: str) -> None:
        """Run what is inserted at a site where it stands; our hosts do that as they are."""

    def replace(self, path: str, block: nn.Module) -> None:
        """Put a block in place of a module."""
        parent, _, attribute = path.rpartition(".")
        setattr(self.get_submodule(parent), attribute, block)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the heads' logits out of copies: they belong to one step's graph."""
        return {**self.__dict__, "head_logits": {}}
