"""Where blocks look: each map against its formula, written out position by position."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnsearch.blocks import Axial, GlobalContext, build_network
from attnsearch.blocks.measure.attention import attention_maps, mapped_blocks
from attnsearch.blocks.mechanisms.ecrm import ECRM


def shaken(block: nn.Module) -> nn.Module:
    """Away from its start, with the running statistics of a few batches."""
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draws))
        for name, buffer in block.named_buffers():
            if name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=draws))
            elif name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=draws))
    return block.eval()


def received(attention: Any, lines: Tensor) -> Tensor:
    """What each position of lines (C, L) gets, by loops over heads, queries and keys."""
    L, c, G = lines.shape[1], attention.head_channels, attention.heads
    norm, similarity = attention.bn_qkv, attention.bn_similarity
    qkv = attention.qkv_transform.weight[:, :, 0] @ lines
    qkv = (qkv - norm.running_mean[:, None]) / (norm.running_var[:, None] + norm.eps).sqrt()
    qkv = (qkv * norm.weight[:, None] + norm.bias[:, None]).view(G, 2 * c, L)
    gates = [1.0, 1.0, 1.0]
    if attention.gated:
        gates = [1.0, float(attention.f_qr), float(attention.f_kr)]
    gained = torch.zeros(L)
    for head in range(G):
        q, k = qkv[head, : c // 2], qkv[head, c // 2 : c]
        for i in range(L):
            scores = []
            for j in range(L):
                terms = [q[:, i] @ k[:, j]]
                if attention.position:
                    table = attention.relative
                    terms.append(q[:, i] @ table[: c // 2, i - j + attention.span - 1])
                    terms.append(k[:, j] @ table[c // 2 : c, j - i + attention.span - 1])
                total = 0.0
                for number, term in enumerate(terms):
                    at = number * G + head
                    spread = math.sqrt(float(similarity.running_var[at]) + similarity.eps)
                    centred = gates[number] * float(term) - float(similarity.running_mean[at])
                    total += centred / spread * float(similarity.weight[at])
                    total += float(similarity.bias[at])
                scores.append(total)
            gained += torch.tensor(scores).softmax(0) / (G * L)
    return gained


@pytest.mark.parametrize("options", [{}, {"gated": True}, {"position": False}])
def test_axial_counts_what_a_position_receives(options: dict[str, Any]) -> None:
    block: Any = shaken(Axial(8, heads=2, size=(3, 5), **options))
    x = torch.randn(1, 8, 3, 5)
    with torch.no_grad():
        columns = torch.stack([received(block.hight_block, x[0, :, :, m]) for m in range(5)], 1)
        middle = block.hight_block(x)
        rows = torch.stack([received(block.width_block, middle[0, :, m]) for m in range(3)])
    found = block.attention_map(x)
    torch.testing.assert_close(found[0], (columns / 5 + rows / 3) / 2, atol=1e-5, rtol=1e-4)


def test_gc_and_ecrm_show_their_pooling_weights() -> None:
    x = torch.randn(2, 8, 3, 4)
    gc: Any = shaken(GlobalContext(8, ratio=0.5))
    weights = gc.attention_map(x)
    # A pooled map is the sum of the positions by these weights.
    pooled = torch.einsum("bchw,bhw->bc", x, weights)
    torch.testing.assert_close(gc._context(x).flatten(1), pooled)
    even: Any = GlobalContext(8, ratio=0.5, pooling="avg")
    assert torch.equal(even.attention_map(x), torch.full((2, 3, 4), 1 / 12))
    ecrm: Any = shaken(ECRM(8, prototypes=2))
    features = []
    ecrm.X.register_forward_hook(lambda _m, _x, y: features.append(y))
    ecrm.train()(x)
    pooled = torch.einsum("bdhw,bhw->bd", features[0], ecrm.attention_map(x))
    torch.testing.assert_close(ecrm.side["prototype"].mean(2), pooled)


def test_maps_of_a_network_come_by_name_and_change_nothing() -> None:
    insert = [
        {"at": "layer3", "block": "gc", "params": {}},
        {"at": "layer3", "block": "ecrm", "params": {}},
        {"at": "layer2.0.after_conv1", "block": "gc", "params": {}},
        {"at": "layer3.2.conv2", "block": "axial", "params": {"heads": 2}},
        {"at": "layer1", "block": "simam", "params": {}},
    ]
    network = {"backbone": "resnet20", "width": 0.5, "decoder": "unet"}
    config = {"task": "segmentation", "network": network, "insert": insert}
    built = build_network(config, 3, 2, (24, 16)).train()
    before = {name: value.clone() for name, value in built.state_dict().items()}
    names = {"gc@layer3", "ecrm@layer3", "gc@layer2.0.after_conv1", "axial@layer3.2.conv2"}
    assert set(mapped_blocks(built)) == names
    maps = attention_maps(built, torch.randn(3, 3, 24, 16))
    assert set(maps) == names
    assert maps["gc@layer2.0.after_conv1"].shape == (3, 12, 8)
    for found in maps.values():
        assert (found >= 0).all()
        torch.testing.assert_close(found.sum((1, 2)), torch.ones(3))
    assert all(torch.equal(before[name], value) for name, value in built.state_dict().items())
    assert all(module.training for module in built.modules())


@pytest.mark.parametrize(
    ("backbone", "size", "sites"),
    [
        ("axial_unet", 32, ["layer1.0", "layer2.1", "layer3.3", "layer4.0"]),
        ("axial_resnet26", 32, ["layer1.0", "layer2.1", "layer3.3", "layer4.0"]),
    ],
)
def test_of_an_axial_network_the_last_block_of_each_stage_is_shown(
    backbone: str, size: int, sites: list[str]
) -> None:
    classifies = backbone.startswith("axial_resnet")
    config = {
        "task": "classification" if classifies else "segmentation",
        "network": {"backbone": backbone},
        "insert": [{"at": "layer2.1.after_conv1", "block": "gc", "params": {}}],
    }
    built = build_network(config, 3, 2, (size, size))
    maps = attention_maps(built, torch.randn(2, 3, size, size))
    assert set(maps) == {*(f"axial@{site}" for site in sites), "gc@layer2.1.after_conv1"}
    for found in maps.values():
        torch.testing.assert_close(found.sum((1, 2)), torch.ones(2))


def test_the_maps_of_patches_are_put_together() -> None:
    """Each patch of the local branch by itself, against the map of the whole image."""
    network = {"backbone": "medt"}
    config = {"task": "segmentation", "network": network, "insert": []}
    built = build_network(config, 3, 2, (128, 128))
    built.eval()
    seen: list[Tensor] = []
    block: Any = built.get_submodule("layer2_p.1")
    block.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    found = attention_maps(built, torch.randn(2, 3, 128, 128))["axial@layer2_p.1"]
    rows, block.rows = block.rows, 1
    apart = torch.cat([block.attention_map(part[None]) for part in seen[0]]) / 16
    block.rows = rows
    h, w = apart.shape[1:]
    assert len(apart) == 2 * 16 and found.shape == (2, 4 * h, 4 * w)
    for number, patch in enumerate(apart):
        image, row, column = number // 16, number % 16 // 4, number % 4
        there = found[image, row * h : (row + 1) * h, column * w : (column + 1) * w]
        torch.testing.assert_close(there, patch)
