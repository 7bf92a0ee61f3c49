"""Batches on their way to a network: from where examples lie to the device, changed at random.

feed      Batches on their way to the device, from wherever the examples lie
waiting   How to move values between host and device without waiting for the device
augment   Random changes of training images, a batch at a time, on the device that trains
policies  Policies: for each image a few operations out of a list
mixing    Batches whose images are mixed with one another, and their labels alike
draws     Draws of augmentations: for each batch, from one generator by name
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.batches.augment import Augmenter
    from attnsearch.runs.batches.feed import Feed, Stored, fits_on, place, stream
    from attnsearch.runs.batches.waiting import LossWatch, uploaded

face(__name__)
