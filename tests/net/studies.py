"""Two made studies, one of each task, recorded as a search records its own, without training.

Scores are plain arithmetic and times are set, so that a study is the same on every machine. The
kept ledger was written from these studies: to change them is to lose what it is compared with.
"""

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from tests.net.product import (
    AGAINST_BASELINE,
    AGAINST_CONTROLS,
    Arm,
    Contrast,
    Ending,
    Ledger,
    Place,
    Plan,
    Request,
    Space,
    StudyRow,
    build_network,
    load_space,
    run_key,
)

SPACES = Path(__file__).parent / "spaces"
LABELS, MASKS = "net-labels", "net-masks"
WEIGHTS = "net-weights"  # the folder of the weights, beside the ledger

CONFIRM_SEEDS = (1100000001, 1100000002, 1100000003, 1100000004, 1100000005)
ABLATION_SEEDS = (1200000001, 1200000002, 1200000003, 1200000004, 1200000005)
IMAGES, PATIENTS = 60, 20
START = 1_750_000_000  # 2025-06-15 15:06:40 UTC

PROVENANCE = {
    "time": "2025-06-15T15:06:40+00:00",
    "command": ["attnsearch", "run", "net.yaml"],
    "folder": "/somewhere",
    "host": "somewhere",
    "platform": "Linux",
    "python": "3.11.9",
    "packages": {"attnsearch": "0.1.0", "torch": "2.11.0"},
    "code": {"commit": "c0de" * 10, "dirty": False},
    "project": None,
    "cpu": "Some CPU & Co",
    "cores": 8,
    "memory_mb": 16384,
    "gpus": [],
}

Config = dict[str, Any]
Values = Mapping[str, Any]  # of decisions


def record(path: Path) -> None:
    """Write a ledger with both studies, and the weights that they name beside it."""
    with Ledger(path) as ledger:
        _labels(ledger)
        _masks(ledger)
    _freeze(path)
    write_weights(path.parent)


def write_weights(folder: Path) -> None:
    """Write the weights that the recorded studies name."""
    for name in (LABELS, MASKS):
        config = _space(name).resolve(_space(name).defaults() | _WINNERS[name])
        target = folder / WEIGHTS / f"{name}.safetensors"
        target.parent.mkdir(exist_ok=True)
        _write_network(config, target)


_WINNERS: dict[str, dict[str, Any]] = {
    LABELS: {"layer3.block": "gc", "layer3.gc.ratio": 0.25},
    MASKS: {"top.block": "ecrm", "top.ecrm.bank_size": 20},
}


def _space(name: str, *overrides: str) -> Space:
    return load_space(SPACES / f"{name.removeprefix('net-')}.yaml", overrides)


def _write_network(config: Config, target: Path) -> None:
    """Write a network's weights, filled by counting, in the form of a run's weights file."""
    masks = config["task"] == "segmentation"
    channels, size = (3, 48) if masks else (1, 16)
    network = build_network(config, in_channels=channels, classes=2, image_size=size)
    state = {name: filled(tensor) for name, tensor in network.state_dict().items()}
    interface = {
        "channels": channels,
        "class_names": ["background", "digit"] if masks else ["no", "yes"],
        "image_size": [size, size],
        "mean": [0.5, 0.25, 0.125][:channels],
        "std": [0.5, 0.5, 0.25][:channels],
    }
    metadata = {"format": "pt", "attnsearch": json.dumps(interface, sort_keys=True)}
    target.write_bytes(safetensors.torch.save(state, metadata))


def filled(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of that shape and type that counts; each number is exact in float16 too."""
    count = torch.arange(tensor.numel()).remainder(97).reshape(tensor.shape)
    return count if not tensor.is_floating_point() else ((count - 48) / 512).to(tensor.dtype)


def _chance(place: int, number: int) -> float:
    """What the seed makes of a score: something that all arms share, and something of their own.

    No difference of two arms is the same for all seeds: statistics of rounding errors are chance.
    """
    shared = (0.0, 0.02, -0.03, 0.01, -0.01)[number % 5]
    return shared + (place * 7 + number**2 * 3 + place * number * 5) % 11 / 220


def _joined(decided: Sequence[Values]) -> dict[str, Any]:
    return {name: value for values in decided for name, value in values.items()}


class _Recorder:
    """Records runs of one study."""

    def __init__(self, ledger: Ledger, space: Space, study: StudyRow) -> None:
        self.ledger = ledger
        self.space = space
        self.study = study
        self.score = "dice" if space.task == "segmentation" else "accuracy"

    def config(self, *decided: Values) -> Config:
        """The config of these decisions, of the others' defaults where nothing is decided."""
        return self.space.resolve(self.space.defaults() | _joined(decided))

    def key(self, config: Config, seed: int, fold: int | None = None) -> str:
        return run_key(config, self.study.fingerprint, seed, 4, "cpu", 1, fold)

    def trial(
        self,
        number: int,
        state: str,
        score: float,
        *decided: Values,
        epochs: int = 4,
        **more: Any,
    ) -> None:
        """Record a trial with the scores that a training could have had."""
        config = self.config(*decided)
        claimed = self.ledger.claim(
            Request(self.key(config, 0), config=config, seed=0, epochs=4, study_id=self.study.id)
        )
        plain = all(entry["block"] == "none" for entry in config["insert"])
        self.ledger.attach(
            self.study.id,
            claimed.run_id,
            Place(
                number=number,
                role="plain" if plain else "trial",
                values=self.space.defaults() | _joined(decided),
                proposal={"asked": sorted(_joined(decided))},
            ),
        )
        if claimed.outcome == "finished":
            return  # another study trained it
        self._epochs(claimed.run_id, score, range(1, epochs + 1))
        scores = self._scores("val", score) if epochs else {}
        if state == "finished" and number % 2:
            scores["val_auroc"] = float("nan")
        self.ledger.finish(
            claimed.run_id,
            Ending(
                state,
                metrics=scores,
                costs={
                    "params": 20_000 + 1_234 * number,
                    "macs": 1.5e6 + 12_345 * number,
                    "latency_ms": 1.5 + number / 8,
                    "memory_mb": 64.0,
                    "images_per_s": 1000.0 - number,
                },
                **more,
            ),
        )

    def _epochs(self, run_id: int, score: float, epochs: Sequence[int]) -> None:
        for epoch in epochs:
            metrics = {"train_loss": 2 / epoch, **self._scores("val", score - 0.25 / epoch)}
            if len(epochs) > 2:
                metrics |= {"lr": 0.1 / epoch, "seconds": 15.125, "images_per_s": 990.0 + epoch}
            self.ledger.record_epoch(run_id, epoch, metrics)

    def _scores(self, part: str, score: float) -> dict[str, float]:
        names = ("accuracy", "balanced_accuracy") if self.score == "accuracy" else ("dice", "iou")
        scores = {f"{part}_loss": 1 - score, f"{part}_{names[0]}": score}
        return scores | {f"{part}_{names[1]}": score - 0.0625}

    def tuning(self) -> None:
        """Record the tuning of the plain network's training."""
        plain = {d.name: "none" for d in self.space.decisions if d.name.endswith(".block")}
        for number, lr in enumerate((0.2, 0.05)):
            config = self.space.resolve(self.space.defaults() | plain | {"train.lr": lr})
            claimed = self.ledger.claim(
                Request(
                    self.key(config, 1000000000),
                    config=config,
                    seed=1000000000,
                    epochs=4,
                    study_id=self.study.id,
                )
            )
            self.ledger.attach(
                self.study.id,
                claimed.run_id,
                Place(
                    number=number, role="tuning", arm="tuned_baseline", name=f"tuning {number:03d}"
                ),
            )
            self._epochs(claimed.run_id, 0.75, (4,))
            self.ledger.finish(
                claimed.run_id, Ending("finished", metrics=self._scores("val", 0.75))
            )

    def act(
        self,
        plan: Plan,
        levels: Mapping[str, float],
        *,
        winner: str | None = None,
        weights: str | None = None,
        failing: Sequence[tuple[str, int]] = (),
    ) -> None:
        """Store a plan and record its runs: an arm's level, and what the seed makes of it."""
        row = self.ledger.store_plan(self.study.id, plan)
        for place, arm in enumerate(plan.arms):
            if arm.equals is not None:
                continue
            role, name = plan.place(arm.label)
            for number, (fold, seed) in enumerate(plan.repeats()):
                level = levels[arm.label] + _chance(place, number)
                claimed = self.ledger.claim(
                    Request(
                        self.key(dict(arm.config), seed, fold),
                        config=arm.config,
                        seed=seed,
                        epochs=4,
                        fold=fold,
                        study_id=self.study.id,
                    )
                )
                where = {"number": number, "role": role, "arm": name}
                self.ledger.attach(self.study.id, claimed.run_id, Place(**where))
                if claimed.outcome == "finished":
                    continue
                if (arm.label, number) in failing:
                    why = "the loss is nan at epoch 2"
                    self.ledger.finish(
                        claimed.run_id, Ending("failed", error=why, traceback="In a file")
                    )
                    continue
                self._epochs(claimed.run_id, level, (4,))
                said = self._predictions("val", level, place + 7 * number)
                own_weights = weights if arm.label == winner and number == 1 else None
                self.ledger.finish(
                    claimed.run_id,
                    Ending(
                        "finished",
                        metrics=self._scores("val", self._measured(said)),
                        costs={
                            "params": 20_000 + 321 * place,
                            "macs": 1.5e6 + 4_321 * place,
                            "latency_ms": 1.5 + number / 8,
                            "memory_mb": 64.0 + place,
                        },
                        weights_path=own_weights,
                    ),
                    predictions={"val": said},
                )
                if plan.part == "test":
                    told = self._predictions("test", level - 0.02, place + 11 * number)
                    scores = self._scores("test", self._measured(told))
                    self.ledger.add_test(claimed.run_id, scores, told)
        if winner is not None:
            ranking = sorted(
                ((a.label, levels[a.label]) for a in plan.arms if a.kind == "candidate"),
                key=lambda pair: -pair[1],
            )
            self.ledger.freeze_winner(row.id, winner, ranking)
        if plan.part == "test":
            self.ledger.open_test(f"test of {self.study.name}", row.id)
        self.ledger.set_plan_state(row.id, "finished")

    def _predictions(self, part: str, level: float, shift: int) -> dict[str, Any]:
        """What a network of that level says of each image."""
        index = np.arange(IMAGES)
        names = np.array([f"{part}/{i:03d}.png" for i in index])
        order = (index * 7 + shift * 11) % IMAGES  # 7 and 60 have no common factor
        if self.score == "accuracy":
            labels = index % 2
            right = order < round(level * IMAGES)
            said = np.where(right, labels, 1 - labels)
            sure = (np.array([0.9, 0.8, 0.7, 0.6]) + 0.015625)[order % 4]
            probabilities = np.where(said[:, None] == np.arange(2), sure[:, None], 0)
            probabilities += np.where(probabilities == 0, 1 - sure[:, None], 0)
            return {
                "names": names,
                "labels": labels,
                "probabilities": probabilities.astype(np.float32),
            }
        dice = np.clip(level + (order - IMAGES / 2) / 256, 0, 1)
        groups = np.array([f"patient{i % PATIENTS:02d}" for i in index])
        return {"names": names, "dice": dice, "iou": dice / (2 - dice), "groups": groups}

    def _measured(self, said: Mapping[str, Any]) -> float:
        if self.score == "dice":
            return float(sum(said["dice"].tolist()) / IMAGES)
        return int((said["probabilities"].argmax(1) == said["labels"]).sum()) / IMAGES


def _labels(ledger: Ledger) -> None:
    """Classification: a reused trial, every way for a trial to end, confirm, two ablations."""
    earlier = _opened(ledger, _space(LABELS, "search.seed=1"))
    earlier.trial(0, "finished", 0.8125, {"layer3.block": "se"})
    ledger.set_study_state(earlier.study.id, "finished")

    here = _opened(ledger, _space(LABELS))
    weights = f"{WEIGHTS}/{LABELS}.safetensors"
    gc = {"layer3.block": "gc", "layer3.gc.ratio": 0.25}
    psa = {"conv.layer2.block": "psa"}
    deep = {"conv.layer3.block": "psa"}
    here.trial(0, "finished", 0.78125)
    here.trial(1, "finished", 0.875, gc, weights_path=weights)
    here.trial(2, "finished", 0.8125, {"layer3.block": "se"})  # known from the earlier study
    here.trial(3, "stopped", 0.625, gc, psa, epochs=2)
    error = "the loss is nan | at epoch 1"
    here.trial(4, "failed", 0.5, deep, epochs=0, error=error, traceback="In a file")
    over = {"limits.params": 0.25}
    here.trial(5, "infeasible", 0.5, psa, deep, epochs=0, violations=over)
    here.trial(6, "finished", 0.84375, psa, violations={"limits.params": -0.5})
    ledger.set_importances(here.study.id, {"val_accuracy": {}})  # four trials cannot tell
    here.tuning()

    first, second, base = here.config(gc), here.config(psa), here.config()
    one, two = "gc@layer3", "psa@layer2.*.conv2"
    wider = {**base, "network": base["network"] | {"width": 0.26}}
    tuned = here.config({"train.lr": 0.2})
    notes = ("params +0.3 %",)
    candidates = (Arm(one, "candidate", first), Arm(two, "candidate", second))
    controls = (
        Arm(f"capacity of {one}", "capacity", wider, of=one, notes=notes),
        Arm("tuned baseline", "tuned_baseline", tuned),
    )
    contrasts = [
        Contrast(AGAINST_BASELINE, f"{label} - baseline", (label,), ("baseline",))
        for label in (one, two)
    ]
    for label, other in (
        (one, f"capacity of {one}"),
        (one, "tuned baseline"),
        (two, "tuned baseline"),
    ):
        contrasts.append(Contrast(AGAINST_CONTROLS, f"{label} - {other}", (label,), (other,)))
    plan = _plan(
        "confirm",
        "confirm",
        (*candidates, Arm("baseline", "baseline", base), *controls),
        contrasts,
        metric="accuracy",
        part="test",
        smallest_effect=0.02,
        margin=0.03,
    )
    levels = {one: 0.9, two: 0.8, "baseline": 0.76, "tuned baseline": 0.775}
    levels[f"capacity of {one}"] = 0.77
    here.act(plan, levels, winner=one, weights=weights)

    both_label = f"{one} {two}"
    arms = (
        Arm(both_label, "variant", here.config(gc, psa)),
        Arm(one, "variant", first),
        Arm(two, "variant", second),
        Arm("nothing", "reference", base),
    )
    pairs = [
        Contrast("pairwise", f"{a.label} - nothing", (a.label,), ("nothing",)) for a in arms[:3]
    ]
    cross = ((both_label, "nothing"), (one, two))
    pairs.append(Contrast("pairwise: interactions", f"{one} x {two}", *cross))
    levels = {both_label: 0.88, one: 0.87, two: 0.79, "nothing": 0.75}
    few = ABLATION_SEEDS[:3]
    here.act(_plan("ablation", "pairwise", arms, pairs, metric="accuracy", seeds=few), levels)

    moved = here.config({"layer3.block": "se"})
    arms = (
        Arm(one, "reference", first, notes=("as confirmed",)),
        Arm("se@layer3", "variant", moved, changed={"layer3.block": "se"}),
        Arm("nothing", "variant", base, changed={"layer3.block": "none"}),
        Arm("nothing again", "variant", base, equals="nothing", notes=("= nothing",)),
    )
    pairs = [Contrast("blocks", f"{a.label} - {one}", (a.label,), (one,)) for a in arms[1:]]
    levels = {one: 0.86, "se@layer3": 0.855, "nothing": 0.77}
    plan = _plan("ablation", "blocks", arms, pairs, metric="accuracy", seeds=few)
    here.act(plan, levels)
    ledger.set_study_state(here.study.id, "finished")


def _masks(ledger: Ledger) -> None:
    """Segmentation: two objectives, patients, a run that failed, an ablation of one arm."""
    here = _opened(ledger, _space(MASKS))
    weights = f"{WEIGHTS}/{MASKS}.safetensors"
    ecrm = {"top.block": "ecrm", "top.ecrm.bank_size": 20}
    se = {"decoder2.block": "se"}
    here.trial(0, "finished", 0.6875)
    here.trial(1, "finished", 0.8125, ecrm, weights_path=weights)
    here.trial(2, "finished", 0.75, {"top.block": "gc", "train.lr": 0.01})
    here.trial(3, "failed", 0.5, se, epochs=1, error="out of memory")
    here.trial(4, "finished", 0.78125, ecrm, se)
    ledger.set_importances(here.study.id, {"val_dice": {}})

    one = "ecrm@top"
    arms = (
        Arm(one, "candidate", here.config(ecrm)),
        Arm("baseline", "baseline", here.config()),
    )
    pairs = [Contrast(AGAINST_BASELINE, f"{one} - baseline", (one,), ("baseline",))]
    plan = _plan("confirm", "confirm", arms, pairs, metric="dice", part="test")
    here.act(plan, {one: 0.8, "baseline": 0.69}, winner=one, weights=weights)

    arms = (
        Arm(one, "reference", here.config(ecrm)),
        Arm(f"without {one}", "variant", here.config(), changed={"top.block": "none"}),
        Arm(f"{one} se@decoder2", "variant", here.config(ecrm, se)),
    )
    pairs = [Contrast("loco", f"{a.label} - {one}", (a.label,), (one,)) for a in arms[1:]]
    levels = {one: 0.8, f"without {one}": 0.7, f"{one} se@decoder2": 0.795}
    failing = [(f"{one} se@decoder2", 2)]
    here.act(_plan("ablation", "loco", arms, pairs, metric="dice"), levels, failing=failing)
    ledger.set_study_state(here.study.id, "finished")


def _plan(
    act: str,
    name: str,
    arms: Sequence[Arm],
    contrasts: Sequence[Contrast],
    *,
    metric: str,
    part: str = "val",
    **more: Any,
) -> Plan:
    settings = {"seeds": CONFIRM_SEEDS if act == "confirm" else ABLATION_SEEDS} | more
    return Plan(
        act=act,
        name=name,
        arms=tuple(arms),
        contrasts=tuple(contrasts),
        epochs=4,
        metric=metric,
        direction="max",
        part=part,
        **settings,
    )


def _opened(ledger: Ledger, space: Space) -> _Recorder:
    data = hashlib.sha256(f"data of {space.name}".encode()).hexdigest()
    space.settle({})  # as a session does whose race keeps plain arithmetic
    study = ledger.open_study(space.name, space.text, space.document, data, PROVENANCE)
    return _Recorder(ledger, space, study)


_TIMES = (
    "update attnsearch_schema set created = {start}",
    "update study set uid = printf('%032x', id), created = {start} + id, ended = {start} + 90000",
    "update run set host = 'somewhere', started = {start} + 100 * id, "
    "ended = {start} + 100 * id + 60.5",
    "update epoch set recorded = {start} + 100 * run_id + 15.125 * epoch",
    "update study_run set created = {start} + 100 * run_id",
    "update plan set created = {start} + 50000 + id, "
    "frozen = case when frozen is null then null else {start} + 60000 end",
    "update look set opened = {start} + 70000 + id",
)
"""What a clock, a host and chance decide of a ledger, set."""


def _freeze(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in _TIMES:
            connection.execute(statement.format(start=START))
        connection.commit()
        connection.execute("vacuum")
