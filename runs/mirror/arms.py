"""What MLflow shows of arms: a run for each, above its seeds, with mean, interval and verdict.

The seeds of an arm have its run as their parent. An arm's run is found again by its label and by
what it trains, so that a plan that is edited neither duplicates it nor mixes two networks in it.
"""

import hashlib
import json
import re
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attnsearch.runs.ledger import ARM_ROLES, Role, State, StudyRow, TrialRow
from attnsearch.runs.mirror.store import Tracking
from attnsearch.runs.mirror.view import RUN_TAG, STATE_TAG, STATUS, STUDY_TAG, Point, flat_params
from attnsearch.spaces import dump

if TYPE_CHECKING:
    from attnsearch.runs.results import ActResult, ArmResult, StudyResult


_LONGEST_NAME = 200


def arm_run(
    tracking: Tracking, study: StudyRow, known: dict[str, str], trial: TrialRow
) -> str | None:
    """Find or create the run that stands above a run of an arm.

    Args:
        tracking: The store.
        study: The study, shown there.
        known: The study's runs there, by their tags; a new one is added.
        trial: A run in its place.

    Returns:
        Its id; None for a run that belongs to no arm.
    """
    if trial.role not in ARM_ROLES or trial.arm is None:
        return None
    mark = _identity(trial.role, trial.arm, trial.config)
    return _find(tracking, study, known, mark, _name(trial.role, trial.arm), trial)


def show_arms(
    tracking: Tracking, study: StudyRow, known: dict[str, str], result: "StudyResult"
) -> None:
    """Bring the runs of all arms up to date: metrics, params, tags and state.

    Arms of tuning and of plans that were edited are not in the acts; only their state is set.

    Args:
        tracking: The store.
        study: The study, shown there.
        known: The study's runs there, by their tags; new ones are added.
        result: The study, measured.
    """
    shown: set[str] = set()
    for act in result.acts:
        for arm in act.arms:
            first = next((run.row for run in arm.runs if run.row is not None), None)
            if first is None:
                continue
            role, label = act.plan.place(arm.label)
            mark = _identity(role, label, first.config)
            run_id = _find(tracking, study, known, mark, _name(role, label), first)
            shown.add(mark)
            if tracking.stage(run_id) == "deleted":
                continue  # the user threw it into the bin
            new = f"{mark}:params" not in known
            params = flat_params(arm.arm.config, {}) if new else None
            tracking.log(run_id, arm_points(act, arm), params, arm_tags(act, arm))
            if new:
                tracking.text(run_id, "config.yaml", dump(dict(arm.arm.config)))
                known[f"{mark}:params"] = run_id
            done = all(run.state != "to come" for run in arm.runs)
            rows = [run.row for run in arm.runs if run.row is not None]
            _set_state(tracking, study, run_id, rows, done=done)
    others: dict[str, list[TrialRow]] = {}
    for row in result.rows:
        if row.role in ARM_ROLES and row.arm is not None:
            others.setdefault(_identity(row.role, row.arm, row.config), []).append(row)
    for mark, rows in others.items():
        if mark in known and mark not in shown and tracking.stage(known[mark]) == "active":
            done = all(row.state.ended for row in rows)
            _set_state(tracking, study, known[mark], rows, done=done)


def _set_state(
    tracking: Tracking, study: StudyRow, run_id: str, rows: list[TrialRow], *, done: bool
) -> None:
    """Set an arm's status: finished with its last run, else as its study stands."""
    ended = [row.ended for row in rows if row.ended is not None]
    last = int(max(ended).timestamp() * 1000) if ended else None
    tracking.set_status(run_id, STATUS[State.FINISHED if done else study.state], last)


def arm_points(act: "ActResult", arm: "ArmResult") -> list[Point]:
    """Collect an arm's metrics: mean, sd, interval and n, difference to its reference, costs."""
    ended = [run.row.ended for run in arm.runs if run.row is not None and run.row.ended]
    if not ended:
        return []
    values: dict[str, float | None] = {
        "n": float(arm.summary.n if arm.summary else 0),
        "failed": float(len(arm.failed)),
        **arm.costs,
    }
    if arm.summary is not None:
        interval, name = arm.summary.interval, act.metric
        values |= {f"{name}_mean": arm.summary.mean, f"{name}_sd": arm.summary.sd}
        if interval is not None:
            values |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    c = arm.comparison
    if c is not None:
        values |= {
            "difference": c.difference,
            "difference_low": c.low,
            "difference_high": c.high,
            "p_adjusted": c.p_adjusted,
        }
    at = int(max(ended).timestamp() * 1000)
    return [
        Point(key, float(value), at, len(ended))
        for key, value in values.items()
        if value is not None
    ]


def arm_tags(act: "ActResult", arm: "ArmResult") -> dict[str, str]:
    """Collect an arm's tags, those of its verdict included."""
    role, label = act.plan.place(arm.label)
    tags = {
        "mlflow.runName": _name(role, label),
        STATE_TAG: "finished" if all(run.state != "to come" for run in arm.runs) else "running",
        "attnsearch.arm": label,
        "attnsearch.kind": arm.arm.kind,
        "attnsearch.inserted": arm.inserted,
        "attnsearch.plan": act.name,
        "attnsearch.seeds": json.dumps(list(act.plan.seeds)),
        "attnsearch.winner": json.dumps(arm.label == act.winner),
    }
    if arm.arm.equals is not None:
        tags["attnsearch.equals"] = arm.arm.equals
    if arm.excluded:
        tags["attnsearch.excluded"] = arm.excluded
    if arm.comparison is not None:
        tags["attnsearch.reference"] = arm.comparison.minus[0]
        tags["attnsearch.verdict"] = f"{arm.comparison.verdict} ({arm.comparison.reason})"
    return tags


def _find(
    tracking: Tracking,
    study: StudyRow,
    known: dict[str, str],
    mark: str,
    name: str,
    first: TrialRow,
) -> str:
    if mark not in known:
        assert study.mlflow_experiment_id is not None, "set with the parent run"
        tags = {
            "mlflow.runName": name,
            "mlflow.parentRunId": study.mlflow_run_id or "",
            STUDY_TAG: study.uid,
            RUN_TAG: mark,
            STATE_TAG: "running",
            "attnsearch.role": "arm",
            "attnsearch.arm": first.arm or "",
            "attnsearch.data": study.fingerprint,
        }
        started = int(first.started.timestamp() * 1000)
        known[mark] = tracking.create(study.mlflow_experiment_id, name, started, tags)
    return known[mark]


def _identity(role: str, arm: str, config: Mapping[str, Any]) -> str:
    """Name an arm by its label and by what it trains: the config without seed and fold.

    Runs that an edited plan left behind stand at the label with the plan's number behind it. The
    trials of tuning have configs of their own, so there the label is all.
    """
    label = re.sub(r" \(plan \d+\)$", "", arm)
    if role == Role.TUNING:
        return f"arm:{role}:{label}"
    kept = json.loads(json.dumps(config))
    for section, key in (("train", "seed"), ("data", "fold")):
        (kept.get(section) or {}).pop(key, None)
    digest = hashlib.sha256(json.dumps([label, kept], sort_keys=True).encode()).hexdigest()
    return f"arm:{role}:{digest[:16]}"


def _name(role: str, arm: str) -> str:
    """Name an arm's run as its seeds' are named."""
    short = textwrap.shorten(arm, _LONGEST_NAME, placeholder=" ...")
    return f"tuning {short}" if role == Role.TUNING else f"arm {short}"
