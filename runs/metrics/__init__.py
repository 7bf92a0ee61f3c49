"""Numbers that predictions earn.

classification  Metrics of class predictions, equal to scikit-learn's and cheap enough for every
                epoch
constant        What answers that look at no image earn: the floor that a network has to rise above
labels          Metrics of any number of classes an image, each said by itself
given           Which metrics a part of the data can give, before anything is trained
masks           Overlap and distance of predicted and true masks, per image and pooled

What is true of a metric by its name (direction, share, words) stands in `spaces/keys/measures`; a
new one is an entry there and a function here, in `OF_CLASSES`, `OF_LABELS`, `OF_MASKS` or
`OF_MASK`.
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.metrics.classification import (
        balanced_accuracy,
        choose_threshold,
        classification_metrics,
        macro_f1,
        secondary_metrics,
    )
    from attnsearch.runs.metrics.constant import constant_classes, constant_labels, constant_masks
    from attnsearch.runs.metrics.given import left_out, why_undefined
    from attnsearch.runs.metrics.labels import (
        OF_LABELS,
        THRESHOLD,
        LabelAnswers,
        f1_of,
        image_losses,
        label_metrics,
        of_each_class,
        secondary_labels,
    )
    from attnsearch.runs.metrics.masks import OF_MASK, confusion, per_image, shares, summary

face(__name__)
