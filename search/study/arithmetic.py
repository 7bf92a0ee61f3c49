"""What a file leaves to the device: chosen before a study's first run, the same for all of them.

That is the arithmetic, which determines results, and how many trials share a card, which does not.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

from attnsearch.blocks.naming import NONE
from attnsearch.runs.data import DataSet
from attnsearch.runs.ledger import StudyRow, study_digest
from attnsearch.runs.training import Kept, Speed, choose_speed
from attnsearch.search.plans import most_seeds
from attnsearch.search.study.stage import device_kind, examined_for, most_jobs
from attnsearch.search.workers import (
    AUTO,
    LEAST_SHARE,
    Cluster,
    Need,
    Packing,
    RayCard,
    has_cards,
    pack,
    trials_a_card,
    with_need,
)
from attnsearch.spaces import Decision, Space
from attnsearch.spaces.keys import closed_arithmetic, open_arithmetic

STAND_INS = 8  # networks that are tried, at most
_ONCE = "asha"  # what a file that names no scheduler took before `patient`


def settle_as(space: Space, studies: Sequence[StudyRow], fingerprint: str) -> bool:
    """Close what a file leaves open as an earlier study of it did, the latest of several.

    A file that names no scheduler had another one in earlier releases, and goes on with that.

    Args:
        space: The space.
        studies: Those of its name.
        fingerprint: Of the data.

    Returns:
        Whether nothing is open any more.
    """
    train, search = space.document["train"], space.document["search"]
    for study in reversed(studies):
        before = study.document.get("train", {})
        scheduler = search["scheduler"]
        if not space.names_scheduler and study.document["search"]["scheduler"] == _ONCE:
            scheduler = _ONCE
        document = {
            **space.document,
            "train": {**train, **closed_arithmetic(train, before)},
            "search": {**search, "scheduler": scheduler},
        }
        if study_digest(document, fingerprint) == study_digest(study.document, study.fingerprint):
            space.settle(before)
            search["scheduler"] = scheduler
            return True
    return not open_arithmetic(train)


@dataclass
class Settling:
    """Closes what a file leaves open.

    Args:
        space: The space, whose document is closed.
        data: What exploring trains on.
        inputs: What results depend on beside it, see `ledger.inputs`.
        need: What each trial takes, as far as is known.
        running: The Ray that runs; None where none does yet.
        start: Starts one.
        trials: Of exploring.
        plans: Whether confirm and ablations follow.
        note: Is told what was chosen, where anything was tried.

    Attributes:
        need: What each trial takes.
        running: The Ray that runs, with room for so many trials.
        replicas: How many seeds of an arm a process trains in turns.
    """

    space: Space
    data: DataSet
    inputs: Mapping[str, str]
    need: Need
    running: Cluster | None
    start: Callable[[], Cluster]
    trials: int
    plans: bool
    note: Callable[[str], None]
    replicas: int = 1

    def __call__(self, studies: Sequence[StudyRow]) -> dict[str, Any]:
        """Close all that is open, as an earlier study of the file did, or by measuring.

        Args:
            studies: Those of its name that may be gone on with.

        Returns:
            What the study's record says of it: `speed`, `packing`.
        """
        fingerprint, records = self.data.fingerprint, {}
        known = settle_as(self.space, studies, fingerprint)
        auto = self.space.document["resources"]["gpus"] == AUTO
        if self.running is not None:
            self.running = self._examined(self.running)
        elif self.need.address and (auto or self.need.gpus):
            self._ray()  # its cards' names are in the keys
        packing = None
        if auto and known:
            packing = known_packing(self.space, studies, fingerprint, self.running)
        if packing is not None:
            self._share(packing)
        elif auto and self.need.address:
            self.need = replace(self.need, gpus=LEAST_SHARE * has_cards(self.running))
        if not known:
            if races_on_workers(self.need):
                self._ray()
            records["speed"] = self._settle_arithmetic()
        if auto and packing is None:
            packing = self._pack()
            self._share(packing)
            self.note(f"resources.gpus: {packing}")
            records["packing"] = {**asdict(packing), "text": str(packing)}
        return records

    def _ray(self) -> Cluster:
        """Return the Ray that runs, started where none does."""
        self.running = self.running or self._examined(self.start())
        return self.running

    def _examined(self, running: Cluster) -> Cluster:
        return examined_for(self.space, self.data, self.inputs, running, self.note)

    def _settle_arithmetic(self) -> dict[str, Any]:
        """Close the arithmetic by what the device trains fastest with."""
        configs = list(itertools.islice(stand_ins(self.space), STAND_INS))
        train, need, running = self.space.document["train"], self.need, self.running
        run_steps = float(self._run_steps())
        lengths = {"steps": self._runs() * run_steps, "run_steps": run_steps}
        if races_on_workers(need):
            import ray

            assert running is not None, "it was started"
            if need.ranks > 1:  # one of its cards, with its part of a batch
                configs = [_of_one_card(config, need.ranks) for config in configs]
                train = {**train, "compile": train.get("compile") or False}
            share = {"num_cpus": running.bundle["CPU"], "num_gpus": running.bundle["GPU"]}
            choose = ray.remote(**share)(choose_speed)
            device = "cuda" if need.gpus else "cpu"
            arguments = (configs, train, ray.put(self.data), device, need.threads)
            speed: Speed = ray.get(choose.remote(*arguments, **lengths))
        else:
            speed = choose_speed(configs, train, self.data, "cpu", need.threads, **lengths)
        self.space.settle(speed.arithmetic)
        if speed.tried:
            self.note(f"train.speed: {speed}")
        return {**asdict(speed), "text": str(speed)}

    def _pack(self) -> Packing:
        """Find how many trials a card takes."""
        if not has_cards(self.running):
            return Packing(0.0, "cpu", note="auto: no GPU here, so trials train on CPUs")
        running = self._ray()
        configs = [
            _in_largest_batches(self.space, config)
            for config in itertools.islice(stand_ins(self.space), STAND_INS)
        ]
        device, steps = device_kind(1, running), float(self._runs() * self._run_steps())
        most = min(int(1 / LEAST_SHARE), trials_a_card(running, self.need), self._jobs())
        seeds = min((most_seeds(section["seeds"]) for section in self._acts()), default=1)
        about = ("cuda", self.need.threads, [most, steps, seeds])
        shape = self.data.channels, self.data.image_size, self.data.classes
        kept = Kept("packing", configs, [], shape, *about)
        if (known := kept.read(Packing)) is not None:
            return known
        arguments = (configs, self.data, "cuda", self.need.threads, running.bundle, most, steps)
        with closing(
            RayCard(*arguments, folders=[str(self.space.path.absolute().parent)])
        ) as card:
            packing = pack(card, device, most, seeds)
        if packing.tried:
            kept.write(packing)
        return packing

    def _share(self, packing: Packing) -> None:
        """Give each trial its share of a card."""
        self.need, self.replicas = replace(self.need, gpus=packing.gpus), packing.replicas
        document = self.space.document
        document["resources"] = {**document["resources"], "gpus": packing.gpus or 0}
        if self.running is not None:
            self.running = with_need(self.running, self.need, self._jobs())

    def _jobs(self) -> int:
        return most_jobs(self.space.document, self.trials, self.plans)

    def _runs(self) -> int:
        return self.trials + sum(4 * most_seeds(section["seeds"]) for section in self._acts())

    def _acts(self) -> list[Mapping[str, Any]]:
        """Return the sections of the acts that follow exploring."""
        asked = [self.space.document.get(key) for key in ("confirm", "ablation") if self.plans]
        return [section for section in asked if section]

    def _run_steps(self) -> int:
        batch = self.space.resolve(self.space.defaults())["train"]["batch_size"]
        batches = -(-len(self.data.train.images) // batch)
        return int(self.space.document["train"]["epochs"] * batches)


def known_packing(
    space: Space,
    studies: Sequence[StudyRow],
    fingerprint: str,
    running: Cluster | None = None,
) -> Packing | None:
    """Return how many trials of a study share a card, as an earlier session measured it here.

    Args:
        space: The space, its arithmetic closed.
        studies: Those of its name.
        fingerprint: Of the data.
        running: The Ray that runs, if one does.
    """
    digest, device = study_digest(space.document, fingerprint), device_kind(1, running)
    for study in reversed(studies):
        record = dict(study.packing or {})
        same = digest == study_digest(study.document, study.fingerprint)
        if same and record.pop("text", None) and record["device"] == device:
            return Packing(**record)
    return None


def races_on_workers(need: Need) -> bool:
    """Return whether trials run on other hardware than this process, so that Ray must race."""
    return bool(need.gpus or need.address)


def _in_largest_batches(space: Space, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a config with the largest batches that may be proposed."""
    sizes = [config["train"]["batch_size"]]
    for decision in space.decisions:
        if decision.name == "train.batch_size":
            sizes += [int(size) for size in (*decision.choices, decision.high or 0)]
    return {**config, "train": {**config["train"], "batch_size": max(sizes)}}


def _of_one_card(config: Mapping[str, Any], cards: int) -> Mapping[str, Any]:
    """Return a config with the batches that one of several cards has of a step."""
    train = config["train"]
    return {**config, "train": {**train, "batch_size": -(-train["batch_size"] // cards)}}


def stand_ins(space: Space) -> Iterator[Mapping[str, Any]]:
    """Yield configs that stand for a space: the baseline, then one with each block."""
    choosing = {group.decision.name for group in space.groups if group.decision is not None}
    baseline = space.baseline()
    yield space.resolve(baseline or space.defaults())
    blocks = dict.fromkeys(block for group in space.groups for block in group.options)
    for block in blocks:
        if block == NONE:
            continue

        def chosen(decision: Decision, block: str = block) -> Any:
            fits = decision.name in choosing and block in decision.choices
            return block if fits else decision.default()

        values = space.ask(chosen)
        if values != baseline and space.forbidden(values) is None:
            yield space.resolve(values)
