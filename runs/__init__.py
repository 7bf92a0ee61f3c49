"""One run's life: data, training, costs, records, export.

The names below load on first use, so that reading a ledger loads no torch and nothing loads
MLflow before it is needed.
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:  # `as` says to type checkers that a name is handed on
    from attnsearch.runs.data import (
        DataSet as DataSet,
        load_data as load_data,
    )
    from attnsearch.runs.exports import (
        Features,
        create_model,
        evaluate_export as evaluate_export,
        explain_images as explain_images,
        export_study as export_study,
        load_export as load_export,
        predict_images as predict_images,
    )
    from attnsearch.runs.ledger import (
        Ledger as Ledger,
        LedgerError as LedgerError,
        RunRow as RunRow,
        StudyRow as StudyRow,
        TrialRow as TrialRow,
        run_key as run_key,
    )
    from attnsearch.runs.mirror import (
        Mirror as Mirror,
    )
    from attnsearch.runs.reports import (
        report as report,
    )
    from attnsearch.runs.results import (
        leaderboard as leaderboard,
        trials_frame as trials_frame,
    )
    from attnsearch.runs.training import (
        Training as Training,
    )

face(__name__)
