"""Optuna's samplers as `search.sampler` names them, and what they cannot do."""

import contextlib
import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import TrialState

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.spaces.space import Decision

REPLAYED = ("nsga2", "cmaes")  # those that keep state with the trials that they asked for
GP_SLOW = 300  # proposals from which fitting the GP takes most of a second


class ProposalError(AttnsearchError):
    """The sampler cannot search this space or these objectives."""


def make_sampler(name: str, seed: int, objectives: int, trials: int) -> BaseSampler:
    """Return a sampler as `search.sampler` names it.

    Args:
        name: The name. The grid is listed elsewhere; what its sampler draws is uniform.
        seed: Of this proposal alone.
        objectives: How many there are.
        trials: As `search.trials`; small searches get shorter random phases and generations.
    """
    startup = max(4, min(10, trials // 3))
    with quiet():
        if name == "tpe":
            single = objectives == 1
            return optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=startup, multivariate=single or None, group=single
            )
        if name == "gp":
            return optuna.samplers.GPSampler(
                seed=seed, n_startup_trials=startup, warn_independent_sampling=False
            )
        if name == "nsga2":
            population = max(4, min(50, trials // 4))
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=population)
        if name == "cmaes":
            return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        return RandomSampler(seed=seed)


def check_sampler(name: str, decisions: Sequence[Decision], objectives: int) -> None:
    """Refuse what a sampler cannot do.

    Raises:
        ProposalError: If it cannot search these decisions or objectives.
    """
    if name != "cmaes":
        return
    if objectives > 1:
        raise ProposalError(
            f"search.sampler: cmaes optimises one objective, search.objectives has {objectives}; "
            f"use tpe, gp or nsga2"
        )
    if decisions and all(d.kind == "choice" or d.parents for d in decisions):
        raise ProposalError(
            "search.sampler: cmaes searches numbers, but no int or float decision of this space "
            "is always active; use tpe"
        )


def sampler_notes(name: str, decisions: Sequence[Decision], trials: int) -> list[str]:
    """Return what the user should know about a sampler on these decisions."""
    notes = []
    if name == "gp" and any(decision.parents for decision in decisions):
        notes.append(
            "sampler gp models only the decisions that are always active; the conditional ones "
            "are drawn at random (tpe models them)"
        )
    if name == "gp" and trials > GP_SLOW:
        notes.append(f"sampler gp takes a second or more a proposal from {GP_SLOW} trials on")
    if name == "cmaes" and any(d.kind == "choice" or d.parents for d in decisions):
        notes.append(
            "sampler cmaes models only numbers that are always active; choices and conditional "
            "decisions are drawn at random (tpe models them)"
        )
    return notes


def derive(seed: int, number: int) -> int:
    """Return a seed of 31 bits for one proposal."""
    digest = hashlib.sha256(f"proposal/{seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class Answered(BaseSampler):
    """A sampler that goes through the motions of another and gives answers that are known.

    Args:
        sampler: The other.
        params: The answers, as Optuna stores them.
    """

    def __init__(self, sampler: BaseSampler, params: Mapping[str, Any]) -> None:
        self._sampler = sampler
        self._params = params

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the other's."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Ask the other, for what it leaves with the trial, and answer itself."""
        self._sampler.sample_relative(study, trial, search_space)
        return {name: self._params[name] for name in search_space if name in self._params}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return the known answer."""
        return self._params[param_name]

    def after_trial(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Tell the other."""
        self._sampler.after_trial(study, trial, state, values)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's log lines and notes on experimental arguments off the terminal."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="optuna")
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
