"""Every block against the plain transcription of its formula: outputs, gradients, buffers."""

import pytest
import torch
from torch import Tensor, nn

from attnsearch.blocks.mechanisms.axial import Axial, AxialAttention
from attnsearch.blocks.mechanisms.eca import ECA
from attnsearch.blocks.mechanisms.ecrm import ECRM
from attnsearch.blocks.mechanisms.simam import SimAM
from attnsearch.blocks.mechanisms.table import BLOCKS

RELATIVE = 1e-9

# Block, constructor's keywords, naive function, its keywords, channels, size.
CASES = {
    "identity": ("identity", {}, "identity", {}, 8, (5, 4)),
    "conv1x1": ("conv1x1", {"out_channels": 6}, "conv1x1", {}, 8, (5, 4)),
    "conv1x1-s2": ("conv1x1", {"stride": 2}, "conv1x1", {"stride": 2}, 8, (5, 4)),
    "bottleneck1x1": ("bottleneck1x1", {"hidden": 3}, "bottleneck1x1", {}, 8, (5, 4)),
    "se": ("se", {"reduction": 4}, "se", {}, 12, (5, 4)),
    "eca": ("eca", {}, "eca", {}, 64, (5, 4)),
    "eca-k9": ("eca", {"kernel": 9}, "eca", {}, 12, (5, 4)),
    "cbam": ("cbam", {"reduction": 4}, "cbam", {}, 12, (9, 8)),
    "cbam-k3": ("cbam", {"reduction": 4, "kernel": 3}, "cbam", {}, 12, (3, 5)),
    "coordinate": ("coordinate", {}, "coordinate", {}, 16, (5, 7)),
    "simam": ("simam", {}, "simam", {}, 8, (5, 4)),
    "simam-0.1": ("simam", {"e_lambda": 0.1}, "simam", {"e_lambda": 0.1}, 8, (5, 4)),
    "nonlocal": ("nonlocal", {}, "nonlocal_", {}, 8, (5, 4)),
    "nonlocal-dot": ("nonlocal", {"mode": "dot"}, "nonlocal_", {"mode": "dot"}, 8, (5, 4)),
    **{
        f"gc-{pooling}-{'+'.join(fusion)}": (
            "gc",
            {"ratio": 0.25, "pooling": pooling, "fusion": fusion},
            "gc",
            {"pooling": pooling, "fusion": fusion},
            16,
            (5, 4),
        )
        for pooling in ("att", "avg")
        for fusion in (["add"], ["mul"], ["add", "mul"])
    },
    "psa": ("psa", {}, "psa", {}, 64, (6, 5)),
    "psa-s2": ("psa", {"stride": 2, "out_channels": 128}, "psa", {"stride": 2}, 64, (7, 5)),
    "psa-3355": (
        "psa",
        {"kernels": [3, 3, 5, 5], "groups": [1, 1, 2, 2]},
        "psa",
        {"kernels": [3, 3, 5, 5], "groups": [1, 1, 2, 2]},
        16,
        (6, 5),
    ),
    "psa-two": (
        "psa",
        {"kernels": [3, 1], "groups": [2, 1]},
        "psa",
        {"kernels": [3, 1], "groups": [2, 1]},
        8,
        (4, 4),
    ),
    **{
        f"scconv-r{r}-s{stride}-d{dilation}-g{groups}": (
            "scconv",
            {
                "pooling_ratio": r,
                "stride": stride,
                "padding": dilation,
                "dilation": dilation,
                "groups": groups,
            },
            "scconv",
            {"pooling_ratio": r, "stride": stride, "dilation": dilation, "groups": groups},
            8,
            (11, 9),
        )
        for r, stride, dilation, groups in (
            (4, 1, 1, 1),
            (4, 2, 1, 1),
            (2, 1, 2, 1),
            (3, 2, 2, 4),
            (1, 1, 1, 8),
        )
    },
    **{
        f"axial-{name}-s{stride}": (
            "axial",
            {"heads": 4, "size": (6, 5), "stride": stride, **settings},
            "axial",
            {"heads": 4, "stride": stride, **settings},
            16,
            (6, 5),
        )
        for stride in (1, 2)
        for name, settings in {
            "position": {},
            "gated": {"gated": True},
            "post_bn": {"gated": True, "gate_position": "post_bn"},
            "plain": {"position": False},
        }.items()
    },
}


def shake(block: nn.Module) -> nn.Module:
    """Move parameters and running statistics off their start, in float64."""
    block.double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for name, buffer in block.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return block


def assert_close(actual: Tensor, expected: Tensor, what: str) -> None:
    distance = float((actual - expected).detach().norm())
    assert distance <= RELATIVE * float(expected.detach().norm()) + 1e-11, (what, distance)


def gradient(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def assert_equal_to(block: nn.Module, function, settings: dict, x: Tensor) -> None:
    p = {name: value.detach().clone() for name, value in block.state_dict().items()}
    leaves = {name: p[name].requires_grad_() for name, _ in block.named_parameters()}
    x, plain_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    y = block(x)
    plain_y = function(plain_x, p, **settings, training=block.training)
    assert_close(y, plain_y, "output")
    w = torch.randn_like(y)
    (y * w).sum().backward()
    (plain_y * w).sum().backward()
    assert_close(gradient(x), gradient(plain_x), "input gradient")
    for name, parameter in block.named_parameters():
        assert_close(gradient(parameter), gradient(leaves[name]), name)
    for name, buffer in block.named_buffers():
        assert_close(buffer.double(), p[name].double(), name)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("case", CASES)
def test_block_equals_its_formula(case: str, training: bool, naive) -> None:
    name, keywords, function, settings, channels, size = CASES[case]
    torch.manual_seed(0)
    block = shake(BLOCKS[name](channels, **keywords)).train(training)
    x = torch.randn(3, channels, *size, dtype=torch.float64)
    assert_equal_to(block, getattr(naive, function), settings, x)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("axis", ["height", "width"])
@pytest.mark.parametrize(
    ("channels", "heads", "stride", "settings"),
    [
        (6, 2, 2, {}),  # widens
        (16, 8, 1, {"gated": True}),  # queries of one channel
        (16, 1, 2, {"gated": True}),
        (32, 8, 3, {"position": False}),
    ],
    ids=str,
)
def test_axial_attention_equals_its_formula(
    channels: int, heads: int, stride: int, settings: dict, axis: str, training: bool, naive
) -> None:
    torch.manual_seed(0)
    span = 7 if axis == "height" else 6
    block = AxialAttention(channels, 16, heads, span, stride, axis, **settings)
    x = torch.randn(2, channels, 7, 6, dtype=torch.float64)
    settings = {"heads": heads, "stride": stride, "axis": axis, **settings}
    assert_equal_to(shake(block).train(training), naive.axial_attention, settings, x)


def test_axial_attention_follows_the_normalisation_it_replaces(naive) -> None:
    torch.manual_seed(0)
    block = shake(AxialAttention(8, 8, heads=2, span=4))
    block.bn_similarity.momentum = None  # the plain average of all batches
    means = []
    for _ in range(3):
        p = {name: value.clone() for name, value in block.state_dict().items()}
        x = torch.randn(2, 8, 4, 3, dtype=torch.float64)
        p["bn_similarity.running_mean"].zero_()
        naive.axial_attention(x, p, heads=2, training=True)
        means.append(p["bn_similarity.running_mean"] / 0.1)
        with torch.no_grad():
            block(x)
    expected = torch.stack(means).mean(0)
    assert_close(block.bn_similarity.running_mean, expected, "running mean")

    block.bn_similarity.eval()  # frozen alone: its running statistics, the others' batch ones
    before = block.bn_similarity.running_var.clone()
    y = block(x)
    assert torch.equal(block.bn_similarity.running_var, before)
    assert not torch.allclose(y, block.train()(x))


@pytest.mark.parametrize(
    ("batches", "prototypes", "compat"),
    [
        ([2, 2, 2, 2], 1, None),
        ([5, 5, 5], 1, None),
        ([2, 1, 4, 1], 1, None),
        ([9, 1], 1, None),
        ([1, 4, 1], 3, None),
        ([5, 5, 5], 3, None),
        ([2, 2, 2, 2], 1, "official"),
        ([5, 5, 5], 1, "official"),
        ([9, 1], 1, "official"),
    ],
    ids=str,
)
def test_ecrm_equals_its_formula_while_the_bank_fills(
    batches: list[int], prototypes: int, compat: str | None, naive
) -> None:
    torch.manual_seed(0)
    block = ECRM(6, bank_size=7, hidden=8, key=4, prototypes=prototypes, compat=compat)
    shake(block)
    for batch in batches:
        block.zero_grad()
        x = torch.randn(batch, 6, 4, 3, dtype=torch.float64)
        assert_equal_to(block, naive.ecrm, {"compat": compat}, x)
    block.eval().zero_grad()
    x = torch.randn(3, 6, 4, 3, dtype=torch.float64)
    assert_equal_to(block, naive.ecrm, {"compat": compat}, x)


def test_new_ecrm_equals_its_formula_in_evaluation(naive) -> None:
    torch.manual_seed(0)
    block = shake(ECRM(6, prototypes=2)).eval()
    x = torch.randn(3, 6, 4, 3, dtype=torch.float64)
    assert_equal_to(block, naive.ecrm, {}, x)


@pytest.mark.parametrize("channels", [1, 2, 8, 16, 64, 100, 128, 256, 512, 2048])
def test_eca_takes_the_kernel_of_the_paper(channels: int, naive) -> None:
    assert ECA(channels).conv.kernel_size == (naive.eca_kernel(channels),)


def test_simam_on_one_position_is_the_documented_constant() -> None:
    x = torch.randn(2, 3, 1, 1)
    torch.testing.assert_close(SimAM(3)(x), x * torch.sigmoid(torch.tensor(0.5)))


def test_axial_of_one_axis_length_one(naive) -> None:
    torch.manual_seed(0)
    block = shake(Axial(16, heads=2, size=(1, 4)))
    x = torch.randn(3, 16, 1, 4, dtype=torch.float64)
    assert_equal_to(block, naive.axial, {"heads": 2}, x)
