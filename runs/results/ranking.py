"""Tables of a study's runs, as pandas frames and as files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from attnsearch.runs.ledger import EXPLORING_ROLES, SEARCH_ROLES, Ledger, State, StudyRow, TrialRow
from attnsearch.spaces.file import COUNTED

_ORDER = (
    State.FINISHED,
    State.STOPPED,
    State.RUNNING,
    State.INTERRUPTED,
    State.FAILED,
    State.INFEASIBLE,
)
_SUMMARY_ROWS = 10
_BARS = str.maketrans({"|": r"\|", "\n": " "})


def trials_frame(ledger: Ledger, study: StudyRow) -> pd.DataFrame:
    """Tabulate a study's runs, one row each, in the order of their numbers.

    Columns: ``number``, ``name``, ``state``, the objectives, one column per decision (empty where
    it was not asked for), the costs with their units in the names, ``epochs`` trained,
    ``seconds``, ``error`` and ``mlflow_run_id``. A run that was stopped early shows the scores
    it had then: compare those only at equal ``epochs``.

    Args:
        ledger: The ledger.
        study: The study, as `Ledger.find_study` returns it.
    """
    return _frame(study, ledger.trials(study.id))


def leaderboard(study: StudyRow, trials: Sequence[TrialRow]) -> pd.DataFrame:
    """Tabulate the search's runs and the plain network as `trials_frame` does, the best first.

    Runs of the full schedule come first, by the first objective; then those stopped early, those
    trained longer before those trained shorter: scores of unequal budgets are not compared. What
    violates a limit is infeasible, also if that was measured only after its training, and last.
    """
    metric, goal = next(iter(study.objectives.items()))
    sign = -1.0 if goal == "max" else 1.0

    def rank(trial: TrialRow) -> tuple[float, ...]:
        value: Any = trial.metrics.get(metric)
        score = sign * value if _is_number(value) else float("inf")
        budget = -len(trial.epochs) if trial.state == State.STOPPED else 0
        state = State.INFEASIBLE if trial.over else trial.state
        return (_ORDER.index(state), budget, score, trial.number)

    searched = [trial for trial in trials if trial.role in EXPLORING_ROLES]
    return _frame(study, sorted(searched, key=rank))


def best(trials: Sequence[TrialRow], metric: str, goal: str) -> TrialRow | None:
    """Find the run of the full schedule with the best value that keeps all limits.

    Of equal ones it is the earliest.

    Args:
        trials: The runs of a study.
        metric: Of their scores.
        goal: ``max`` or ``min``.
    """
    scored = [
        trial
        for trial in trials
        if trial.role in SEARCH_ROLES
        and trial.state == State.FINISHED
        and not trial.over
        and _is_number(trial.metrics.get(metric))
    ]
    if not scored:
        return None
    sign = -1.0 if goal == "max" else 1.0
    return min(scored, key=lambda trial: (sign * trial.metrics[metric], trial.number))


def write_leaderboard(frame: pd.DataFrame, folder: Path) -> None:
    """Write a leaderboard as ``leaderboard.csv``, ``.md`` and ``.json``.

    The JSON is in the form of MLflow's logged tables, so its UI and ``load_table`` read it.
    """
    frame.to_csv(folder / "leaderboard.csv", index=False)
    (folder / "leaderboard.md").write_text(markdown(frame))
    frame.astype(object).to_json(
        folder / "leaderboard.json", orient="split", index=False, default_handler=str
    )


def markdown(frame: pd.DataFrame) -> str:
    """Write a frame as a Markdown table: columns that are empty throughout are left out."""
    shown = frame.dropna(axis="columns", how="all")
    lines = [
        "| " + " | ".join(str(column) for column in shown.columns) + " |",
        "|" + "|".join(" --- " for _ in shown.columns) + "|",
    ]
    for row in shown.itertuples(index=False):
        lines.append("| " + " | ".join(_cell(value) for value in row) + " |")
    return "\n".join(lines) + "\n"


def leaderboard_note(study: StudyRow, trials: Sequence[TrialRow]) -> str:
    """Describe a study in a few paragraphs of Markdown, with its best runs."""
    states = [trial.state for trial in trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in _ORDER if state in states)
    parts = [f"**{study.label}** is {study.state}: {counts or 'no runs yet'}."]
    for metric, goal in study.objectives.items():
        winner = best(trials, metric, goal)
        if winner is not None:
            value = _cell(winner.metrics[metric])
            parts.append(f"Best `{metric}` ({goal}): **{value}** by `{winner.name}`.")
    frame = leaderboard(study, [trial for trial in trials if not trial.over])
    frame = frame[frame["state"] == State.FINISHED].head(_SUMMARY_ROWS)
    if len(frame):
        columns = ["name", *study.objectives, *COUNTED, "epochs"]
        parts.append(markdown(frame[[column for column in columns if column in frame]]))
        parts.append("These are selected maxima on the search's seed: confirm before reporting.")
    return "\n\n".join(parts)


def _frame(study: StudyRow, trials: Sequence[TrialRow]) -> pd.DataFrame:
    decisions = _union(trial.values for trial in trials)
    costs = _union(trial.costs for trial in trials)
    rows = []
    for trial in trials:
        row: dict[str, Any] = {"number": trial.number, "name": trial.name, "state": trial.state}
        row |= {metric: trial.metrics.get(metric) for metric in study.objectives}
        row |= {name: _plain(trial.values.get(name)) for name in decisions}
        row |= {name: trial.costs.get(name) for name in costs}
        row |= {
            "epochs": len(trial.epochs),
            "seconds": round(trial.seconds, 1),
            "error": trial.error or (trial.over if trial.state == State.FINISHED else "") or None,
            "mlflow_run_id": trial.mlflow_run_id,
        }
        rows.append(row)
    columns = [
        *("number", "name", "state"),
        *study.objectives,
        *decisions,
        *costs,
        *("epochs", "seconds", "error", "mlflow_run_id"),
    ]
    return pd.DataFrame(rows, columns=list(dict.fromkeys(columns)))


def _union(mappings: Any) -> list[str]:
    """Return all keys, in the order in which they first appear."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _plain(value: Any) -> Any:
    """Return a list-valued choice as text: frames and CSV files hold one value a cell."""
    return str(value) if isinstance(value, list | dict) else value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and value == value


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.4g}"
    return str(value).translate(_BARS)
