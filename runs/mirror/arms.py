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
from attnsearch.runs.mirror.experiment import DataInput
from attnsearch.runs.mirror.store import Store
from attnsearch.runs.mirror.view import (
    STATE_TAG,
    STATUS,
    MetricValue,
    flat_params,
    identity,
    milliseconds,
    without_none,
)
from attnsearch.spaces import dump

if TYPE_CHECKING:
    from attnsearch.runs.results import ActResult, ArmResult, MeasuredStudy


_LONGEST_NAME = 200


class ArmRuns:
    """The runs of a study's arms in a store.

    Args:
        store: The store.
        study: The study, shown there.
        runs: The study's runs there, by their tags; new ones are added.
        data: What they are trained on.
    """

    def __init__(
        self, store: Store, study: StudyRow, runs: dict[str, str], data: DataInput
    ) -> None:
        self._store = store
        self._data = data
        self._study = study
        self._runs = runs

    def above(self, trial: TrialRow) -> str | None:
        """Find or create the run that stands above a run; None for one that belongs to no arm."""
        if trial.role not in ARM_ROLES or trial.arm is None:
            return None
        mark = _identity(trial.role, trial.arm, trial.config)
        return self._find(mark, _name(trial.role, trial.arm), trial)

    def show(self, result: "MeasuredStudy") -> None:
        """Bring the runs of all arms up to date: metrics, params, tags and state.

        Arms of tuning and of plans that were edited are not in the acts; only their state is set.
        """
        shown: set[str] = set()
        for act in result.acts:
            for arm in act.arms:
                rows = [run.row for run in arm.runs if run.row is not None]
                if rows:
                    role, label = act.plan.place(arm.label)
                    mark = _identity(role, label, rows[0].config)
                    shown.add(mark)
                    arm_run = self._find(mark, _name(role, label), rows[0])
                    if self._store.stage(arm_run) != "deleted":  # by the user, into the bin
                        self._show(arm_run, mark, act, arm, rows)
        others: dict[str, list[TrialRow]] = {}
        for row in result.rows:
            if row.role in ARM_ROLES and row.arm is not None:
                others.setdefault(_identity(row.role, row.arm, row.config), []).append(row)
        for mark, rows in others.items():
            run_id = self._runs.get(mark)
            if run_id and mark not in shown and self._store.stage(run_id) == "active":
                self._set_state(run_id, rows, done=all(row.state.ended for row in rows))

    def _show(
        self, run_id: str, mark: str, act: "ActResult", arm: "ArmResult", rows: list[TrialRow]
    ) -> None:
        written = f"{mark}:params"
        new = written not in self._runs
        if new:
            self._store.note_data(run_id, self._data)
        params = flat_params(arm.arm.config, {}) if new else {}
        self._store.log(run_id, arm_values(act, arm), params, arm_tags(act, arm))
        if new:
            self._store.files(run_id, {"config.yaml": dump(dict(arm.arm.config)).encode()})
            self._runs[written] = run_id
        self._set_state(run_id, rows, done=all(run.state != "to come" for run in arm.runs))

    def _set_state(self, run_id: str, rows: list[TrialRow], *, done: bool) -> None:
        """Set an arm's status: finished with its last run, else as its study stands."""
        last = max((row.ended for row in rows if row.ended is not None), default=None)
        status = STATUS[State.FINISHED if done else self._study.state]
        self._store.set_status(run_id, status, None if last is None else milliseconds(last))

    def _find(self, mark: str, name: str, first: TrialRow) -> str:
        if mark not in self._runs:
            study = self._study
            assert study.mlflow_experiment_id is not None, "set with the parent run"
            tags = {
                "mlflow.runName": name,
                "mlflow.parentRunId": study.mlflow_run_id or "",
                **identity(study, mark),
                STATE_TAG: "running",
                "attnsearch.role": "arm",
                "attnsearch.arm": first.arm or "",
                "attnsearch.data": study.fingerprint,
            }
            started = milliseconds(first.started)
            self._runs[mark] = self._store.create(study.mlflow_experiment_id, name, started, tags)
        return self._runs[mark]


def arm_values(act: "ActResult", arm: "ArmResult") -> list[MetricValue]:
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
        values |= {"difference": c.difference, "p_adjusted": c.p_adjusted}
        values |= {"difference_low": c.low, "difference_high": c.high}
    at = milliseconds(max(ended))
    return [
        MetricValue(key, float(value), at, len(ended))
        for key, value in without_none(values).items()
    ]


def headline(result: "MeasuredStudy") -> tuple[list[MetricValue], dict[str, str]]:
    """Collect what a study's own run shows of its plans: metrics and tags of one arm.

    That is the winner of confirm, or else the reference of an ablation. They are named as in the
    arm's run, and the mean of what it is compared with stands beside them.
    """
    act = result.confirm or next(iter(result.acts), None)
    label = None if act is None else act.winner or act.reference
    if act is None or label is None:
        return [], {}
    arm = act.find(label)
    values = [
        value
        for value in arm_values(act, arm)
        if value.key.startswith((act.metric, "difference")) and not value.key.endswith("_sd")
    ]
    other = act.find(arm.comparison.minus[0]).summary if arm.comparison else None
    if other is not None and other.mean is not None:
        key = f"baseline_{act.metric}_mean"
        values += [value._replace(key=key, value=other.mean) for value in values[:1]]
    kept = ("attnsearch.inserted", "attnsearch.reference", "attnsearch.verdict")
    return values, {key: text for key, text in arm_tags(act, arm).items() if key in kept}


def arm_tags(act: "ActResult", arm: "ArmResult") -> dict[str, str]:
    """Collect an arm's tags, those of its verdict included."""
    role, label = act.plan.place(arm.label)
    tags: dict[str, str | None] = {
        "mlflow.runName": _name(role, label),
        STATE_TAG: "finished" if all(run.state != "to come" for run in arm.runs) else "running",
        "attnsearch.arm": label,
        "attnsearch.kind": arm.arm.kind,
        "attnsearch.inserted": arm.inserted,
        "attnsearch.plan": act.name,
        "attnsearch.seeds": json.dumps(list(dict.fromkeys(run.seed for run in arm.runs))),
        "attnsearch.winner": json.dumps(arm.label == act.winner),
        "attnsearch.equals": arm.arm.equals,
        "attnsearch.excluded": arm.excluded or None,
    }
    if arm.comparison is not None:
        tags["attnsearch.reference"] = arm.comparison.minus[0]
        tags["attnsearch.verdict"] = f"{arm.comparison.verdict} ({arm.comparison.reason})"
    return without_none(tags)


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
