"""The bridge to Optuna: what is tried next, and what Optuna is told of it.

The Optuna study lives in memory and is rebuilt from the ledger at every start, so there is no
second truth. Three rules keep it honest and repeatable:

* A trial is COMPLETE only with the scores of a full schedule, PRUNED with its intermediate values
  when it was stopped early, FAIL when it failed. An infeasible one is PRUNED without any value
  and with positive constraints: that is the form in which Optuna's TPE learns from it. GP, NSGA-II
  and CMA-ES look at COMPLETE trials only; they learn the limits from the slack that these carry.
* The sampler is made anew for every proposal, seeded by (search.seed, number of the proposal). So
  the proposals depend on the seed and on what was told before, and not on interruptions.
* NSGA-II and CMA-ES keep state with the trials that they asked for. After a restart their earlier
  questions are asked again, with the answers fixed, which brings that state back. The others are
  functions of the trials alone.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from attnsearch.runs.ledger import State
from attnsearch.search.propose.probes import probe
from attnsearch.search.propose.samplers import (
    REPLAYED,
    Answered,
    check_sampler,
    derive,
    make_sampler,
    quiet,
    sampler_notes,
)
from attnsearch.search.propose.window import Window
from attnsearch.spaces.space import Decision

STATES = {
    State.FINISHED: TrialState.COMPLETE,
    State.STOPPED: TrialState.PRUNED,
    State.INFEASIBLE: TrialState.PRUNED,
    State.FAILED: TrialState.FAIL,
}
PROBES_MAX = 4  # of training settings, beside the first trial's
PROBES_SHARE = 4  # one trial in so many, in small searches
GRID_MAX = 20_000  # combinations; to list so many takes seconds

Values = dict[str, Any]


@dataclass(frozen=True)
class Proposal:
    """What to try.

    Attributes:
        number: Optuna's number for it; counts proposals that turn out to be known already.
        values: Of the active decisions.
        how: "sampler", "random" (drawn uniformly instead, this once), "given" (the baseline, a
            prior, a combination of the grid) or "probe" (training settings tried on the plain
            network) or "first" (a config from elsewhere). An earlier session is rebuilt from it.
        origin: Where a config from elsewhere is from, in words.
    """

    number: int
    values: Values
    how: str
    origin: str = ""


@dataclass(frozen=True)
class ProposalResult:
    """What became of a proposal, as Optuna is told.

    Attributes:
        state: How the trial ended.
        curve: (epoch, value) of the objective that early stopping follows.
        scores: The objectives' values; those of a finished trial.
        constraints: Name to amount, positive where violated.
        error: Why it failed.
    """

    state: State
    curve: Sequence[tuple[int, float]] = ()
    scores: tuple[float, ...] | None = None
    constraints: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None

    @property
    def feasible(self) -> bool:
        """Whether nothing is violated."""
        return not any(amount > 0 for amount in self.constraints.values())


class Proposals:
    """Asks Optuna for decisions and tells it what came of them.

    Args:
        decisions: All decisions of the space.
        ask: Goes through the active decisions in order and returns their values, as `Space.ask`.
        objectives: Name to "max" or "min".
        sampler: As `search.sampler`.
        seed: As `search.seed`.
        trials: As `search.trials`; small searches get shorter random phases and generations.
        first: Values to try before the sampler is asked: the baseline, the priors.
        settings: Decisions that are tried on the first of `first` alone, a few values of each,
            before anything else is proposed, which then all has the best values found; none to
            propose all decisions together.
        grid: All combinations, for the grid sampler.

    Raises:
        ProposalError: If the sampler cannot search this.
    """

    def __init__(
        self,
        decisions: Sequence[Decision],
        ask: Callable[[Callable[[Decision], Any]], Values],
        objectives: Mapping[str, str],
        *,
        sampler: str = "tpe",
        seed: int = 0,
        trials: int = 16,
        first: Sequence[Values] = (),
        settings: Sequence[Decision] = (),
        grid: Callable[[], Iterator[Values]] | None = None,
    ) -> None:
        self._decisions = {decision.name: decision for decision in decisions}
        self._ask = ask
        self._directions = [
            StudyDirection.MAXIMIZE if m == "max" else StudyDirection.MINIMIZE
            for m in objectives.values()
        ]
        self._sampler = sampler
        self._seed = seed
        self._trials = trials
        self._first = list(first)
        self._settings = {d.name: d for d in settings}
        self._probes = min(PROBES_MAX, trials // PROBES_SHARE) if settings and first else 0
        self._grid = self._shuffled(grid) if sampler == "grid" and grid else None
        check_sampler(sampler, decisions, len(objectives))
        self._starts: list[tuple[str, Values]] = []
        self._learnt: list[tuple[Values, ProposalResult]] = []
        self.forget()

    def begin_with(
        self,
        starts: Sequence[tuple[str, Values]],
        learnt: Sequence[tuple[Values, ProposalResult]] = (),
    ) -> None:
        """Forget all proposals, and begin with what is known from elsewhere.

        Args:
            starts: Where configs are from, in words, and their values, which are tried before the
                sampler is asked.
            learnt: Trials of other studies that the sampler knows from the start.
        """
        self._starts, self._learnt = list(starts), list(learnt)
        self.forget()

    def forget(self) -> None:
        """Forget all proposals of this study."""
        self._seen: set[tuple[tuple[str, Any], ...]] = set()
        self._open: dict[int, optuna.Trial] = {}
        self._hows: list[str] = []  # of all proposals
        narrowed = self._sampler == "tpe" and len(self._directions) == 1
        self._window = Window(self._directions[0]) if narrowed else None
        with quiet():
            self._study = optuna.create_study(storage=self._window, directions=self._directions)
        for values, result in self._learnt:
            self.adopt(values, result, "elsewhere")

    @property
    def count(self) -> int:
        """How many proposals there have been, told or not."""
        return len(self._hows)

    def ask(self, how: str = "sampler") -> Proposal | None:
        """Return the next proposal; None at the end of the grid.

        Args:
            how: "sampler", or "random" to draw uniformly this once.
        """
        number = self.count
        own = self._hows[len(self._learnt) :]
        if len(own) < len(self._first):
            return self.give(self._first[len(own)])
        probed = own.count("probe")
        begins = set(own) <= {"given", "probe", "first"}
        if begins and probed < self._probes and "first" not in own and self._grid is None:
            settings = probe(list(self._settings.values()), probed)
            return self.give({**self._first[0], **settings}, "probe")
        if begins and own.count("first") < len(self._starts):
            origin, values = self._starts[own.count("first")]
            settings = self._best_settings() if probed else {}
            proposal = self.give({**values, **settings}, "first")
            return replace(proposal, origin=origin)
        if self._grid is not None:
            fixed = next((v for v in self._grid if _frozen(v) not in self._seen), None)
            return None if fixed is None else self.give(fixed)
        # A study that began without them goes on so. Where a search has tried all else under the
        # best settings, it draws at random, and others.
        if probed and how == "sampler":
            with quiet():
                self._study.enqueue_trial(self._encoded(self._best_settings()))
        return self._propose(self._make_sampler(number, how), how)

    def give(self, values: Values, how: str = "given") -> Proposal:
        """Return a proposal with these values, made by the caller instead of the sampler."""
        with quiet():
            self._study.enqueue_trial(self._encoded(values))
        return self._propose(self._make_sampler(self.count, "random"), how)

    def _best_settings(self) -> Values:
        """Return the settings under which the first network did best; none as long as none did."""
        network = _frozen(self._without_settings(self._first[0]))
        scored = [
            (trial.values[0], -trial.number, values)
            for trial in self._all(deepcopy=False)
            if trial.state is TrialState.COMPLETE
            and _frozen(self._without_settings(values := self._decoded(trial.params))) == network
        ]
        if not scored:
            return {}
        maximise = self._directions[0] is StudyDirection.MAXIMIZE
        best = max(scored, key=lambda each: (each[0] if maximise else -each[0], each[1]))[2]
        return {name: value for name, value in best.items() if name in self._settings}

    def _without_settings(self, values: Values) -> Values:
        return {name: value for name, value in values.items() if name not in self._settings}

    def tell(self, number: int, result: ProposalResult) -> None:
        """Say what became of a proposal."""
        trial = self._open.pop(number)
        state, curve, scores = as_optuna(result, len(self._directions))
        with quiet():
            if self._sampler != "cmaes":  # which warns that it ignores them
                for name, amount in result.constraints.items():
                    trial.set_constraint(name, amount)
            if result.error:
                trial.set_user_attr("error", result.error)
            for epoch, value in curve.items():
                trial.report(value, epoch)
            self._study.tell(trial, scores, state)

    def adopt(self, values: Values, result: ProposalResult | None, how: str = "sampler") -> int:
        """Take over a proposal of an earlier session, in the order of those sessions.

        Args:
            values: Of its active decisions.
            result: What became of it; None if it is still to be told.
            how: How it had been asked for.

        Returns:
            Its number.
        """
        if result is None or self._sampler in REPLAYED:
            return self._adopt_by_asking(values, result, how)
        number = self.count
        self._hows.append(how)
        self._seen.add(_frozen(values))
        with quiet():
            self._study.add_trial(as_trial(self._decisions, values, result, len(self._directions)))
        return number

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """Return all proposals as Optuna has them."""
        return self._all(deepcopy=True)

    def _all(self, *, deepcopy: bool) -> list[optuna.trial.FrozenTrial]:
        if self._window is None:
            return list(self._study.get_trials(deepcopy=deepcopy))
        study_id = self._window.get_study_id_from_name(self._study.study_name)
        return self._window.whole(study_id, deepcopy=deepcopy)

    def notes(self) -> list[str]:
        """Return what the user should know about this sampler on this space."""
        return sampler_notes(self._sampler, list(self._decisions.values()), self._trials)

    def _adopt_by_asking(self, values: Values, result: ProposalResult | None, how: str) -> int:
        """Ask once more, with the answers fixed, for what the sampler keeps with the trial."""
        if how in ("given", "probe", "first"):
            number = self.give(values, how).number
        else:
            asked = self._make_sampler(self.count, how)
            number = self._propose(Answered(asked, self._encoded(values)), how).number
        if result is not None:
            self.tell(number, result)
        return number

    def _propose(self, sampler: BaseSampler, how: str) -> Proposal:
        with quiet():
            self._study.sampler = sampler
            trial = self._study.ask()
            values = self._ask(lambda decision: _suggest(trial, decision))
        self._open[trial.number] = trial
        self._hows.append(how)
        self._seen.add(_frozen(values))
        return Proposal(trial.number, values, how)

    def _encoded(self, values: Values) -> Values:
        return {name: self._decisions[name].encode(value) for name, value in values.items()}

    def _decoded(self, params: Values) -> Values:
        return {name: self._decisions[name].decode(value) for name, value in params.items()}

    def _make_sampler(self, number: int, how: str) -> BaseSampler:
        name = "random" if how == "random" else self._sampler
        seed = derive(self._seed, number)
        return make_sampler(name, seed, len(self._directions), self._trials)

    def _shuffled(self, grid: Callable[[], Iterator[Values]]) -> list[Values] | None:
        """Return the grid in an order of the seed; None where it is too long to list.

        Drawing at random without repeats is the same distribution, and what the caller then gets.
        """
        listed: list[Values] = []
        for values in grid():
            listed.append(values)
            if len(listed) > GRID_MAX:
                return None
        random.Random(derive(self._seed, -1)).shuffle(listed)
        return listed


def _frozen(values: Values) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((name, str(value)) for name, value in values.items()))


def as_optuna(
    result: ProposalResult, objectives: int
) -> tuple[TrialState, dict[int, float], list[float] | None]:
    """Return state, intermediate values by epoch and values of a trial as Optuna has them."""
    state = STATES[result.state]
    curve = dict(result.curve) if objectives == 1 and state is not TrialState.FAIL else {}
    return state, curve, list(result.scores or ()) if state is TrialState.COMPLETE else None


def as_trial(
    decisions: Mapping[str, Decision], values: Values, result: ProposalResult, objectives: int
) -> FrozenTrial:
    """Return a trial that is over as Optuna keeps it.

    Args:
        decisions: By name.
        values: Of those that were active.
        result: What became of it.
        objectives: How many there are.
    """
    state, curve, scores = as_optuna(result, objectives)
    if state is TrialState.PRUNED and curve:
        scores = [curve[max(curve)]]
    with quiet():
        return create_trial(
            state=state,
            values=scores,
            params={name: decisions[name].encode(value) for name, value in values.items()},
            distributions={name: distribution(decisions[name]) for name in values},
            intermediate_values=curve,
            constraints=dict(result.constraints),
            user_attrs={"error": result.error} if result.error else None,
        )


def distribution(decision: Decision) -> BaseDistribution:
    """Return the range of a decision as Optuna takes it."""
    if decision.kind == "choice":
        return CategoricalDistribution([decision.encode(choice) for choice in decision.choices])
    assert decision.low is not None and decision.high is not None
    low, high, step = decision.low, decision.high, decision.step
    if decision.log and step not in (None, 1 if decision.kind == "int" else None):
        # Optuna has no steps on a logarithmic scale.
        return CategoricalDistribution(list(decision.values()))
    if decision.kind == "int":
        return IntDistribution(int(low), int(high), log=decision.log, step=int(step or 1))
    return FloatDistribution(low, high, log=decision.log, step=step)


def _suggest(trial: optuna.Trial, decision: Decision) -> Any:
    """Ask for one decision; the public `suggest_*` calls take the same distributions apart."""
    options: Any = distribution(decision)
    if isinstance(options, CategoricalDistribution):
        return decision.decode(trial.suggest_categorical(decision.name, options.choices))
    suggest: Any = trial.suggest_float
    if isinstance(options, IntDistribution):
        suggest = trial.suggest_int
    value = suggest(decision.name, options.low, options.high, step=options.step, log=options.log)
    return decision.decode(value)
