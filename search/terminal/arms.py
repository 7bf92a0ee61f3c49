"""What `run`, `show` and `list` say of confirm and ablations: arms, and how far a study is."""

import statistics
from collections.abc import Sequence
from typing import Any

from attnsearch.runs.ledger import PlanRow, PlanState, Role, State, TrialRow
from attnsearch.runs.results import value_of
from attnsearch.search.text import Letters, paragraph, score, table

_OF_ANALYSIS = ("number", "size", "settled", "seeds", "made")
_OF_RUN = ("seed", "fold", "state", "error", "mlflow_run_id", "metrics")  # as JSON shows a run


def act_of(rows: Sequence[TrialRow], plans: Sequence[PlanRow]) -> str:
    """Return the act that a study is in, as `explore`, `tuning`, `confirm 7/18` or `done`.

    Args:
        rows: All its runs.
        plans: Its plans, superseded ones left out.
    """
    for plan in plans:
        runs = arm_rows(plan, rows)
        own = [arm.label for arm in plan.plan.arms if arm.equals is None]
        every = [run for label in own for run in runs[label]]
        ended = sum(run is not None and run.state.ended for run in every)
        if ended < len(every):
            return f"{plan.plan.title} {ended}/{len(every)}"
        if plan.state != PlanState.FINISHED:
            return "test" if plan.plan.act == "confirm" else f"test {plan.plan.name}"
    if plans:
        return "done"
    return "tuning" if any(row.role == Role.TUNING for row in rows) else "explore"


def arm_rows(row: PlanRow, rows: Sequence[TrialRow]) -> dict[str, list[TrialRow | None]]:
    """Return the runs of every arm of a current plan, None where one has not begun."""
    plan, places = row.plan, {row.place: row for row in rows}
    return {
        arm.label: [
            places.get((*plan.place(arm.label), number))
            for number in range(row.runs_of(arm.label))
        ]
        for arm in plan.arms
    }


def letters_of(plans: Sequence[PlanRow]) -> tuple[Letters, str]:
    """Return letters for the long names of all arms of a study's plans, and their legend."""
    names = [arm.label for row in plans for arm in row.plan.arms]
    return (letters := Letters(names)), letters.legend(*names)


def arms_text(plan: PlanRow, rows: Sequence[TrialRow], letters: Letters) -> str:
    """Return the arms of a plan with mean, standard deviation and number of runs.

    On validation data, and on the test part where it was opened for the plan.

    Args:
        plan: The plan.
        rows: All runs of its study.
        letters: See `letters_of`.
    """
    metric = plan.plan.metric
    columns = [f"val_{metric}"]
    runs_of = arm_rows(plan, rows)
    if plan.plan.part == "test" and (plan.state == PlanState.FINISHED or plan.analyses):
        columns.append(f"test_{metric}")
    headers = ["arm", *(word for name in columns for word in (name, "sd")), "n", "note"]
    out = []
    for arm in plan.plan.arms:
        runs = runs_of[arm.label]
        moments = [_moments(runs, name) for name in columns]
        cells = [arm.label, *(score(value) for mean, sd, _ in moments for value in (mean, sd))]
        notes = ["winner"] if arm.label == plan.winner else []
        failed = sum(
            run is not None and run.state in (State.FAILED, State.INFEASIBLE) for run in runs
        )
        notes += [f"{failed} failed"] if failed else []
        notes += [f"= {arm.equals}"] if arm.equals else []
        count = moments[0][2]
        cells += [f"{count}/{len(runs)}" if count < len(runs) else str(count), ", ".join(notes)]
        out.append([letters(cell) for cell in cells])
    head = f"{plan.plan.title} ({'seed means' if plan.plan.folds == (None,) else 'all folds'}):"
    right = {"val_" + metric, "test_" + metric, "sd", "n"}
    text = f"{head}\n{table(headers, out, right=right, indent='  ')}"
    return "\n".join([text, *_analyses(plan, letters)])


def arm_fields(plan: PlanRow, rows: Sequence[TrialRow]) -> dict[str, Any]:
    """Return a plan with its arms as plain values, for JSON."""
    runs_of = arm_rows(plan, rows)
    arms = []
    for arm in plan.plan.arms:
        runs = [run for run in runs_of[arm.label] if run is not None]
        names = {name for run in runs for name in run.metrics}
        arms.append(
            {
                "label": arm.label,
                "kind": arm.kind,
                "equals": arm.equals,
                "notes": list(arm.notes),
                "scores": {
                    name: dict(zip(("mean", "sd", "n"), _moments(runs, name), strict=True))
                    for name in sorted(names)
                    if name.startswith(("val_", "test_"))
                },
                "runs": [
                    {"run_id": run.id, **{name: getattr(run, name) for name in _OF_RUN}}
                    for run in runs
                ],
            }
        )
    own = {}
    if plan.plan.interim is not None:
        own["analyses"] = [
            {name: getattr(analysis, name) for name in _OF_ANALYSIS} for analysis in plan.analyses
        ]
    return {
        "act": plan.plan.act,
        "name": plan.plan.name,
        "hash": plan.hash,
        "state": plan.state,
        "part": plan.plan.part,
        "winner": plan.winner,
        "ranking": [list(item) for item in plan.ranking],
        "arms": arms,
        **own,
    }


def _analyses(plan: PlanRow, letters: Letters) -> list[str]:
    """Return a line for each analysis that was made: what it has settled."""
    interim, lines = plan.plan.interim, []
    for analysis in plan.analyses if interim is not None else ():
        settled = [f"{name}: {why}" for name, why in analysis.settled.items()]
        words = "; ".join(settled) or "nothing settled yet"
        words = letters(f"at {analysis.size} seeds: {words}")
        lines.append(paragraph(words, indent="  ", hanging="  "))
    return lines


def _moments(runs: Sequence[TrialRow | None], name: str) -> tuple[float | None, float | None, int]:
    """Return mean, standard deviation and number of the finished runs' scores."""
    finished = [run for run in runs if run is not None and run.state == State.FINISHED]
    values = [value for run in finished if (value := value_of(run, name)) is not None]
    mean = statistics.fmean(values) if values else None
    sd = statistics.stdev(values) if len(values) > 1 else None
    return mean, sd, len(values)
