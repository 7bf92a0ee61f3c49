"""Blocks, the networks that hold them, and what they cost.

The names below load on first use, so that importing a module of this package which needs no torch
(`errors`, `sites`) does not load it.
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.blocks.build import Site, build_network, build_plain
    from attnsearch.blocks.errors import AttnsearchError, BlockError, SiteError, WeightsError
    from attnsearch.blocks.hosts import AxialBlock, SCBottleneck
    from attnsearch.blocks.measure import check_block
    from attnsearch.blocks.mechanisms import (
        BLOCKS,
        CBAM,
        ECA,
        ECRM,
        PSA,
        SE,
        Axial,
        AxialAttention,
        Bottleneck1x1,
        Conv1x1,
        CoordinateAttention,
        GlobalContext,
        Identity,
        NonLocal,
        SCConv,
        SimAM,
    )

face(__name__)
