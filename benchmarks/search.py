"""Replay searches on a table of recorded trainings: samplers, early stopping, learning rates.

    python benchmarks/search.py [--trials 32] [--replays 60] [--only NAME] [--starts]
    python benchmarks/search.py --space benchmarks/search_space_2.yaml

`search_table.py` has trained every config of a space with several seeds: `search_table.csv` those
of `search_space.yaml`, and `search_table_2.csv` those of a second one, on which nothing was
chosen. Here the product's own proposals and early stopping search that space, and where a trial
would be trained the table is looked up, so that a search takes a tenth of a second. The learning
rate is proposed from its whole range, and the nearest recorded one is looked up.

A search sees one seed of every config, as a study does; the seeds take turns. What it would
confirm, the best finished trial with a block, is judged by that config's mean over the *other*
seeds. For each arm:

    epochs      the whole search trains, median
    to reach    epochs from which on what it would confirm is as good as what a random search
                without early stopping would after all its trials (median of 120 such searches), in
                half of the replays, with a 90 % interval (bootstrapped replays); "-" if never
    as good     the share of replays that are as good after a quarter of that search's epochs
    at 1/4      the mean of what it would confirm then, average
    at the end  the same after all trials, with its standard error
    drop        by how much the score that was seen exceeds that mean, the winner's curse, average
    top lost    of the trials begun that are among the true best 5 %, the share stopped early
"""

import argparse
import csv
import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from attnsearch.runs.ledger import State
from attnsearch.search.plans import starts_of
from attnsearch.search.propose import ProposalResult
from attnsearch.search.study.exploring import make_proposals
from attnsearch.search.workers import should_stop
from attnsearch.spaces.space import Space, load_space

HERE = Path(__file__).parent
SPACE = HERE / "search_space.yaml"
DRAWS = 200
RATE = "train.lr"
TOP = 0.05
RANDOM_REPLAYS = 120
SCHEDULERS: dict[str, Any] = {
    "none": "none",
    "asha": "asha",
    "asha grace 5": {"asha": {"grace": 5}},
    "median": "median",
    "median grace 5": {"median": {"grace": 5}},
    "patient": "patient",
    "hyperband": "hyperband",
}
# Whose proposals take seconds of a CPU a search, or do not learn within one, has two schedulers.
# A grid has no place between recorded rates, and cmaes proposes no blocks.
SAMPLERS = {"random": (*SCHEDULERS,), "tpe": (*SCHEDULERS,)}
SAMPLERS |= dict.fromkeys(("gp", "nsga2"), ("none", "patient"))
ARMS: dict[str, dict[str, Any]] = {
    f"{sampler}, {scheduler}, {settings}": {
        "sampler": sampler,
        "scheduler": SCHEDULERS[scheduler],
        "settings": settings,
    }
    for settings in ("together", "first")
    for sampler, schedulers in SAMPLERS.items()
    for scheduler in schedulers
}

Config = tuple[str, ...]


class Table:
    """Recorded trainings.

    Args:
        path: Of the file that `search_table.py` writes.
        space: What was trained.
    """

    def __init__(self, path: Path, space: Space) -> None:
        self.names = [decision.name for decision in space.decisions]
        self.curves: dict[Config, dict[int, list[float]]] = {}
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                epochs = [row[name] for name in row if name.isdigit()]
                config = tuple(row[name] for name in self.names)
                curve = [float(value or "nan") for value in epochs]
                self.curves.setdefault(config, {})[int(row["seed"])] = curve
        self.seeds = sorted(set.intersection(*map(set, self.curves.values())))
        self.epochs = len(epochs)
        self.rates = sorted({config[self.names.index(RATE)] for config in self.curves}, key=float)
        baseline = space.baseline() or {}
        self.plain = self.config(baseline)[:-1]
        assert self.names[-1] == RATE

    def config(self, values: Mapping[str, Any]) -> Config:
        """The recorded config that is nearest to a proposal."""
        rate = min(self.rates, key=lambda rate: abs(math.log(float(rate) / values[RATE])))
        return (*(str(values.get(name, "")) for name in self.names[:-1]), rate)

    def mean(self, config: Config, seeds: Sequence[int]) -> float:
        """The mean of a config's last scores over seeds."""
        return statistics.fmean(self.curves[config][seed][-1] for seed in seeds)

    def best(self) -> set[Config]:
        """The best configs with a block, by their means over all seeds."""
        blocks = [config for config in self.curves if config[:-1] != self.plain]
        ranked = sorted(blocks, key=lambda config: -self.mean(config, self.seeds))
        return set(ranked[: round(TOP * len(ranked))])


@dataclass
class Replay:
    """One search, replayed.

    Attributes:
        epochs: Trained in all.
        choices: (epochs so far, what would be confirmed, its score that was seen), at each change.
        begun: Configs by trial.
        stopped: The trials that were stopped early.
        told: Values and results of all trials.
    """

    epochs: int = 0
    choices: list[tuple[int, Config, float]] = field(default_factory=list)
    begun: list[Config] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)
    told: list[tuple[dict[str, Any], ProposalResult]] = field(default_factory=list)


def replay(
    space: Space,
    table: Table,
    seed: int,
    search_seed: int,
    *,
    baseline: bool,
    begins: str = "",
) -> Replay:
    """Search once.

    Args:
        space: Its `search` section says how.
        table: What is looked up.
        seed: Of the trainings that the search sees.
        search_seed: Of the sampler.
        baseline: Whether the first trial is the baseline, as in a study.
        begins: What it begins with: ``first``, the published places; ``from``, what a search of
            half as many trials learnt on another seed of the trainings.
    """
    search = {**space.document["search"], "seed": search_seed}
    space = replace(space, document={**space.document, "search": search})
    proposals = make_proposals(space, [space.baseline() if baseline else None])
    if begins == "first":
        proposals.begin_with(starts_of(space, search["trials"]))
    elif begins == "from":
        half = {**search, "trials": search["trials"] // 2}
        smaller = replace(space, document={**space.document, "search": half})
        earlier = replay(smaller, table, others(table, seed)[0], 5000 + search_seed, baseline=True)
        proposals.begin_with([], earlier.told)
    done = Replay()
    curves: dict[int, dict[int, float]] = {}
    for number in range(search["trials"]):
        proposal = proposals.ask()
        assert proposal is not None
        config = table.config(proposal.values)
        done.begun.append(config)
        curve = curves[number] = {}
        kept = (baseline and number == 0) or proposal.how == "probe"
        state = State.FINISHED
        for epoch, score in enumerate(table.curves[config][seed], 1):
            curve[epoch] = score
            done.epochs += 1
            if kept or epoch == table.epochs:
                continue
            if should_stop(search["scheduler"], number, curves, goal="max", epochs=table.epochs):
                state = State.STOPPED
                done.stopped.append(number)
                break
        scores = (curve[table.epochs],) if state == State.FINISHED else None
        result = ProposalResult(state, list(curve.items()), scores)
        done.told.append((proposal.values, result))
        proposals.tell(proposal.number, result)
        best = done.choices[-1][2] if done.choices else -math.inf
        if scores and config[:-1] != table.plain and scores[0] > best:
            done.choices.append((done.epochs, config, scores[0]))
    return done


def others(table: Table, seed: int) -> list[int]:
    """The seeds that a search did not see."""
    return [other for other in table.seeds if other != seed]


def measure(
    space: Space,
    table: Table,
    replays: int,
    target: Mapping[int, float],
    quarter: int,
    begins: str = "",
) -> list[str]:
    """Replay an arm and say what came of it, one text a column."""
    best = table.best()
    epochs, early, final, drops = [], [], [], []
    good = np.zeros((replays, space.document["search"]["trials"] * table.epochs + 1))
    begun = lost = 0
    for number in range(replays):
        seed = table.seeds[number % len(table.seeds)]
        unseen = others(table, seed)
        done = replay(space, table, seed, number, baseline=True, begins=begins)
        means = [(at, table.mean(config, unseen)) for at, config, _ in done.choices]
        epochs.append(done.epochs)
        for at, mean in means:
            good[number, at:] = mean >= target[seed]
        early.append(([0.0] + [mean for at, mean in means if at <= quarter])[-1])
        final.append(means[-1][1] if means else 0.0)
        if means:
            drops.append(done.choices[-1][2] - means[-1][1])
        tops = [number for number, config in enumerate(done.begun) if config in best]
        begun += len(tops)
        lost += len(set(tops) & set(done.stopped))
    random = np.random.default_rng(0)
    resampled = [reached(good[random.integers(0, replays, replays)]) for _ in range(DRAWS)]
    low, high = np.percentile(resampled, [5, 95], method="nearest").astype(int)
    never = good.shape[1]
    ends = ["-" if each == never else str(each) for each in (reached(good), low, high)]
    return [
        f"{statistics.median(epochs):.0f}",
        f"{ends[0]} ({ends[1]} to {ends[2]})",
        f"{good[:, quarter].mean():.0%}",
        f"{statistics.fmean(early):.4f}",
        f"{statistics.fmean(final):.4f} ± {statistics.stdev(final) / replays**0.5:.4f}",
        f"{statistics.fmean(drops):.4f}",
        f"{lost} of {begun}",
    ]


def reached(good: np.ndarray) -> int:
    """The epoch after the last one at which fewer than half of the replays were as good."""
    return int(np.flatnonzero(good.mean(axis=0) < 0.5).max()) + 1


def searched(trials: int, search: Mapping[str, Any], path: Path = SPACE) -> Space:
    """A space, with a `search` section and the range of rates, half a step beyond the recorded."""
    recorded = load_space(path)
    rates = next(decision.choices for decision in recorded.decisions if decision.name == RATE)
    step = (max(rates) / min(rates)) ** (0.5 / (len(rates) - 1))
    low, high = f"{min(rates) / step:.3g}", f"{max(rates) * step:.3g}"
    rate = f"{RATE}={{float: [{low}, {high}], log: true}}"
    space = load_space(path, [rate, f"search.trials={trials}"])
    return replace(
        space, document={**space.document, "search": {**space.document["search"], **search}}
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--replays", type=int, default=60)
    parser.add_argument("--space", type=Path, default=SPACE)
    parser.add_argument("--only", default="", help="arms whose name has this text")
    parser.add_argument(
        "--starts", action="store_true", help="also with search.first, search.from"
    )
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    plain = searched(
        given.trials,
        {"sampler": "random", "scheduler": "none", "settings": "together"},
        given.space,
    )
    name = given.space.stem.replace("space", "table")
    table = Table(given.space.with_name(f"{name}.csv"), plain)
    target = {}
    for seed in table.seeds:
        ends = [
            replay(plain, table, seed, 1000 + number, baseline=False).choices[-1][1]
            for number in range(RANDOM_REPLAYS // len(table.seeds))
        ]
        target[seed] = statistics.median(table.mean(end, others(table, seed)) for end in ends)
    quarter = given.trials * table.epochs // 4
    print(f"{len(table.curves)} configs x {len(table.seeds)} seeds, {given.trials} trials")
    print("random without early stopping ends at", {k: round(v, 4) for k, v in target.items()})
    print("| arm | epochs | to reach | as good | at 1/4 | at the end | drop | top lost |")
    for name, search in ARMS.items():
        if given.only in name:
            space = searched(given.trials, search, given.space)
            for begins in ("", "first", "from") if given.starts else ("",):
                row = measure(space, table, given.replays, target, quarter, begins)
                words = f"{name}, {begins}" if begins else name
                print("| " + " | ".join([words, *row]) + " |", flush=True)
