"""What one session of a study came to."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.ledger import Ledger, PlanRow, Role, State, StudyRow, TrialRow
from attnsearch.runs.results import value_of
from attnsearch.search.text import plural

if TYPE_CHECKING:
    import pandas as pd

AGAIN = "run it again to go on from there"
REPORT_SECONDS = 60.0  # in which another driver ends the report that it writes


class StudyError(AttnsearchError):
    """A study cannot be run as asked."""


@dataclass(frozen=True, repr=False)
class SessionResult:
    """A study as one session left it.

    Attributes:
        study: Its row in the ledger.
        state: "finished", "interrupted" or "failed" (no trial finished, or an act could not be
            done).
        trials: All its runs, also those of earlier sessions.
        best: Number of the best finished trial by the first objective; None without one.
        front: Numbers of the best trials: with several objectives the Pareto front.
        importances: Objective to the decisions that matter more than chance, see `Importance`.
        notes: What the user should know, one sentence each.
        message: Why the session ended and, where the study can go on, how.
        seconds: Wall time of the session.
        plans: What confirm and ablations compare, superseded plans left out.
        winner: Label of the arm that confirm froze as the winner.
        verdicts: What the comparisons say, one sentence each.
        report: The folder of the report, where it was written.
        ledger: Opens the ledger that the study is recorded in.
    """

    study: StudyRow
    state: State
    trials: list[TrialRow]
    best: int | None
    front: list[int]
    importances: dict[str, dict[str, dict[str, float]]]
    notes: list[str]
    message: str
    seconds: float
    plans: list[PlanRow] = field(default_factory=list)
    winner: str | None = None
    verdicts: list[str] = field(default_factory=list)
    report: Path | None = None
    ledger: Callable[[], Ledger] = Ledger

    def __repr__(self) -> str:
        best = self.best_trial
        scores = [
            f"{name} {value:.4g}"
            for name in self.study.objectives
            if best is not None and (value := value_of(best, name)) is not None
        ]
        leading = [f"best {best.shown}", *scores] if best else []
        count = plural(sum(row.arm is None for row in self.trials), "trial")
        return f"<SessionResult {self.study.label}: {', '.join([self.state, count, *leading])}>"

    @property
    def best_trial(self) -> TrialRow | None:
        """The best finished trial by the first objective; None without one."""
        explored = (row for row in self.trials if row.arm is None)
        return next((row for row in explored if row.number == self.best), None)

    def frame(self) -> "pd.DataFrame":
        """Return all runs, a row each; the columns are those of `trials_frame`."""
        from attnsearch.runs.results import frame_of

        return frame_of(self.study, self.trials)

    def leaderboard(self) -> "pd.DataFrame":
        """Return the search's runs and the baseline, the best first."""
        from attnsearch.runs.results import leaderboard

        return leaderboard(self.study, self.trials)

    def tables(self) -> "dict[str, pd.DataFrame]":
        """Return the tables of the study's report by name, as `report` does.

        Raises:
            LedgerError: The ledger is gone.
        """
        from attnsearch.runs.reports import report

        with self.ledger() as ledger:
            return report(self.study.label, ledger)

    def export(self, to: str | Path, *, formats: Collection[str] = ()) -> Path:
        """Write the winner to a folder, as `export_study` does, and return the folder.

        Raises:
            ExportError: There is no finished trial, its weights are gone, or the folder holds
                something else.
            LedgerError: The ledger is gone.
        """
        from attnsearch.runs.exports import export_study

        with self.ledger() as ledger:
            return export_study(ledger, self.study.label, to, formats=formats)


def report_of(
    ledger: Ledger, study: StudyRow, note: Callable[[str], None]
) -> tuple[list[str], Path | None]:
    """Write the report of a study's comparisons, if there are any.

    Args:
        ledger: The ledger.
        study: The study.
        note: Told where it could not be written.

    Returns:
        What they say, and where the report lies.
    """
    if not ledger.plans(study.id):
        return [], None
    from attnsearch.runs.reports import ReportError, verdict_lines, write_report

    resource, deadline = f"report:{study.id}", time.monotonic() + REPORT_SECONDS
    while ledger.hold(resource) and time.monotonic() < deadline:  # another driver writes it
        time.sleep(0.1)
    try:
        written = write_report(ledger, study.id)
    except ReportError as error:
        note(str(error))
        return list(verdict_lines(ledger, study.id)), None
    finally:
        ledger.free(resource)
    return list(written.verdicts), written.folder


def outcome_text(
    state: State,
    rows: Sequence[TrialRow],
    budget: int,
    winner: str | None,
    unfinished: Sequence[str],
) -> str:
    """Return why a session ended and, where the study can go on, how.

    Args:
        state: As in `SessionResult`.
        rows: All runs of the study.
        budget: Trials that the search may spend.
        winner: Label of the frozen winner.
        unfinished: Why acts could not be done.
    """
    searched = [row for row in rows if row.arm is None]
    counts = Counter(row.state for row in searched)
    words = {state: str(state) for state in State if state.ended}
    words[State.STOPPED] = "stopped early"
    states = ", ".join(f"{counts[key]} {word}" for key, word in words.items() if counts[key])
    ended = sum(counts[key] for key in words)
    arms = _arms_text(rows)
    if state == State.INTERRUPTED:
        so_far = f" ({states})" if states else ""
        acts = f" and {arms}" if arms else ""
        return f"stopped after {ended} of {budget} trials{so_far}{acts}; all is recorded; {AGAIN}"
    if state == State.FAILED and not unfinished:
        reasons = [row for row in searched if row.error]
        why = f"; trial {reasons[0].number:03d}: {reasons[0].error}" if reasons else ""
        if any(row.over for row in searched if row.state == State.FINISHED):
            return f"no trial that finished keeps the limits ({states}){why}"
        return f"no trial finished ({states or 'none was tried'}){why}"
    parts = [f"{plural(ended, 'trial')}: {states}"] if ended else []
    parts += [arms] if arms else []
    parts += [f"winner: {winner}"] if winner else []
    return "; ".join([*parts, *unfinished])


def _arms_text(rows: Sequence[TrialRow]) -> str:
    """Return `18 runs of confirm, 9 of ablations`."""
    counts = Counter(row.role for row in rows if row.state.ended)
    words = {
        Role.TUNING: "of tuning",
        Role.CONFIRM: "of confirm",
        Role.ABLATION: "of ablations",
    }
    return ", ".join(
        f"{plural(counts[role], 'run')} {word}" for role, word in words.items() if counts[role]
    )
