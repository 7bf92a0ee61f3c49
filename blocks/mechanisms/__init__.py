"""What can be inserted: one file for each published mechanism, and the table of their names.

table           The blocks by the names that space files use
axial           Position-sensitive axial attention, plain and gated
axial_core      The two computations that make axial attention fast, without its parameters
bottleneck1x1   A residual bottleneck of two pointwise convolutions, a control of added capacity
cbam            Convolutional block attention module
conv1x1         A pointwise convolution, the plainest control of added capacity
coordinate      Coordinate attention
eca             Efficient channel attention
ecrm            Exterior contextual-relation module
global_context  Global context block
identity        The identity, a control: a network with it inserted anywhere is the plain network
nonlocal_block  Non-local block
psa             Pyramid squeeze attention
scconv          Self-calibrated convolution
se              Squeeze-and-excitation
simam           SimAM, attention without parameters
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
