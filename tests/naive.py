"""Every block's formula, transcribed plainly: the oracle of the numerics tests.

Each function takes the map `x` (B, C, H, W), a mapping `p` from state-dict names to tensors, and
the hyperparameters. With `training=True` batch normalisations use the batch's statistics and write
the running ones they arrive at into `p`, whose tensors they replace. Each step of a formula is one
ordinary operation of torch, as in the published listings: `benchmarks/blocks.py` measures against
this. Nothing is shared with `attnsearch.blocks`.
"""

import math
from collections.abc import MutableMapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Tensors = MutableMapping[str, Tensor]


def under(p: Tensors, prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in p.items() if k.startswith(prefix)}


def batch_norm(
    x: Tensor, p: Tensors, name: str, training: bool, momentum: float = 0.1, eps: float = 1e-5
) -> Tensor:
    mean, variance = (p[f"{name}.{part}"].clone() for part in ("running_mean", "running_var"))
    weight, bias = p[f"{name}.weight"], p[f"{name}.bias"]
    y = F.batch_norm(x, mean, variance, weight, bias, training, momentum, eps)
    if training:
        p[f"{name}.running_mean"], p[f"{name}.running_var"] = mean, variance
        p[f"{name}.num_batches_tracked"] = p[f"{name}.num_batches_tracked"] + 1
    return y


def pointwise(x: Tensor, p: Tensors, name: str) -> Tensor:
    weight = p[f"{name}.weight"].flatten(1)
    convolve = {2: F.linear, 3: F.conv1d, 4: F.conv2d}[x.dim()]
    return convolve(x, weight[(...,) + (None,) * (x.dim() - 2)], p.get(f"{name}.bias"))


def identity(x: Tensor, p: Tensors, training: bool = False) -> Tensor:
    return x


def conv1x1(x: Tensor, p: Tensors, stride: int = 1, training: bool = False) -> Tensor:
    return pointwise(x[:, :, ::stride, ::stride], p, "conv")


def bottleneck1x1(x: Tensor, p: Tensors, training: bool = False) -> Tensor:
    return x + pointwise(F.relu(pointwise(x, p, "reduce")), p, "expand")


def se(x: Tensor, p: Tensors, training: bool = False) -> Tensor:
    s = x.mean((2, 3))
    return x * torch.sigmoid(pointwise(F.relu(pointwise(s, p, "fc1")), p, "fc2"))[:, :, None, None]


def eca(x: Tensor, p: Tensors, training: bool = False) -> Tensor:
    weight = p["conv.weight"]
    gate = F.conv1d(x.mean((2, 3))[:, None], weight, padding=weight.shape[-1] // 2)[:, 0]
    return x * torch.sigmoid(gate)[:, :, None, None]


def cbam(x: Tensor, p: Tensors, training: bool = False) -> Tensor:
    def mlp(v: Tensor) -> Tensor:
        return pointwise(F.relu(pointwise(v, p, "ChannelGate.mlp.1")), p, "ChannelGate.mlp.3")

    z = x * torch.sigmoid(mlp(x.mean((2, 3))) + mlp(x.amax((2, 3))))[:, :, None, None]
    pooled = torch.stack([z.max(1).values, z.mean(1)], 1)
    weight = p["SpatialGate.spatial.conv.weight"]
    gate = F.conv2d(pooled, weight, padding=weight.shape[-1] // 2)
    gate = batch_norm(gate, p, "SpatialGate.spatial.bn", training, momentum=0.01)
    return z * torch.sigmoid(gate)


def coordinate(x: Tensor, p: Tensors, training: bool = False) -> Tensor:
    H = x.shape[2]
    pooled = torch.cat([x.mean(3), x.mean(2)], 2)[..., None]
    q = batch_norm(pointwise(pooled, p, "conv1"), p, "bn1", training)
    q = (q * (q + 3).clamp(0, 6) / 6).squeeze(-1)
    rows = torch.sigmoid(pointwise(q[:, :, :H], p, "conv_h"))
    columns = torch.sigmoid(pointwise(q[:, :, H:], p, "conv_w"))
    return x * rows[:, :, :, None] * columns[:, :, None, :]


def simam(x: Tensor, p: Tensors, e_lambda: float = 1e-4, training: bool = False) -> Tensor:
    n = max(1, x.shape[2] * x.shape[3] - 1)
    d = (x - x.mean((2, 3), keepdim=True)) ** 2
    v = d.sum((2, 3), keepdim=True) / n
    return x * torch.sigmoid(d / (4 * (v + e_lambda)) + 0.5)


def nonlocal_(
    x: Tensor, p: Tensors, mode: str = "embedded_gaussian", training: bool = False
) -> Tensor:
    B, _, H, W = x.shape
    theta, phi, g = (pointwise(x, p, name).flatten(2) for name in ("theta", "phi", "g"))
    similarity = torch.einsum("bci,bcj->bij", theta, phi)
    weights = similarity / (H * W) if mode == "dot" else similarity.softmax(2)
    y = torch.einsum("bij,bcj->bci", weights, g).reshape(B, -1, H, W)
    return x + batch_norm(pointwise(y, p, "W.0"), p, "W.1", training)


def gc(
    x: Tensor,
    p: Tensors,
    pooling: str = "att",
    fusion: Sequence[str] = ("add",),
    training: bool = False,
) -> Tensor:
    B, C, H, W = x.shape
    if pooling == "att":
        weights = pointwise(x, p, "conv_mask").reshape(B, H * W).softmax(1)
        context = torch.einsum("bcn,bn->bc", x.reshape(B, C, H * W), weights)
    else:
        context = x.reshape(B, C, H * W).mean(2)

    def transform(name: str) -> Tensor:
        h = pointwise(context, p, f"{name}.0")
        h = (h - h.mean(1, keepdim=True)) / torch.sqrt(h.var(1, False, keepdim=True) + 1e-5)
        h = h * p[f"{name}.1.weight"].flatten() + p[f"{name}.1.bias"].flatten()
        return pointwise(F.relu(h), p, f"{name}.3")[:, :, None, None]

    if "mul" in fusion:
        x = x * torch.sigmoid(transform("channel_mul_conv"))
    if "add" in fusion:
        x = x + transform("channel_add_conv")
    return x


def psa(
    x: Tensor,
    p: Tensors,
    kernels: Sequence[int] = (3, 5, 7, 9),
    groups: Sequence[int] = (1, 4, 8, 16),
    stride: int = 1,
    training: bool = False,
) -> Tensor:
    features, gates = [], []
    for i, (k, group) in enumerate(zip(kernels, groups, strict=True), start=1):
        weight = p[f"conv_{i}.weight"]
        feature = F.conv2d(x, weight, stride=stride, padding=k // 2, groups=group)
        hidden = F.relu(pointwise(feature.mean((2, 3)), p, "se.fc1"))
        features.append(feature)
        gates.append(torch.sigmoid(pointwise(hidden, p, "se.fc2")))
    weights = torch.stack(gates, 1).softmax(1)
    out = None
    for i, feature in enumerate(features):
        weighted = feature * weights[:, i, :, None, None]
        out = weighted if out is None else torch.cat([weighted, out], 1)
    return out


def scconv(
    x: Tensor,
    p: Tensors,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    pooling_ratio: int = 4,
    training: bool = False,
) -> Tensor:
    _, _, H, W = x.shape
    r = pooling_ratio

    def unit(v: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        weight = p[f"{conv}.weight"]
        y = F.conv2d(v, weight, None, stride, dilation, dilation, groups)
        return batch_norm(y, p, norm, training)

    coarse = unit(F.avg_pool2d(x, r), "k2.1", "k2.2")
    up = F.interpolate(coarse, size=(H, W), mode="nearest")
    return unit(unit(x, "k3.0", "k3.1") * torch.sigmoid(x + up), "k4.0", "k4.1", stride)


def axial_attention(
    x: Tensor,
    p: Tensors,
    heads: int = 8,
    stride: int = 1,
    axis: str = "height",
    gated: bool = False,
    position: bool = True,
    gate_position: str = "pre_bn",
    training: bool = False,
) -> Tensor:
    if axis == "width":
        swapped = axial_attention(
            x.transpose(2, 3), p, heads, 1, "height", gated, position, gate_position, training
        ).transpose(2, 3)
        return F.avg_pool2d(swapped, stride) if stride > 1 else swapped
    B, C, L, M = x.shape
    lines = x.permute(0, 3, 1, 2).reshape(B * M, C, L)
    qkv = batch_norm(pointwise(lines, p, "qkv_transform"), p, "bn_qkv", training)
    c = qkv.shape[1] // (2 * heads)
    qkv = qkv.reshape(B * M, heads, 2 * c, L)
    q, k, v = qkv[:, :, : c // 2], qkv[:, :, c // 2 : c], qkv[:, :, c:]
    terms = [torch.einsum("ngci,ngcj->ngij", q, k)]
    one = torch.ones((), dtype=x.dtype, device=x.device)
    f_qr, f_kr, f_sve, f_sv = (p[n] if gated else one for n in ("f_qr", "f_kr", "f_sve", "f_sv"))
    pre = gate_position == "pre_bn"
    if position:
        places = torch.arange(L, device=x.device)
        distances = places[:, None] - places[None, :]
        r = p["relative"].index_select(1, distances.flatten() + L - 1).view(-1, L, L)  # (2c, i, j)
        r_q, r_k, r_v = r[: c // 2], r[c // 2 : c], r[c:]
        qr = torch.einsum("ngci,cij->ngij", q, r_q)
        kr = torch.einsum("ngci,cij->ngij", k, r_k).transpose(2, 3)
        terms += [f_qr * qr, f_kr * kr] if pre else [qr, kr]
    s = batch_norm(torch.cat(terms, 1), p, "bn_similarity", training)
    s = s.reshape(B * M, len(terms), heads, L, L)
    if position and not pre:
        s = s * torch.stack([one, f_qr, f_kr]).view(1, 3, 1, 1, 1)
    a = s.sum(1).softmax(3)
    values = torch.einsum("ngij,ngcj->ngci", a, v)
    if position:
        positions = torch.einsum("ngij,cij->ngci", a, r_v)
        pair = [f_sv * values, f_sve * positions] if pre else [values, positions]
        values = torch.cat(pair, -1).reshape(B * M, 2 * heads * c, L)
    y = batch_norm(values.reshape(B * M, -1, L), p, "bn_output", training)
    y = y.reshape(B, M, heads * c, -1, L)
    if position and not pre:
        y = y * torch.stack([f_sv, f_sve]).view(1, 1, 1, 2, 1)
    y = y.sum(3).permute(0, 2, 3, 1)
    return F.avg_pool2d(y, stride) if stride > 1 else y


def axial(
    x: Tensor,
    p: Tensors,
    heads: int = 8,
    stride: int = 1,
    gated: bool = False,
    position: bool = True,
    gate_position: str = "pre_bn",
    training: bool = False,
) -> Tensor:
    for name, axis in (("hight_block.", "height"), ("width_block.", "width")):
        part = under(p, name)
        x = axial_attention(x, part, heads, 1, axis, gated, position, gate_position, training)
        p.update({name + k: v for k, v in part.items()})
    return F.avg_pool2d(x, stride, ceil_mode=True) if stride > 1 else x


def ecrm(x: Tensor, p: Tensors, training: bool = False, compat: str | None = None) -> Tensor:
    """The module with its bank; `compat="official"` is the published listing, `flag="train"`.

    The bank's names in `p` are `bank`, `bank_ptr` and `count`; slots are kept as the mode says.
    """
    B, _, H, W = x.shape

    def unit(v: Tensor, name: str) -> Tensor:
        return F.relu(batch_norm(pointwise(v, p, f"{name}.0"), p, f"{name}.1", training))

    logits = pointwise(x, p, "L").flatten(2)
    features = F.conv2d(x, p["X.0.weight"], padding=1)
    features = F.relu(batch_norm(features, p, "X.1", training))
    flat = features.flatten(2)
    prototype = torch.einsum("bnp,bdp->bdn", logits.softmax(2), flat)

    bank, pointer, count = p["bank"].clone(), int(p["bank_ptr"]), int(p["count"])
    if training or compat:
        S = len(bank)
        for one in prototype.detach():
            if compat and pointer == S:
                break
            bank[pointer % S] = one
            pointer += 1
            count = min(count + 1, S)
            pointer = pointer if compat else pointer % S
        pointer %= S
        p["bank"], p["bank_ptr"] = bank, torch.tensor([pointer])
        p["count"] = torch.tensor([count])

    slots = bank[:count]
    if compat:
        keys, query = unit(slots, "phi").squeeze(2), unit(flat, "psi")
        attention = torch.einsum("sk,bkp->psb", keys, query).softmax(2)
        values = unit(slots, "delta").squeeze(2)
        context = torch.einsum("psb,sk->pkb", attention, values)
        context = unit(context, "rho").contiguous().view(B, -1, H, W)
    else:
        query = unit(flat, "psi")
        if count:
            keys, values = unit(slots, "phi"), unit(slots, "delta")
            attention = torch.einsum("bkp,skn->bpsn", query, keys).flatten(2).softmax(2)
            context = torch.einsum("bpm,mk->bkp", attention, values.transpose(1, 2).flatten(0, 1))
        else:
            keys, values = unit(prototype, "phi"), unit(prototype, "delta")
            attention = torch.einsum("bkp,bkn->bpn", query, keys).softmax(2)
            context = torch.einsum("bpn,bkn->bkp", attention, values)
        context = unit(context, "rho").reshape(B, -1, H, W)
    return unit(torch.cat([features, context], 1), "g")


def eca_kernel(channels: int) -> int:
    """The paper's kernel length: the odd number at or above |log2(C) / 2 + 1/2|, truncated."""
    t = int(abs(math.log2(channels) / 2 + 0.5))
    return t if t % 2 else t + 1
