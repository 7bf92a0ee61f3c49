"""What was found: `attnsearch list` and `show`, read from the ledger."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.ledger import (
    Ledger,
    Role,
    State,
    StudyRow,
    TrialRow,
    panel_file,
    weights_folder,
)
from attnsearch.runs.results import (
    counting,
    finite,
    importance_sentence,
    listed,
    luck_sentence,
    pareto_front,
    ranked,
    value_of,
)
from attnsearch.runs.words import duration, value_text
from attnsearch.search.terminal.arms import act_of, arm_fields, arms_text, letters_of
from attnsearch.search.terminal.keep import checkpoints_text
from attnsearch.search.text import paragraph, plural, quantity, render, score, table
from attnsearch.spaces.keys import COUNTED

LISTED = 100  # trials of a kind that `show` lists; `--json` has all

# What JSON shows of a study and of a trial: attributes of their rows, in this order.
_OF_STUDY = (
    *("name", "number", "state", "objectives", "created", "ended", "importances"),
    *("mlflow_uri", "mlflow_run_id", "document"),
)
_OF_TRIAL = (
    *("number", "name", "role", "state", "values", "metrics", "costs", "violations", "error"),
    *("epochs", "schedule_epochs", "seconds", "seed", "key", "reused_from", "mlflow_run_id"),
    *("weights_path", "config"),
)


class NoSuchTrial(AttnsearchError):
    """A study has no trial of this number."""


def studies_text() -> str:
    """Return the table of studies."""
    with Ledger(create=False) as ledger:
        studies = ledger.studies()
        if not studies:
            return f"No studies in {ledger} yet. Start one: attnsearch run spaces/resnet.yaml"
        rows = []
        for study in studies:
            every = ledger.trials(study.id)
            trials = [trial for trial in every if trial.arm is None]
            best = next(iter(ranked(trials, study.objectives)), None)
            rows.append(
                (
                    study.label,
                    study.state,
                    act_of(every, ledger.plans(study.id, superseded=False)),
                    f"{len(trials)}/{_wanted(study, len(trials))}",
                    _scores(best, study.objectives) if best else None,
                    best.shown if best else None,
                    f"{study.created.astimezone():%Y-%m-%d %H:%M}",
                )
            )
        headers = ["study", "state", "act", "trials", "best score", "best trial", "started"]
        return "\n".join([table(headers, rows), "", "One of them:  attnsearch show STUDY"])


def study_text(address: str, *, as_json: bool = False) -> str:
    """Return the leaderboard of a study, its states, and why trials failed.

    Args:
        address: `NAME` or `NAME/NUMBER`.
        as_json: As JSON, with every trial's metrics and decisions.

    Raises:
        LedgerError: There is no such study.
    """
    with Ledger(create=False) as ledger:
        study = ledger.find_study(address)
        rows = ledger.trials(study.id)
        plans = ledger.plans(study.id, superseded=False)
        lag = mirror_lag(ledger, study)
        checkpoints = checkpoints_text(ledger, rows)
    trials = [row for row in rows if row.arm is None]
    beside = [row for row in rows if row.role == Role.BASELINE]
    leaders = ranked(trials, study.objectives)
    luck = luck_sentence(rows, study.objectives)
    if as_json:
        return _json(
            {
                "study": {name: getattr(study, name) for name in _OF_STUDY},
                "best": leaders[0].number if leaders else None,
                "leaderboard": [trial.number for trial in leaders],
                "luck": luck,
                "trials": [trial_fields(trial) for trial in trials],
                "arms": [{"arm": row.arm, **trial_fields(row)} for row in beside],
                "act": act_of(rows, plans),
                "plans": [arm_fields(plan, rows) for plan in plans],
            }
        )
    name = study.name if study.number == 1 else study.label
    letters, legend = letters_of(plans)
    leading = {trial.place_id for trial in leaders}
    rest = [trial for trial in trials if trial.place_id not in leading]
    unlisted = max(0, len(leaders) - LISTED) + max(0, len(rest) - LISTED)
    return render(
        "terminal",
        "study.txt",
        name=name,
        study=study,
        headline=_headline(study, trials),
        parts=[
            leaders and leaderboard_text(leaders, study.objectives, top=LISTED),
            luck and paragraph(luck),
            beside and beside_text(beside, study.objectives),
            legend,
            *(arms_text(plan, rows, letters) for plan in plans),
            rest and _rest_text(rest, study.objectives),
            unlisted and f"{plural(unlisted, 'more trial')}: attnsearch show {name} --json",
            study.importances and _importances_text(trials, study.importances),
        ],
        leaders=leaders,
        lag=lag,
        checkpoints=checkpoints,
    )


def trial_text(address: str, number: int, *, as_json: bool = False) -> str:
    """Return everything about one trial: decisions, scores, costs, epochs, and why it failed.

    Raises:
        LedgerError: There is no such study.
        NoSuchTrial: The study has no such trial.
    """
    with Ledger(create=False) as ledger:
        study = ledger.find_study(address)
        trials = [trial for trial in ledger.trials(study.id) if trial.arm is None]
        folder = weights_folder(ledger)
    trial = next((trial for trial in trials if trial.number == number), None)
    if trial is None:
        have = ", ".join(str(trial.number) for trial in trials) or "none yet"
        raise NoSuchTrial(f"study {study.label} has no trial {number}; it has: {have}")
    if as_json:
        return _json({"study": study.label, **trial_fields(trial)})
    panel = panel_file(folder, trial.key)
    decisions = [(key, value_text(value)) for key, value in trial.values.items()]
    return render(
        "terminal",
        "trial.txt",
        study=study,
        trial=trial,
        tables={
            "Decisions": decisions,
            "Scores": [(key, _number(value)) for key, value in trial.metrics.items()],
            "Costs": [(key, _number(value)) for key, value in trial.costs.items()],
        },
        epochs=trial.epochs and _epochs_text(trial.epochs),
        panel=panel if panel.is_file() else None,
    )


def mirror_lag(ledger: Ledger, study: StudyRow) -> str | None:
    """Let MLflow catch up with a study that nobody runs now, and say what it still lacks."""
    from attnsearch.runs.mirror import Mirror

    if study.state == State.RUNNING:
        return None
    report = Mirror(ledger).sync(study.id)
    return str(report) if report.problem is not None or report.missing else None


def leaderboard_text(
    leaders: Sequence[TrialRow], objectives: Mapping[str, str], *, top: int | None = None
) -> str:
    """Return a table of the best trials; with several objectives a `*` marks the Pareto front."""
    front: set[int] = set()
    if len(objectives) > 1:
        front = set(pareto_front(counting(leaders, objectives), objectives))
    costs = [name for name in COUNTED if name not in objectives]
    headers = ["", "trial", *objectives, *costs, "time", "inserted"]
    rows = [
        (
            f"{place + 1}{'*' if place in front else ''}",
            f"{trial.number:03d}",
            *(_number(value_of(trial, name)) for name in objectives),
            *(_number(value_of(trial, name)) for name in costs),
            "reused" if trial.reused_from else duration(trial.seconds),
            inserted(trial),
        )
        for place, trial in enumerate(leaders[:top])
    ]
    leaderboard = table(headers, rows, right={"", "trial", *objectives, *costs})
    return leaderboard + "\n* on the Pareto front" if front else leaderboard


def beside_text(arms: Sequence[TrialRow], objectives: Mapping[str, str]) -> str:
    """Return what was trained beside the search, for comparison."""
    out = ["Beside the search:"]
    out += [f"  {row.shown}: {row.state}, {_scores(row, objectives)}" for row in arms]
    return "\n".join(out)


def inserted(trial: TrialRow) -> str:
    """Return what is inserted where, as in `ecrm@layer4`, and whether its batches were split."""
    name = trial.shown.partition(" ")[2] or trial.shown
    return f"{name} ({trial.micro_batches} micro-batches)" if trial.micro_batches > 1 else name


def trial_fields(trial: TrialRow) -> dict[str, Any]:
    """Return a trial as plain values, for JSON."""
    return {name: getattr(trial, name) for name in _OF_TRIAL}


def states_text(trials: Sequence[TrialRow]) -> str:
    """Return `16 trials: 11 finished, 4 stopped, 1 failed`."""
    counts = Counter(trial.state for trial in trials)
    counted = [f"{counts[state]} {state}" for state in State if counts[state]]
    return f"{plural(len(trials), 'trial')}: {', '.join(counted)}" if counted else "no trials yet"


def _headline(study: StudyRow, trials: Sequence[TrialRow]) -> str:
    objectives = ", ".join(f"{way} {name}" for name, way in study.objectives.items())
    wanted = _wanted(study, len(trials))
    more = f" (of {wanted} wanted)" if wanted > len(trials) else ""
    return paragraph(
        f"{study.label}: {study.state}; {states_text(trials)}{more}; objective: {objectives}; "
        f"started {study.created.astimezone():%Y-%m-%d %H:%M}",
        hanging="  ",
    )


def _wanted(study: StudyRow, least: int) -> int:
    if study.state == State.FINISHED:  # a space may have fewer than `search.trials`
        return least
    trials = (study.document.get("search") or {}).get("trials", least)
    return max(int(trials), least)


def _rest_text(trials: Sequence[TrialRow], objectives: Mapping[str, str]) -> str:
    watched = next(iter(objectives))
    rows = []
    for trial in listed(trials, objectives)[:LISTED]:
        reached = trial.epochs[-1].get(watched) if trial.epochs else None
        why = trial.error.strip().splitlines()[0] if trial.error else ""
        rows.append(
            (
                f"{trial.number:03d}",
                trial.state,
                f"{len(trial.epochs)}/{trial.schedule_epochs}",
                _number(reached),
                " - ".join(part for part in (inserted(trial), why or trial.over) if part),
            )
        )
    headers = ["trial", "state", "epochs", f"last {watched}", "inserted, and why it ended"]
    return table(headers, rows, right={"trial", "epochs", f"last {watched}"})


def _importances_text(
    trials: Sequence[TrialRow], importances: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> str:
    sentences = [importance_sentence(trials, *item) for item in importances.items()]
    return "\n".join(paragraph(sentence, hanging="  ") for sentence in sentences)


def _epochs_text(epochs: Sequence[Mapping[str, Any]]) -> str:
    first = ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "val_dice", "lr")
    present = [name for name in first if name in epochs[0]]
    rows = [
        (int(epoch["epoch"]), *(_number(epoch.get(name)) for name in present)) for epoch in epochs
    ]
    headers = ["epoch", *present]
    return table(headers, rows, right=set(headers))


def _scores(trial: TrialRow, objectives: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {_number(value_of(trial, name))}" for name in objectives)


def _number(value: Any) -> str:
    if not isinstance(value, int | float):
        return "-" if value is None else str(value)
    if abs(value) >= 1000:
        return quantity(value)
    return score(value) if abs(value) <= 1 else f"{value:.4g}"


def _json(value: Any) -> str:
    # Times are the only values here that JSON does not know.
    return json.dumps(finite(value), indent=2, ensure_ascii=False, default=datetime.isoformat)
