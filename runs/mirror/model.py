"""A study's winner as a logged model, which MLflow loads and serves.

It is an export in MLflow's envelope. What loads it is code of this package; nothing is pickled.
"""

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.ledger import Ledger, PlanRow, State, StudyRow
from attnsearch.runs.mirror.store import asked_once
from attnsearch.runs.mirror.view import STUDY_TAG
from attnsearch.runs.whole import temporary_folder
from attnsearch.spaces.keys import SEGMENTATION

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

KEY_TAG = "attnsearch.key"
_NAME = "winner"


def show_winner(
    client: "MlflowClient", ledger: Ledger, study: StudyRow, plans: Sequence[PlanRow]
) -> None:
    """Log the winner that confirm froze, once the study has ended, if its weights are there."""
    confirmed = any(row.winner for row in plans if row.superseded is None)
    if confirmed and study.state == State.FINISHED:
        with suppress(AttnsearchError):
            log_model(client, ledger, study)


def log_model(
    client: "MlflowClient", ledger: Ledger, study: StudyRow, trial: int | None = None
) -> str:
    """Log a study's winner, or a trial, as a model of the study's run; twice is once.

    Returns:
        The model's id in MLflow.

    Raises:
        AttnsearchError: There is none, or its weights were not kept.
        Exception: What MLflow raises.
    """
    assert study.mlflow_run_id and study.mlflow_experiment_id, "set with the parent run"
    from attnsearch.runs.exports import export_study

    with temporary_folder() as folder:
        export = export_study(ledger, study, folder / "export", trial=trial)
        key = json.loads((export / "metrics.json").read_text(encoding="utf-8"))["key"]
        query = f"tags.`{STUDY_TAG}` = '{study.uid}' AND tags.`{KEY_TAG}` = '{key}'"
        for model in client.search_logged_models([study.mlflow_experiment_id], query):
            if model.status == "READY":
                break
            client.delete_logged_model(model.model_id)  # of a process that died
        else:
            with asked_once():
                model = client.create_logged_model(
                    study.mlflow_experiment_id,
                    _NAME if trial is None else f"trial-{trial:03d}",
                    study.mlflow_run_id,
                    {STUDY_TAG: study.uid, KEY_TAG: key},
                )
            _save(export, folder / "model", model.model_id, study)
            client.log_model_artifacts(model.model_id, str(folder / "model"))
            client.finalize_logged_model(model.model_id, "READY")
    _link(client, study.mlflow_run_id, model.model_id)
    return str(model.model_id)


def _link(client: "MlflowClient", run_id: str, model_id: str) -> None:
    from mlflow.entities import LoggedModelOutput

    outputs = client.get_run(run_id).outputs
    if model_id not in {output.model_id for output in (outputs.model_outputs if outputs else ())}:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])


def _save(export: Path, folder: Path, model_id: str, study: StudyRow) -> None:
    """Write an export as an MLflow model with signature, input example and requirements."""
    task = study.document["task"]
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    from attnsearch.runs.exports import LOADER, WEIGHTS, read_weights

    for name in ("mlflow.models", "mlflow.pyfunc"):  # they tell each step
        logging.getLogger(name).setLevel(logging.ERROR)
    _, interface = read_weights(export / WEIGHTS)
    shown = TensorSpec(np.dtype(np.uint8), (-1, -1, -1, interface.channels))
    said = TensorSpec(np.dtype(np.float32), (-1, len(interface.class_names)))
    if task == SEGMENTATION:
        said = TensorSpec(np.dtype(np.uint8), (-1, -1, -1))
    example = np.zeros((1, *interface.image_size, interface.channels), np.uint8)
    mlflow.pyfunc.save_model(
        str(folder),
        loader_module=LOADER,
        data_path=str(export),
        signature=ModelSignature(Schema([shown]), Schema([said])),
        input_example=example,
        pip_requirements=_requirements(),
        mlflow_model=Model(
            model_id=model_id,
            run_id=study.mlflow_run_id,
            metadata={"task": task, "class_names": list(interface.class_names)},
        ),
    )


def _requirements() -> list[str]:
    found = []
    for name in ("attnsearch", "torch", "numpy"):
        try:
            found.append(f"{name}=={version(name).partition('+')[0]}")
        except PackageNotFoundError:
            found.append(name)
    return found
