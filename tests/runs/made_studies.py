"""Made-up studies with confirmation and ablation, for what reads them: scores of known size."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.records import PlanRow, StudyRow
from attnsearch.runs.ledger.requests import Ending, Place, Request
from attnsearch.runs.results.model import ActResult, ArmResult, ArmRun, MeasuredStudy
from attnsearch.runs.statistics.comparison import compare
from attnsearch.runs.statistics.measured import Measured, summarise
from attnsearch.runs.statistics.plan import AGAINST_BASELINE, AGAINST_CONTROLS, Arm, Contrast, Plan

CLASSES = 4
IMAGES = 240
CONFIRM_SEEDS = (1100000001, 1100000002, 1100000003, 1100000004, 1100000005)
ABLATION_SEEDS = (1200000001, 1200000002, 1200000003, 1200000004, 1200000005)
MEANS = {"gc@layer4": 0.86, "se@layer3": 0.82, "baseline": 0.80, "tuned baseline": 0.805}
MEANS |= {"capacity of gc@layer4": 0.80, "capacity of se@layer3": 0.801}

PROVENANCE = {
    "command": ["attnsearch", "run", "x.yaml"],
    "cpu": "Some CPU & Co",
    "cores": 8,
    "memory_mb": 16384,
    "gpus": [],
    "python": "3.11.9",
    "packages": {"attnsearch": "0.1.0", "torch": "2.11.0"},
}


def document(**changes: Any) -> dict[str, Any]:
    """A checked space file."""
    plain = {
        "task": "classification",
        "data": {"source": "/somewhere/set_1", "image_size": 16, "seed": 0, "groups": None},
        "network": {"backbone": "resnet18", "width": 0.5, "weights": None},
        "search": {
            "sampler": "tpe",
            "scheduler": "asha",
            "trials": 4,
            "objectives": {"val_accuracy": "max"},
        },
    }
    return plain | changes


def config(*insert: tuple[str, str], **train: Any) -> dict[str, Any]:
    """A resolved config with these blocks at these sites."""
    return {
        "name": "made",
        "task": "classification",
        "data": {"source": "/somewhere/set_1", "image_size": 16, "seed": 0, "fold": None},
        "network": {"backbone": "resnet18", "width": 0.5},
        "insert": [{"at": site, "name": site, "block": block} for block, site in insert],
        "train": {"epochs": 6, "lr": 0.1, **train},
        "checkpoint": "last",
    }


def confirm_plan(**changes: Any) -> Plan:
    """Two candidates, the baseline, a capacity control each, and the tuned baseline."""
    candidates = {"gc@layer4": ("gc", "layer4"), "se@layer3": ("se", "layer3")}
    arms = [Arm(label, "candidate", config(place)) for label, place in candidates.items()]
    arms.append(Arm("baseline", "baseline", config()))
    for label in candidates:
        wider = {**config(), "network": {"backbone": "resnet18", "width": 0.51 + len(arms) / 100}}
        notes = ("params +0.3 %",)
        arms.append(Arm(f"capacity of {label}", "capacity", wider, of=label, notes=notes))
    arms.append(Arm("tuned baseline", "tuned_baseline", config(lr=0.3)))
    contrasts = [
        Contrast(AGAINST_BASELINE, f"{label} - baseline", (label,), ("baseline",))
        for label in candidates
    ]
    for label in candidates:
        for other in (f"capacity of {label}", "tuned baseline"):
            contrasts.append(Contrast(AGAINST_CONTROLS, f"{label} - {other}", (label,), (other,)))
    plan = Plan(
        act="confirm",
        name="confirm",
        arms=tuple(arms),
        contrasts=tuple(contrasts),
        seeds=CONFIRM_SEEDS,
        epochs=6,
        metric="accuracy",
        direction="max",
        part="test",
    )
    return replace(plan, **changes)


def pairwise_plan(**changes: Any) -> Plan:
    """Two by two around the winner, with its interaction, on validation data."""
    arms = (
        Arm("gc@layer4 se@layer3", "variant", config(("gc", "layer4"), ("se", "layer3"))),
        Arm("gc@layer4", "variant", config(("gc", "layer4"))),
        Arm("se@layer3", "variant", config(("se", "layer3"))),
        Arm("nothing", "reference", config()),
    )
    contrasts = [
        Contrast("pairwise", f"{arm.label} - nothing", (arm.label,), ("nothing",))
        for arm in arms[:3]
    ]
    both = ("gc@layer4 se@layer3", "nothing")
    parts = ("gc@layer4", "se@layer3")
    contrasts.append(Contrast("pairwise: interactions", "gc@layer4 x se@layer3", both, parts))
    plan = Plan(
        act="ablation",
        name="pairwise",
        arms=arms,
        contrasts=tuple(contrasts),
        seeds=ABLATION_SEEDS,
        epochs=6,
        metric="accuracy",
        direction="max",
        part="val",
    )
    return replace(plan, **changes)


def positions_plan(**changes: Any) -> Plan:
    """Two blocks at two sites, against gc at layer4."""
    places = [(block, site) for block in ("gc", "se") for site in ("layer3", "layer4")]
    arms = [Arm("gc@layer4", "reference", config(("gc", "layer4")))]
    for block, site in places:
        if (block, site) != ("gc", "layer4"):
            arms.append(Arm(f"{block}@{site}", "variant", config((block, site))))
    contrasts = tuple(
        Contrast("positions", f"{arm.label} - gc@layer4", (arm.label,), ("gc@layer4",))
        for arm in arms[1:]
    )
    plan = pairwise_plan(name="positions", arms=tuple(arms), contrasts=contrasts)
    return replace(plan, **changes)


def open_study(ledger: Ledger, name: str = "made", **changes: Any) -> StudyRow:
    """A study that is running."""
    return ledger.open_study(name, f"name: {name}", document(**changes), "data" * 16, PROVENANCE)


def explore(ledger: Ledger, study: StudyRow) -> None:
    """Four trials: plain, two candidates, one stopped early."""
    found = [((), 0.78), ((("gc", "layer4"),), 0.88), ((("se", "layer3"),), 0.84)]
    for number, (insert, score) in enumerate([*found, ((("gc", "layer3"),), 0.5)]):
        wanted = config(*insert)
        claimed = ledger.claim(
            Request(f"trial{number}", config=wanted, seed=0, epochs=6, study_id=study.id)
        )
        role = "trial" if insert else "plain"
        ledger.attach(study.id, claimed.run_id, Place(number=number, role=role))
        stopped = number == 3
        for epoch in range(1, 3 if stopped else 7):
            ledger.record_epoch(claimed.run_id, epoch, {"val_accuracy": score - 0.2 / epoch})
        ledger.finish(
            claimed.run_id,
            Ending(
                "stopped" if stopped else "finished",
                metrics={"val_accuracy": score, "val_loss": 1 - score},
                costs={"params": 100_000 + 10_000 * number, "macs": 5e6 + 1e5 * number},
            ),
        )
    block = {"share": 0.7, "low": 0.4, "high": 0.9, "p": 0.001}
    rate = {"share": 0.3, "low": 0.1, "high": 0.5, "p": 0.02}
    ledger.set_importances(study.id, {"val_accuracy": {"layer4.block": block, "train.lr": rate}})


def predictions(score: float, mark: str, part: str, **more: Any) -> dict[str, Any]:
    """Predictions whose accuracy is a score, nearly."""
    draw = np.random.default_rng(zlib.crc32(mark.encode()))
    labels = np.arange(IMAGES) % CLASSES
    right = np.arange(IMAGES) < round(score * IMAGES)
    draw.shuffle(right)
    said = np.where(right, labels, (labels + 1) % CLASSES)
    probabilities = np.full((IMAGES, CLASSES), 0.1, np.float32)
    probabilities[np.arange(IMAGES), said] = 1 - 0.1 * (CLASSES - 1)
    names = np.array([f"{part}/{i:04d}" for i in range(IMAGES)])
    return {"names": names, "labels": labels, "probabilities": probabilities, **more}


def run_arm(
    ledger: Ledger,
    study: StudyRow,
    plan: Plan,
    label: str,
    scores: Sequence[float | None],
    **changes: Any,
) -> None:
    """Train an arm: a score for each of the plan's repeats; None fails."""
    role, name = plan.place(label)
    arm = plan.arm(label)
    for number, ((fold, seed), score) in enumerate(zip(plan.repeats(), scores, strict=False)):
        key = f"{study.id} {role} {name} {seed} {fold} {changes.get('epochs')}"
        claimed = ledger.claim(
            Request(
                key,
                config={**arm.config, **changes.get("config", {})},
                seed=seed,
                epochs=changes.get("epochs", plan.epochs),
                fold=fold,
                study_id=study.id,
            )
        )
        ledger.attach(study.id, claimed.run_id, Place(number=number, role=role, arm=name))
        if claimed.outcome == "finished":
            continue
        if score is None:
            ledger.finish(claimed.run_id, Ending("failed", error="the loss is nan at epoch 2"))
            continue
        for epoch in (1, plan.epochs):
            ledger.record_epoch(claimed.run_id, epoch, {"val_accuracy": score - 0.2 / epoch})
        metrics, stored = {}, {}
        for part in {"val", plan.part}:
            arrays = predictions(score, f"{label} {seed} {part}", part, **changes.get("more", {}))
            hits = arrays["probabilities"].argmax(1) == arrays["labels"]
            metrics[f"{part}_accuracy"] = float(hits.mean())
            stored[part] = arrays
        ledger.finish(
            claimed.run_id,
            Ending(
                "finished",
                metrics={k: v for k, v in metrics.items() if k.startswith("val_")},
                costs={
                    "params": 100_000 + zlib.crc32(label.encode()) % 9999,
                    "macs": 5e6 + zlib.crc32(label.encode()) % 99999,
                    "latency_ms": 1.5 + number / 10,
                    "memory_mb": 120.0,
                },
            ),
            predictions={"val": stored["val"]},
        )
        if plan.part == "test":
            test = {k: v for k, v in metrics.items() if k.startswith("test_")}
            ledger.add_test(claimed.run_id, test, stored["test"])


def spread(label: str, n: int, mean: float, noise: float = 0.012) -> list[float]:
    """Scores around a mean, with an effect of the seed that all arms share."""
    shared = np.random.default_rng(7).normal(0, noise, n)
    own = np.random.default_rng(zlib.crc32(label.encode())).normal(0, noise / 3, n)
    return [float(v) for v in mean + shared + own - own.mean()]


def run_plan(
    ledger: Ledger,
    study: StudyRow,
    plan: Plan,
    means: Mapping[str, float],
    winner: str | None = None,
    *,
    fingerprint: str = "test1",
) -> PlanRow:
    """Store and train a plan, freeze its winner and open the test data where it is due."""
    row = ledger.store_plan(study.id, plan)
    for arm in plan.arms:
        if arm.equals is None:
            scores = spread(arm.label, len(plan.repeats()), means.get(arm.label, 0.8))
            run_arm(ledger, study, plan, arm.label, scores)
    if winner is not None:
        row = ledger.freeze_winner(row.id, winner, [(winner, means[winner])])
    if plan.part == "test":
        ledger.open_test(fingerprint, row.id)
    ledger.set_plan_state(row.id, "finished")
    return row


def tune(ledger: Ledger, study: StudyRow) -> None:
    """Two trials of the plain network's training settings."""
    for number, lr in enumerate((0.3, 0.1)):
        claimed = ledger.claim(
            Request(
                f"tuning{number}",
                config=config(lr=lr),
                seed=1000000000,
                epochs=6,
                study_id=study.id,
            )
        )
        place = {"role": "tuning", "arm": "tuned_baseline", "name": f"tuning {number:03d}"}
        ledger.attach(study.id, claimed.run_id, Place(number=number, **place))
        ledger.record_epoch(claimed.run_id, 6, {"val_accuracy": 0.8})
        ledger.finish(claimed.run_id, Ending("finished", metrics={"val_accuracy": 0.8}))


def whole_study(ledger: Ledger, name: str = "made") -> StudyRow:
    """Exploring, confirmation and two ablations, all done."""
    study = open_study(ledger, name)
    explore(ledger, study)
    tune(ledger, study)
    run_plan(ledger, study, confirm_plan(), MEANS, "gc@layer4")
    four = {"gc@layer4 se@layer3": 0.87, "gc@layer4": 0.86, "se@layer3": 0.82, "nothing": 0.80}
    run_plan(ledger, study, pairwise_plan(), four)
    sites = {"gc@layer4": 0.86, "gc@layer3": 0.84, "se@layer4": 0.83, "se@layer3": 0.82}
    run_plan(ledger, study, positions_plan(), sites)
    ledger.set_study_state(study.id, "finished")
    return ledger.study(study.id)


def candidates_plan(labels: Sequence[str] = ("gc@layer4", "se@layer3"), **changes: Any) -> Plan:
    """Candidates and their baseline."""
    arms = [Arm(label, "candidate", config(tuple(label.split("@")))) for label in labels]
    contrasts = tuple(
        Contrast(AGAINST_BASELINE, f"{label} - baseline", (label,), ("baseline",))
        for label in labels
    )
    baseline = Arm("baseline", "baseline", config())
    plan = confirm_plan(arms=(*arms, baseline), contrasts=contrasts)
    return replace(plan, **changes)


def measured_study(name: str, plan: Plan | None = None, **more: Any) -> MeasuredStudy:
    """Measure a made-up study on data of its own, without a ledger."""
    plan = plan or candidates_plan()
    means = {**MEANS, **more.get("means", {})}
    failed = more.get("failed", ())
    runs, scores = {}, {}
    for arm in plan.arms:
        values = spread(f"{name} {arm.label}", len(plan.seeds), means.get(arm.label, 0.8))
        own = list(zip(plan.seeds, values, strict=True))
        lost = arm.label in failed
        runs[arm.label] = tuple(
            ArmRun(None, seed, "failed" if lost else "finished", None if lost else value)
            for seed, value in own
        )
        scores[arm.label] = [Measured(None, run.seed, run.score) for run in runs[arm.label]]
    ended = more.get("ended", True)
    act = ActResult(
        plan=plan,
        hash="",
        stored="",
        winner=None,
        arms=tuple(
            ArmResult(
                arm, "", runs[arm.label], summarise(plan, arm.label, scores[arm.label]), {}, None
            )
            for arm in plan.arms
        ),
        comparisons=tuple(compare(plan, scores, confirmatory=True, look=1)) if ended else (),
        look=1,
        confirmatory=True,
        complete=ended,
        unlearned=more.get("unlearned"),
    )
    row = SimpleNamespace(
        name=name,
        label=f"{name}/1",
        fingerprint=more.get("data", name),
        document=document(**more.get("document", {})),
    )
    return MeasuredStudy(cast(StudyRow, row), (), (act,))
