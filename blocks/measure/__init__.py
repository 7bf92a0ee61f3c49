"""What can be asked of a built network: its costs, where it looks, and whether a block keeps its promises.

cost            What a network costs: parameters, multiply-accumulates, latency, memory of a
                training step
conformance     What every block must do, ours and a user's, as checks that name what is wrong
attention_maps  Attention maps: where in an image a block looks
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.blocks.measure.attention_maps import attention_maps, mapped_blocks
    from attnsearch.blocks.measure.cost import costs, macs, params

face(__name__)
