"""What can be asked of a built network: what it costs, where it looks, whether a block is sound.

cost         What a network costs: parameters, multiply-accumulates, latency, memory of a
             training step
conformance  What every block must do, ours and a user's, as checks that name what is wrong
attention    Attention maps: where in an image a block looks
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.blocks.measure.attention import attention_maps, mapped_blocks
    from attnsearch.blocks.measure.conformance import check_block
    from attnsearch.blocks.measure.cost import costs, count_macs, count_params, latency

face(__name__)
