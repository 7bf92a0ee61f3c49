"""The ledger: the one record of studies and runs that everything else is derived from.

Reads never wait for a lease: a run or study whose driver died is read as interrupted, whether
or not someone has come by since to write that down.

All methods may be called from any thread, and raise `LedgerError` when the database cannot be
read or written.
"""

from typing import Self

from attnsearch.runs.ledger import claims, files
from attnsearch.runs.ledger import plans as _plans
from attnsearch.runs.ledger import studies as _studies
from attnsearch.runs.ledger.access import Access


class Ledger(Access):
    """Studies, plans and runs in an SQLite file or a PostgreSQL database.

    Its methods are functions of the modules that they are taken from.

    Args:
        url: A file's path or a database URL; without it ``ATTNSEARCH_LEDGER``, else
            ``attnsearch.db`` in the current folder.
        create: Whether to create a missing ledger; otherwise it is an error.

    Raises:
        LedgerError: It cannot be opened; the message says why and what to do.
    """

    open_study = _studies.open_study
    studies = _studies.studies
    study = _studies.study
    find_study = _studies.find_study
    set_study_state = _studies.set_study_state
    set_importances = _studies.set_importances
    hold = _studies.hold
    free = _studies.free
    reconcile = _studies.reconcile
    close = _studies.close

    store_plan = _plans.store_plan
    plans = _plans.plans
    set_plan_state = _plans.set_plan_state
    freeze_winner = _plans.freeze_winner
    open_test = _plans.open_test
    looks = _plans.looks
    look_of = _plans.look_of
    confirmatory = _plans.confirmatory
    added_seeds = _plans.added_seeds
    arm_runs = _plans.arm_runs

    claim = claims.claim
    interrupted = claims.interrupted
    heartbeat = claims.heartbeat
    record_epoch = claims.record_epoch
    finish = claims.finish
    add_test = claims.add_test
    set_weights_path = claims.set_weights_path
    run = claims.run
    finished_keys = claims.finished_keys
    predictions = claims.predictions
    attach = claims.attach
    trials = claims.trials

    checkpoint_folder = files.checkpoint_folder
    write_file = files.write_file
    checksum = files.checksum
    intact = files.intact
    drop_file = files.drop_file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
