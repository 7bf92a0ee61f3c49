"""The arithmetic of a study: chosen before its first run, and the same for all of them."""

import copy
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from attnsearch.blocks.naming import NONE
from attnsearch.runs.data import DataSet
from attnsearch.runs.ledger import StudyRow, study_digest
from attnsearch.runs.training import Speed, choose_speed
from attnsearch.search.plans import most_seeds
from attnsearch.search.workers import Need
from attnsearch.spaces import Decision, Space
from attnsearch.spaces.keys import closed_arithmetic, open_arithmetic

STAND_INS = 8  # networks that are tried, at most


def settle_as(space: Space, studies: Sequence[StudyRow], fingerprint: str) -> bool:
    """Close what a file leaves open as an earlier study of it did, the latest of several.

    Args:
        space: The space.
        studies: Those of its name.
        fingerprint: Of the data.

    Returns:
        Whether nothing is open any more.
    """
    train = space.document["train"]
    if not open_arithmetic(train):
        return True
    for study in reversed(studies):
        before = study.document.get("train", {})
        document = copy.copy(space.document)
        document["train"] = {**train, **closed_arithmetic(train, before)}
        if study_digest(document, fingerprint) == study_digest(study.document, study.fingerprint):
            space.settle(before)
            return True
    return False


def settle(
    space: Space,
    data: DataSet,
    need: Need,
    trials: int,
    plans: bool,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Close what a file leaves open by what the device trains fastest with.

    Args:
        space: The space.
        data: What exploring trains on.
        need: What each trial takes; where that is a GPU, or a cluster's, Ray must be running.
        trials: Of exploring.
        plans: Whether confirm and ablations follow.
        note: Is told what was chosen, where anything was tried.

    Returns:
        What the study's record says of it.
    """
    document = space.document
    asked = [document.get(key) for key in ("confirm", "ablation")] if plans else []
    runs = trials + sum(4 * most_seeds(section["seeds"]) for section in asked if section)
    train = document["train"]
    batches = -(-len(data.train.images) // space.resolve(space.defaults())["train"]["batch_size"])
    run_steps = train["epochs"] * batches
    configs = list(itertools.islice(stand_ins(space), STAND_INS))
    lengths = {"steps": float(runs * run_steps), "run_steps": float(run_steps)}
    if races_on_workers(need):
        import ray

        choose = ray.remote(num_cpus=need.cpus, num_gpus=need.gpus)(choose_speed)
        device = "cuda" if need.gpus else "cpu"
        arguments = (configs, train, ray.put(data), device, need.threads)
        speed: Speed = ray.get(choose.remote(*arguments, **lengths))
    else:
        speed = choose_speed(configs, train, data, "cpu", need.threads, **lengths)
    space.settle(speed.arithmetic)
    if speed.tried:
        note(f"train.speed: {speed}")
    return {**asdict(speed), "text": str(speed)}


def races_on_workers(need: Need) -> bool:
    """Return whether trials run on other hardware than this process, so that Ray must race."""
    return bool(need.gpus or os.environ.get("RAY_ADDRESS"))


def stand_ins(space: Space) -> Iterator[Mapping[str, Any]]:
    """Yield configs that stand for a space: the baseline, then one with each block."""
    choosing = {group.decision.name for group in space.groups if group.decision is not None}
    baseline = space.baseline()
    yield space.resolve(baseline or space.defaults())
    blocks = dict.fromkeys(block for group in space.groups for block in group.options)
    for block in blocks:
        if block == NONE:
            continue

        def chosen(decision: Decision, block: str = block) -> Any:
            fits = decision.name in choosing and block in decision.choices
            return block if fits else decision.default()

        values = space.ask(chosen)
        if values != baseline and space.forbidden(values) is None:
            yield space.resolve(values)
