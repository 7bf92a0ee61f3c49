"""One training: a config, a data set and a seed to a trained network and its metrics.

train        One training: a config, a data set and a seed to a trained network and its metrics
step         One training step: forward, loss, backward and update; eager, compiled or as a CUDA
             graph
speed        Which arithmetic a device trains fastest with: a short race of training steps
timed        What the times of a network are kept under, beside the machine
task         What a training learns: how the tasks differ for the loop around them
segment      Segmentation as a task: masks in the loss, and metrics at the size of the original
             images
losses       The training loss, as the config's `train` section asks, and a user's own metrics
mask_losses  Losses of masks: logits (B, K, H, W) against class indices (B, H, W), 255 ignored
optim        Optimizers, parameter groups, schedules per step, batches, and the pace of batch
             statistics
seeding      What makes a training repeat: keyed random streams and deterministic algorithms
averages     A moving average of a network's weights, evaluated and exported in their place
evaluate     From stored images to a network's logits: the one path that validation and exports
             share
progress     How far a training has come within an epoch: all that its next step depends on
checkpoints  Files from which a training that was interrupted goes on
micro_batches  A step in micro-batches, where memory does not hold a batch: with the gradients of
             the batch
memory       Memory that runs out: how it is noticed, and what is said of it; and streams of a card
panels       The panel of a trained network: its worst and median validation images, and where it
             looks
pictures     Pictures of what a network sees: images, masks, errors and attention maps side by side
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.training.checkpoints import Checkpoint, kept_trainings, remove, sound
    from attnsearch.runs.training.evaluate import (
        EVALUATION_BATCH,
        Normalisation,
        predict,
        shares_of,
    )
    from attnsearch.runs.training.losses import (
        auxiliary_loss,
        check_own_loss,
        check_own_metric,
        own_metric,
    )
    from attnsearch.runs.training.memory import free_memory, memory_held, out_of_memory, own_stream
    from attnsearch.runs.training.micro_batches import SMALLEST
    from attnsearch.runs.training.optim import AUTOCAST, TrainError, epoch_order
    from attnsearch.runs.training.panels import whole_maps
    from attnsearch.runs.training.pictures import Case, mask_image, mask_palette, overlay, panel
    from attnsearch.runs.training.progress import Pass, copied
    from attnsearch.runs.training.seeding import Surroundings, draw_apart, generator
    from attnsearch.runs.training.segment import (
        classes_of,
        enlarged_logits,
        evaluate_masks,
        reach,
    )
    from attnsearch.runs.training.speed import (
        Kept,
        Speed,
        choose_speed,
        named,
        pays,
        plain_arithmetic,
        trial_batches,
    )
    from attnsearch.runs.training.task import evaluate_classes, evaluate_labels
    from attnsearch.runs.training.timed import architecture
    from attnsearch.runs.training.train import Training

face(__name__)
