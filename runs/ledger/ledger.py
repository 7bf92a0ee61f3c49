"""The ledger: the one record of studies and runs that everything else is derived from.

Reads never wait for a lease: a run or study whose driver died is read as interrupted, whether
or not someone has come by since to write that down.

All methods may be called from any thread, and raise `LedgerError` when the database cannot be
read or written.
"""

from typing import Self

from attnsearch.runs.ledger import (
    claims,
    contents as _contents,
    files,
    plans as _plans,
    studies as _studies,
)
from attnsearch.runs.ledger.access import Access, began
from attnsearch.runs.ledger.patience import patient


class Ledger(Access):
    """Studies, plans and runs in an SQLite file or a PostgreSQL database.

    Its methods are functions of the modules that they are taken from. While a study runs, those
    that it needs wait for a database that is away, see `patience.py`.

    Args:
        url: A file's path or a database URL; without it ``ATTNSEARCH_LEDGER``, else
            ``attnsearch.db`` in the current folder.
        create: Whether to create a missing ledger; otherwise it is an error.

    Raises:
        LedgerError: It cannot be opened; the message says why and what to do.
    """

    open_study = _studies.open_study
    studies = patient(_studies.studies)
    study = patient(_studies.study)
    find_study = patient(_studies.find_study)
    set_study_state = patient(_studies.set_study_state)
    drivers = patient(_studies.drivers)
    holder_of = patient(_studies.holder_of)
    set_importances = patient(_studies.set_importances)
    hold = _studies.hold
    free = _studies.free
    reconcile = _studies.reconcile
    close = _studies.close

    store_plan = patient(_plans.store_plan)
    plans = patient(_plans.plans)
    set_plan_state = patient(_plans.set_plan_state)
    add_analysis = patient(_plans.add_analysis)
    freeze_winner = patient(_plans.freeze_winner)
    open_test = patient(_plans.open_test)
    looks = patient(_plans.looks)
    look_of = patient(_plans.look_of)
    confirmatory = patient(_plans.confirmatory)
    added_seeds = patient(_plans.added_seeds)
    arm_runs = patient(_plans.arm_runs)

    claim = patient(claims.claim)
    began = patient(began)
    interrupted = patient(claims.interrupted)
    heartbeat = claims.heartbeat
    record_epoch = patient(claims.record_epoch)
    finish = patient(claims.finish)
    add_test = patient(claims.add_test)
    set_weights_path = patient(claims.set_weights_path)
    run = patient(claims.run)
    finished_keys = patient(claims.finished_keys)
    predictions = patient(claims.predictions)
    attach = patient(claims.attach)
    trials = patient(claims.trials)

    contents_of = patient(_contents.contents_of)
    note_contents = patient(_contents.note_contents)

    checkpoint_folder = patient(files.checkpoint_folder)
    write_file = patient(files.write_file)
    checksum = patient(files.checksum)
    intact = patient(files.intact)
    fetch = patient(files.fetch)
    drop_file = patient(files.drop_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
