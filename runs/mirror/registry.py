"""A study's best network in MLflow's model registry: `attnsearch export --register NAME`."""

from typing import TYPE_CHECKING

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.ledger import Ledger
from attnsearch.runs.mirror.mirror import Mirror
from attnsearch.runs.mirror.model import log_model
from attnsearch.runs.mirror.store import Store, asked_once, said, tracking_uri

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


class RegisterError(AttnsearchError):
    """MLflow does not take a model into its registry."""

    exit_status = 1


def register_model(ledger: Ledger, study_id: int, name: str, trial: int | None = None) -> str:
    """Log a study's best network, or a trial, as a model and register it under a name.

    Returns:
        How MLflow calls it: ``models:/NAME/VERSION``.

    Raises:
        RegisterError: MLflow cannot be reached, or does not take it.
        AttnsearchError: There is none, or its weights were not kept.
    """
    report = Mirror(ledger).sync(study_id)
    if report.problem is not None:
        raise RegisterError(f"{name}: not registered. {report}")
    study = ledger.study(study_id)
    try:
        client = Store(tracking_uri(recorded=study.mlflow_uri)).client
        version = _register(client, log_model(client, ledger, study, trial), name)
    except AttnsearchError:
        raise
    except Exception as error:
        raise RegisterError(
            f"--register {name}: MLflow at {report.uri} does not take it: {said(error)}"
        ) from error
    return f"models:/{name}/{version}"


def _register(client: "MlflowClient", model_id: str, name: str) -> int:
    """Register a logged model under a name and return its version; twice is once."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    model = client.get_logged_model(model_id)
    source = model.artifact_location  # `models:/ID` MLflow would look up in its default store
    for known in client.search_model_versions(f"name = '{name}'"):
        if known.source == source:
            return int(known.version)
    with asked_once():
        made = client.create_model_version(name, source, model.source_run_id, model_id=model_id)
    return int(made.version)
