"""The plan of confirm: which networks are trained again, and what each is compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from attnsearch.blocks.build import Images, expand
from attnsearch.runs.statistics import (
    AGAINST_BASELINE,
    AGAINST_CONTROLS,
    Arm,
    Contrast,
    Plan,
    interim_analyses,
)
from attnsearch.search.plans.arms import (
    Config,
    PlanError,
    arm_config,
    labels,
    network_text,
    statistics_of,
    with_equals,
)
from attnsearch.search.plans.controls import baseline_config, capacity_control, tuning_space
from attnsearch.search.plans.seeds import fresh_seeds, most_seeds
from attnsearch.spaces import Space, SpaceError, canonical_text, load_space

if TYPE_CHECKING:  # the ledger's rows, which `check` need not load
    from attnsearch.runs.ledger import TrialRow

BASELINE, TUNED = "baseline", "tuned baseline"

_OF_A_CONFIG = ("data", "network", "insert", "train")  # what a config file decides


@dataclass(frozen=True)
class FileConfig:
    """A config that is confirmed without exploring, in the place of a trial.

    Attributes:
        number: Its place in the list.
        config: The resolved config.
    """

    number: int
    config: Mapping[str, Any]


Ranked: TypeAlias = "TrialRow | FileConfig"
"""What may be confirmed: a finished trial of exploring, or a config in its place."""


def choose(ranked: Sequence[Ranked], top: int, messages: list[str]) -> list[Config]:
    """Return the best configs of different networks, or the different ones of files.

    Two trials of one network that differ in training settings are one; those of the better one
    are kept. Files are what a person wants compared, their settings too. The baseline is no
    candidate: it is what candidates are compared with.

    Args:
        ranked: Finished trials, the best first.
        top: How many networks.
        messages: Gets what a person should know of the choice.

    Returns:
        The configs, the best first.

    Raises:
        PlanError: There is none with a block.
    """
    candidates: dict[str, Config] = {}
    baseline_at: int | None = None
    for trial in ranked:
        if len(candidates) == top:
            break
        if not expand(trial.config):
            if baseline_at is None:
                baseline_at = len(candidates)
                messages.append(_baseline_text(trial, baseline_at + 1))
            continue
        text = canonical_text if isinstance(trial, FileConfig) else network_text
        candidates.setdefault(text(trial.config), dict(trial.config))
    if not candidates:
        what = "only the baseline finished" if baseline_at is not None else "no trial finished"
        raise PlanError(
            f"nothing to confirm: {what} its full schedule within the limits; raise search.trials "
            "or the limits, or see with `attnsearch show` what became of the others"
        )
    if len(candidates) < top and isinstance(ranked[0], FileConfig):
        messages.append(
            f"confirm.configs names {top} files, of which {len(candidates)} have a block and "
            "train differently"
        )
    elif len(candidates) < top:
        messages.append(
            f"confirm.top is {top}, and {len(candidates)} different networks with a block "
            "finished their full schedule"
        )
    return list(candidates.values())


def given_configs(space: Space) -> list[FileConfig]:
    """Return configs that a file confirms in place of trials, on its own data; none by default.

    Raises:
        PlanError: One of the files is no config, or of another task.
    """
    configs = []
    own = space.resolve(space.defaults())
    for number, path in enumerate(space.document["confirm"].get("configs") or ()):
        try:
            file = load_space(path)
        except SpaceError as error:
            raise PlanError(f"confirm.configs: {error}") from None
        if file.decisions:
            names = ", ".join(decision.name for decision in file.decisions[:3])
            raise PlanError(
                f"confirm.configs: {path} has choices ({names}); fix them, or take an exported "
                "config"
            )
        if file.task != space.task:
            raise PlanError(
                f"confirm.configs: {path} is for {file.task}, and this file for {space.task}"
            )
        file.settle(own["train"])
        config = file.resolve()
        config["data"] = {**own["data"], "augment": config["data"]["augment"]}
        configs.append(FileConfig(number, {**own, **{key: config[key] for key in _OF_A_CONFIG}}))
    return configs


def needs_tuning(space: Space) -> bool:
    """Return whether confirm has a tuned baseline, and the file training settings to tune."""
    confirm = space.document["confirm"]
    if not confirm or "tuned_baseline" not in confirm["controls"]:
        return False
    return tuning_space(space, baseline_config(space.resolve(space.defaults()))) is not None


def confirm_plan(
    space: Space,
    ranked: Sequence[Ranked],
    images: Images,
    *,
    tuned: Mapping[str, Any] | None = None,
    messages: list[str] | None = None,
) -> Plan:
    """Return the plan of confirm.

    Every candidate is compared with the baseline under the candidate's own training
    settings, since the winner is only known afterwards: candidates with different settings have a
    baseline each. The first one is called `baseline`, the others `baseline of <candidate>`.

    Args:
        space: Its `confirm` section says what is wanted.
        ranked: Finished trials, the best first.
        images: What networks are built for.
        tuned: The best config of `tuning_space`; None where there was nothing to tune, or nothing
            came of it, so that the tuned baseline has the best candidate's settings.
        messages: Gets what a person should know of the choice.

    Raises:
        PlanError: There is no `confirm` section, or no candidate.
        AttnsearchError: A candidate cannot be built.
    """
    document = space.document
    confirm = document["confirm"]
    if not confirm:
        raise PlanError("the space file has no confirm section; add confirm: {top: 2, seeds: 5}")
    wanted = given_configs(space)
    messages = [] if messages is None else messages
    chosen = choose(wanted or ranked, len(wanted) or confirm["top"], messages)
    epochs = confirm["epochs"] or document["train"]["epochs"]
    configs = [arm_config(config, epochs) for config in chosen]
    names = labels(configs)
    candidates = dict(zip(names, configs, strict=True))
    arms = [Arm(name, "candidate", config) for name, config in candidates.items()]
    contrasts: list[Contrast] = []
    controls = confirm["controls"]
    if "baseline" in controls:
        baselines, of = _baselines(candidates)
        arms += baselines
        contrasts += [_difference(AGAINST_BASELINE, name, of[name]) for name in names]
    if "capacity" in controls:
        for name, config in candidates.items():
            made = capacity_control(config, images, confirm["match"])
            label = f"capacity of {name}"
            arms.append(Arm(label, "capacity", made.config, of=name, notes=made.notes))
            contrasts.append(_difference(AGAINST_CONTROLS, name, label))
    if "tuned_baseline" in controls:
        arms.append(_tuned(tuned, configs[0], epochs, needed=needs_tuning(space)))
        contrasts += [_difference(AGAINST_CONTROLS, name, TUNED) for name in names]
    seeds = confirm["seeds"]
    return Plan(
        act="confirm",
        name="confirm",
        arms=with_equals(arms),
        contrasts=tuple(contrasts),
        seeds=fresh_seeds(document["train"]["seed"], "confirm", most_seeds(seeds)),
        interim=None if isinstance(seeds, int) else interim_analyses(seeds["min"], seeds["max"]),
        epochs=epochs,
        part="test",
        **statistics_of(document),
    )


def _baselines(candidates: Mapping[str, Config]) -> tuple[list[Arm], dict[str, str]]:
    """Return the baselines under the candidates' settings, and which is whose."""
    arms: dict[str, Arm] = {}
    of: dict[str, str] = {}
    for name, config in candidates.items():
        baseline = baseline_config(config)
        label = f"{BASELINE} of {name}" if arms else BASELINE
        notes = (f"training settings of {name}",)
        arm = Arm(label, "baseline", baseline, of=name, notes=notes)
        of[name] = arms.setdefault(canonical_text(baseline), arm).label
    return list(arms.values()), of


def _tuned(tuned: Mapping[str, Any] | None, best: Config, epochs: int, *, needed: bool) -> Arm:
    if tuned is None:
        note = "no trial of its tuning finished" if needed else "no training setting is searched"
        return Arm(TUNED, "tuned_baseline", baseline_config(best), notes=(note,))
    return Arm(TUNED, "tuned_baseline", arm_config(tuned, epochs))


def _difference(family: str, candidate: str, control: str) -> Contrast:
    return Contrast(family, f"{candidate} - {control}", (candidate,), (control,))


def _baseline_text(trial: Ranked, place: int) -> str:
    if isinstance(trial, FileConfig):
        return "one of confirm.configs is the baseline, which is no candidate"
    return (
        f"the baseline (trial {trial.number}) ranks {_ordinal(place)} after exploring; it is "
        "no candidate: candidates are compared with it"
    )


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")
