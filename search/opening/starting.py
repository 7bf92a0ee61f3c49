"""What a search begins with: configs that are tried first, and what earlier studies learnt."""

from collections.abc import Callable, Sequence
from typing import Any

from attnsearch.runs.ledger import SEARCH_ROLES, Ledger, State, StudyRow, TrialRow
from attnsearch.runs.results import ranked
from attnsearch.runs.words import plural
from attnsearch.search.plans import SHARE, Start, StartError, config_values, starts_of, starts_text
from attnsearch.search.propose import Objectives, ProposalResult, Proposals
from attnsearch.spaces import Space
from attnsearch.spaces.keys import excess

LEARNING = ("tpe", "gp")  # samplers that learn from trials that they did not ask for


class Beginning:
    """What a search begins with: configs that are tried first, and what earlier studies learnt.

    Args:
        space: What is searched.
        trials: Of its search; 0 where nothing is explored.
        proposals: Learn of it.
        note: Tells the user something.

    Raises:
        StartError: `search.first` names what is no config of the space.
    """

    def __init__(
        self, space: Space, trials: int, proposals: Proposals, note: Callable[[str], None]
    ) -> None:
        self._space = space
        self._trials = trials
        self._proposals = proposals
        self._note = note
        self._starts = starts_of(space, trials) if trials else []
        self._objectives = Objectives(space.document["search"]["objectives"])

    def learn(self, ledger: Ledger, fingerprint: str) -> dict[str, Any]:
        """Give the proposals what they begin with; return what is noted of its origin.

        Trials on the same data for the same number of epochs are told to a sampler that learns
        from them. Other scores cannot be compared with those to come, so that the best configs
        are tried first instead, before all others.

        Args:
            ledger: That holds the earlier studies.
            fingerprint: Of the data.

        Raises:
            StartError: A study has another task or other objectives, still runs, or has nothing
                that fits the space.
        """
        search = self._space.document["search"]
        addresses = (search.get("from") or ()) if self._trials else ()
        told: list[tuple[dict[str, Any], ProposalResult]] = []
        best: list[Start] = []
        record = []
        for address in addresses:
            study = ledger.find_study(address)
            rows = [row for row in ledger.trials(study.id) if row.role in SEARCH_ROLES]
            usable = self._usable(study, sorted(rows, key=lambda row: row.number))
            alike = study.fingerprint == fingerprint and _epochs(study) == self._epochs
            if alike and search["sampler"] in LEARNING:
                told += [(values, self._result(row)) for row, values in usable]
                what = f"{plural(len(usable), 'trial')} told"
            else:
                most = max(1, self._trials // SHARE // len(addresses))
                own = self._best(study, usable)[:most]
                best += own
                what = f"its best {plural(len(own), 'config')} tried first"
            rest = len(rows) - len(usable)
            other = (
                f"; {plural(rest, 'trial')} of networks that this space has not" if rest else ""
            )
            self._note(f"learns from {study.label}: {what}{other}")
            record.append({"study": study.label, "uid": study.uid, "what": what})
        self._starts = [*best, *self._starts]
        self._proposals.begin_with(self._starts, told)
        return {"from": record} if record else {}

    def say(self, past: Sequence[TrialRow]) -> None:
        """Say what is tried first, where nothing was tried yet."""
        if self._starts and not past:
            self._note(starts_text(self._starts))

    @property
    def _epochs(self) -> Any:
        return self._space.document["train"]["epochs"]

    def _usable(
        self, study: StudyRow, rows: Sequence[TrialRow]
    ) -> list[tuple[TrialRow, dict[str, Any]]]:
        """Return a study's trials whose networks the space has, with its values."""
        task, objectives = study.document.get("task"), dict(study.objectives)
        fault = None
        if task != self._space.task:
            fault = f"is for {task}, and this file for {self._space.task}"
        elif objectives != self._objectives.directions:
            fault = f"has the objectives {objectives}, this file {self._objectives.directions}"
        elif study.state == State.RUNNING:
            fault = "still runs; wait for it"
        usable = []
        for row in rows if fault is None else ():
            ended = row.state in (State.FINISHED, State.STOPPED)
            if ended and (values := config_values(self._space, row.config)) is not None:
                usable.append((row, values))
        if fault is None and not usable:
            fault = f"has {plural(len(rows), 'trial')}, none of a network of this space"
        if fault is not None:
            raise StartError(f"search.from: {study.label} {fault}, or leave it out")
        return usable

    def _best(
        self, study: StudyRow, usable: Sequence[tuple[TrialRow, dict[str, Any]]]
    ) -> list[Start]:
        values = {row.place_id: own for row, own in usable}
        return [
            (f"{study.label} trial {row.number}", values[row.place_id])
            for row in ranked([row for row, _ in usable], self._objectives.directions)
        ]

    def _result(self, row: TrialRow) -> ProposalResult:
        """Return a trial as this search would have told it, by its own limits."""
        curve = self._objectives.curve(row.epochs)
        over = excess(row.costs, self._space.document.get("limits") or {})
        return self._objectives.told(row.state, curve, row.metrics, row.costs, over)


def _epochs(study: StudyRow) -> Any:
    return (study.document.get("train") or {}).get("epochs")
