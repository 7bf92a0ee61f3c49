"""MedT, LoGo and the axial U-Nets for segmentation.

Valanarasu et al.: Medical Transformer: Gated Axial-Attention for Medical Image Segmentation,
MICCAI 2021, https://arxiv.org/abs/2102.10662 (names as in jeya-maria-jose/Medical-Transformer)

    stem          7x7 stride 2, 3x3 to 128 channels, 3x3, each with BN and relu; no pooling
    layer1..4     axial blocks, 1, 2, 4 and 1 of them, strides 1, 2, 2, 2
    up(c, x)      relu(bilinear_x2(c(x))), c a 3x3 convolution with bias
    axial U-Net   d = up(decoder1, x4) + x4          decoder1 has stride 2
                  d = up(decoder2, d) + x3, up(decoder3, d) + x2, up(decoder4, d) + x1
                  y = adjust(up(decoder5, d))                                   1x1 to the classes
    MedT, LoGo    global: layers 1 and 2 of the image, d = up(decoder5, up(decoder4, x2) + x1)
                  local: a whole axial U-Net (names with _p) on each of 4x4 patches, up to its
                  decoder5, put together again
                  y = adjust(relu(decoderf(global + local)))

``axial_unet`` has ungated attention, ``gated_axial_unet`` gated; LoGo is ungated in both branches;
MedT's global branch is gated, and its local one has no position terms.

What the published code settles, and what is different here:

* It cuts 32-pixel patches whatever the image; here a patch is a quarter of each side, which is the
  same at 128 pixels, its only size that works. Sides are multiples of 32 for the U-Nets, whose
  stride-2 decoder needs even maps, and so of 128 for MedT and LoGo.
* The patches pass at once, with the statistics that one after another gives (`patches`). So each
  is normalised by itself in training and by the average of all in evaluation: on few images the
  two differ much. ``network.joint_patches: true`` normalises the patches of a batch together.
* The gates start at 0.1 and 1 and are frozen. The published trainer releases them, with all other
  parameters, after ten epochs: `AxialUNet.learn_gates`, or from the start by
  ``network.learn_gates: true``.
* ``adjust_p``, and ``conv1`` of every block without position terms, are never run; they are kept
  because checkpoints hold them. They get no gradient (`dead_parameters`).
* Initialisation is torch's default but for the attention's. The last normalisation of a block is
  not zeroed: the code takes `zero_init_residual` and ignores it.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks.hosts import patches
from attnsearch.blocks.hosts.axial_block import NEVER_RUN, AxialBlock, normalisation, projection
from attnsearch.blocks.hosts.backbones import HEADS, Backbone
from attnsearch.blocks.hosts.host import NOTHING, Host
from attnsearch.blocks.hosts.sizes import Size, Width, halved

STEM_WIDTH = 128  # of the stem's middle convolution, whatever the width
ROWS = 4  # patches along each side of an image
LOCAL_DEPTHS = (1, 2, 4, 1)


class _Encoding(Host):
    """What both kinds of network do: add the parts of one branch, and run them.

    The names of a branch's parts end with its suffix, which is empty or ``_p``.
    """

    segments = True

    def __init__(
        self, backbone: Backbone, in_channels: int, width: Width, size: Size, learn_gates: bool
    ) -> None:
        """Add the branch that sees the whole image; arguments as of the networks."""
        super().__init__()
        backbone.check_size(size)
        self.widths = backbone.widths(width)
        self.channels = self._add_branch(
            "",
            in_channels,
            backbone.stem_width(width),
            self.widths,
            backbone.depths,
            size,
            gated=backbone.gated,
            learn_gates=learn_gates,
        )

    def _add_branch(
        self,
        suffix: str,
        in_channels: int,
        channels: int,
        widths: tuple[int, ...],
        depths: tuple[int, ...],
        size: Size,
        folding: patches.Folding | None = None,
        rows: int = 1,
        **attention: bool,
    ) -> int:
        """Add stem, stages and decoder of a branch.

        Args:
            suffix: Of the names.
            in_channels: Channels of the images.
            channels: Of the stem's map.
            widths: Of the stages.
            depths: Blocks in each stage.
            size: (H, W) of the image or patch.
            folding: Of patches that are normalised one after another.
            rows: Patches along each side of an image; 1 for images.
            attention: Settings of the axial blocks.

        Returns:
            Channels of the last stage's map.
        """
        stem = (
            (in_channels, channels, 7, 2),
            (channels, STEM_WIDTH, 3, 1),
            (STEM_WIDTH, channels, 3, 1),
        )
        for number, (before, after, kernel, stride) in enumerate(stem, start=1):
            conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
            self.add_module(f"conv{number}{suffix}", conv)
            self.add_module(f"bn{number}{suffix}", normalisation(after, folding))
        size = halved(size)
        for stage, (planes, depth) in enumerate(zip(widths, depths, strict=True), start=1):
            blocks = nn.ModuleList()
            for index in range(depth):
                stride = 2 if stage > 1 and index == 0 else 1
                out_channels = AxialBlock.expansion * planes
                block = AxialBlock(
                    channels,
                    planes,
                    stride,
                    projection(channels, out_channels, stride, folding),
                    HEADS,
                    size,
                    folding=folding,
                    rows=rows,
                    site=f"layer{stage}_{index}",
                    **attention,
                )
                blocks.append(block)
                channels = out_channels
                size = halved(size) if stride == 2 else size
            self.add_module(f"layer{stage}{suffix}", blocks)
        # The last decoders are numbered alike in both branches: decoder5 gives the full size.
        if len(widths) == len(LOCAL_DEPTHS):
            first = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
            self.add_module(f"decoder1{suffix}", first)
        steps = pairwise((2 * widths[-1], *reversed(widths)))
        for number, (before, after) in enumerate(steps, start=6 - len(widths)):
            self.add_module(f"decoder{number}{suffix}", nn.Conv2d(before, after, 3, padding=1))
        return channels

    def _run_branch(self, x: Tensor, suffix: str, stages: int) -> Tensor:
        """Return images (N, C, H, W) to the map before the classes, (N, C', H, W)."""
        inserted = NOTHING if suffix else self.inserted
        for number in (1, 2, 3):
            x = self.get_submodule(f"conv{number}{suffix}")(x)
            x = F.relu(self.get_submodule(f"bn{number}{suffix}")(x), inplace=True)
        x = inserted.at("stem", x)
        maps = []
        for stage in range(1, stages + 1):
            for block in getattr(self, f"layer{stage}{suffix}"):
                x = block(x, inserted)
            x = inserted.at(f"layer{stage}", x)
            maps.append(x)
        if stages == len(LOCAL_DEPTHS):
            x = self._up(f"decoder1{suffix}", x) + x
        for number, skipped in zip(range(6 - stages, 5), reversed(maps[:-1]), strict=True):
            x = self._up(f"decoder{number}{suffix}", x) + skipped
        return self._up(f"decoder5{suffix}", x)

    def _up(self, decoder: str, x: Tensor) -> Tensor:
        """Convolve and double the size."""
        y = self.get_submodule(decoder)(x)
        return F.relu(F.interpolate(y, scale_factor=2.0, mode="bilinear"), inplace=True)

    def learn_gates(self, learn: bool = True) -> None:
        """Train the gates of the attention, or freeze them again; without gates, do nothing.

        Args:
            learn: Whether they are trained from now on. An optimiser made before must have been
                given all parameters.
        """
        for name, parameter in self.named_parameters():
            if name.rpartition(".")[2] in ("f_qr", "f_kr", "f_sve", "f_sv"):
                parameter.requires_grad_(learn)


class AxialUNet(_Encoding):
    """Axial blocks as encoder, convolutions as decoder.

    Args:
        backbone: Depths and widths, and whether the attention is gated.
        in_channels: Channels of the images.
        classes: Channels of the output.
        width: Multiplier of all widths, a whole number.
        size: Height and width of the images in pixels, multiples of 32.
        learn_gates: Whether gates are trained from the start; published ones are not.

    Raises:
        SiteError: The size or the width does not fit.
    """

    def __init__(
        self,
        backbone: Backbone,
        in_channels: int = 3,
        classes: int = 2,
        width: Width = 1.0,
        size: Size = (128, 128),
        learn_gates: bool = False,
    ) -> None:
        super().__init__(backbone, in_channels, width, size, learn_gates)
        self.adjust = nn.Conv2d(self.widths[0], classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return images (B, in_channels, H, W) to logits (B, classes, H, W)."""
        logits: Tensor = self.adjust(self._run_branch(x, "", len(self.widths)))
        return logits


class MedT(_Encoding):
    """A global branch on the image and a local one on its 4x4 patches: MedT and LoGo.

    Args:
        backbone: Depths and widths of the global branch; gated for MedT.
        in_channels: Channels of the images.
        classes: Channels of the output.
        width: Multiplier of all widths, a whole number.
        size: Height and width of the images in pixels, multiples of 128.
        learn_gates: Whether gates are trained from the start; published ones are not.
        joint_patches: Whether the patches of a training batch are normalised together, with the
            statistics that evaluation has the average of; the published ones one after another.

    Raises:
        SiteError: The size or the width does not fit.
    """

    dead_parameters: ClassVar[Mapping[str, str]] = {
        "adjust_p.weight": NEVER_RUN,
        "adjust_p.bias": NEVER_RUN,
    }

    def __init__(
        self,
        backbone: Backbone,
        in_channels: int = 3,
        classes: int = 2,
        width: Width = 1.0,
        size: Size = (128, 128),
        learn_gates: bool = False,
        joint_patches: bool = False,
    ) -> None:
        super().__init__(backbone, in_channels, width, size, learn_gates)
        widths = self.widths
        self.folding = None if joint_patches else patches.Folding(ROWS**2)
        self._add_branch(
            "_p",
            in_channels,
            self.channels,  # the published code keeps counting where the global branch ended
            (*widths, 2 * widths[-1], 4 * widths[-1]),
            LOCAL_DEPTHS,
            (size[0] // ROWS, size[1] // ROWS),
            self.folding,
            ROWS,
            position=not backbone.gated,
        )
        self.decoderf = nn.Conv2d(widths[0], widths[0], 3, padding=1)
        self.adjust = nn.Conv2d(widths[0], classes, kernel_size=1)
        self.adjust_p = nn.Conv2d(widths[0], classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return images (B, in_channels, H, W) to logits (B, classes, H, W)."""
        y = self._run_branch(x, "", len(self.widths))
        if self.training and self.folding is not None:
            self.folding.start()
        local = self._run_branch(patches.split(x, ROWS), "_p", len(LOCAL_DEPTHS))
        if self.training and self.folding is not None:
            self.folding.finish()
        y = F.relu(self.decoderf(y + patches.join(local, ROWS)), inplace=True)
        logits: Tensor = self.adjust(y)
        return logits
