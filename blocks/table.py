"""The blocks by the names that space files use."""

from torch import nn

from attnsearch.blocks.axial import Axial
from attnsearch.blocks.bottleneck1x1 import Bottleneck1x1
from attnsearch.blocks.cbam import CBAM
from attnsearch.blocks.conv1x1 import Conv1x1
from attnsearch.blocks.coordinate import CoordinateAttention
from attnsearch.blocks.eca import ECA
from attnsearch.blocks.ecrm import ECRM
from attnsearch.blocks.global_context import GlobalContext
from attnsearch.blocks.identity import Identity
from attnsearch.blocks.nonlocal_block import NonLocal
from attnsearch.blocks.psa import PSA
from attnsearch.blocks.scconv import SCConv
from attnsearch.blocks.se import SE
from attnsearch.blocks.simam import SimAM

BLOCKS: dict[str, type[nn.Module]] = {
    "ecrm": ECRM,
    "axial": Axial,
    "psa": PSA,
    "gc": GlobalContext,
    "scconv": SCConv,
    "se": SE,
    "eca": ECA,
    "cbam": CBAM,
    "coordinate": CoordinateAttention,
    "simam": SimAM,
    "nonlocal": NonLocal,
    "identity": Identity,
    "conv1x1": Conv1x1,
    "bottleneck1x1": Bottleneck1x1,
}
