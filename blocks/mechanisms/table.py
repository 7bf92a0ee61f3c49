"""The blocks by the names that space files use: a new one is its file and one line here."""

from pkgutil import resolve_name

from torch import nn

_CLASSES = {
    "ecrm": "ecrm:ECRM",
    "axial": "axial:Axial",
    "psa": "psa:PSA",
    "gc": "global_context:GlobalContext",
    "scconv": "scconv:SCConv",
    "se": "se:SE",
    "eca": "eca:ECA",
    "cbam": "cbam:CBAM",
    "coordinate": "coordinate:CoordinateAttention",
    "simam": "simam:SimAM",
    "nonlocal": "nonlocal_block:NonLocal",
    "identity": "identity:Identity",
    "conv1x1": "conv1x1:Conv1x1",
    "bottleneck1x1": "bottleneck1x1:Bottleneck1x1",
}

BLOCKS: dict[str, type[nn.Module]] = {
    name: resolve_name(f"attnsearch.blocks.mechanisms.{path}") for name, path in _CLASSES.items()
}
