"""Keys of a space file that contradict each other, or that have no effect.

Each check looks at one section; what a type can say is said in `keys`.
"""

import functools
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from attnsearch.blocks.hosts import (
    BACKBONES,
    Backbone,
    Size,
    as_size,
    find_backbone,
    find_stem,
)
from attnsearch.blocks.ranks import LEAST
from attnsearch.blocks.spelling import did_you_mean
from attnsearch.spaces.file import KeyPath, Problems
from attnsearch.spaces.keys import (
    COSTS,
    MEASURED,
    MULTILABEL,
    Scheduler,
    SeedRange,
    SpaceFile,
    cards_of,
    is_share,
    keys_under,
    objectives,
    shown,
)
from attnsearch.spaces.space.data_checks import check_data
from attnsearch.spaces.space.decisions import is_spec, members
from attnsearch.spaces.space.train_checks import check_train, differs


def check_sections(file: SpaceFile, problems: Problems) -> None:
    """Record every contradiction between the keys of a file, except those of `insert`."""
    for check in (_network, check_data, check_train, _search, _plans, _statistics, _resources):
        check(file, problems)


def _network(file: SpaceFile, problems: Problems) -> None:
    network = file.network
    if not problems.wrong(("network", "backbone")):
        with problems.errors_at(("network", "backbone")):
            _host(file, find_backbone(network.backbone), problems)
    if not problems.wrong(("task",)):
        _of_task(file, problems)
    known = network.backbone in BACKBONES or ":" in network.backbone
    if file.task == "segmentation" and network.aux_heads and known:
        _heads(file, find_backbone(network.backbone), problems)


def _of_task(file: SpaceFile, problems: Problems) -> None:
    """Refuse what is set for another task."""
    for path in (("data",), ("data", "augment"), ("network",), ("train",)):
        section: BaseModel = functools.reduce(getattr, path, file)
        for key, tasks in keys_under("task", type(section)).items():
            if file.task not in tasks and differs(section, key):
                words = f"is for task: {' or '.join(tasks)} only; remove it"
                if (key, file.task) == ("sampler", MULTILABEL):
                    words = (
                        "an image of several classes cannot be drawn for one of them; remove it, "
                        "and see class_weights: balanced"
                    )
                problems.add((*path, key), words, at_key=True)


def _heads(file: SpaceFile, backbone: Backbone, problems: Problems) -> None:
    path = ("network", "aux_heads")
    if backbone.task == "segmentation" or backbone.own:
        problems.add(path, f"{backbone.name} takes no auxiliary heads; remove it", at_key=True)
        return
    stages = [f"layer{number}" for number in range(1, len(backbone.depths) + 1)]
    for index, head in enumerate(file.network.aux_heads):
        if head not in stages:
            problems.add(
                (*path, index),
                f"{shown(head)} is no stage{did_you_mean(head, stages)}; heads stand at "
                f"{', '.join(stages)}",
            )


def _host(file: SpaceFile, backbone: Backbone, problems: Problems) -> None:
    """Check what one network can be: its width, its images' size, its task."""
    network, size = file.network, file.data.image_size
    for stem in [] if backbone.own else members(network.stem):
        with problems.errors_at(("network", "stem")):
            find_stem(backbone, stem)
    if backbone.heads and is_spec(network.width) and not hasattr(network.width, "choice"):
        problems.add(
            ("network", "width"),
            f"the heads of {backbone.name} cannot share every width in a range; write "
            "{choice: [...]}",
        )
    if not problems.wrong(("network", "width")):
        for width in members(network.width):
            with problems.errors_at(("network", "width")):
                backbone.widths(width)
    if not problems.wrong(("network", "stem")) and not problems.wrong(("data", "image_size")):
        for stem in members(network.stem):
            with problems.errors_at(("data", "image_size")):
                backbone.check_size(as_size(size), stem)
    if file.data.eval_size is not None and not problems.wrong(("network", "stem")):
        _evaluated_size(file, backbone, as_size(file.data.eval_size), problems)
    for key, needless, why in (
        ("stem", backbone.own, "is your own, and so is its stem"),
        ("decoder", backbone.own, "is your own, which takes no decoder of ours"),
        ("learn_gates", not backbone.gated, "has no gates"),
        ("joint_patches", not backbone.patches, "has no patches"),
        ("decoder", backbone.segments and not backbone.own, "has a decoder of its own"),
    ):
        if needless and getattr(network, key):
            problems.add(("network", key), f"{backbone.name} {why}; remove it", at_key=True)
    if backbone.segments and file.task != "segmentation" and not problems.wrong(("task",)):
        problems.add(
            ("task",),
            f"{backbone.name} gives a mask for each image; write task: segmentation, or "
            "choose another backbone",
        )
    if backbone.own and file.task == "segmentation" and not backbone.segments:
        problems.add(
            ("task",),
            f"{backbone.name} gives a class for each image; a network of your own for masks has a "
            "class attribute `segments = True` and gives logits (B, classes, H, W)",
        )


def _evaluated_size(file: SpaceFile, backbone: Backbone, size: Size, problems: Problems) -> None:
    """Check that a network takes images of the size that it is evaluated at."""
    path = ("data", "eval_size")
    if backbone.heads and size != as_size(file.data.image_size):
        problems.add(
            path,
            f"{backbone.name} has tables of positions for images of data.image_size, and takes no "
            "others; remove it, or choose another backbone",
            at_key=True,
        )
        return
    for stem in members(file.network.stem):
        with problems.errors_at(path):
            backbone.check_size(size, stem, "eval_size")


def _measured(file: SpaceFile) -> dict[str, str]:
    """Return what can be objectives with their directions, of own metrics as asked for."""
    asked = file.search.objectives
    names = [MEASURED + name.rpartition(":")[2] for name in file.train.metrics or ()]
    return objectives(file.task) | {name: asked.get(name, "max") for name in names}


def _search(file: SpaceFile, problems: Problems) -> None:
    search, path = file.search, ("search",)
    metrics = _measured(file)
    directions = {**metrics, **dict.fromkeys(COSTS, "min")}
    for index, (name, direction) in enumerate(search.objectives.items()):
        where = (*path, "objectives", name)
        if problems.wrong(("task",)):
            break
        better = directions.get(name)
        if better is None:
            problems.add(where, _no_metric(name, name, directions, file), at_key=True)
        elif better != direction:
            words = "higher" if better == "max" else "lower"
            problems.add(where, f"{name} is better when {words}; write {name}: {better}")
        elif index == 0 and name in COSTS:
            problems.add(
                where,
                f"{name} is a cost, and the first objective is what the scheduler follows; put a "
                f"metric first, such as {next(iter(metrics))}: {next(iter(metrics.values()))}",
                at_key=True,
            )
    if search.sampler == "cmaes" and len(search.objectives) > 1:
        problems.add(
            (*path, "sampler"),
            f"cmaes takes one objective, not {len(search.objectives)}; use tpe, gp or nsga2",
        )
    if isinstance(search.scheduler, Scheduler):
        _scheduler(file, search.scheduler, problems)


def _no_metric(written: str, name: str, directions: Mapping[str, Any], file: SpaceFile) -> str:
    return (
        f"{shown(written)} is no metric of {file.task}{did_you_mean(name, directions)} "
        f"(there are {', '.join(directions)})"
    )


def _scheduler(file: SpaceFile, scheduler: Scheduler, problems: Problems) -> None:
    path: KeyPath = ("search", "scheduler")
    named = [key for key in type(scheduler).model_fields if getattr(scheduler, key) is not None]
    if problems.wrong(path):
        return
    if len(named) != 1:
        problems.add(
            path,
            f"names {' and '.join(named) or 'no scheduler'}; write one, such as "
            "{asha: {grace: 2, reduction: 3}}",
        )
        return
    settings = getattr(scheduler, named[0])
    grace = getattr(settings, "grace", None)
    if grace is None or problems.wrong(("train", "epochs")):
        return
    where = (*path, named[0], "grace")
    if grace > file.train.epochs:
        problems.add(
            where,
            f"{grace} epochs are more than the whole run's: train.epochs is {file.train.epochs}",
        )
    elif grace == file.train.epochs:
        problems.warn(where, "is train.epochs, so that no trial is ever stopped early")


def _plans(file: SpaceFile, problems: Problems) -> None:
    for section, key in (("confirm", "controls"), ("ablation", "plans")):
        names = getattr(getattr(file, section), key, [])
        for index, name in enumerate(names):
            if name in names[:index]:
                problems.add((section, key, index), f"{name} stands twice; remove one")
    confirm, ablation = file.confirm, file.ablation
    if confirm is not None and isinstance(confirm.seeds, SeedRange):
        _seed_range(file, confirm.seeds, problems)
    if ablation is None or ablation.reuse is None:
        return
    if confirm is None:
        message = "there is no confirm section whose runs could be reused; add it"
        problems.add(("ablation", "reuse"), message)
        return
    used = confirm.epochs or file.train.epochs
    if ablation.epochs not in (None, used):
        message = f"{ablation.epochs} epochs cannot reuse runs of confirm, which have {used}"
        problems.add(("ablation", "epochs"), f"{message}; remove one")
    if "seeds" in ablation.model_fields_set and ablation.seeds > confirm.least_seeds:
        problems.add(
            ("ablation", "seeds"),
            f"{ablation.seeds} seeds are more than the {confirm.least_seeds} of confirm, "
            "whose runs reuse: confirm takes; raise confirm.seeds or remove reuse",
        )


def _seed_range(file: SpaceFile, seeds: SeedRange, problems: Problems) -> None:
    path: KeyPath = ("confirm", "seeds")
    if seeds.min >= seeds.max:
        problems.add(
            (*path, "max"),
            f"{seeds.max} is not above min, {seeds.min}; raise it, or write one number for all "
            "arms, such as seeds: 5",
        )
    if file.data.folds:
        problems.add(
            path,
            "with data.folds the pairs are folds, and no number of seeds settles a verdict; write "
            "one number, such as seeds: 5",
        )


def _statistics(file: SpaceFile, problems: Problems) -> None:
    directions = {name.removeprefix(MEASURED): way for name, way in _measured(file).items()}
    metric, path = file.primary_metric, ("primary_metric",)
    if metric is None:
        metric = next(iter(file.search.objectives or directions)).removeprefix(MEASURED)
    if metric not in directions and not problems.wrong(("task",)) and not problems.wrong(path):
        if file.primary_metric is not None:
            name = metric.removeprefix(MEASURED)
            problems.add(path, _no_metric(metric, name, directions, file))
        return
    effects = {"smallest_effect": file.smallest_effect, "margin": file.margin}
    for key, value in effects.items():
        if value is not None and value > 1 and is_share(metric):
            problems.add(
                (key,),
                f"{value:g} is more than any difference of {metric}, which lies between 0 and 1; "
                f"{value / 100:g} is {value:g} points",
            )


def _resources(file: SpaceFile, problems: Problems) -> None:
    gpus = file.resources.gpus
    if gpus != "auto" and gpus > 1 and gpus != int(gpus):
        problems.add(
            ("resources", "gpus"),
            f"{gpus} is neither a fraction below 1, which shares a GPU, nor a whole number",
        )
    elif (cards := cards_of(gpus)) > 1:
        _several_cards(file, cards, problems)


def _several_cards(file: SpaceFile, cards: int, problems: Problems) -> None:
    batch: Any = min(members(file.train.batch_size))
    if batch < LEAST * cards and not problems.wrong(("train", "batch_size")):
        message = f"{cards} GPUs cannot share a batch of {batch} images (train.batch_size)"
        most = f"at most {batch // LEAST} GPUs" if batch >= 2 * LEAST else "one GPU"
        problems.add(
            ("resources", "gpus"),
            f"{message}, of which each takes {LEAST} or more; ask for {most}, or raise it",
        )
    if any(members(file.train.compile)):
        problems.add(
            ("train", "compile"),
            f"true cannot stand with resources.gpus: {cards}: steps that several cards share are "
            f"not compiled; remove it, or ask for one GPU",
        )
