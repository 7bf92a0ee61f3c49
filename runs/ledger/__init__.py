"""The one record of studies and runs, from which everything else is derived.

ledger    Ledger: all that can be done with a ledger, put together from these modules' functions
access    A ledger's database, the process that works on it, and its changes
studies   Opening, continuing and finding studies, and noting how they stand
claims    Claiming runs, what came of them, and their places in studies
checksums Comparing a stored file with its checksum
contents  What a data set's examples held when a study was run
files     Files beside the ledger, named relative to it, and their checksums
plans     Plans and looks: what was to be compared, and when test data was opened
records   What the ledger returns: frozen records; they state the columns
requests  What is asked of the ledger about runs, and what it answers to a claim
states    State, Role, PlanState: the words for how something stands and what a run is for
reading   Reading the ledger's tables into records, within a transaction
schema    The ledger's tables (SQLAlchemy 2 models), made of those records
database  Opening the ledger's database, and saying in words what is wrong with it
patience  Waiting for a ledger that is away, while a study runs
lease     Leases: which process holds a run or a study, and whether that process still lives
key       The run key: a hash of what determines a run's result, and of nothing else
encoding  How JSON, times, words and arrays are kept
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.ledger.access import change
    from attnsearch.runs.ledger.checksums import DamagedFile, check_file
    from attnsearch.runs.ledger.claims import LeaseLost
    from attnsearch.runs.ledger.encoding import pack
    from attnsearch.runs.ledger.files import file_name, log_file, panel_file, weights_folder
    from attnsearch.runs.ledger.key import (
        WEIGHTS_INPUT,
        InputsChanged,
        changed_inputs,
        inputs,
        package_inputs,
        run_key,
    )
    from attnsearch.runs.ledger.lease import HEARTBEAT_SECONDS
    from attnsearch.runs.ledger.ledger import Ledger
    from attnsearch.runs.ledger.patience import LedgerAway, LedgerError, Patience, no_ledger
    from attnsearch.runs.ledger.reading import read_places
    from attnsearch.runs.ledger.records import Analysis, PlanRow, RunRow, StudyRow, TrialRow
    from attnsearch.runs.ledger.requests import Claim, Ending, Place, Request
    from attnsearch.runs.ledger.schema import Epoch, Run, Study, StudyRun
    from attnsearch.runs.ledger.states import (
        ARM_ROLES,
        BASELINE_ROLES,
        EXPLORING_ROLES,
        PLAN_ROLES,
        SEARCH_ROLES,
        PlanState,
        Role,
        State,
    )
    from attnsearch.runs.ledger.studies import (
        studies_elsewhere,
        study_differences,
        study_digest,
    )

face(__name__)
