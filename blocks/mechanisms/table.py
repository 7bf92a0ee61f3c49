"""The blocks by the names that space files use."""

from torch import nn

from attnsearch.blocks.mechanisms.axial import Axial
from attnsearch.blocks.mechanisms.bottleneck1x1 import Bottleneck1x1
from attnsearch.blocks.mechanisms.cbam import CBAM
from attnsearch.blocks.mechanisms.conv1x1 import Conv1x1
from attnsearch.blocks.mechanisms.coordinate import CoordinateAttention
from attnsearch.blocks.mechanisms.eca import ECA
from attnsearch.blocks.mechanisms.ecrm import ECRM
from attnsearch.blocks.mechanisms.global_context import GlobalContext
from attnsearch.blocks.mechanisms.identity import Identity
from attnsearch.blocks.mechanisms.nonlocal_block import NonLocal
from attnsearch.blocks.mechanisms.psa import PSA
from attnsearch.blocks.mechanisms.scconv import SCConv
from attnsearch.blocks.mechanisms.se import SE
from attnsearch.blocks.mechanisms.simam import SimAM

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
