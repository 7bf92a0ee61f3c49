"""The published host networks, transcribed plainly: the oracle of their numerics tests.

As in `tests/naive.py`, each function takes the map `x` and a mapping `p` from state-dict names to
tensors, and with `training=True` writes the running statistics it arrives at into `p`. MedT's
patches go through the local branch one after another.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.naive import Tensors, axial, batch_norm, scconv, under


def part(function, x: Tensor, p: Tensors, prefix: str, **settings) -> Tensor:
    """Run a function on the tensors under a prefix, and keep what it changes."""
    inside = under(p, prefix)
    y = function(x, inside, **settings)
    p.update({prefix + name: tensor for name, tensor in inside.items()})
    return y


def conv(x: Tensor, p: Tensors, name: str, stride: int = 1, groups: int = 1, dilation: int = 1):
    weight = p[f"{name}.weight"]
    padding = dilation * (weight.shape[-1] // 2)
    return F.conv2d(x, weight, p.get(f"{name}.bias"), stride, padding, dilation, groups)


def shortcut(x: Tensor, p: Tensors, stride: int, training: bool) -> Tensor:
    if "downsample.2.weight" in p:
        if stride > 1:
            x = F.avg_pool2d(x, stride, ceil_mode=True, count_include_pad=False)
        return batch_norm(conv(x, p, "downsample.1"), p, "downsample.2", training)
    if "downsample.0.weight" in p:
        return batch_norm(conv(x, p, "downsample.0", stride), p, "downsample.1", training)
    return x


def axial_block(x: Tensor, p: Tensors, stride: int = 1, training: bool = False) -> Tensor:
    y = F.relu(batch_norm(conv(x, p, "conv_down"), p, "bn1", training))
    gated, position = "hight_block.f_qr" in p, "hight_block.relative" in p
    y = axial(y, p, 8, stride, gated, position, training=training)
    y = batch_norm(conv(F.relu(y), p, "conv_up"), p, "bn2", training)
    return F.relu(y + shortcut(x, p, stride, training))


def sc_bottleneck(
    x: Tensor,
    p: Tensors,
    stride: int = 1,
    cardinality: int = 1,
    avd: bool = False,
    dilation: int = 1,
    is_first: bool = False,
    training: bool = False,
) -> Tensor:
    pooled = avd and (stride > 1 or is_first)
    inside = 1 if pooled else stride
    a = F.relu(batch_norm(conv(x, p, "conv1_a"), p, "bn1_a", training))
    a = conv(a, p, "k1.0", inside, cardinality, dilation)
    a = F.relu(batch_norm(a, p, "k1.1", training))
    b = F.relu(batch_norm(conv(x, p, "conv1_b"), p, "bn1_b", training))
    settings = {"stride": inside, "dilation": dilation, "groups": cardinality}
    b = F.relu(part(scconv, b, p, "scconv.", training=training, **settings))
    if pooled:
        a, b = F.avg_pool2d(a, 3, stride, 1), F.avg_pool2d(b, 3, stride, 1)
    y = batch_norm(conv(torch.cat([a, b], 1), p, "conv3"), p, "bn3", training)
    return F.relu(y + shortcut(x, p, stride, training))


def classifier(x: Tensor, p: Tensors, training: bool = False) -> Tensor:
    """SCNet and the axial ResNet with an ImageNet stem, which variant by the names in `p`."""
    deep = "conv1.0.weight" in p
    if deep:
        x = F.relu(batch_norm(conv(x, p, "conv1.0", 2), p, "conv1.1", training))
        x = F.relu(batch_norm(conv(x, p, "conv1.3"), p, "conv1.4", training))
        x = conv(x, p, "conv1.6")
    else:
        x = conv(x, p, "conv1", 2)
    x = F.max_pool2d(F.relu(batch_norm(x, p, "bn1", training)), 3, 2, 1)
    for name, stride in blocks(p, "layer"):
        if f"{name}.conv3.weight" in p:
            x = part(sc_bottleneck, x, p, f"{name}.", stride=stride, avd=deep, training=training)
        else:
            x = part(axial_block, x, p, f"{name}.", stride=stride, training=training)
    return F.linear(x.mean((2, 3)), p["fc.weight"], p["fc.bias"])


def blocks(p: Tensors, prefix: str, suffix: str = "") -> list[tuple[str, int]]:
    """Names of the residual blocks in order, with their strides."""
    found = []
    for stage in (1, 2, 3, 4):
        for block in range(30):
            name = f"{prefix}{stage}{suffix}.{block}"
            if any(key.startswith(f"{name}.") for key in p):
                found.append((name, 2 if stage > 1 and block == 0 else 1))
    return found


def double(x: Tensor) -> Tensor:
    return F.relu(F.interpolate(x, scale_factor=(2, 2), mode="bilinear"))


def branch(x: Tensor, p: Tensors, suffix: str, training: bool) -> Tensor:
    for number, stride in ((1, 2), (2, 1), (3, 1)):
        x = conv(x, p, f"conv{number}{suffix}", stride)
        x = F.relu(batch_norm(x, p, f"bn{number}{suffix}", training))
    maps: dict[str, Tensor] = {}
    for name, stride in blocks(p, "layer", suffix):
        x = part(axial_block, x, p, f"{name}.", stride=stride, training=training)
        maps[name.split(".")[0][5]] = x
    if "4" in maps:
        x = double(conv(x, p, f"decoder1{suffix}", 2)) + maps["4"]
        x = double(conv(x, p, f"decoder2{suffix}")) + maps["3"]
        x = double(conv(x, p, f"decoder3{suffix}")) + maps["2"]
    x = double(conv(x, p, f"decoder4{suffix}")) + maps["1"]
    return double(conv(x, p, f"decoder5{suffix}"))


def segmenter(x: Tensor, p: Tensors, training: bool = False) -> Tensor:
    """The axial U-Nets, MedT and LoGo, which of them by the names in `p`."""
    y = branch(x, p, "", training)
    if "decoderf.weight" in p:
        h, w = x.shape[2] // 4, x.shape[3] // 4
        local = torch.empty_like(y)
        for i in range(4):
            for j in range(4):
                place = (..., slice(i * h, (i + 1) * h), slice(j * w, (j + 1) * w))
                local[place] = branch(x[place], p, "_p", training)
        y = F.relu(conv(y + local, p, "decoderf"))
    return conv(y, p, "adjust")
