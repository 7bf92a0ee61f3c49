"""A network of the user's own as a host: `network.backbone: module:Class`.

It is used as it is written: its modules are the host's, under their own names, and blocks are
added by forward hooks. Where they can stand is seen in one forward pass.
"""

import inspect
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from attnsearch.blocks.errors import BlockError, SiteError
from attnsearch.blocks.hosts.backbones import Backbone, Residual
from attnsearch.blocks.hosts.host import Host, Inserted
from attnsearch.blocks.hosts.sizes import Size, Width, size_name
from attnsearch.blocks.imported import imported
from attnsearch.blocks.lean_torch import torch_threads

AFTER = "after"
"""The last part of a site behind a convolution, whose own path is the site in its place."""

_CLASSES = 13  # of a trial pass: shows what follows them; no map of blocks has as many channels
_WIDE = 256  # steps of a width of 1 that a control may take


def own_backbone(name: str) -> "OwnBackbone":
    """Return the user's network of a name, `module:Class`, as a backbone.

    Raises:
        BlockError: It cannot be imported, or is no class of networks.
    """
    cls = imported("network", name)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise BlockError(
            f"network {name!r} is {cls!r}; a network is a class derived from nn.Module"
        )
    segments = bool(getattr(cls, "segments", False))
    return OwnBackbone(
        name, Residual("own", ()), (), (_WIDE,), ("own",),
        network=f"{__name__}:OwnHost", segments=segments, cls=cls,
    )  # fmt: skip


@dataclass(frozen=True)
class OwnBackbone(Backbone):
    """What tells a user's network from others: its class.

    Attributes:
        cls: The class.
    """

    cls: type[nn.Module] = nn.Module

    @property
    def scalable(self) -> bool:
        """Whether it has a width."""
        return "width" in inspect.signature(self.cls).parameters

    def multipliers(self, width: Width) -> tuple[float, ...]:
        """Return its one multiplier.

        Raises:
            SiteError: It is no number above 0, or the network has no width.
        """
        if width != 1 and not self.scalable:
            raise SiteError(
                f"network.width is {width}; {self.name} has none: give its constructor an "
                "argument `width`, or remove the key"
            )
        return super().multipliers(width)

    def check_size(self, size: Size, stem: str | None = None, key: str = "image_size") -> None:
        """Refuse nothing: a trial pass shows whether it takes images of a size."""

    def construct(self, in_channels: int, classes: int, width: Width, size: Size) -> nn.Module:
        """Return the network with new weights, on the CPU.

        Args:
            in_channels: The first argument of its constructor.
            classes: The second one.
            width: Given where the constructor names it, as is `size`.
            size: (height, width) of the images.

        Raises:
            SiteError: The constructor fails.
        """
        accepted = inspect.signature(self.cls).parameters
        (factor,) = self.multipliers(width)
        offered = {"width": factor, "size": size}
        named = {key: value for key, value in offered.items() if key in accepted}
        try:
            # Wherever others are traced: code such as `.item()` needs numbers.
            with torch.device("cpu"):
                return self.cls(in_channels, classes, **named)
        except Exception as error:  # whatever the user's constructor raises
            more = "".join(f", {key}={value}" for key, value in named.items())
            raise SiteError(
                f"{self.name}({in_channels}, {classes}{more}) failed: "
                f"{type(error).__name__}: {error}"
            ) from error


class OwnHost(Host):
    """A user's network with sites.

    Its children, parameters and buffers are the host's too, so that state-dict names are as the
    user knows them.

    Args:
        backbone: Which network.
        in_channels: Channels of the images.
        classes: Outputs.
        width: Multiplier of its widths, where it has one.
        size: Height and width of the images in pixels.

    Raises:
        SiteError: It cannot be built.
    """

    def __init__(
        self,
        backbone: OwnBackbone,
        in_channels: int = 3,
        classes: int = 1000,
        width: Width = 1.0,
        size: Size = (224, 224),
    ) -> None:
        super().__init__()
        self.segments = backbone.segments
        net = backbone.construct(in_channels, classes, width, size)
        for name, child in net.named_children():
            if name in ("inserted", "auxiliary"):
                raise SiteError(
                    f"a module of {backbone.name} is called {name!r}, as what "
                    "attnsearch adds is; rename it"
                )
            self.add_module(name, child)
        for module in net.modules():
            if getattr(module, "inplace", False) is True:
                # A block may need for its gradient what the next module would overwrite.
                module.inplace = False  # type: ignore[assignment]
        shared = {
            key: vars(net)[key]
            for key in ("_parameters", "_buffers", "_non_persistent_buffers_set")
        }
        vars(self).update(shared, net=net)  # not as a child: names would have a prefix

    def forward(self, x: Tensor) -> Tensor:
        """Turn images (B, in_channels, H, W) into logits (B, classes), or with H and W too."""
        return cast(Tensor, vars(self)["net"](x))

    def train(self, mode: bool = True) -> "OwnHost":
        """Set training or evaluation mode."""
        vars(self)["net"].training = mode
        super().train(mode)
        return self

    def follow(self, site: str) -> None:
        """Run what is inserted at a site after the module there."""
        module = self.get_submodule(site.removesuffix(f".{AFTER}"))
        module.register_forward_hook(_Following(self.inserted, site.replace(".", "_")))

    def replace(self, path: str, block: nn.Module) -> None:
        """Put a block in place of a module."""
        super().replace(path, block)
        if "." not in path:
            setattr(vars(self)["net"], path, block)


class _Following:
    """A forward hook that runs inserted blocks; an object, so that copies have their own.

    Args:
        inserted: The network's blocks.
        key: Which of them.
    """

    def __init__(self, inserted: Inserted, key: str) -> None:
        self.inserted, self.key = inserted, key

    def __call__(self, module: nn.Module, given: Any, output: Tensor) -> Tensor:
        y = self.inserted.at(self.key, output)
        # The user's code may add to it in place, and a block may need it for its gradient.
        return y.clone() if torch.is_grad_enabled() else y


@dataclass(frozen=True)
class Place:
    """A module that gives a map once in a forward pass.

    Attributes:
        path: Its path in the network.
        before: (channels, height, width) of what it gets; None where that is no single map.
        after: Of what it gives.
        convolution: (kernel, stride) of a convolution that a block can stand in place of.
        plain: Whether it is no convolution.
        ends: Which parts of the path are the first or last of their siblings.
    """

    path: str
    after: tuple[int, int, int]
    before: tuple[int, int, int] | None = None
    convolution: tuple[int, int] | None = None
    plain: bool = True
    ends: frozenset[tuple[int, str]] = frozenset()


@lru_cache(maxsize=64)
def places(backbone: OwnBackbone, in_channels: int, width: Width, size: Size) -> list[Place]:
    """Return where blocks can stand in a user's network, in the order of its forward pass.

    Args:
        backbone: The network.
        in_channels: Channels of the images.
        width: As `network.width`.
        size: (height, width) of the images.

    Raises:
        SiteError: It cannot be built, fails on such images, or gives no logits.
    """
    net = backbone.construct(in_channels, _CLASSES, width, size).eval()
    images = torch.zeros(2, in_channels, *size)
    calls: Counter[str] = Counter()
    seen: list[tuple[str, nn.Module, Any, Any]] = []

    def watch(path: str, module: nn.Module) -> None:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            calls[path] += 1
            seen.append((path, module, given, output))

        module.register_forward_hook(hook)

    for path, module in net.named_modules():
        if path:
            watch(path, module)
    shape = (2, in_channels, *size)
    try:
        with torch_threads(1), torch.no_grad():
            logits = net(images)
    except Exception as error:  # whatever the user's forward raises
        raise SiteError(
            f"{backbone.name} failed on images {shape}: {type(error).__name__}: {error}"
        ) from error
    _check_logits(backbone, logits, size)
    return [
        _place(net, path, module, given, output, images)
        for path, module, given, output in seen
        if calls[path] == 1
        and isinstance(output, Tensor)
        and output.dim() == 4
        and len(output) == len(images)
        and output is not logits
        and output.shape[1] != _CLASSES
    ]


def _check_logits(backbone: OwnBackbone, logits: Any, size: Size) -> None:
    wanted = (2, _CLASSES, *size) if backbone.segments else (2, _CLASSES)
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != wanted:
        kind = "(B, classes, H, W), as `segments = True` says" if backbone.segments else (
            "(B, classes); one for masks says `segments = True`"
        )  # fmt: skip
        raise SiteError(
            f"{backbone.name} gave {shape} for 2 images of {size_name(size)} "
            f"pixels and {_CLASSES} classes; a network gives one tensor, logits {kind}"
        )


def _place(
    net: nn.Module, path: str, module: nn.Module, given: Any, output: Tensor, images: Tensor
) -> Place:
    before, convolution = None, None
    if isinstance(module, nn.Conv2d) and len(given) == 1 and given[0] is not images:
        kernel, stride = module.kernel_size, module.stride
        (before_h, before_w), (step, _) = given[0].shape[2:], stride
        same = (-(-before_h // step), -(-before_w // step)) == tuple(output.shape[2:])
        square = len(set(kernel)) == len(set(stride)) == 1
        if same and square and module.groups == 1:
            before, convolution = tuple(given[0].shape[1:]), (kernel[0], step)
    ends = set()
    parts = path.split(".")
    for index, part in enumerate(parts):
        names = [name for name, _ in net.get_submodule(".".join(parts[:index])).named_children()]
        if part.isdigit():
            ends |= {(index, "first")} if part == names[0] else set()
            ends |= {(index, "last")} if part == names[-1] else set()
    after = cast(tuple[int, int, int], tuple(output.shape[1:]))
    return Place(
        path, after, before, convolution, not isinstance(module, nn.Conv2d), frozenset(ends)
    )
