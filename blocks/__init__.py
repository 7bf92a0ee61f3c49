"""Blocks, the networks that hold them, and what they cost.

The names below load on first use, so that importing a module of this package which needs no torch
(`errors`, `sites`) does not load it.
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.blocks.axial import Axial, AxialAttention
    from attnsearch.blocks.axial_block import AxialBlock
    from attnsearch.blocks.bottleneck1x1 import Bottleneck1x1
    from attnsearch.blocks.cbam import CBAM
    from attnsearch.blocks.conv1x1 import Conv1x1
    from attnsearch.blocks.coordinate import CoordinateAttention
    from attnsearch.blocks.eca import ECA
    from attnsearch.blocks.ecrm import ECRM
    from attnsearch.blocks.errors import AttnsearchError, BlockError, SiteError, WeightsError
    from attnsearch.blocks.global_context import GlobalContext
    from attnsearch.blocks.identity import Identity
    from attnsearch.blocks.network import build_network, build_plain
    from attnsearch.blocks.nonlocal_block import NonLocal
    from attnsearch.blocks.psa import PSA
    from attnsearch.blocks.scconv import SCConv
    from attnsearch.blocks.scnet import SCBottleneck
    from attnsearch.blocks.se import SE
    from attnsearch.blocks.simam import SimAM
    from attnsearch.blocks.table import BLOCKS

face(__name__)
