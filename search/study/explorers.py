"""Makes what explores: the study's space, and the training settings of one network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attnsearch.runs.ledger import Role, TrialRow
from attnsearch.search.propose import Objectives, Proposals
from attnsearch.search.study.events import Progress
from attnsearch.search.study.exploring import Explorer
from attnsearch.search.study.records import Records
from attnsearch.spaces import Space


class Explorers:
    """The explorers of one session, each with a sampler and a scheduler as the space says.

    A scheduler is made only once Ray is loaded, see `schedulers`.

    Args:
        space: The study's space.
        objectives: Of the study.
        progress: Told of what the user should know.
        key: Gives the run key of a config.
        trials: How many distinct configs each of them may try.

    Attributes:
        proposals: The bridge to Optuna of the study's own exploring.
    """

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        progress: Progress,
        key: Callable[[Mapping[str, Any]], str],
        trials: int,
    ) -> None:
        self._space = space
        self._search: dict[str, Any] = space.document["search"]
        self._objectives = objectives
        self._progress = progress
        self._key = key
        self._trials = trials
        self._begun: list[tuple[str, Explorer | None]] = []
        self._per_act: Any = None
        plain = space.plain()
        first = [plain] if plain is not None else []
        first += [space.defaults()] if space.prior() else []
        self.proposals = self._proposals(space, first)

    def exploring(self, records: Records, past: Sequence[TrialRow]) -> Explorer:
        """Return what explores the study's space.

        Args:
            records: Where everything is written down.
            past: The study's runs so far.
        """
        explorer = Explorer(
            self._space,
            self.proposals,
            records,
            self._objectives,
            self._progress,
            self._key,
            [row for row in past if row.arm is None or row.role == Role.BASELINE],
            trials=self._trials,
            baseline=self._baseline(),
        )
        self.begin("", explorer)
        return explorer

    def tuning(
        self, space: Space, records: Records, past: Sequence[TrialRow], arm: str, act: str
    ) -> Explorer:
        """Make what searches one network's training settings, as the study its space.

        Args:
            space: From `tuning_space`.
            records: Where everything is written down.
            past: The trials of this search so far.
            arm: Whose settings they are.
            act: The act's name.
        """
        explorer = Explorer(
            space,
            self._proposals(space, [space.defaults()] if space.prior() else []),
            records,
            self._objectives,
            self._progress,
            self._key,
            past,
            trials=self._trials,
            role=Role.TUNING,
            arm=arm,
            act=act,
        )
        self.begin(act, explorer)
        return explorer

    def begin(self, act: str, explorer: Explorer | None = None) -> None:
        """An act begins: an explorer's, or one whose runs are never stopped early."""
        self._begun.append((act, explorer))
        if self._per_act is not None:
            self.schedulers()

    def schedulers(self) -> Any:
        """Return the schedulers of the acts so far and of those to come; loads Ray."""
        from attnsearch.search.workers import PerAct

        if self._per_act is None:
            self._per_act = PerAct()
        while self._begun:
            act, explorer = self._begun.pop(0)
            scheduler = None
            if explorer is not None:
                scheduler = self._scheduler(explorer)
                explorer.teach(scheduler)
            self._per_act.begin(act, scheduler)
        return self._per_act

    def _scheduler(self, explorer: Explorer) -> Any:
        from attnsearch.search.workers import make_scheduler

        def more_to_come() -> bool:
            return not explorer.exhausted()

        epochs = self._space.document["train"]["epochs"]
        followed = self._objectives.followed
        if followed is None or not self._space.decisions:
            return make_scheduler("none", "", "max", epochs, more_to_come)
        direction = self._objectives.directions[followed]
        return make_scheduler(self._search["scheduler"], followed, direction, epochs, more_to_come)

    def _proposals(self, space: Space, first: Sequence[dict[str, Any]]) -> Proposals:
        return Proposals(
            space.decisions,
            space.ask,
            self._search["objectives"],
            sampler=self._search["sampler"],
            seed=self._search["seed"],
            trials=self._trials,
            first=first,
            grid=space.grid,
        )

    def _baseline(self) -> dict[str, Any] | None:
        """Return the baseline's config, where the search has a use for it and does not hold it."""
        if self._space.plain() is not None or not self._space.decisions:
            return None
        config = self._space.resolve(self._space.defaults())
        return {**config, "insert": [], "train": {**config["train"], "aux_weight": {}}}
