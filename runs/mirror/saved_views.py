"""Saved views of MLflow's table of runs: what a study is looked at for, with the right columns.

MLflow keeps one as a tag of the experiment: an envelope with its name, and the table's state as
JSON within it, as its page writes them. They stand in its menu *Views*, and each has a link.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from attnsearch.runs.ledger import EXPLORING_ROLES, Ledger, PlanRow, Role, StudyRow, TrialRow
from attnsearch.runs.mirror.view import STUDY_TAG, milliseconds

SAVED_TAG = "mlflow.sharedViewState."
STUDIES = "attnsearch-studies"
_ARMS, _TRIALS = "-arms", "-trials"  # how keys of a study's views end

_WORKFLOW = "machine_learning"
_MOST = 24  # of the 40 that MLflow allows; the others are a person's
_DECISIONS = 12  # columns of a table, at most
_COSTS = ("params", "macs", "latency_ms")
_BESIDE = ("study", "arm", *(role for role in Role if role not in EXPLORING_ROLES))  # no trials
_ROLE = "tags.`attnsearch.role`"


@dataclass(frozen=True)
class SavedView:
    """A saved view.

    Attributes:
        key: Its name in links.
        name: Its name in the menu.
        created: When it was saved, in milliseconds since 1970: newer ones stand first.
        query: Which runs, as MLflow searches them.
        order: The column that they are sorted by.
        columns: The columns.
        ascending: Whether the least stands first.
    """

    key: str
    name: str
    created: int
    query: str
    order: str
    columns: Sequence[str]
    ascending: bool = False

    @property
    def tag(self) -> tuple[str, str]:
        """The experiment's tag that keeps it: key and value."""
        state = {
            "searchFilter": self.query,
            "orderByKey": self.order,
            "orderByAsc": self.ascending,
            "selectedColumns": self.columns,
        }
        times = {"createdAt": self.created, "updatedAt": self.created}
        return SAVED_TAG + self.key, json.dumps(
            {"name": self.name, **times, "state": json.dumps(state)}
        )


def saved_views(
    study: StudyRow, trials: Iterable[TrialRow], plans: Iterable[PlanRow]
) -> list[SavedView]:
    """Return the views of a study: its arms, its trials, and all studies of its name."""
    created, own = milliseconds(study.created), f"tags.`{STUDY_TAG}` = '{study.uid}'"
    metric, goal = next(iter(study.objectives.items()))
    compared = dict.fromkeys(f"{row.plan.part}_{row.plan.metric}" for row in plans)
    measured = [f"{name}{end}" for name in compared for end in ("_mean", "_low", "_high")]
    judged = ["difference", "difference_low", "difference_high", "p_adjusted", "n", "params"]
    verdict = _columns("tags", ["attnsearch.verdict", "attnsearch.inserted"])
    views = []
    if compared:
        views.append(
            SavedView(
                key=f"{study.uid}{_ARMS}",
                name=f"{study.label}: arms",
                created=created + 2,
                query=f"{own} and {_ROLE} = 'arm' and tags.`attnsearch.kind` LIKE '%'",
                order=f"metrics.`{next(iter(compared))}_mean`",
                columns=[*_columns("metrics", [*measured, *judged]), *verdict],
                ascending=goal == "min",
            )
        )
    explored = [trial for trial in trials if trial.role in EXPLORING_ROLES]
    decisions = dict.fromkeys(name for trial in explored for name in trial.values)
    others = [f"{_ROLE} != '{role}'" for role in _BESIDE]
    views.append(
        SavedView(
            key=f"{study.uid}{_TRIALS}",
            name=f"{study.label}: trials",
            created=created + 1,
            query=" and ".join([own, *others]),
            order=f"metrics.`{metric}`",
            columns=[
                *_columns("metrics", dict.fromkeys([*study.objectives, *_COSTS, "seconds"])),
                *_columns("params", list(decisions)[:_DECISIONS]),
                *_columns("tags", ["attnsearch.state"]),
            ],
            ascending=goal == "min",
        )
    )
    best = [f"{which}_{name}" for name in study.objectives for which in ("best", "baseline")]
    views.append(
        SavedView(
            key=STUDIES,
            name="Studies",
            created=0,
            query=f"{_ROLE} = 'study'",
            order="attributes.start_time",
            columns=[*_columns("metrics", [*best, *measured, *judged[:3]]), *verdict],
        )
    )
    return views


def _columns(kind: str, names: Iterable[str]) -> list[str]:
    return [f"{kind}.`{name}`" for name in names]


def view_link(experiment_id: str, key: str) -> str:
    """Return the link of a saved view, after the server's address.

    MLflow would open the experiment on its pages for language models; the link says what it is.
    """
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={key}&workflowType={_WORKFLOW}"


def view_links(experiment_id: str, views: Sequence[SavedView]) -> str:
    """Return links to a study's views, in Markdown."""
    return "Side by side: " + ", ".join(
        f"[{view.name}]({view_link(experiment_id, view.key)})" for view in views
    )


def study_link(ledger: Ledger, study: StudyRow) -> str:
    """Return where a shown study is best seen, after the server's address: its arms or trials."""
    planned = bool(ledger.plans(study.id))
    key = f"{study.uid}{_ARMS if planned else _TRIALS}"
    return view_link(str(study.mlflow_experiment_id), key)


def view_tags(views: Sequence[SavedView], present: Mapping[str, str]) -> dict[str, str | None]:
    """Return the tags of views that an experiment lacks; None takes a study's oldest away.

    Args:
        views: The views.
        present: The experiment's tags.
    """
    tags: dict[str, str | None] = dict(view.tag for view in views)
    old = [key for key in present if key.startswith(SAVED_TAG) and key.endswith((_ARMS, _TRIALS))]
    old = sorted(set(old) - tags.keys(), key=lambda key: _created(present[key]))
    tags |= dict.fromkeys(old[: max(0, len(old) + len(tags) - _MOST)])
    return {key: value for key, value in tags.items() if present.get(key) != value}


def _created(envelope: str) -> int:
    try:
        return int(json.loads(envelope)["createdAt"])
    except (ValueError, KeyError, TypeError):
        return 0
