"""The ledger shown in MLflow.

mirror     The mirror: shows a ledger's studies in MLflow, and never stands in the way of a study
store      One MLflow store, through `MlflowClient` and its synchronous calls
together   Many writes to an SQLite store of MLflow's as one transaction
view       What MLflow shows of a study and its runs: params, metrics, tags and files
experiment  What MLflow shows of an experiment: its kind, description and data set
saved_views  Saved views of MLflow's table of runs: which runs, which columns
model       A study's winner as a logged model, which MLflow loads and serves
registry    A study's best network in MLflow's model registry
trials     What MLflow shows of a study's runs: one for each place in the study
arms       What MLflow shows of arms: a run each above its seeds, with interval and verdict
renewal    When what a study's parent run shows is renewed while the study goes on
positions  What of the ledger an MLflow store already shows, kept in the ledger itself
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.mirror.mirror import Mirror, MirrorReport
    from attnsearch.runs.mirror.registry import register_model
    from attnsearch.runs.mirror.saved_views import study_link
    from attnsearch.runs.mirror.store import tracking_uri

face(__name__)
