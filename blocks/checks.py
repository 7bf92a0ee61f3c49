"""Checks of constructor arguments and inputs, and initial weights, shared by the blocks.

Every message names the block, the value, the rule and the nearest value that keeps the rule.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from attnsearch.blocks.errors import BlockError
from attnsearch.blocks.spelling import did_you_mean


def integer(block: str, name: str, value: object, low: int = 1) -> int:
    """Return `value` if it is an integer of at least `low`.

    Args:
        block: Name of the block, for the message.
        name: Name of the argument, for the message.
        value: What was given.
        low: The smallest valid value.

    Raises:
        BlockError: `value` is no integer (`True` is none), or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise BlockError(f"{block}: {name}={value!r} must be an integer of at least {low}")
    if value < low:
        raise BlockError(
            f"{block}: {name}={value} must be at least {low}; the nearest valid value is {low}"
        )
    return value


def counts(block: str, **values: object) -> None:
    """Refuse arguments that are no integers of at least 1.

    Args:
        block: Name of the block, for the message.
        values: What was given, by the arguments' names.

    Raises:
        BlockError: One of them breaks the rule.
    """
    for name, value in values.items():
        integer(block, name, value)


def integers(block: str, name: str, values: object, low: int = 1) -> tuple[int, ...]:
    """Return `values` as a tuple if they are a list or tuple of integers of at least `low`.

    Args:
        block: Name of the block, for the message.
        name: Name of the argument, for the message.
        values: What was given.
        low: The smallest valid value.

    Raises:
        BlockError: `values` is no list, or one of them breaks the rule.
    """
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise BlockError(f"{block}: {name}={values!r} must be a list of integers")
    return tuple(integer(block, f"{name}[{i}]", value, low) for i, value in enumerate(values))


def positive(block: str, name: str, value: object) -> float:
    """Return `value` as a float if it is a finite number above zero.

    Args:
        block: Name of the block, for the message.
        name: Name of the argument, for the message.
        value: What was given.

    Raises:
        BlockError: `value` is no such number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BlockError(f"{block}: {name}={value!r} must be a number above 0")
    if not 0 < value < float("inf"):
        raise BlockError(f"{block}: {name}={value!r} must be a finite number above 0")
    return float(value)


def boolean(block: str, name: str, value: object) -> bool:
    """Return `value` if it is `True` or `False`.

    Args:
        block: Name of the block, for the message.
        name: Name of the argument, for the message.
        value: What was given.

    Raises:
        BlockError: `value` is anything else.
    """
    if not isinstance(value, bool):
        raise BlockError(f"{block}: {name}={value!r} must be true or false")
    return value


def one_of(block: str, name: str, value: object, allowed: Sequence[str]) -> str:
    """Return `value` if it is one of the `allowed` words.

    Args:
        block: Name of the block, for the message.
        name: Name of the argument, for the message.
        value: What was given.
        allowed: The valid words.

    Raises:
        BlockError: `value` is none of them; the message suggests the nearest.
    """
    if isinstance(value, str) and value in allowed:
        return value
    suggestion = did_you_mean(value, allowed, cutoff=0.3)
    choices = ", ".join(repr(word) for word in allowed)
    raise BlockError(f"{block}: {name}={value!r} must be one of {choices}{suggestion}")


def odd(block: str, name: str, value: object) -> int:
    """Return `value` if it is an odd integer of at least 1, as a centred kernel needs.

    Args:
        block: Name of the block, for the message.
        name: Name of the argument, for the message.
        value: What was given.

    Raises:
        BlockError: `value` is even, too small or no integer.
    """
    number = integer(block, name, value)
    if number % 2 == 0:
        raise BlockError(
            f"{block}: {name}={number} must be odd, so that the kernel has a centre; "
            f"the nearest valid values are {number - 1} and {number + 1}"
        )
    return number


def reduced(block: str, channels: int, reduction: object) -> int:
    """Return `channels // reduction`, the width of a squeeze, if it is not zero.

    Args:
        block: Name of the block, for the message.
        channels: Channels before the squeeze.
        reduction: What was given as divisor.

    Raises:
        BlockError: `reduction` is no positive integer, or larger than `channels`.
    """
    divisor = integer(block, "reduction", reduction)
    if divisor > channels:
        raise BlockError(
            f"{block}: reduction={divisor} leaves no channel of {channels} in the squeeze; "
            f"reduction must be at most channels; the nearest valid value is {channels}"
        )
    return channels // divisor


def map_size(block: str, size: object) -> tuple[int, int]:
    """Return the map's size `(H, W)` as the builder supplies it.

    Args:
        block: Name of the block, for the message.
        size: What was given.

    Raises:
        BlockError: `size` is no pair of positive integers.
    """
    pair = integers(block, "size", size)
    if len(pair) != 2:
        raise BlockError(f"{block}: size={size!r} must be a pair, height and width")
    return pair[0], pair[1]


def nearest(value: int, valid: Iterable[int]) -> int:
    """Return the valid number closest to `value`, the smaller one on a tie."""
    return min(valid, key=lambda number: (abs(number - value), number))


def divisors(number: int) -> list[int]:
    """Return all positive divisors of `number`, ascending."""
    return [d for d in range(1, number + 1) if number % d == 0]


def enough_for_statistics(block: str, batch: int, height: int, width: int, where: str) -> None:
    """Refuse a training batch that has a single value per channel, whose variance is undefined.

    Args:
        block: Name of the block, for the message.
        batch: Images in the batch.
        height: Height of the map whose statistics are taken.
        width: Width of that map.
        where: What the map is, for the message.

    Raises:
        BlockError: There is one value per channel only.
    """
    if batch * height * width < 2:
        raise BlockError(
            f"{block}: batch normalisation in training needs at least 2 values per channel, but "
            f"{where} is 1x1 and the batch has 1 image; use batches of at least 2, or a larger map"
        )


def memory_format(x: Tensor) -> torch.memory_format:
    """Return the memory format `x` of (B, C, H, W) lies in; what is neither counts as NCHW."""
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        return torch.channels_last
    return torch.contiguous_format


def kaiming_convolutions(block: nn.Module) -> None:
    """Draw the weights of a block's convolutions as residual networks draw theirs.

    Normal with variance 2 / (k^2 out): He et al. 2015, https://arxiv.org/abs/1502.01852, by
    fan-out as if without groups. Biases stay.
    """
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
