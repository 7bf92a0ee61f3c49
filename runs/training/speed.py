"""Which arithmetic a device trains fastest with: a short race of training steps.

Precision, layout and compiler change a result by rounding or more, so they are chosen once for a
study and stand in each run's config. What computes the same is chosen in `step`.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, cycle, islice
from pathlib import Path
from statistics import geometric_mean
from typing import Any, TypeVar

import torch
from torch import Tensor

from attnsearch.blocks.lean_torch import torch_threads
from attnsearch.runs.data import DataSet
from attnsearch.runs.keeping import cache_folder
from attnsearch.runs.machine import cpu_name, gpu_names, package_versions
from attnsearch.runs.training.optim import TrainError, batch_sizes
from attnsearch.runs.training.seeding import generator
from attnsearch.runs.training.train import Training
from attnsearch.runs.whole import whole
from attnsearch.spaces import canonical
from attnsearch.spaces.keys import PLAIN, closed_arithmetic, open_arithmetic

SHARE = 0.02  # of all training steps that a race may take
ROUNDS = 5  # steps of each in a race
LEAST_ROUNDS = 2
WORTH = 1.03  # a gain below that may be noise, and plain is plain
NEVER_BELOW = 0.98  # of plain, in any of the networks
# bf16 against fp32 from the same weights: by how much the loss may differ in the first step, and
# on average over the first ones. Networks with each block: 0.0013 and 0.03 at most, and rounding
# alone, in another layout, gives up to 0.01 in the mean.
FIRST_LOSS = 0.01
MEAN_LOSS = 0.10
CHECKED_STEPS = 4
SLOWER = "slower in one of the networks"
COMPILING_S = 180.0  # what compiling a network may cost on a busy machine

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Speed:
    """What was chosen, and why.

    Attributes:
        arithmetic: `precision`, `channels_last` and `compile`, as `Space.settle` takes them, but
            for those that are searched.
        gain: How many times as fast as plain arithmetic that is; 1 where that was kept.
        tried: The gains of all that raced, by name.
        note: Why something is as it is.
        seconds: What the choice took.
    """

    arithmetic: Mapping[str, Any]
    gain: float = 1.0
    tried: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        """Say what was chosen, and what it and all else that raced gains."""
        chosen = named(self.arithmetic)
        others = [f"{name} {gain:.2f}" for name, gain in self.tried.items() if name != chosen]
        if chosen in self.tried:
            text = f"{chosen}, {self.gain:.2f} times as fast as plain steps"
            text += f" (also tried: {', '.join(others)})" if others else ""
        elif others:
            text = f"plain steps ({chosen}); tried: {', '.join(others)} times as fast"
        else:
            text = chosen
        return f"{text}; {self.note}" if self.note else text


def named(arithmetic: Mapping[str, Any]) -> str:
    """Name an arithmetic: `bf16 channels_last`."""
    words = [str(arithmetic["precision"])] if "precision" in arithmetic else []
    words += [key for key in ("channels_last", "compile") if arithmetic.get(key)]
    return " ".join(words) or "NCHW"


def has_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies in bfloat16 itself, and does not imitate it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def choose_speed(
    configs: Sequence[Mapping[str, Any]],
    train: Mapping[str, Any],
    data: DataSet,
    device: str,
    threads: int,
    *,
    steps: float,
    run_steps: float,
    inputs: Mapping[str, str] | None = None,
    check: Callable[[], None] = lambda: None,
) -> Speed:
    """Choose what a file leaves open of a study's arithmetic.

    Args:
        configs: Resolved configs that stand for the study's networks, the most usual first.
        train: The `train` section of the file.
        data: What they train on.
        device: Where.
        threads: Of the CPU, for each training.
        steps: Training steps of the whole study, of which the race may take `SHARE`.
        run_steps: Training steps of one run.
        inputs: What results depend on beside it, such as the source of a user's blocks.
        check: Called between steps; what it raises ends the race.

    Returns:
        Plain arithmetic where a race does not pay, see `pays`.
    """
    start = time.perf_counter()
    plain = plain_arithmetic(train)
    if not pays(train, device, steps):
        return Speed(plain)
    arms = _arms(plain, open_arithmetic(train), torch.device(device))
    allowed = _allowed(len(arms), steps)
    shape = data.channels, data.image_size, data.classes
    about = [steps, run_steps, sorted((inputs or {}).items())]
    kept = Kept("speed", configs, arms, shape, device, threads, about)
    if (known := kept.read(Speed)) is not None:
        return known
    races, raced = [], []
    rounds = min(ROUNDS, allowed - 1)
    with torch_threads(threads):
        for config in configs[: max(1, allowed // (rounds + 1))]:
            # A network that cannot be built or trained, or that memory has no room for, says
            # nothing; code of the user's may raise anything.
            with suppress(Exception):
                races.append(_race(config, arms, data, device, rounds, check))
                raced.append(config)
        if not races:
            return Speed(plain, note="no network could be raced")
        speed = _decide(arms, races)
        allowed_s = SHARE * steps * races[0].times[named(speed.arithmetic)]
        if "compile" in open_arithmetic(train) and allowed_s > COMPILING_S:
            speed = _compiled(speed, raced, data, device, run_steps, allowed_s, check)
    speed = replace(speed, seconds=time.perf_counter() - start)
    kept.write(speed)
    return speed


def plain_arithmetic(train: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain arithmetic, as far as a `train` section leaves it open and searches nothing."""
    closed = closed_arithmetic(train, PLAIN)
    return {key: value for key, value in closed.items() if not isinstance(value, Mapping)}


def pays(train: Mapping[str, Any], device: str, steps: float) -> bool:
    """Return whether there is something to choose, and a study long enough to race for it.

    That is not so where `speed` is not `auto`, or where a loop of the user's own trains.
    """
    plainly = train.get("speed", "auto") != "auto" or train.get("loop")
    arms = _arms(plain_arithmetic(train), open_arithmetic(train), torch.device(device))
    return not plainly and len(arms) > 1 and _allowed(len(arms), steps) > LEAST_ROUNDS


def _allowed(arms: int, steps: float) -> int:
    """Return how many steps of a study of so many a race may take of each arm."""
    return int(SHARE * steps / (arms + 1))


@dataclass(frozen=True)
class _Race:
    """How one network ran, by the name of the arithmetic.

    Attributes:
        times: Seconds of a step.
        losses: Of the first steps.
        first_s: Seconds of the first step.
    """

    times: Mapping[str, float]
    losses: Mapping[str, Sequence[float]]
    first_s: Mapping[str, float]


def _arms(
    plain: Mapping[str, Any], keys: Sequence[str], device: torch.device
) -> list[Mapping[str, Any]]:
    """Return the eager arithmetics that may be chosen, plain first."""
    arms = [plain]
    if "channels_last" in keys:
        arms.append({**plain, "channels_last": True})
    if "precision" in keys and has_bf16(device):
        arms += [{**arm, "precision": "bf16"} for arm in arms]
    return arms


def _race(
    config: Mapping[str, Any],
    arms: Sequence[Mapping[str, Any]],
    data: DataSet,
    device: str,
    rounds: int,
    check: Callable[[], None],
) -> _Race:
    """Race one network's arithmetics, from the same weights, on the same batches."""
    times: dict[str, float] = {}
    losses: dict[str, list[float]] = {}
    first_s: dict[str, float] = {}
    # On the CPU in turns, since other work comes and goes; a card keeps one network at a time.
    together = torch.device(device).type == "cpu"
    for group in [list(arms)] if together else [[arm] for arm in arms]:
        runners = {named(arm): _steps(config, arm, data, device) for arm in group}
        for round_ in range(rounds + 1):
            for name, runner in runners.items():
                check()
                seconds, loss = next(runner)
                losses.setdefault(name, []).append(loss)
                first_s.setdefault(name, seconds)
                if round_:  # in the first one, memory is laid out and kernels are chosen
                    times[name] = min(times.get(name, math.inf), seconds)
    return _Race(times, losses, first_s)


def _steps(
    config: Mapping[str, Any], arm: Mapping[str, Any], data: DataSet, device: str
) -> Iterator[tuple[float, float]]:
    """Take training steps of one arithmetic, and tell how long each took and its loss."""
    training = Training({**config, "train": {**config["train"], **arm}}, data, device)
    batches, draws = trial_batches(training)
    for index in batches:
        start = time.perf_counter()
        loss = training.train_batches([index], draws)
        if training.device.type == "cuda":
            torch.cuda.synchronize(training.device)
        if training._step.refused:  # others would be compiled: a study has one arithmetic
            raise TrainError("beyond the compiler")
        yield time.perf_counter() - start, float(loss)


def trial_batches(
    training: Training, before_last: int | None = None
) -> tuple[Iterator[Tensor], torch.Generator]:
    """Return full batches without an end for `Training.train_batches`, and their draws.

    After `before_last` of them comes one as large as the last of an epoch.
    """
    examples, seed = len(training.data.train.images), training.seed
    train = training.config["train"]
    sizes = batch_sizes(examples, train["batch_size"] * (train.get("accumulate") or 1))
    order = torch.randperm(examples, generator=generator(seed, "race", 0)).to(training.device)
    batches: Iterator[Tensor] = cycle(torch.split(order, sizes[0])[: max(1, examples // sizes[0])])
    if before_last is not None:
        batches = chain(islice(batches, before_last), [order[: sizes[-1]]], batches)
    return batches, generator(seed, "race draws", 0)


def _compiled(
    speed: Speed,
    configs: Sequence[Mapping[str, Any]],
    data: DataSet,
    device: str,
    run_steps: float,
    allowed_s: float,
    check: Callable[[], None],
) -> Speed:
    """Return the choice with compiled steps, if runs earn back what compiling each of them costs.

    As many of the networks race as the time allows, one at least.
    """
    eager = speed.arithmetic
    compiled = {**eager, "compile": True}
    one, other = named(eager), named(compiled)
    races: list[_Race] = []
    start = time.perf_counter()
    for config in configs:
        spent = time.perf_counter() - start
        if races and spent * (len(races) + 1) / len(races) > allowed_s:
            break
        try:
            races.append(_race(config, [eager, compiled], data, device, ROUNDS, check))
        except Exception as error:  # whatever a compiler raises, or a missing one
            why = (
                f"a network is {error}" if isinstance(error, TrainError) else type(error).__name__
            )
            return replace(speed, note=f"not compiled: {why}")
    ratios = [race.times[one] / race.times[other] for race in races]
    gain = speed.gain * geometric_mean(ratios)
    tried = {**speed.tried, other: gain}
    saved_s = sum(run_steps * (race.times[one] - race.times[other]) for race in races)
    pays_off = saved_s > sum(race.first_s[other] for race in races)
    near = all(_near(race.losses[one], race.losses[other]) for race in races)
    if min(ratios) < NEVER_BELOW:
        notes = [speed.note, f"not {other}: {SLOWER}"]
        return replace(speed, tried=tried, note="; ".join(filter(None, notes)))
    if pays_off and near:
        return replace(speed, arithmetic=compiled, gain=gain, tried=tried)
    return replace(speed, tried=tried)


def _decide(arms: Sequence[Mapping[str, Any]], races: Sequence[_Race]) -> Speed:
    """Choose from what the races told: the fastest that is nowhere slower, and near fp32."""
    plain = named(arms[0])
    gains: dict[str, float] = {}
    far, slower = [], []
    for arm in arms[1:]:
        name = named(arm)
        ratios = [race.times[plain] / race.times[name] for race in races]
        gains[name] = geometric_mean(ratios)
        if arm.get("precision") != arms[0].get("precision") and not all(
            _near(race.losses[plain], race.losses[name]) for race in races
        ):
            far.append(name)
        elif min(ratios) < NEVER_BELOW:
            slower.append(name)
    able = {name: gain for name, gain in gains.items() if name not in (*far, *slower)}
    best = max(able, key=lambda name: able[name], default=plain)
    if able.get(best, 1.0) < WORTH:
        best = plain
    chosen = next(arm for arm in arms if named(arm) == best)
    reasons = {
        "too far from fp32 in the first steps": far,
        SLOWER: slower,
    }
    note = "; ".join(f"not {', '.join(names)}: {why}" for why, names in reasons.items() if names)
    return Speed(chosen, gain=able.get(best, 1.0), tried=gains, note=note)


def _near(plain: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether the first losses of two arithmetics are alike."""
    apart = [
        abs(one - two) / max(abs(one), 1e-12) if math.isfinite(two) else math.inf
        for one, two in zip(plain[:CHECKED_STEPS], other[:CHECKED_STEPS], strict=True)
    ]
    return apart[0] <= FIRST_LOSS and sum(apart) / len(apart) <= MEAN_LOSS


class Kept:
    """The place of a choice for the next study that is alike, beside the decoded images.

    Args:
        kind: Of the choice.
        configs: Of the networks that it was made with.
        arms: What was chosen from.
        shape: Of what they train on: channels, size, and classes.
        device: Where.
        threads: Of the CPU, for each training.
        more: What else it depends on.
    """

    def __init__(
        self,
        kind: str,
        configs: Sequence[Mapping[str, Any]],
        arms: Sequence[Mapping[str, Any]],
        shape: Sequence[Any],
        device: str,
        threads: int,
        more: Sequence[Any],
    ) -> None:
        folder = cache_folder()
        self._entry: Path | None = None
        if folder is None:
            return
        # A process that only asks opens no context on a card.
        machine = ", ".join(sorted(set(gpu_names()))) if device != "cpu" else cpu_name()
        versions = package_versions()
        about = [
            [canonical(config) for config in configs],
            arms,
            [*shape],
            [machine, threads, versions.get("torch"), versions.get("attnsearch"), *more],
        ]
        text = json.dumps(about, sort_keys=True, default=str)
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        self._entry = folder.parent / kind / f"{name}.json"

    def read(self, kind: type[Choice]) -> Choice | None:
        """Return the choice; None where none is kept."""
        if self._entry is None:
            return None
        try:
            return kind(**json.loads(self._entry.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, choice: Any) -> None:
        """Keep a choice, a dataclass of plain values, if there is room."""
        if self._entry is None:
            return
        with suppress(OSError):
            self._entry.parent.mkdir(parents=True, exist_ok=True)
            with whole(self._entry) as new:
                new.write_text(json.dumps(asdict(choice)), encoding="utf-8")
