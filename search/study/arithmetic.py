"""What a file leaves to the device: chosen before a study's first run, the same for all of them.

That is the arithmetic, which determines results, and how many trials share a card, which does not.
"""

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

from attnsearch.blocks.naming import NONE
from attnsearch.runs.data import DataSet
from attnsearch.runs.ledger import WEIGHTS_INPUT, StudyRow, package_inputs, study_digest
from attnsearch.runs.training import Kept, Speed, choose_speed, pays, plain_arithmetic
from attnsearch.search.plans import most_seeds
from attnsearch.search.study.stage import device_kind, examined_for, most_jobs
from attnsearch.search.workers import (
    AUTO,
    LEAST_SHARE,
    Cluster,
    Need,
    Packing,
    RayCard,
    all_folders,
    has_cards,
    pack,
    trials_a_card,
    with_need,
)
from attnsearch.spaces import Decision, Space
from attnsearch.spaces.keys import closed_arithmetic, open_arithmetic

STAND_INS = 8  # networks that are tried, at most
_ONCE = "asha"  # what a file that names no scheduler took before `patient`
LOOK_SECONDS = 0.5  # between two looks at whether the user wants an end


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
        check: Called between steps of a race; what it raises ends it.
        meanwhile: Gives the studies of its name, those included that other drivers have begun.

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
    check: Callable[[], None] = lambda: None
    meanwhile: Callable[[], Sequence[StudyRow]] = tuple
    replicas: int = 1

    def __call__(self, studies: Sequence[StudyRow] | None) -> dict[str, Any]:
        """Close all that is open, as an earlier study of the file did, or by measuring.

        Args:
            studies: Those of its name that may be gone on with; None for a new one in any case.

        Returns:
            What the study's record says of it: `speed`, `packing`.
        """
        fingerprint, records = self.data.fingerprint, {}
        known = settle_as(self.space, studies or [], fingerprint)
        auto = self.space.document["resources"]["gpus"] == AUTO
        if self.running is not None:
            self.running = self._examined(self.running)
        elif self.need.address and (auto or self.need.gpus):
            self._ray()  # its cards' names are in the keys
        packing = None
        if auto and known:
            packing = known_packing(self.space, studies or [], fingerprint, self.running)
        if packing is not None:
            self._share(packing)
        elif auto and self.need.address:
            self.need = replace(self.need, gpus=LEAST_SHARE * has_cards(self.running))
        if not known:
            speed = self._choose()
            # Two that begin at once, and measure different times, run one study all the same.
            begun = self.meanwhile() if studies is not None else []
            if not settle_as(self.space, begun, fingerprint):
                self.space.settle(speed.arithmetic)
                if speed.tried or speed.note:
                    self.note(f"train.speed: {speed}")
                records["speed"] = {**asdict(speed), "text": str(speed)}
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

    def _choose(self) -> Speed:
        """Choose the arithmetic that the device trains fastest with."""
        configs = list(itertools.islice(raced(self.space), STAND_INS))
        train, need = self.space.document["train"], self.need
        run_steps = float(self._run_steps())
        steps = self._runs() * run_steps
        lengths: dict[str, Any] = {
            "steps": steps,
            "run_steps": run_steps,
            "inputs": dict(self.inputs),
        }
        device = "cuda" if need.gpus else "cpu"
        if need.ranks > 1:  # one of its cards, with its part of a batch
            configs = [_of_one_card(config, need.ranks) for config in configs]
            train = {**train, "compile": train.get("compile") or False}
        # Code of the user's own could take this process down, or leave it changed. Of a card this
        # process asks nothing: to ask is to hold some of its memory from then on.
        if races_on_workers(need) or (own_code(self.inputs) and pays(train, device, steps)):
            return self._raced_apart(configs, train, device, lengths)
        arguments = (configs, train, self.data, device, need.threads)
        return choose_speed(*arguments, **lengths, check=self.check)

    def _raced_apart(
        self,
        configs: Sequence[Mapping[str, Any]],
        train: Mapping[str, Any],
        device: str,
        lengths: Mapping[str, Any],
    ) -> Speed:
        """Race in a process of its own, where trials train; plainly where that does not end."""
        import ray

        running, limit = self._ray(), self.space.document["resources"].get("timeout")
        share = {"num_cpus": running.bundle["CPU"], "num_gpus": running.bundle["GPU"]}
        task = ray.remote(**share, max_calls=1, max_retries=0)(_race_there)
        folders = all_folders([str(self.space.path.absolute().parent)])
        arguments = (configs, train, ray.put(self.data), device, self.need.threads)
        race, start = task.remote(folders, *arguments, **lengths), time.monotonic()
        try:
            while not ray.wait([race], timeout=LOOK_SECONDS)[0]:
                self.check()
                if limit is not None and time.monotonic() - start > limit:
                    raise TimeoutError(f"longer than resources.timeout, {limit:g} s")
            speed: Speed = ray.get(race)
        except (ray.exceptions.RayError, TimeoutError) as error:
            why, *_ = str(getattr(error, "cause", None) or error).strip().splitlines()
            speed = Speed(plain_arithmetic(train), note=f"the race did not end: {why}")
        finally:
            ray.cancel(race, force=True)
        return speed

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
        own = sorted(self.inputs.items())
        about = ("cuda", self.need.threads, [most, steps, seeds, own])
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


def own_code(inputs: Mapping[str, str]) -> bool:
    """Return whether some of what results depend on is code of the user's own."""
    return not inputs.keys() <= {WEIGHTS_INPUT, *package_inputs()}


def _race_there(folders: Sequence[str], *arguments: Any, **lengths: Any) -> Speed:
    """Choose in a process that looks for modules where the driver does."""
    sys.path[:] = dict.fromkeys([*folders, *sys.path])
    return choose_speed(*arguments, **lengths)


def _in_largest_batches(space: Space, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a config with the largest batches that may be proposed."""
    return _in_batches(config, max([config["train"]["batch_size"], *_batches(space)]))


def _in_batches(config: Mapping[str, Any], size: int) -> Mapping[str, Any]:
    return {**config, "train": {**config["train"], "batch_size": size}}


def _batches(space: Space) -> list[int]:
    """Return the sizes of batches that may be proposed, of a range its ends."""
    return [
        int(size)
        for decision in space.decisions
        if decision.name == "train.batch_size"
        for size in (*decision.choices, decision.low or 0, decision.high or 0)
        if size
    ]


def _of_one_card(config: Mapping[str, Any], cards: int) -> Mapping[str, Any]:
    """Return a config with the batches that one of several cards has of a step."""
    train = config["train"]
    return {**config, "train": {**train, "batch_size": -(-train["batch_size"] // cards)}}


def raced(space: Space) -> Iterator[Mapping[str, Any]]:
    """Yield configs that stand for a space, the baseline in its largest and smallest batches too.

    What is faster in batches of one size may be slower in those of another.
    """
    baseline, *others = stand_ins(space)
    yield baseline
    sizes = _batches(space)
    for size in sorted({min(sizes, default=0), max(sizes, default=0)} - {0}):
        if size != baseline["train"]["batch_size"]:
            yield _in_batches(baseline, size)
    yield from others


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
