"""What MLflow shows of a study's experiment: its kind, description, data set and saved views."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from attnsearch.runs.ledger import Ledger, StudyRow
from attnsearch.runs.mirror.saved_views import STUDIES, SavedView, view_link, view_tags
from attnsearch.runs.mirror.view import NOTE_TAG
from attnsearch.runs.readers import PARTS
from attnsearch.spaces.keys import BUILT_IN

KIND_TAG = "mlflow.experimentKind"
TRAINING = "custom_model_development"  # opens at its runs, and not at pages for language models

_SIGNED = "*Written by attnsearch.*"
"""Ends a description that is ours; one that a person wrote is left alone."""

_DIGEST = 16  # of 64 characters; MLflow takes 36 and shows all of them


class DataInput(NamedTuple):
    """A data set as MLflow takes it: the fields of `mlflow.entities.Dataset`."""

    name: str
    digest: str
    source_type: str
    source: str
    profile: str


def data_input(ledger: Ledger, study: StudyRow) -> DataInput:
    """Return the data set that a study's runs are trained on: its name, digest and split sizes.

    The path is one machine's, so its last part stands for it.
    """
    data = study.document.get("data") or {}
    source = str(data.get("source"))
    contents = ledger.contents_of(study.fingerprint) or {}
    counts = Counter(content.split()[0] for content in contents.values())
    profile: dict[str, Any] = {part: counts[part] for part in PARTS if counts[part]}
    profile |= {"image_size": data.get("image_size"), "fingerprint": study.fingerprint}
    name = source if source in BUILT_IN else PurePath(source).name
    kind, where = "local", json.dumps({"uri": name})
    if source in BUILT_IN:
        kind, where = "code", json.dumps({"tags": {"mlflow.source.name": "attnsearch"}})
    shown = {key: value for key, value in profile.items() if value is not None}
    return DataInput(name, study.fingerprint[:_DIGEST], kind, where, json.dumps(shown))


def experiment_tags(
    study: StudyRow, views: Sequence[SavedView], present: Mapping[str, str]
) -> dict[str, str | None]:
    """Return the tags that an experiment lacks; None stands for one that it shall lose.

    Args:
        study: A study in it.
        views: Its saved views.
        present: The tags that it has; what a person has changed is left alone.
    """
    tags = view_tags(views, present)
    if KIND_TAG not in present:
        tags[KIND_TAG] = TRAINING
    before, now = present.get(NOTE_TAG, _SIGNED), description(study)
    if before.endswith(_SIGNED) and before != now:
        tags[NOTE_TAG] = now
    return tags


def description(study: StudyRow) -> str:
    """Say what stands in an experiment, in Markdown; the first line is seen on all its pages."""
    data, network = (study.document.get(section) or {} for section in ("data", "network"))
    return (
        f"Which attention block, where in {network.get('backbone')}, with which hyperparameters, "
        f"for {study.document.get('task')} on {PurePath(str(data.get('source'))).name}? "
        f"[Its studies]({view_link(str(study.mlflow_experiment_id), STUDIES)})\n\n"
        f"A run `{study.name}/1`, `{study.name}/2`, ... is a study: its description says what it "
        "found, its metrics are the best value, the baseline's and, once they were confirmed on "
        "fresh seeds, the difference with its interval. Below it stand its trials and, as "
        "`arm ...`, what was confirmed. *Views* opens its arms, or its trials, side by side.\n\n"
        f"{_SIGNED}"
    )
