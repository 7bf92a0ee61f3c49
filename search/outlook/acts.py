"""What follows exploring: runs, time, and what their number can find."""

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnsearch.blocks.naming import NONE
from attnsearch.runs.data import DataSet
from attnsearch.runs.ledger import PLAN_ROLES, LedgerError, State, no_ledger
from attnsearch.runs.statistics import (
    Interim,
    achieved_power,
    detectable,
    expected_seeds,
    interim_analyses,
    pair_sd,
    power_sentence,
    seeds_needed,
)
from attnsearch.runs.words import duration
from attnsearch.search.plans import (
    PlanError,
    ablation_plan,
    ablation_settings,
    most_seeds,
    needs_tuning,
    plan_folds,
    plan_runs,
    statistics_of,
)
from attnsearch.search.text import plural
from attnsearch.spaces import Space
from attnsearch.spaces.keys import is_share

if TYPE_CHECKING:
    from attnsearch.runs.ledger import Ledger

_WANTED_POWER = 0.8
_SURE = 0.95


@dataclass(frozen=True)
class ActCost:
    """What one act is going to cost, at most.

    Attributes:
        act: Its name.
        arms: How many; 0 for tuning, which has trials.
        runs: How many are trained.
        seconds: Estimated; None where an epoch's time is not known.
    """

    act: str
    arms: int
    runs: int
    seconds: float | None


def cost_sentence(
    space: Space, epoch_seconds: float | None, trials: int, workers: int, *, follows: bool = True
) -> str:
    """Say how long exploring takes at most, and with it all that follows, or how to know it.

    Args:
        space: The space.
        epoch_seconds: Of the default network; None where it is not known.
        trials: Left to explore.
        workers: How many run side by side.
        follows: Whether confirm and ablations are to follow.
    """
    if trials < 1:
        return ""
    if epoch_seconds is None:
        return "how long it takes is told once epochs have ended; before, by `attnsearch check`"
    explore = math.ceil(trials / workers) * space.document["train"]["epochs"] * epoch_seconds
    ahead = outlook(space, epoch_seconds, workers).acts if follows else ()
    acts = [act.seconds or 0.0 for act in ahead]
    together = f", {duration(explore + sum(acts))} with all that follows" if acts else ""
    return (
        f"training takes at most about {duration(explore)}{together}, by a few steps measured on "
        "this machine"
    )


def reach_sentence(networks: int, trials: int, sampler: str) -> str:
    """Say what so many trials can find among so many networks, were they drawn at random.

    The best of n draws is outside the best share q of all with a probability of (1 - q)^n.

    Args:
        networks: Different ones of the space.
        trials: To come.
        sampler: That proposes them.
    """
    if trials >= networks:
        return f"{trials:,} trials: as many as there are networks"
    share = 1 - (1 - _SURE) ** (1 / trials)
    beyond = {"grid": "grid takes networks in order", "random": ""}.get(
        sampler, f"{sampler} looks on where it has seen good ones"
    )
    best = f"the best {max(networks * share, 1):,.0f} ({100 * share:.2g} %)"
    return (
        f"{trials:,} trials for {networks:,} networks: were they drawn at random, the best of "
        f"them would in 19 of 20 searches be among {best}" + (f"; {beyond}" if beyond else "")
    )


@dataclass(frozen=True)
class Pilot:
    """How runs of one arm vary over seeds, from arms that a ledger has.

    Attributes:
        spread: Standard deviation over seeds, pooled over arms, in metric units.
        correlation: Between two arms on the same seeds, pooled; at least 0.
        arms: From how many.
        runs: From how many.
    """

    spread: float
    correlation: float
    arms: int
    runs: int


@dataclass(frozen=True)
class Outlook:
    """What follows exploring.

    Attributes:
        acts: In order.
        notes: What could not be foreseen, and why.
        power: What the seeds can find, in sentences.
    """

    acts: tuple[ActCost, ...] = ()
    notes: tuple[str, ...] = ()
    power: tuple[str, ...] = ()


def outlook(
    space: Space, epoch_seconds: float | None, workers: int, pilot: Pilot | None = None
) -> Outlook:
    """Foresee confirm and ablation, before anything is known of the winner.

    Counts are upper limits: candidates may share a baseline, and arms may be equal. Ablations are
    counted on a network with a block at every place.

    Args:
        space: The space.
        epoch_seconds: Of the default network.
        workers: How many runs there are side by side.
        pilot: What the ledger has, see `pilot_runs`.
    """
    acts: list[ActCost] = []
    notes: list[str] = []

    def cost(act: str, arms: int, runs: int, epochs: int) -> None:
        seconds = None
        if epoch_seconds is not None:
            seconds = math.ceil(runs / workers) * epochs * epoch_seconds
        acts.append(ActCost(act, arms, runs, seconds))

    document = space.document
    confirm, train = document["confirm"], document["train"]
    repeats = len(plan_folds(document)[0])
    trials = document["search"]["trials"]
    if confirm:
        if needs_tuning(space):
            cost("tuning the baseline", 0, trials, train["epochs"])
        arms = _confirm_arms(space)
        runs = arms * most_seeds(confirm["seeds"]) * repeats
        cost("confirm", arms, runs, confirm["epochs"] or train["epochs"])
    for name in (document["ablation"] or {}).get("plans", ()):
        try:
            settings = ablation_settings(space)
            plan = ablation_plan(name, _full(space), space=space, settings=settings)
        except PlanError as error:
            notes.append(f"ablation {name}: {error}")
            continue
        runs = plan_runs(plan)
        if settings["retuned"]:
            runs += trials * sum(1 for arm in plan.arms if arm.equals is None)
        cost(f"ablation {name}", len(plan.arms), runs, settings["epochs"])
    return Outlook(tuple(acts), tuple(notes), tuple(_power(space, pilot)) if confirm else ())


def pilot_of(space: Space, data: DataSet | None) -> Pilot | None:
    """Return what the ledger of this folder says of the spread between seeds; None without one.

    Args:
        space: The space.
        data: What exploring trains on.
    """
    if data is None or not space.document["confirm"] or no_ledger():
        return None
    from attnsearch.runs.ledger import Ledger

    try:
        with Ledger(create=False) as ledger:
            return pilot_runs(ledger, data.fingerprint, space.document["primary_metric"])
    except LedgerError:
        return None


def pilot_runs(ledger: "Ledger", fingerprint: str, metric: str) -> Pilot | None:
    """Return how validation scores vary over seeds, from arms on the same data; None without any.

    Only the spread within arms enters, never a difference between them.

    Args:
        ledger: The ledger.
        fingerprint: Of the data.
        metric: Without its part.
    """
    import pandas as pd  # half a second, which a folder without a ledger need not wait for

    place = ["act", "arm", "fold", "seed"]
    scores = pd.DataFrame(
        [
            ((study.id, row.role), row.arm or "", str(row.fold), row.seed, row.metrics[name])
            for study in ledger.studies()
            if study.fingerprint == fingerprint
            for row in ledger.trials(study.id)
            if row.role in PLAN_ROLES
            and row.state == State.FINISHED
            and row.metrics.get(name := f"val_{metric}") is not None
        ],
        columns=[*place, "score"],
    ).drop_duplicates(place, keep="last")
    scores = scores[scores.groupby(["act", "arm"])["seed"].transform("size") > 1]
    folds = scores.groupby(["act", "arm", "fold"])["score"]
    freedom = len(scores) - folds.ngroups
    if freedom < 1:
        return None
    scores = scores.assign(score=scores["score"] - folds.transform("mean"))
    products = together = 0.0
    for _, act in scores.groupby("act"):
        arms = act.pivot(index=["fold", "seed"], columns="arm", values="score")
        for one, other in itertools.combinations((arms[name].dropna() for name in arms), 2):
            if one.index.equals(other.index):
                products += one @ other
                together += math.sqrt((one @ one) * (other @ other))
    correlation = min(max(products / together, 0.0), 0.95) if together else 0.0
    spread = math.sqrt(scores["score"] @ scores["score"] / freedom)
    return Pilot(spread, correlation, scores.groupby(["act", "arm"]).ngroups, len(scores))


def _confirm_arms(space: Space) -> int:
    """Return the arms of confirm at most: candidates, and the controls of each."""
    confirm = space.document["confirm"]
    top = min(confirm["top"], max(space.architecture_count(), 1))
    settings = any(setting.path[0] != "network" for setting in space.settings)
    per_candidate = {"capacity": top, "baseline": top if settings else 1, "tuned_baseline": 1}
    arms: int = top + sum(per_candidate[control] for control in confirm["controls"])
    return arms


def _full(space: Space) -> dict[str, Any]:
    """Return a config of the space with a block at as many places as its rules allow.

    Raises:
        PlanError: No place has a block that can stand there.
    """
    searched = {group.decision.name: group for group in space.groups if group.decision is not None}
    chosen: dict[str, Any] = {}

    def choose(decision: Any) -> Any:
        empty = NONE if decision.name in searched and NONE in decision.choices else None
        return chosen.get(decision.name, empty or decision.default())

    for name, group in searched.items():
        for block in group.options:
            if block == NONE:
                continue
            chosen[name] = block
            if space.forbidden(space.ask(choose)) is None:
                break
            del chosen[name]
    fullest = space.ask(choose)
    if space.forbidden(fullest) is not None:
        raise PlanError("what it does depends on the winner")
    return space.resolve(fullest)


def _stopping(interim: Interim, arms: int, level: float) -> str:
    """Say how many runs arms that stop early take: at least, at most, and to be expected."""
    least, most = interim.sizes[0], interim.sizes[-1]
    effect = detectable(most, 1.0, alpha=level * interim.shares[-1])
    none, some = (expected_seeds(interim, level, size) for size in (0.0, effect))
    return (
        f"seeds: an arm stops at {least} to {most} seeds, once its comparisons are settled, so "
        f"confirm has at least {arms * least} and at most {arms * most} runs; a comparison takes "
        f"{none:.1f} seeds on average without any difference, and {some:.1f} if the difference is "
        f"what {most} seeds find with 80 % power"
    )


def _power(space: Space, pilot: Pilot | None) -> list[str]:
    """Return what the seeds of confirm can find at the strictest level of Holm's procedure."""
    confirm, document = space.document["confirm"], space.document
    metric, alpha = document["primary_metric"], document["alpha"]
    seeds = most_seeds(confirm["seeds"])
    tests = confirm["top"] * max(len(set(confirm["controls"]) - {"baseline"}), 1)
    tests *= 1 if document["margin"] is None else 2  # equivalence is tested in the same family
    if statistics_of(document)["folds"] != (None,):
        return ["power: with folds it depends on how the folds differ, which is not known"]
    if seeds < 2:
        return ["power: one seed tests nothing; confirm.seeds: 5 gives verdicts"]
    scale, unit = (100.0, "points") if is_share(metric) else (1.0, "units")
    counts = sorted({seeds, 8} if seeds != 8 else {5, 8})
    family = f"80 % power, {plural(tests, 'test')} in the family"
    ahead = []
    if confirm["seeds"] != seeds:
        interim = interim_analyses(confirm["seeds"]["min"], seeds)
        ahead = [_stopping(interim, _confirm_arms(space), alpha / tests)]
        alpha, counts = alpha * interim.shares[-1], [seeds]  # what the last analysis may spend
    if pilot is None:
        example = power_sentence(1 / scale, counts, 0.0, tests, alpha, scale, unit)
        return [
            *ahead,
            f"power: {example}, if the seeds of a network spread by 1 {unit.removesuffix('s')} "
            f"(standard deviation), and twice as much if by 2 ({family}, pairs taken as "
            "uncorrelated). Your spread is not known before some runs on this data are confirmed",
        ]
    spread = pilot.spread
    sentences = [
        *ahead,
        f"power: {power_sentence(spread, counts, pilot.correlation, tests, alpha, scale, unit)} "
        f"({metric}, spread between seeds {spread * scale:.1f} {unit}, {family}; spread and "
        f"correlation {pilot.correlation:.2f} from {pilot.runs} confirmed runs of "
        f"{pilot.arms} arms)",
    ]
    wanted = document["smallest_effect"]
    if wanted is not None and spread > 0:
        sd = pair_sd(spread, pilot.correlation)
        have = achieved_power(seeds, wanted, sd, tests, alpha)
        needed = seeds_needed(wanted, sd, tests, alpha, _WANTED_POWER)
        enough = f"{needed} seeds give 80 %" if needed else "100 seeds do not give 80 %"
        sentences.append(
            f"smallest_effect, {wanted * scale:g} {unit}, is found by {seeds} seeds with a power "
            f"of {100 * have:.0f} %; {enough}"
        )
    return sentences
