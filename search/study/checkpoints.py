"""The checkpoints of a study's runs: found before a run begins, dropped once it has ended."""

import contextlib
from pathlib import Path

from attnsearch.runs.training import Checkpoint, kept_trainings, remove, sound
from attnsearch.search.study.stage import Stage
from attnsearch.search.workers import Report


class Checkpoints:
    """The checkpoints of one study's runs.

    Args:
        stage: The study's surroundings.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._troubled = False

    def folder(self, key: str, run_id: int) -> Path:
        """Return the folder of a run."""
        return self._stage.ledger.checkpoint_folder(key, run_id)

    def newest(self, key: str) -> tuple[int, Checkpoint] | None:
        """Return the interrupted run of a key and its newest checkpoint, if there are both."""
        run_id = self._stage.ledger.interrupted(key, self._stage.study.id)
        if run_id is None:
            return None
        checkpoint = next(sound(self.folder(key, run_id)), None)
        return None if checkpoint is None else (run_id, checkpoint)

    def take(self, run_id: int, key: str, report: Report) -> None:
        """Write what a worker of another machine sent; note what could not be written, once."""
        trouble = report.trouble
        if report.checkpoint is not None:
            try:
                report.checkpoint.write(self.folder(key, run_id))
            except OSError as error:
                trouble = str(error)
        if trouble and not self._troubled:
            self._troubled = True
            self._stage.note(
                f"a checkpoint could not be written ({trouble}); what is interrupted goes on from "
                f"an earlier one, or from its start"
            )

    def drop(self, key: str, run_id: int) -> None:
        """Delete those of a run."""
        folder = self.folder(key, run_id)
        self._stage.saved.discard(folder)
        remove(folder)

    def begun(self, key: str, run_id: int) -> Path:
        """Return the folder of a run that is begun; what is in it counts from now on."""
        folder = self.folder(key, run_id)
        self._stage.saved.add(folder)
        return folder

    def size_bytes(self) -> int:
        """Return what those of the study hold on the disk; any thread may ask."""
        total = 0
        for folder in tuple(self._stage.saved):
            with contextlib.suppress(OSError):  # a file is replaced meanwhile
                total += sum(file.stat().st_size for file in folder.iterdir())
        return total

    def drop_ended(self) -> None:
        """Delete those of runs that ended in a process that was killed before it did."""
        kept = kept_trainings(self.folder("", 0).parent)
        states = {(row.key, row.id): row.state for row in self._stage.past()}
        for (key, run_id), state in states.items():
            if state.ended and self.folder(key, run_id).name in kept:
                self.drop(key, run_id)
