"""Decoders: from the maps of a ResNet's stem and stages to a mask of the image's size.

    unet  Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597, on a ResNet: from the last
          stage upwards, y = conv3x3(conv3x3(cat[up(y), skip])), each with normalisation and ReLU;
          skips are the other stages and the stem where its map is larger than stage 1's
    fpn   Kirillov et al. 2019, Panoptic Feature Pyramid Networks,
          https://arxiv.org/abs/1901.02446, section 3: p_k = conv1x1(stage k) + up(p_{k+1}); a
          3x3 convolution on each, brought to the size of the largest one and summed
    fcn   Long et al. 2015, https://arxiv.org/abs/1411.4038, as FCN-8s: class scores of the last
          three stages, each brought to the next larger one's size and added
    aspp  Chen et al. 2018, DeepLabv3+, https://arxiv.org/abs/1802.02611: a 1x1 and three dilated
          3x3 convolutions and the mean of the last stage, together; then with stage 1 through two
          3x3 convolutions. The paper's dilations 6, 12, 18 are of a last stage at a sixteenth of
          the image; here they follow the last stage's stride s as 6 * 16 / s and its multiples

Enlarging is bilinear. Every decoder ends in a 1x1 convolution to the classes and one enlargement
to the image's size. After each of its steps there is a site, ``decoder1``, ``decoder2``, ...

Shapes are (B, C, H, W): batch, channels, height, width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks.hosts.host import Inserted
from attnsearch.blocks.hosts.pyramid import Pyramid
from attnsearch.blocks.hosts.sizes import Size

DILATION = 6  # of a last stage with a stride of 16
LOW_LEVEL = 48 / 256  # of the decoder's width: what DeepLabv3+ keeps of stage 1


class Decoder(nn.Module, ABC):
    """What turns an encoder's maps into logits (B, classes, H, W) of the image's size."""

    def forward(
        self, stem: Tensor, stages: Sequence[Tensor], image: Size, inserted: Inserted
    ) -> Tensor:
        """Return the encoder's maps to logits.

        Args:
            stem: Before the stem's pooling, (B, C, H, W).
            stages: After each stage.
            image: (height, width) of the image.
            inserted: The blocks added at the decoder's sites.
        """
        return enlarge(self.logits(stem, stages, inserted), image)

    @abstractmethod
    def logits(self, stem: Tensor, stages: Sequence[Tensor], inserted: Inserted) -> Tensor:
        """Return logits (B, classes, h, w) at the decoder's largest size."""


class UNet(Decoder):
    """As the module says; its steps have the width of the stage whose size they reach, or 16."""

    def __init__(self, maps: Pyramid, classes: int) -> None:
        super().__init__()
        channels = maps.stages[-1].channels
        self.has_stem = maps.stem is not None
        self.steps = nn.ModuleList()
        for skip in maps.skips:
            joined = channels + skip.channels
            self.steps.append(
                nn.Sequential(_unit(joined, skip.step, 3), _unit(skip.step, skip.step, 3))
            )
            channels = skip.step
        self.head = _scores(channels, classes)

    def logits(self, stem: Tensor, stages: Sequence[Tensor], inserted: Inserted) -> Tensor:
        """Return logits (B, classes, h, w) at the size of the largest skip."""
        y = stages[-1]
        skips = [*stages[-2::-1], *([stem] if self.has_stem else [])]
        for number, (step, skip) in enumerate(zip(self.steps, skips, strict=True), 1):
            y = step(torch.cat([enlarge(y, skip.shape[2:]), skip], 1))
            y = inserted.at(f"decoder{number}", y)
        logits: Tensor = self.head(y)
        return logits


class FPN(Decoder):
    """As the module says; the sum has half the pyramid's channels, as in the paper."""

    def __init__(self, maps: Pyramid, classes: int) -> None:
        super().__init__()
        width = maps.width
        self.lateral = nn.ModuleList(nn.Conv2d(stage.channels, width, 1) for stage in maps.stages)
        self.smooth = nn.ModuleList(_unit(width, width // 2, 3) for _ in maps.stages)
        self.head = _scores(width // 2, classes)

    def logits(self, stem: Tensor, stages: Sequence[Tensor], inserted: Inserted) -> Tensor:
        """Return logits (B, classes, h, w) at the size of stage 1."""
        size = stages[0].shape[2:]
        above: Tensor | None = None
        total: Tensor | None = None
        for number in range(1, len(stages) + 1):
            level = self.lateral[-number](stages[-number])
            if above is not None:
                level = level + enlarge(above, level.shape[2:])
            above = inserted.at(f"decoder{number}", level)
            part = enlarge(self.smooth[-number](above), size)
            total = part if total is None else total + part
        logits: Tensor = self.head(total)
        return logits


class FCN(Decoder):
    """As the module says; a 3x3 convolution stands for the fully connected layers of the paper."""

    def __init__(self, maps: Pyramid, classes: int) -> None:
        super().__init__()
        last = maps.stages[-1]
        self.conv = _unit(last.channels, last.planes, 3)
        self.head = _scores(last.planes, classes)
        skips = maps.stages[-2:-4:-1]
        self.scores = nn.ModuleList(_scores(skip.channels, classes) for skip in skips)

    def logits(self, stem: Tensor, stages: Sequence[Tensor], inserted: Inserted) -> Tensor:
        """Return logits (B, classes, h, w) at the size of the third last stage."""
        y: Tensor = self.head(inserted.at("decoder1", self.conv(stages[-1])))
        for score, skip in zip(self.scores, stages[-2:-4:-1], strict=True):
            y = enlarge(y, skip.shape[2:]) + score(skip)
        return y


class ASPP(Decoder):
    """As the module says.

    The mean of the last stage has no normalisation: its batch statistics would need more than one
    image, and give that image's own place away where there are few.
    """

    def __init__(self, maps: Pyramid, classes: int) -> None:
        super().__init__()
        last, first, width = maps.stages[-1], maps.stages[0], maps.width
        stride = max(1, round(max(maps.image) / max(last.size)))
        dilation = max(1, round(DILATION * 16 / stride))
        dilated = (_unit(last.channels, width, 3, factor * dilation) for factor in (1, 2, 3))
        self.branches = nn.ModuleList([_unit(last.channels, width, 1), *dilated])
        self.mean = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(last.channels, width, 1), nn.ReLU(inplace=True)
        )
        self.project = _unit(5 * width, width, 1)
        low = max(1, round(LOW_LEVEL * width))
        self.low = _unit(first.channels, low, 1)
        self.fuse = nn.Sequential(_unit(width + low, width, 3), _unit(width, width, 3))
        self.head = _scores(width, classes)

    def logits(self, stem: Tensor, stages: Sequence[Tensor], inserted: Inserted) -> Tensor:
        """Return logits (B, classes, h, w) at the size of stage 1."""
        x, first = stages[-1], stages[0]
        mean = self.mean(x).expand(-1, -1, *x.shape[2:])
        y = self.project(torch.cat([*(branch(x) for branch in self.branches), mean], 1))
        y = enlarge(inserted.at("decoder1", y), first.shape[2:])
        y = inserted.at("decoder2", self.fuse(torch.cat([y, self.low(first)], 1)))
        logits: Tensor = self.head(y)
        return logits


_CLASSES: dict[str, Callable[[Pyramid, int], Decoder]] = {
    "unet": UNet,
    "fpn": FPN,
    "fcn": FCN,
    "aspp": ASPP,
}


def decoder_class(name: str) -> Callable[[Pyramid, int], Decoder]:
    """Return the class of a decoder of `DECODERS`."""
    return _CLASSES[name]


def make_heads(stages: Sequence[str], maps: Pyramid, classes: int) -> dict[str, nn.Module]:
    """Return auxiliary heads by stage: a 3x3 convolution, then one to the classes.

    Zhao et al. 2017, PSPNet, https://arxiv.org/abs/1612.01105, section 3.3.
    """
    heads: dict[str, nn.Module] = {}
    for stage in stages:
        channels = maps.stages[int(stage.removeprefix("layer")) - 1].channels
        inner = max(1, channels // 4)
        heads[stage] = nn.Sequential(_unit(channels, inner, 3), _scores(inner, classes))
    return heads


def enlarge(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return a map (B, C, H, W) at another size, bilinearly; itself where it has that size."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def _unit(channels: int, out: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    """Return a convolution of the same size out, normalisation and ReLU."""
    conv = nn.Conv2d(
        channels, out, kernel, padding=kernel // 2 * dilation, dilation=dilation, bias=False
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def _scores(channels: int, classes: int) -> nn.Conv2d:
    """Return a 1x1 convolution to the logits of the classes.

    It starts without a bias and with the weights of Glorot and Bengio 2010. With PyTorch's start
    the bias, or a few weights on maps that are never negative, can put one class ahead in every
    pixel, and a narrow network with a rare class may stay there.
    """
    conv = nn.Conv2d(channels, classes, 1)
    nn.init.xavier_uniform_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv
