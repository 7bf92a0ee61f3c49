"""A report's numbers as pandas frames, in metric units: nothing rounded, a fact a column."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from attnsearch.runs.ledger import EXPLORING_ROLES, TrialRow
from attnsearch.runs.results.model import ActResult, ArmResult, MeasuredStudy
from attnsearch.runs.results.numbers import is_number
from attnsearch.runs.results.trials import leaderboard
from attnsearch.runs.statistics import Interval
from attnsearch.spaces.keys import COSTS

_OF_COMPARISON = (
    *("difference", "low", "high", "simultaneous_low", "simultaneous_high"),
    *("p", "p_adjusted", "verdict"),
)
# What a frame takes as it stands: of a planned run, and of one in the ledger.
_OF_RUN = ("fold", "seed", "state", "score", "reason")
_OF_ROW = ("key", "mlflow_run_id", "reused_from")


def study_frames(result: MeasuredStudy, *names: str) -> dict[str, pd.DataFrame]:
    """Return tables of a report by their names, or all of them.

    Returns:
        ``leaderboard`` (exploring), ``arms``, ``contrasts``, ``runs`` (every run a row),
        ``secondary``, ``families`` and ``analyses``; those of what was not planned are empty.
    """
    makers: dict[str, Callable[[MeasuredStudy], pd.DataFrame]] = {
        "leaderboard": lambda result: leaderboard(result.study, result.trials),
        "arms": arms_frame,
        "contrasts": contrasts_frame,
        "runs": runs_frame,
        "secondary": secondary_frame,
        "families": families_frame,
        "analyses": analyses_frame,
    }
    return {name: make(result) for name, make in makers.items() if name in (names or makers)}


def arms_frame(result: MeasuredStudy) -> pd.DataFrame:
    """Return one row an arm: what it is, mean, spread, difference to its reference, costs."""
    rows = [_arm_row(act, arm) for act in result.acts for arm in act.arms]
    columns = [
        *("act", "plan", "arm", "kind", "inserted", "equals", "metric", "n", "failed"),
        *("mean", "sd", "mean_low", "mean_high", "validation_mean", "reference"),
        *(*_OF_COMPARISON, "reason", "best", "winner", *COSTS, "epochs", "notes"),
    ]
    return pd.DataFrame(rows, columns=columns)


def _arm_row(act: ActResult, arm: ArmResult) -> dict[str, Any]:
    summary, c = arm.summary, arm.comparison
    interval = summary.interval if summary else None
    return {
        "act": act.plan.act,
        "plan": act.name,
        "arm": arm.label,
        "kind": arm.arm.kind,
        "inserted": arm.inserted,
        "equals": arm.arm.equals,
        "metric": act.metric,
        "n": summary.n if summary else 0,
        "failed": len(arm.failed),
        **{name: getattr(summary, name, None) for name in ("mean", "sd")},
        **{f"mean_{name}": getattr(interval, name, None) for name in ("low", "high")},
        "validation_mean": None if act.plan.checkpoint == "best_val" else arm.validation,
        "reference": c.minus[0] if c else None,
        **{name: getattr(c, name, None) for name in _OF_COMPARISON},
        "reason": arm.excluded or (c.reason if c else None),
        "best": arm.best,
        "winner": arm.label == act.winner,
        **{cost: arm.costs.get(cost) for cost in COSTS},
        "epochs": act.plan.epochs,
        "notes": "; ".join(arm.arm.notes),
    }


def contrasts_frame(result: MeasuredStudy) -> pd.DataFrame:
    """Return one row a contrast, with everything that its test rests on."""
    columns = [
        *("act", "plan", "family", "contrast", "plus", "minus", "metric", "scope", "n", "failed"),
        *("difference", "sd", "low", "high", "simultaneous_low", "simultaneous_high"),
        *("df", "p", "p_adjusted", "tests", "permutation_p"),
        *("equivalence_p", "equivalence_p_adjusted", "correlation", "detectable"),
        *("new_patients_low", "new_patients_high", "new_patients_df", "new_patients_cases"),
        *("confirmatory", "look", "verdict", "reason"),
    ]
    if any(act.plan.interim is not None for act in result.acts):
        columns += ["analysis", "settled"]
    rows = []
    for act in result.acts:
        for c in act.comparisons:
            own: dict[str, Any] = {
                "act": act.plan.act,
                "plan": act.name,
                "contrast": c.name,
                "plus": " + ".join(c.plus),
                "minus": " + ".join(c.minus),
                "metric": act.metric,
            }
            for name in ("low", "high", "df", "cases"):
                own[f"new_patients_{name}"] = getattr(c.new_patients, name, None)
            rows.append([own[name] if name in own else getattr(c, name) for name in columns])
    return pd.DataFrame(rows, columns=columns)


def runs_frame(result: MeasuredStudy) -> pd.DataFrame:
    """Give every run a row, in exploring and tuning too; ``counts`` says which are compared."""
    rows = []
    shown: set[int] = set()
    for act in result.acts:
        for arm in act.arms:
            for run in arm.runs:
                own = {
                    "act": act.plan.act,
                    "plan": act.name,
                    "arm": arm.label,
                    **{name: getattr(run, name) for name in _OF_RUN},
                    "counts": run.score is not None and not arm.excluded,
                    "metric": act.metric,
                    **{f"{act.plan.part}_{k}": v for k, v in run.secondary.items()},
                }
                rows.append({**_run_columns(run.row, own), **own})
                if run.row is not None:
                    shown.add(run.row.place_id)
    for row in result.rows:
        if row.place_id not in shown:
            rows.append(_left_over(row, result))
    first = [
        *("act", "plan", "arm", "fold", "seed", "state", "counts", "metric", "score"),
        *("epochs", "seconds", "name", "key", "mlflow_run_id", "reused_from", "reason", *COSTS),
    ]
    columns = dict.fromkeys([*first, *(key for row in rows for key in row)])
    return pd.DataFrame(rows, columns=list(columns)).astype({"fold": "Int64", "seed": "Int64"})


def _left_over(row: TrialRow, result: MeasuredStudy) -> dict[str, Any]:
    """Give a row to a run of exploring or tuning, or one that no current plan asks for."""
    metric = next(iter(result.study.objectives))
    act = "explore" if row.role in EXPLORING_ROLES else row.role.value
    own = {
        "act": act,
        "plan": "",
        "arm": row.arm or row.shown,
        **{name: getattr(row, name) for name in ("fold", "seed", "state")},
        "counts": False,
        "metric": metric,
        "score": row.metrics.get(metric),
        "reason": row.error
        or ("not in the current plan" if act in ("confirm", "ablation") else ""),
    }
    return {**_run_columns(row, own), **own}


def _run_columns(row: TrialRow | None, own: dict[str, Any]) -> dict[str, Any]:
    """Return what the ledger knows of a run, beside its scores."""
    if row is None:
        return {}
    scores = {k: v for k, v in row.metrics.items() if is_number(v) and k != own["metric"]}
    return {
        "epochs": len(row.epochs),
        "seconds": round(row.seconds, 1),
        "name": row.shown,
        **{name: getattr(row, name) for name in _OF_ROW},
        **{cost: row.costs.get(cost) for cost in COSTS},
        **scores,
    }


def secondary_frame(result: MeasuredStudy) -> pd.DataFrame:
    """Return other metrics: mean of each arm, and difference to its reference, with intervals."""
    rows = []
    for act in result.acts:
        for arm in act.arms:
            means = arm.summary.secondary if arm.summary else {}
            differences = arm.comparison.secondary if arm.comparison else {}
            for metric, mean in means.items():
                difference = differences.get(metric)
                rows.append(
                    {
                        "act": act.plan.act,
                        "plan": act.name,
                        "arm": arm.label,
                        "metric": f"{act.plan.part}_{metric}",
                        **_interval(mean, "mean", "mean_low", "mean_high"),
                        **_interval(difference, "difference", "low", "high"),
                    }
                )
    columns = ["act", "plan", "arm", "metric", "mean", "mean_low", "mean_high"]
    return pd.DataFrame(rows, columns=[*columns, "difference", "low", "high"])


def _interval(interval: Interval | None, *names: str) -> dict[str, float | None]:
    parts = ("value", "low", "high")
    return {name: getattr(interval, part, None) for name, part in zip(names, parts, strict=True)}


def families_frame(result: MeasuredStudy) -> pd.DataFrame:
    """Return the families of tests: which contrasts are adjusted together, and how many tests."""
    rows = [
        {
            "act": act.plan.act,
            "plan": act.name,
            "family": family,
            "contrasts": len(members),
            "tests": members[0].tests,
            "adjustment": "Holm",
            "alpha": act.plan.alpha,
            "confirmatory": act.confirmatory,
        }
        for act in result.acts
        for family, members in act.families().items()
    ]
    columns = ["act", "plan", "family", "contrasts", "tests", "adjustment", "alpha"]
    return pd.DataFrame(rows, columns=[*columns, "confirmatory"])


def analyses_frame(result: MeasuredStudy) -> pd.DataFrame:
    """Return the analyses at which arms stop: what each spends of alpha, and what it settled."""
    rows = []
    for act in result.acts:
        made = dict(act.analyses)
        interim = act.plan.interim
        for number, size in enumerate(interim.sizes if interim else ()):
            share = interim.shares[number] if interim else 1.0
            rows.append(
                {
                    "act": act.plan.act,
                    "plan": act.name,
                    "analysis": number + 1,
                    "seeds": size,
                    "share": share,
                    "level": act.plan.alpha * share,
                    "made": size in made,
                    "settled": "; ".join(made.get(size, ())),
                }
            )
    columns = ["act", "plan", "analysis", "seeds", "share", "level", "made", "settled"]
    return pd.DataFrame(rows, columns=columns)
