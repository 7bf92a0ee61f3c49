"""What can be inserted: one file for each published mechanism, and the table of their names.

table       The blocks by the names that space files use
axial_core  The two computations that make axial attention fast, without its parameters

Every other file holds the block, or the two, of one paper or one control, and is named after it.
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.blocks.mechanisms.axial import Axial, AxialAttention, received_along_both
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
    from attnsearch.blocks.mechanisms.table import BLOCKS

face(__name__)
