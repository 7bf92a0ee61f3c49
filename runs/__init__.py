"""One run's life: data, training, costs, records, export.

The names below load on first use, so that reading a ledger loads no torch and nothing loads
MLflow before it is needed.
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.lazy import lazy_names

if TYPE_CHECKING:
    from attnsearch.runs.data import DataSet, load_data
    from attnsearch.runs.explain import explain_images
    from attnsearch.runs.export import export_study, load_export
    from attnsearch.runs.key import run_key
    from attnsearch.runs.ledger import Ledger, LedgerError, RunRow, StudyRow, TrialRow
    from attnsearch.runs.mirror import Mirror
    from attnsearch.runs.predict import predict_images
    from attnsearch.runs.reporting import report
    from attnsearch.runs.tables import leaderboard, trials_frame
    from attnsearch.runs.train import Training

_HOMES = {
    "DataSet": "data",
    "Ledger": "ledger",
    "LedgerError": "ledger",
    "Mirror": "mirror",
    "RunRow": "ledger",
    "StudyRow": "ledger",
    "Training": "train",
    "TrialRow": "ledger",
    "explain_images": "explain",
    "export_study": "export",
    "leaderboard": "tables",
    "load_data": "data",
    "load_export": "export",
    "predict_images": "predict",
    "report": "reporting",
    "run_key": "key",
    "trials_frame": "tables",
}

__all__ = [
    "DataSet",
    "Ledger",
    "LedgerError",
    "Mirror",
    "RunRow",
    "StudyRow",
    "Training",
    "TrialRow",
    "explain_images",
    "export_study",
    "leaderboard",
    "load_data",
    "load_export",
    "predict_images",
    "report",
    "run_key",
    "trials_frame",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
