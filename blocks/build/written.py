"""The network of a config as Python text that needs no attnsearch.

The definitions of its host and blocks stand there as they stand here (`definitions`), and `build`
makes the network from them by plain calls: what `build_network` does for this config.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from attnsearch.blocks.build.architecture import expand
from attnsearch.blocks.build.catalog import find_block
from attnsearch.blocks.build.chain import Chain
from attnsearch.blocks.build.definitions import OURS, Definitions
from attnsearch.blocks.build.network import block_arguments, build_network, has_gate
from attnsearch.blocks.build.sites import network_sites
from attnsearch.blocks.build.sources import source_files
from attnsearch.blocks.errors import BlockError
from attnsearch.blocks.hosts import as_size, decoder_arguments, host_arguments

_WIDE = 92


class Written(NamedTuple):
    """A network as text.

    Attributes:
        imports: Import statements.
        definitions: Classes and functions.
        build: The lines of a function's body that make `network`.
    """

    imports: str
    definitions: str
    build: list[str]


def write_network(
    config: Mapping[str, Any], in_channels: int, classes: int, image_size: int | Sequence[int]
) -> Written:
    """Return the network of a resolved config as text.

    Args:
        config: As for `build_network`, like the next three.
        in_channels: Channels of an image.
        classes: Outputs.
        image_size: Height and width of an image in pixels, or one number for both.

    Raises:
        BlockError: Something cannot be written out; the message says what.
    """
    size, settings = as_size(image_size), config["network"]
    if ":" in settings["backbone"]:
        raise BlockError(
            f"{settings['backbone']} is a network of your own, whose source the export has beside "
            "its config"
        )
    blocks = [find_block(insertion.block) for insertion in expand(config)]
    definitions = Definitions(frozenset(top for block in blocks for top in _own(block)))
    writer = _Writer(definitions)
    host, arguments, named = host_arguments(settings, in_channels, classes, size)
    lines = writer.call("network = ", host, arguments, named)
    if decoder := decoder_arguments(settings, classes, size):
        for made, (maker, given) in zip(("decoder", "heads"), decoder, strict=True):
            lines += writer.call(f"{made} = ", maker, given, {})
        lines.append("network.decode_with(decoder, heads)")
    lines += _insertions(config, writer, in_channels, classes, size)
    return Written(*definitions.text(), lines)


def _insertions(
    config: Mapping[str, Any],
    writer: "_Writer",
    in_channels: int,
    classes: int,
    size: tuple[int, int],
) -> list[str]:
    plain = {"network": {**config["network"], "weights": None}}
    network = build_network({**config, **plain}, in_channels, classes, size)
    modules = dict(network.named_modules())
    places = {site.name: site for site in network_sites(config["network"], size)}
    lines: list[str] = []
    counts: dict[str, int] = {}
    headed: set[str] = set()
    for insertion in expand(config):
        site, key = places[insertion.site], insertion.site.replace(".", "_")
        block = find_block(insertion.block)
        arguments, named = (site.channels,), block_arguments(block, insertion.params, site)
        index = counts.get(key, 0)
        if site.replaces:
            lines += writer.call(f"{_path(site.name)} = ", block, arguments, named)
        else:
            if not index:
                lines += writer.call(f'network.inserted["{key}"] = ', Chain, (), {})
            lines += writer.call("block = ", block, arguments, named)
            gate = f", {site.channels}" if has_gate(insertion, site) else ""
            lines.append(f'network.inserted["{key}"].add(block{gate})')
            counts[key] = index + 1
        head = modules.get(f"auxiliary.{key}.{index}")
        if isinstance(head, nn.Linear):
            made = f"nn.Linear({head.in_features}, {head.out_features})"
            if key not in headed:
                lines.append(f'network.auxiliary["{key}"] = nn.ModuleDict()')
                headed.add(key)
            lines.append(f'network.auxiliary["{key}"].add_module("{index}", {made})')
    return lines


class _Writer:
    """Writes calls, whose arguments are plain values and our dataclasses of such.

    Args:
        definitions: Learns what the calls need.
    """

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions

    def call(
        self, before: str, made: Any, arguments: Sequence[Any], named: Mapping[str, Any]
    ) -> list[str]:
        """Return the lines of a call."""
        name = made.__name__
        if made.__module__.partition(".")[0] == "torch":
            name = f"{made.__module__}.{made.__qualname__}"
        else:
            self._definitions.want(made)
        words = [self.literal(value) for value in arguments]
        words += [f"{key}={self.literal(value)}" for key, value in named.items()]
        line = f"{before}{name}({', '.join(words)})"
        if len(line) <= _WIDE:
            return [line]
        return [f"{before}{name}(", *(f"    {word}," for word in words), ")"]

    def literal(self, value: Any) -> str:
        """Return a value as Python writes it.

        Raises:
            BlockError: It is no plain one.
        """
        if value is None or isinstance(value, bool | int | str):
            return repr(value)
        if isinstance(value, float):
            return repr(value) if math.isfinite(value) else f'float("{value}")'
        if isinstance(value, tuple):
            words = ", ".join(map(self.literal, value))
            return f"({words},)" if len(value) == 1 else f"({words})"
        if isinstance(value, list):
            return f"[{', '.join(map(self.literal, value))}]"
        if isinstance(value, dict):
            pairs = (f"{self.literal(key)}: {self.literal(item)}" for key, item in value.items())
            return f"{{{', '.join(pairs)}}}"
        if dataclasses.is_dataclass(value) and type(value).__module__.startswith(f"{OURS}."):
            name = self._definitions.want(type(value))
            fields = [
                f"{field.name}={self.literal(getattr(value, field.name))}"
                for field in dataclasses.fields(value)
                if getattr(value, field.name) != field.default
            ]
            return f"{name}({', '.join(fields)})"
        raise BlockError(f"{value!r} cannot be written out as a plain value")


def _own(block: type[nn.Module]) -> set[str]:
    """Return the top-level modules that a user's block is made of, which are written out too."""
    if block.__module__.partition(".")[0] in (OURS, "torch"):
        return set()
    root, files = source_files(block)
    return {file.relative_to(root).parts[0].removesuffix(".py") for file in files}


def _path(site: str) -> str:
    """Return how the code calls a part: `layer1.0.conv2` is `network.layer1[0].conv2`."""
    parts = [f"[{part}]" if part.isdecimal() else f".{part}" for part in site.split(".")]
    return "network" + "".join(parts)
