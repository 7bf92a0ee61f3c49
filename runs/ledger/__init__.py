"""The one record of studies and runs, from which everything else is derived.

ledger    The ledger: the one record of studies and runs that everything else is derived from
studies   The ledger's studies: opening, continuing, finding them, and noting how they stand
plans     The ledger's plans and looks: what was to be compared, and when test data was opened
records   What the ledger returns: frozen records, detached from the database
reading   Reading the ledger's tables into records, within a transaction
states    State and Role: the words for how something stands and what a run is there for
schema    The ledger's tables (SQLAlchemy 2 models)
database  Opening the ledger's database, and saying in words what is wrong with it
lease     Leases: which process holds a run or a study, and whether that process still lives
key       The run key: a hash of what determines a run's result, and of nothing else
arrays    Arrays as the ledger keeps them: a compressed ``.npz``, text and numbers only
files     Where a ledger's trained weights and pictures lie. This module needs no torch
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.ledger.database import LedgerError
    from attnsearch.runs.ledger.files import panel_file, weights_folder
    from attnsearch.runs.ledger.key import run_key
    from attnsearch.runs.ledger.lease import HEARTBEAT_SECONDS
    from attnsearch.runs.ledger.ledger import Claim, LeaseLost, Ledger
    from attnsearch.runs.ledger.plans import PlanRow
    from attnsearch.runs.ledger.reading import read_places
    from attnsearch.runs.ledger.records import RunRow, StudyRow, TrialRow
    from attnsearch.runs.ledger.schema import Epoch, Run, Study, StudyRun
    from attnsearch.runs.ledger.states import (
        ARM_ROLES,
        BASELINE_ROLES,
        EXPLORING_ROLES,
        PLAN_ROLES,
        SEARCH_ROLES,
        Role,
        State,
    )
    from attnsearch.runs.ledger.studies import study_digest

face(__name__)
