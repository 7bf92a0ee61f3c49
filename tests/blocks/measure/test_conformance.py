"""The contract of a block, over the whole table; and that its checks find what is wrong."""

import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnsearch.blocks import check_block
from attnsearch.blocks.errors import AttnsearchError, BlockError
from attnsearch.blocks.measure.conformance import CHECKS
from attnsearch.blocks.mechanisms.table import BLOCKS

NAMES = [
    *("ecrm", "axial", "psa", "gc", "scconv", "se", "eca", "cbam", "coordinate", "simam"),
    *("nonlocal", "identity", "conv1x1", "bottleneck1x1"),
]  # fmt: skip

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in NAMES),
    ("ecrm", {"prototypes": 3, "hidden": 24, "key": 10, "bank_size": 2}),
    ("axial", {"gated": True}),
    ("axial", {"gated": True, "gate_position": "post_bn", "learn_gates": False}),
    ("axial", {"position": False, "heads": 2}),
    ("psa", {"kernels": [3, 3, 5, 5], "groups": [1, 1, 1, 1]}),
    ("gc", {"ratio": 0.25, "pooling": "avg", "fusion": ["mul", "add"]}),
    ("scconv", {"pooling_ratio": 2, "dilation": 2, "padding": 2, "groups": 4}),
    ("scconv", {"mode": "bilinear", "ceil_mode": True}),
    ("nonlocal", {"mode": "dot"}),
    ("cbam", {"kernel": 3, "reduction": 4}),
]


def test_the_table_has_the_promised_names() -> None:
    assert list(BLOCKS) == NAMES


@pytest.mark.parametrize(("name", "params"), SETTINGS, ids=lambda v: str(v) if v else "")
def test_conforms(name: str, params: dict[str, Any]) -> None:
    assert [str(finding) for finding in check_block(BLOCKS[name], **params)] == []


def test_the_published_ecrm_is_found_to_leak_its_test_images() -> None:
    findings = check_block(BLOCKS["ecrm"], compat="official")
    messages = [f.message for f in findings if f.check == "evaluation"]
    assert any("changes bank_ptr, bank" in message for message in messages)
    assert any("depends on the batch's other members" in message for message in messages)


@pytest.mark.parametrize("name", ["axial", "gc", "coordinate", "nonlocal"])
def test_the_parameters_declared_dead_are(name: str) -> None:
    dead = BLOCKS[name].dead_parameters
    torch.manual_seed(0)
    block = BLOCKS[name](64).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    y = block(torch.randn(3, 64, 9, 7, dtype=torch.float64))
    (y * torch.randn_like(y)).sum().backward()
    parameters = dict(block.named_parameters())
    for parameter_name, reason in dead.items():
        assert parameters[parameter_name].grad.abs().max() < 1e-10, parameter_name
        assert reason


@pytest.mark.parametrize("name", ["gc", "nonlocal", "identity"])
def test_starts_as_the_identity_where_published(name: str) -> None:
    x = torch.randn(2, 64, 6, 5)
    block = BLOCKS[name](64)
    for mode in (True, False):
        assert torch.equal(block.train(mode)(x), x)


@pytest.mark.parametrize("name", NAMES)
def test_keeps_channels_last(name: str) -> None:
    block = BLOCKS[name](64).to(memory_format=torch.channels_last)
    x = torch.randn(2, 64, 9, 7).to(memory_format=torch.channels_last)
    for mode in (True, False):
        y = block.train(mode)(x)
        assert y.is_contiguous(memory_format=torch.channels_last), y.stride()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "params"), SETTINGS, ids=lambda v: str(v) if v else "")
def test_compiles_as_one_graph_that_fits_every_step(name: str, params: dict[str, Any]) -> None:
    torch._dynamo.reset()
    block = BLOCKS[name](64, **params)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(block, fullgraph=True, backend=backend)
    for _ in range(3):
        compiled(torch.randn(3, 64, 9, 7))
    assert len(graphs) <= 1


# Name, keywords, parts of the message: the value, the rule, the nearest valid value.
MISTAKES: list[tuple[str, dict[str, Any], list[str]]] = [
    *((name, {"channels": 0}, ["channels=0", "at least 1", "nearest"]) for name in NAMES),
    *((name, {"channels": 2.5}, ["channels=2.5", "integer"]) for name in NAMES),
    *(
        (name, {"stride": 0}, ["stride=0", "at least 1"])
        for name in ("psa", "axial", "scconv", "conv1x1")
    ),
    ("ecrm", {"bank_size": 0}, ["bank_size=0", "at least 1"]),
    ("ecrm", {"bank_size": True}, ["bank_size=True", "integer"]),
    ("ecrm", {"hidden": -1}, ["hidden=-1", "at least 1"]),
    ("ecrm", {"key": 0}, ["key=0", "at least 1"]),
    ("ecrm", {"prototypes": 0}, ["prototypes=0"]),
    ("ecrm", {"compat": "offical"}, ["'offical'", "did you mean 'official'"]),
    ("ecrm", {"compat": "official", "prototypes": 2}, ["prototypes=2", "valid value is 1"]),
    ("axial", {"heads": 3}, ["heads=3", "out_channels=64", "2 * heads", "value is 2"]),
    ("axial", {"heads": 64}, ["heads=64", "nearest valid value is 32"]),
    ("axial", {"channels": 15}, ["out_channels=15", "even", "nearest valid value is 16"]),
    ("axial", {"gated": True, "position": False}, ["gated=True", "position=True"]),
    ("axial", {"gated": "yes"}, ["gated='yes'", "true or false"]),
    ("axial", {"size": (4,)}, ["size=(4,)", "height and width"]),
    ("axial", {"size": (0, 4)}, ["size[0]=0", "at least 1"]),
    ("axial", {"gated": True, "gate_position": "post"}, ["'post'", "did you mean 'post_bn'"]),
    ("psa", {"kernels": [3, 4, 5, 7]}, ["kernels[1]=4", "odd", "3 and 5"]),
    ("psa", {"kernels": [3, 5, 7]}, ["kernels=[3, 5, 7]", "equally long"]),
    ("psa", {"kernels": "3579"}, ["kernels='3579'", "list of integers"]),
    ("psa", {"kernels": [3], "groups": [1]}, ["at least 2"]),
    ("psa", {"channels": 32}, ["groups[3]=16", "out_channels/4=8", "nearest valid value is 8"]),
    ("psa", {"channels": 96}, ["groups[3]=16", "channels=96", "nearest valid value is 12"]),
    ("psa", {"out_channels": 66}, ["out_channels=66", "4 branches", "nearest valid value is 64"]),
    ("gc", {"channels": 8}, ["ratio=0.0625", "at least 1", "nearest valid value is 0.125"]),
    ("gc", {"ratio": -1}, ["ratio=-1", "above 0"]),
    ("gc", {"ratio": float("nan")}, ["ratio=nan", "above 0"]),
    ("gc", {"pooling": "max"}, ["pooling='max'", "'att', 'avg'"]),
    ("gc", {"fusion": ()}, ["fusion=()", "at least one"]),
    ("gc", {"fusion": ("add", "channel_mul")}, ["fusion='channel_mul'", "did you mean 'mul'"]),
    ("gc", {"fusion": 3}, ["fusion=3"]),
    ("scconv", {"out_channels": 32}, ["out_channels=32", "channels=64"]),
    ("scconv", {"dilation": 2}, ["padding=1", "dilation=2", "nearest valid value is 2"]),
    ("scconv", {"groups": 5}, ["groups=5", "channels=64", "nearest valid value is 4"]),
    ("scconv", {"pooling_ratio": 0}, ["pooling_ratio=0", "at least 1"]),
    ("scconv", {"mode": "linear"}, ["mode='linear'", "did you mean 'bilinear'"]),
    ("se", {"reduction": 65}, ["reduction=65", "64", "nearest valid value is 64"]),
    ("cbam", {"reduction": 65}, ["reduction=65", "nearest valid value is 64"]),
    ("cbam", {"kernel": 6}, ["kernel=6", "odd", "5 and 7"]),
    ("nonlocal", {"reduction": 100}, ["reduction=100", "nearest valid value is 64"]),
    ("nonlocal", {"mode": "gaussian"}, ["mode='gaussian'", "did you mean 'embedded_gaussian'"]),
    ("eca", {"kernel": 2}, ["kernel=2", "odd"]),
    ("coordinate", {"reduction": 0}, ["reduction=0", "at least 1"]),
    ("simam", {"e_lambda": 0}, ["e_lambda=0", "above 0"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "keywords", "parts"), MISTAKES, ids=[f"{n}-{k}" for n, k, _ in MISTAKES]
)
def test_wrong_hyperparameters_fail_with_value_and_rule(
    name: str, keywords: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(BlockError) as error:
        BLOCKS[name](**{"channels": 64, **keywords})
    assert isinstance(error.value, AttnsearchError)
    message = str(error.value)
    assert message.startswith(f"{name}: ")
    assert all(part in message for part in parts), message


class Broken(nn.Module):
    """A pointwise convolution; its children each break one rule."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class NeedsEvenSizes(Broken):
    def forward(self, x):
        return F.interpolate(F.avg_pool2d(self.conv(x), 2), scale_factor=2)


class IgnoresStride(Broken):
    def __init__(self, channels, out_channels=None, stride=1):
        super().__init__(channels)


class ReadsMemoryOrder(Broken):
    def forward(self, x):
        y = self.conv(x)
        return y * torch.arange(y.numel()).as_strided(y.shape, y.stride())


class HalfPrecisionOverflows(Broken):
    def forward(self, x):
        y = self.conv(x)
        return torch.nan_to_num(y, posinf=0) if y.dtype == torch.float64 else y * torch.inf


class WritesInput(Broken):
    def forward(self, x):
        return self.conv(x.relu_() if not x.requires_grad else x.relu())


class HasUnusedParameter(Broken):
    def __init__(self, channels):
        super().__init__(channels)
        self.unused = nn.Parameter(torch.ones(3))


class HidesLayer(Broken):
    def __init__(self, channels):
        super().__init__(channels)
        self.layers = [nn.Conv2d(channels, channels, 1).double()]

    def forward(self, x):
        return self.conv(x) + self.layers[0](x.double()).to(x.dtype)


class MixesImages(Broken):
    def forward(self, x):
        return self.conv(x - x.mean(0, keepdim=True))


class RandomInEvaluation(Broken):
    def forward(self, x):
        return F.dropout(self.conv(x), 0.5, training=True)


class CountsForwards(Broken):
    def __init__(self, channels):
        super().__init__(channels)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += 1
        return self.conv(x)


class ForgetsOnSaving(Broken):
    def __init__(self, channels):
        super().__init__(channels)
        self.seen = 0

    def forward(self, x):
        self.seen += self.training
        return self.conv(x) * (1 + self.seen)


class OverwritesWhatBackwardNeeds(Broken):
    def __init__(self, channels):
        super().__init__(channels)
        self.register_buffer("scale", torch.ones(channels, 1, 1))

    def forward(self, x):
        y = self.conv(x)
        if self.training:
            self.scale.mul_(1.01)
        return y * self.scale


class NamelessSideLoss(Broken):
    def forward(self, x):
        y = self.conv(x)
        self.side = {"y": y.detach()}
        return y

    side: dict[str, Tensor] = {}  # noqa: RUF012


class AttendsInLogits(Broken):
    def attention_map(self, x):
        return self.conv(x).mean(1).detach()


class MapOfAnotherShape(Broken):
    def attention_map(self, x):
        return torch.full_like(x[:, :1], 1 / x[0, 0].numel())


class ReturnsPair(Broken):
    def forward(self, x):
        return self.conv(x), x


class ReadsValues(Broken):
    def forward(self, x):
        return self.conv(x) * (2.0 if x.sum().item() > 1e9 else 1.0)


class TakesNoChannels(nn.Module):
    def forward(self, x):
        return x


FAULTS = {
    "shapes": NeedsEvenSizes,
    "strides": IgnoresStride,
    "channels_last": ReadsMemoryOrder,
    "autocast": HalfPrecisionOverflows,
    "input kept": WritesInput,
    "gradients": HasUnusedParameter,
    "registered": HidesLayer,
    "evaluation": MixesImages,
    "two forwards": OverwritesWhatBackwardNeeds,
    "state": ForgetsOnSaving,
    "side outputs": NamelessSideLoss,
    "attention map": AttendsInLogits,
    "meta device": ReadsValues,
}


def test_the_checks_accept_a_plain_block() -> None:
    assert check_block(Broken) == []


def test_every_check_is_tried() -> None:
    assert FAULTS.keys() == CHECKS.keys()


@pytest.mark.parametrize(
    ("check", "cls"),
    [
        *FAULTS.items(),
        ("shapes", ReturnsPair),
        ("evaluation", RandomInEvaluation),
        ("evaluation", CountsForwards),
        ("construction", TakesNoChannels),
        ("attention map", MapOfAnotherShape),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_checks_find(check: str, cls: type[nn.Module]) -> None:
    assert check in {finding.check for finding in check_block(cls)}


def test_checking_is_quick_and_leaves_the_random_state() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    start = time.perf_counter()
    check_block(BLOCKS["axial"], gated=True)
    assert time.perf_counter() - start < 10
    assert torch.equal(torch.rand(3), expected)
