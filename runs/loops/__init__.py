"""A training by a loop of the user's own: `train.loop`.

finding    The loop that a config names, and the training by it
loop       What such a loop is given, and the training that it is a part of
lightning  A LightningModule as the loop: its steps and optimizers, driven without a Trainer
handing    Two threads of which one runs at a time, so that a loop can be left and gone on with
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.loops.finding import check_own_loop, training_of

face(__name__)
