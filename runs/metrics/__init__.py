"""Numbers that predictions earn.

classification  Classification metrics, equal to scikit-learn's and cheap enough for every epoch
masks           Overlap and distance of predicted and true masks, per image and pooled
scores          Secondary metrics, from the stored predictions of single images
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.metrics.classification import (
        balanced_accuracy,
        classification_metrics,
        macro_f1,
    )
    from attnsearch.runs.metrics.masks import confusion, hd95, per_image, shares, summary
    from attnsearch.runs.metrics.scores import choose_threshold, secondary_metrics

face(__name__)
