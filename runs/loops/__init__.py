"""A training by a loop of the user's own: `train.loop`.

loop      What such a loop is given, and the training that it is a part of
handing   Two threads of which one runs at a time, so that a loop can be left and gone on with
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.loops.loop import Run, check_own_loop, training_of

face(__name__)
