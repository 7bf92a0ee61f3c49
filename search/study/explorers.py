"""Makes what explores: the study's space, and the training settings of one network."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attnsearch.runs.ledger import Role, TrialRow
from attnsearch.search.propose import Objectives, Proposals
from attnsearch.search.study.events import Progress
from attnsearch.search.study.exploring import Explorer
from attnsearch.search.study.records import Records
from attnsearch.search.workers import Curve, should_stop
from attnsearch.spaces import Space


class Explorers:
    """The explorers of one session, each with a sampler and a scheduler as the space says.

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
        return Explorer(
            self._space,
            self.proposals,
            records,
            self._objectives,
            self._progress,
            self._key,
            [row for row in past if row.arm is None or row.role == Role.BASELINE],
            trials=self._trials,
            baseline=self._baseline(),
            stops=self._stopping(),
        )

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
        return Explorer(
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
            stops=self._stopping(),
        )

    def _stopping(self) -> Callable[[int, Mapping[int, Curve]], bool] | None:
        """Return the rule of early stopping; None where there is nothing to follow."""
        followed = self._objectives.followed
        if followed is None or not self._space.decisions:
            return None
        return functools.partial(
            should_stop,
            self._search["scheduler"],
            goal=self._objectives.directions[followed],
            epochs=self._space.document["train"]["epochs"],
        )

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
