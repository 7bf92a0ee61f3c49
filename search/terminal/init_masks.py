"""`attnsearch init` for images with masks: the space file of a segmentation."""

from collections.abc import Sequence

from attnsearch.search.terminal.init import (
    Proposal,
    comment,
    quoted,
    resources_line,
    size_reason,
    stem_reason,
    steps,
    width_reason,
)


def mask_space_text(proposal: Proposal) -> str:
    """Return the space file of a proposal for images with masks."""
    p = proposal
    data = p.data
    names = ", ".join(data.class_names[:8]) + (", ..." if data.classes > 8 else "")
    counts = f"{len(data.train)} / {len(data.val)} / {len(data.test)}"
    two = data.classes == 2
    lines = [
        "# A space file for attnsearch: which blocks may stand where, and what else is searched.",
        "# A value is fixed, or searched: {choice: [a, b]}, {int: [1, 9]}, {float: [0.01, 1]}.",
        "# `attnsearch check FILE` explains it, `attnsearch run FILE` searches it.",
        "",
        f"name: {quoted(p.name)}  # the study, and its experiment in MLflow",
        "task: segmentation",
        "",
        f"# {data.classes} classes: {comment(names)}",
        f"# {counts} images for training / validation / test",
        *(f"# {comment(note)}" for note in data.notes if "mask" in note),
        "data:",
        f"  source: {quoted(p.source)}",
        f"  image_size: {p.image_size}  # {size_reason(p)}",
        "  # Metrics count at the images' own size all the same.",
        "  # tile_overlap: 0.25  # cuts large images into tiles of image_size instead of resizing",
        *([] if two else _background_lines(data.class_names)),
        f"  classes: [{', '.join(quoted(name) for name in data.class_names)}]",
        "  # ignore_index: 255  # a mask value that does not count"
        if p.ignore_index is None
        else f"  ignore_index: {p.ignore_index}  # it seems to mark pixels that do not count",
        "  seed: 0  # fixes the split for all runs",
        "  # Several images of one patient must not stand in two splits. If names begin with the",
        '  # patient, as in p12_scan3.png:  groups: "^([^_]+)_"',
        "  augment:  # of images and masks alike",
        "    flip: true  # false where left and right differ in meaning",
        "    rotate: 15",
        "    scale: 0.2",
        "    brightness: 0.2",
        "    # Also: vflip, translate, elastic, crop, contrast, noise.",
        "",
        "network:",
        "  backbone: resnet18  # attnsearch sites resnet18 --decoder unet: every place",
        f"  stem: {p.stem}  # {stem_reason(p)}",
        f"  width: {p.width}  # {width_reason(p)}",
        "  decoder: unet  # unet, fpn, fcn, aspp",
        "",
        "# WHERE and WHICH. `none` leaves a place empty; attnsearch blocks: what else there is.",
        "insert:",
        "  - at: layer4  # after the encoder's last stage, on the smallest map",
        "    block: {choice: [none, ecrm, gc, axial]}",
        "  - at: layer[2-3].*.conv2  # in place of these 3x3 convolutions",
        "    block: {choice: [none, psa, scconv]}",
        "    decide: stage  # one choice for each stage; together: one for both; each: one a site",
        "  - at: decoder1  # after the decoder's first step",
        "    block: {choice: [none, gc, cbam]}",
        "",
        "# Their hyperparameters; attnsearch blocks NAME explains them.",
        "blocks:",
        "  ecrm: {bank_size: {choice: [20, 40]}}  # filled in training only",
        "  gc: {ratio: {choice: [0.125, 0.25]}}",
        "  axial: {heads: 4}",
        "  psa: {groups: [1, 1, 1, 1]}",
        "",
        "train:",
        f"  epochs: {p.epochs}  # about {steps(p):,} steps; weak trials are stopped earlier",
        f"  batch_size: {p.batch_size}",
        "  optimizer: adamw",
        "  lr: {float: [0.0003, 0.01], log: true, prior: 0.002}",
        "  loss: ce_dice  # ce, dice, ce_dice, focal",
        "  # boundary_weight: 5  # how much more pixels at borders weigh in the cross-entropy",
        *([] if two else ["  # class_weights: balanced  # where some classes are rare"]),
        "  aux_weight: {ecrm: 0.4}  # of the loss of ECRM's own mask",
        "",
        "search:",
        "  sampler: tpe",
        "  scheduler: asha  # stops weak trials early; none: every trial runs to its end",
        f"  trials: {40 if p.gpus else 16}",
        "  objectives: {val_dice: max}  # per image; val_dice_pooled counts all pixels together",
        "  seed: 0",
        "",
        "# The best few and their controls again, on seeds that the search has not seen. Verdicts",
        "# need 5 seeds; `check` says which differences so many can find.",
        "confirm: {top: 2, seeds: 5, controls: [baseline, capacity, tuned_baseline]}",
        "# Then the winner without each of its blocks; also positions, blocks, ofat, pairwise:",
        "ablation: {plans: [loco], seeds: 5}",
        "# smallest_effect: 0.01  # the least gain of Dice that matters",
        "",
        resources_line(p),
    ]
    return "\n".join(lines) + "\n"


def _background_lines(class_names: Sequence[str]) -> list[str]:
    """Return what to know of the first class's name, where there are more than two."""
    if "background" not in class_names:
        return []
    return [
        "  # A class called `background` does not count in the mean Dice. If the first is a class",
        "  # to find, give it another name.",
    ]
