"""One run's life: data, training, costs, records, export.

The names below load on first use, so that reading a ledger loads no torch and nothing loads
MLflow before it is needed.
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.data import DataSet, load_data
    from attnsearch.runs.exports import (
        evaluate_export,
        explain_images,
        export_study,
        load_export,
        predict_images,
    )
    from attnsearch.runs.ledger import Ledger, LedgerError, RunRow, StudyRow, TrialRow, run_key
    from attnsearch.runs.mirror import Mirror
    from attnsearch.runs.reports import report
    from attnsearch.runs.results import leaderboard, trials_frame
    from attnsearch.runs.training import Training

face(__name__)
