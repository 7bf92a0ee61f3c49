"""Blocks, the networks that hold them, and what they cost.

The names below load on first use, so that importing a module of this package which needs no torch
(`errors`, `sites`) does not load it.
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:  # `as` says to type checkers that a name is handed on
    from attnsearch.blocks.build import (
        Site as Site,
        build_network as build_network,
        build_plain as build_plain,
    )
    from attnsearch.blocks.errors import (
        AttnsearchError as AttnsearchError,
        BlockError as BlockError,
        SiteError as SiteError,
        WeightsError as WeightsError,
    )
    from attnsearch.blocks.hosts import (
        AxialBlock as AxialBlock,
        SCBottleneck as SCBottleneck,
    )
    from attnsearch.blocks.measure import (
        check_block as check_block,
    )
    from attnsearch.blocks.mechanisms import (
        BLOCKS as BLOCKS,
        CBAM as CBAM,
        ECA as ECA,
        ECRM as ECRM,
        PSA as PSA,
        SE as SE,
        Axial as Axial,
        AxialAttention as AxialAttention,
        Bottleneck1x1 as Bottleneck1x1,
        Conv1x1 as Conv1x1,
        CoordinateAttention as CoordinateAttention,
        GlobalContext as GlobalContext,
        Identity as Identity,
        NonLocal as NonLocal,
        SCConv as SCConv,
        SimAM as SimAM,
    )

face(__name__)
