"""Tables of a study's runs, as pandas frames and as files."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from attnsearch.runs.ledger import EXPLORING_ROLES, Ledger, State, StudyRow, TrialRow
from attnsearch.runs.results.luck import luck_sentence
from attnsearch.runs.results.ranking import best, listed, ranked, value_of
from attnsearch.runs.words import no_formula, no_tags
from attnsearch.spaces.keys import COUNTED

_SUMMARY_ROWS = 10
_BARS = str.maketrans({"|": r"\|", "\n": " "})


def trials_frame(ledger: Ledger, study: str | StudyRow) -> pd.DataFrame:
    """Tabulate a study's runs, one row each, in the order of their numbers.

    Columns: ``number``, ``name``, ``state``, the objectives, one column per decision (empty where
    it was not asked for), the costs with their units in the names, ``epochs`` trained,
    ``seconds``, ``error`` and ``mlflow_run_id``. A run that was stopped early shows the scores
    it had then: compare those only at equal ``epochs``.

    Args:
        ledger: The ledger.
        study: Its row, its name, or its name and number.
    """
    study = ledger.find_study(study) if isinstance(study, str) else study
    return frame_of(study, ledger.trials(study.id))


def leaderboard(
    study: StudyRow, trials: Sequence[TrialRow], most: int | None = None
) -> pd.DataFrame:
    """Tabulate the search's runs and the baseline as `trials_frame` does, the best first.

    The order is that of `ranking.listed`. ``error`` also says where a run of the full schedule was
    measured above a limit. Only the best ``most`` are tabulated, if that is given.
    """
    explored = [trial for trial in trials if trial.role in EXPLORING_ROLES]
    return frame_of(study, listed(explored, study.objectives)[:most])


def leaderboard_files(frame: pd.DataFrame) -> dict[str, str]:
    """Return a leaderboard as the text of ``leaderboard.csv``, ``.md`` and ``.json``.

    The JSON is in the form of MLflow's logged tables, so its UI and ``load_table`` read it.
    """
    table = frame.astype(object)
    return {
        "leaderboard.csv": frame.map(no_formula).to_csv(index=False),
        "leaderboard.md": markdown(frame),
        "leaderboard.json": table.to_json(orient="split", index=False, default_handler=str),
    }


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
    counts = ", ".join(f"{states.count(state)} {state}" for state in State if state in states)
    parts = [f"**{study.label}** is {study.state}: {counts or 'no runs yet'}."]
    for metric, goal in study.objectives.items():
        winner = best(trials, metric, goal)
        if winner is not None:
            value = _cell(value_of(winner, metric))
            parts.append(f"Best `{metric}` ({goal}): **{value}** by `{winner.shown}`.")
    explored = [trial for trial in trials if trial.role in EXPLORING_ROLES]
    leaders = ranked(explored, study.objectives)[:_SUMMARY_ROWS]
    if leaders:
        frame = frame_of(study, leaders)
        columns = dict.fromkeys(["name", *study.objectives, *COUNTED, "epochs"])
        parts.append(markdown(frame[[column for column in columns if column in frame]]))
        luck = luck_sentence(trials, study.objectives) or "These are selected maxima on one seed."
        parts.append(f"{luck} Confirm before reporting.")
    return no_tags("\n\n".join(parts))


def frame_of(study: StudyRow, trials: Sequence[TrialRow]) -> pd.DataFrame:
    """Tabulate some runs of a study as `trials_frame` does, in their order."""
    rows = []
    for trial in trials:
        over = trial.over if trial.state == State.FINISHED else ""
        rows.append(
            {"number": trial.number, "name": trial.shown, "state": trial.state}
            | {metric: trial.metrics.get(metric) for metric in study.objectives}
            | {name: _one_cell(value) for name, value in trial.values.items()}
            | trial.costs
            | {
                "epochs": len(trial.epochs),
                "seconds": round(trial.seconds, 1),
                "error": trial.error or over or None,
                "mlflow_run_id": trial.mlflow_run_id,
            }
        )
    columns = [
        *("number", "name", "state"),
        *study.objectives,
        *(name for trial in trials for name in trial.values),
        *(cost for trial in trials for cost in trial.costs),
        *("epochs", "seconds", "error", "mlflow_run_id"),
    ]
    return pd.DataFrame(rows, columns=list(dict.fromkeys(columns)))


def _one_cell(value: Any) -> Any:
    """Return a list-valued choice as text: frames and CSV files hold one value a cell."""
    return str(value) if isinstance(value, list | dict) else value


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.4g}"
    return str(value).translate(_BARS)
