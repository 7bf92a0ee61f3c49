"""From the ledger to a report's `MeasuredStudy`: reads, checks and compares; writes nothing.

A run that is not what its plan says (another budget, other data) is shown with what differs and
takes no part: its arm gets no comparison, so nothing that is printed mixes the two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean, median
from typing import Any

from attnsearch.blocks.naming import describe, insertions, shown_name
from attnsearch.runs.ledger import SEARCH_ROLES, Ledger, PlanRow, State, TrialRow
from attnsearch.runs.results.model import (
    ActResult,
    ArmResult,
    ArmRun,
    MeasuredStudy,
    row_comparison,
)
from attnsearch.runs.results.numbers import is_number, metric_text, unit
from attnsearch.runs.results.predictions import Facts, Predictions
from attnsearch.runs.statistics import (
    BETTER,
    NO_VERDICT,
    Arm,
    Comparison,
    Course,
    Measured,
    Plan,
    compare,
    constant_of,
    follow,
    has_learned,
    seeds_wanted,
    summarise,
)
from attnsearch.spaces.keys import COSTS, LATENCY_QUARTILES

_FAILED = (State.FAILED, State.INFEASIBLE, State.STOPPED)
_NOT_COMPARED = ("source", "fold", "folds", "development")
# What a comparison has not where an arm is excluded.
_NUMBERS = (
    *("difference", "sd", "error", "low", "high", "simultaneous_low", "simultaneous_high", "df"),
    *("p", "p_adjusted", "equivalence_p", "equivalence_p_adjusted", "permutation_p"),
    *("correlation", "detectable", "new_patients", "favours"),
)


def collect_study(ledger: Ledger, study_id: int) -> MeasuredStudy:
    """Read and compare everything that a report shows of a study.

    Args:
        ledger: The ledger.
        study_id: The study.
    """
    study = ledger.study(study_id)
    rows = tuple(ledger.trials(study_id))
    plans = ledger.plans(study_id)
    acts = tuple(_act(ledger, row, rows) for row in plans if row.current)
    acts = tuple(sorted(acts, key=lambda act: act.plan.act != "confirm"))
    confirm = next((act for act in acts if act.plan.act == "confirm"), None)
    explored = {} if confirm is None else _explored(confirm.plan, rows)
    changed = sum(not row.current for row in plans)
    return MeasuredStudy(study, rows, acts, superseded=changed, explored=explored)


def collect_plan(ledger: Ledger, row: PlanRow) -> ActResult:
    """Read and compare what there is of a plan."""
    return _act(ledger, row, ledger.trials(row.study_id))


def _act(ledger: Ledger, row: PlanRow, rows: Sequence[TrialRow]) -> ActResult:
    plan = row.plan
    look = ledger.look_of(row) if plan.part == "test" else None
    rows_by_arm = _own_rows(plan, rows, ledger.arm_runs(row))
    stored = Predictions(ledger, plan)
    runs = {arm.label: _arm_runs(arm, plan, rows_by_arm[arm.label], stored) for arm in plan.arms}
    _exclude_other_examples(runs, plan, stored)
    excluded = {label: _why_excluded(own) for label, own in runs.items()}
    courses = _courses(plan, runs)
    if courses is not None:
        wanted = seeds_wanted(plan, courses)
        for arm in plan.arms:
            runs[arm.label] = runs[arm.label][: wanted[arm.equals or arm.label]]
    complete = all(run.state != "to come" for own in runs.values() for run in own)
    measured = {label: [_measured(run, stored) for run in own] for label, own in runs.items()}
    ratio = _test_to_train(ledger, row, runs, stored)
    added = ledger.added_seeds(row)
    confirmatory = ledger.confirmatory(row)
    comparisons: list[Comparison] = []
    judged = measured.get(plan.reference or "", [])
    unlearned = (
        None if has_learned(plan, judged, test_to_train=ratio) else _unlearned(plan, judged)
    )
    if complete:
        usable = {
            label: m for label, m in measured.items() if courses is not None or not excluded[label]
        }
        comparisons = [
            _emptied(comparison, excluded)
            for comparison in compare(
                plan,
                usable,
                confirmatory=confirmatory,
                look=look,
                added_seeds=bool(added),
                unlearned=unlearned,
                test_to_train=ratio,
            )
        ]
    arms = []
    for arm in plan.arms:
        own = runs[arm.label]
        scored = any(run.score is not None for run in own)
        cut = plan if courses is None else replace(plan, seeds=plan.seeds[: len(own)])
        summary = summarise(cut, arm.label, measured[arm.label], test_to_train=ratio)
        arms.append(
            ArmResult(
                arm=arm,
                inserted=shown_name(describe(arm.config)),
                runs=tuple(own),
                summary=summary if scored else None,
                costs=_costs(own),
                comparison=row_comparison(plan, arm.label, comparisons),
                excluded=excluded[arm.label],
            )
        )
    leader = _leader(plan, arms, comparisons)
    used = {run.row.place_id for own in runs.values() for run in own if run.row is not None}
    return ActResult(
        plan=plan,
        hash=row.hash,
        stored=f"{row.created:%Y-%m-%d %H:%M} UTC",
        winner=row.winner,
        arms=tuple(replace(arm, best=arm.label == leader) for arm in arms),
        comparisons=tuple(comparisons),
        look=look,
        confirmatory=confirmatory,
        complete=complete,
        strays=tuple(r for r in rows if r.place_id not in used and _belongs(r, plan)),
        added_seeds=added,
        unlearned=unlearned,
        groups=stored.groups(runs),
        cases=stored.images(runs),
        courses=tuple(courses or ()),
    )


def _courses(plan: Plan, runs: Mapping[str, Sequence[ArmRun]]) -> list[Course] | None:
    """Return how far the contrasts of a plan with interim analyses have come."""
    if plan.interim is None:
        return None
    ended = {
        label: [Measured(run.fold, run.seed, run.score) for run in own if run.state != "to come"]
        for label, own in runs.items()
    }
    return follow(plan, ended)


def _unlearned(plan: Plan, runs: Sequence[Measured]) -> str:
    """Say that the reference of a plan, whose runs these are, has not learned."""
    name = f"{plan.part}_{plan.metric}"
    constant = f"{metric_text(name, constant_of(plan, runs))}{unit(name)}"
    who = "baseline" if plan.act == "confirm" else "reference"
    return f"the {who} has not learned: an answer that looks at no image has {constant}"


def _own_rows(
    plan: Plan, rows: Sequence[TrialRow], by_arm: dict[str, list[TrialRow | None]]
) -> dict[str, list[TrialRow | None]]:
    """Return the runs of every arm; those of an equal arm in its own places, where it has any."""
    places = {row.place: row for row in rows}
    for arm in plan.arms:
        if arm.equals is not None:
            place = plan.place(arm.label)
            own = [places.get((*place, number)) for number in range(len(plan.repeats()))]
            if [row and row.id for row in own] == [row and row.id for row in by_arm[arm.label]]:
                by_arm[arm.label] = own
    return by_arm


def _arm_runs(
    arm: Arm, plan: Plan, rows: Sequence[TrialRow | None], stored: Predictions
) -> list[ArmRun]:
    runs = []
    for (fold, seed), row in zip(plan.repeats(), rows, strict=True):
        run = ArmRun(fold, seed, "to come", row=row)
        if row is not None and row.state in _FAILED:
            run = replace(run, state="failed", reason=row.error or row.state)
        elif row is not None and row.state == State.FINISHED:
            run = _finished(run, row, arm, plan, stored)
        runs.append(run)
    return runs


def _finished(run: ArmRun, row: TrialRow, arm: Arm, plan: Plan, stored: Predictions) -> ArmRun:
    differs = _differences(row, arm, plan)
    if differs:
        return replace(run, state="excluded", reason=differs)
    name = f"{plan.part}_{plan.metric}"
    score, validation = row.metrics.get(name), row.metrics.get(f"val_{plan.metric}")
    if name not in row.metrics:
        return run  # the test part was not evaluated yet
    if not is_number(score):
        return replace(run, state="failed", reason=f"{name} is {score}")
    return replace(
        run,
        state="finished",
        score=float(score),
        validation=float(validation) if is_number(validation) else None,
        secondary=_others(row, plan, stored),
    )


def _differences(row: TrialRow, arm: Arm, plan: Plan) -> str:
    """Say in what a run is not what its plan asks for; empty where it is."""
    differs = []
    if row.schedule_epochs != plan.epochs:
        differs.append(f"trained for {row.schedule_epochs} epochs, the plan says {plan.epochs}")
    checkpoint = row.config.get("checkpoint", plan.checkpoint)
    if checkpoint != plan.checkpoint:
        differs.append(f"checkpoint {checkpoint}, the plan says {plan.checkpoint}")
    ours, theirs = row.config.get("data") or {}, arm.config.get("data") or {}
    for key in sorted({*ours, *theirs} - set(_NOT_COMPARED)):
        if ours.get(key) != theirs.get(key):
            differs.append(f"data.{key} {ours.get(key)}, the plan says {theirs.get(key)}")
    return "; ".join(differs)


def _exclude_other_examples(
    runs: dict[str, list[ArmRun]], plan: Plan, stored: Predictions
) -> None:
    """Exclude the runs that were scored on other examples than most runs of their fold."""
    for fold in plan.folds:
        seen: dict[bytes, list[tuple[str, int]]] = {}
        for label, own in runs.items():
            for index, run in enumerate(own):
                if run.score is None or run.row is None or run.fold != fold:
                    continue
                mark = stored.of(run.row).mark
                if mark:
                    seen.setdefault(mark, []).append((label, index))
        common = max(seen, key=lambda mark: len(seen[mark]), default=b"")
        for mark, places in seen.items():
            if mark == common:
                continue
            for label, index in places:
                runs[label][index] = replace(
                    runs[label][index],
                    state="excluded",
                    score=None,
                    secondary={},
                    reason=f"its {plan.part} examples or labels are not those of the other runs",
                )


def _why_excluded(runs: Sequence[ArmRun]) -> str:
    reasons = dict.fromkeys(run.reason for run in runs if run.state == "excluded")
    return "; ".join(reasons)


def _emptied(comparison: Comparison, excluded: Mapping[str, str]) -> Comparison:
    """Return a comparison without numbers where one of its arms is excluded."""
    reasons = [
        f"{label} is excluded: {excluded[label]}"
        for label in dict.fromkeys((*comparison.plus, *comparison.minus))
        if excluded.get(label)
    ]
    if not reasons:
        return comparison
    empty: dict[str, Any] = dict.fromkeys(_NUMBERS)
    empty |= {"n": 0, "differences": (), "secondary": {}}
    return replace(comparison, **empty, verdict=NO_VERDICT, reason="; ".join(reasons))


def _others(row: TrialRow, plan: Plan, stored: Predictions) -> dict[str, float]:
    """Return all other metrics of a run on the plan's part."""
    prefix = f"{plan.part}_"
    values: Mapping[str, Any] = {
        key.removeprefix(prefix): value
        for key, value in row.metrics.items()
        if key.startswith(prefix)
    }
    if secondary := stored.of(row).secondary:
        # Of several classes an image what each class has is measured with their names.
        classes = {k: v for k, v in values.items() if k.startswith("ap_")}
        values = {**secondary, **(classes if "label_accuracy" in secondary else {})}
    return {
        name: float(value)
        for name, value in values.items()
        if name != plan.metric and is_number(value)
    }


def _measured(run: ArmRun, stored: Predictions) -> Measured:
    facts = Facts()
    if run.score is not None and run.row is not None:
        facts = stored.of(run.row)
    return Measured(run.fold, run.seed, run.score, facts.cases, run.secondary, facts.constant)


def _costs(runs: Sequence[ArmRun]) -> dict[str, float]:
    rows = [run.row for run in runs if run.row is not None]
    costs = {}
    for cost in (*COSTS, *LATENCY_QUARTILES):
        values = [row.costs[cost] for row in rows if is_number(row.costs.get(cost))]
        if values:
            costs[cost] = float(median(values))
    return costs


def _leader(
    plan: Plan, arms: Sequence[ArmResult], comparisons: Sequence[Comparison]
) -> str | None:
    """Return the arm that is best and was found better than each other one; None where none is."""
    scored = [arm for arm in arms if arm.summary is not None and arm.summary.mean is not None]
    if len(scored) < 2 or len(scored) < len(arms):
        return None
    sign = -1.0 if plan.direction == "max" else 1.0
    first = min(scored, key=lambda arm: sign * (arm.summary.mean or 0.0) if arm.summary else 0.0)
    beaten = set()
    for c in comparisons:
        if len(c.plus) != 1 or len(c.minus) != 1:
            continue
        if c.verdict == BETTER and c.plus[0] == first.label:
            beaten.add(c.minus[0])
        if c.verdict == "worse" and c.minus[0] == first.label:
            beaten.add(c.plus[0])
    same = {arm.arm.label for arm in arms if arm.arm.equals in beaten}
    others = {arm.label for arm in arms if arm is not first}
    return first.label if others <= beaten | same else None


def _belongs(row: TrialRow, plan: Plan) -> bool:
    """Return whether a run stands among those of a plan's act and name."""
    if row.role != plan.act or row.arm is None:
        return False
    return plan.act == "confirm" or row.arm.startswith(f"{plan.name}: ")


def _test_to_train(
    ledger: Ledger,
    row: PlanRow,
    runs: Mapping[str, Sequence[ArmRun]],
    stored: Predictions,
) -> float | None:
    """Return mean over the folds of test size by training size; None where the data is not folded.

    The folds' test parts make up all of the folded data, so what is in neither a fold's test nor
    its validation part was trained on.
    """
    plan = row.plan
    if plan.folds == (None,):
        return None
    sizes = {
        fold: (facts.images, facts.validated)
        for fold, facts in stored.by_fold(runs).items()
        if facts.images and facts.validated
    }
    count = int((ledger.study(row.study_id).document.get("data") or {}).get("folds") or 2)
    if set(sizes) != set(plan.folds) or len(sizes) < count:
        return 1 / (count - 1)
    total = sum(test for test, _ in sizes.values())
    return mean(test / (total - test - val) for test, val in sizes.values())


def _explored(plan: Plan, rows: Sequence[TrialRow]) -> dict[str, int]:
    """Return the trial that each candidate came from: the first with its network and settings."""
    trials = sorted((r for r in rows if r.role in SEARCH_ROLES), key=lambda r: r.number)
    explored = {}
    for arm in plan.arms:
        if arm.kind != "candidate":
            continue
        for trial in trials:
            if trial.state == State.FINISHED and _network(trial.config) == _network(arm.config):
                explored[arm.label] = trial.number
                break
    return explored


def _network(config: Mapping[str, Any]) -> Any:
    """Return what two configs of one network and training share."""
    train = {
        key: value
        for key, value in (config.get("train") or {}).items()
        if key not in ("epochs", "seed")
    }
    return config.get("network"), insertions(config), train
