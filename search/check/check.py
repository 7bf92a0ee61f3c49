"""`attnsearch check`: the plan of a study. Trains nothing and records nothing."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from attnsearch.blocks.build import Images
from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.data import DataSet, duplicates_in, load_data
from attnsearch.runs.words import duration, value_text
from attnsearch.search.check.contract import check_own_blocks
from attnsearch.search.check.data import data_text
from attnsearch.search.check.estimate import budget_share, seconds_per_epoch, workers
from attnsearch.search.check.outlook import Outlook, outlook, outlook_text, pilot_of
from attnsearch.search.check.published import published_text
from attnsearch.search.check.standing import Barred, barred, barred_text, fits_text
from attnsearch.search.check.survey import Example, Fit, examples, fits, values_text
from attnsearch.search.text import paragraph, plural, quantity, run_command, table
from attnsearch.spaces import Space, SpaceError, load_space

_START_SECONDS = 12  # Ray, the data and the records, before the first step


@dataclass(frozen=True)
class Runs:
    """The runs to come, and an estimate of their time.

    Attributes:
        trials: Different configs that are trained.
        baseline: Whether the plain network is trained beside them, because the space lacks it.
        epochs: Of a full training.
        workers: How many run side by side.
        epoch_seconds: One epoch of the default network, estimated from a few steps; None where
            there is no data or the network cannot be built.
        most_seconds: The whole study, if nothing is stopped early.
        likely_seconds: The whole study, if the scheduler stops what it can.
    """

    trials: int
    baseline: bool
    epochs: int
    workers: int
    epoch_seconds: float | None
    most_seconds: float | None
    likely_seconds: float | None


@dataclass(frozen=True)
class Plan:
    """What a study is going to do.

    Attributes:
        space: The space.
        images: What networks are built for.
        data: The data set; None where the file names none.
        data_note: Why there is no data set.
        examples: Some networks of the space.
        fits: Every block at every site where it may stand.
        barred: Blocks of the table that cannot stand at an entry's sites.
        runs: The runs to come.
        outlook: What follows exploring.
        duplicates: Images that stand in two parts.
    """

    space: Space
    images: Images
    data: DataSet | None
    data_note: str | None
    examples: Sequence[Example]
    fits: Sequence[Fit]
    barred: Sequence[Barred]
    runs: Runs
    outlook: Outlook
    duplicates: Sequence[str]


def check_space(path: str, overrides: Sequence[str], *, as_json: bool = False) -> str:
    """Return the plan of a space file, as text or JSON.

    Raises:
        SpaceError: The file has mistakes, or blocks that break a rule; the message lists them.
        DataError: The data cannot be used.
    """
    space = load_space(path, overrides)
    space.warnings += check_own_blocks(space, path, overrides)
    plan = make_plan(space)
    return plan_json(plan) if as_json else plan_text(plan, path, overrides)


def make_plan(space: Space) -> Plan:
    """Survey a space, reads its data, and times a few training steps.

    Raises:
        DataError: The data cannot be used.
    """
    config = space.resolve(space.defaults())
    data, note = _data(config)
    images = (
        Images(data.channels, data.image_size, data.classes)
        if data is not None
        else _declared_images(config["data"])
    )
    runs = _runs(space, config, images, data)
    return Plan(
        space,
        images,
        data,
        note,
        examples(space, images),
        fits(space, images),
        barred(space),
        runs,
        outlook(
            space, runs.epoch_seconds, workers(config["resources"], 1000), pilot_of(space, data)
        ),
        [] if data is None else duplicates_in(data, config["data"], config["task"]),
    )


def plan_json(plan: Plan) -> str:
    """Return the plan for machines."""
    space = plan.space
    return json.dumps(
        {
            "name": space.name,
            "task": space.task,
            "file": str(space.path),
            "warnings": list(space.warnings),
            "data": _data_fields(plan.data),
            "data_note": plan.data_note,
            "decisions": [
                {
                    "name": decision.name,
                    "kind": decision.kind,
                    "choices": list(decision.choices),
                    "low": decision.low,
                    "high": decision.high,
                    "step": decision.step,
                    "log": decision.log,
                    "default": decision.default(),
                    "only_where": {name: sorted(values) for name, values in decision.parents},
                }
                for decision in space.decisions
            ],
            "architectures": space.architecture_count(),
            "networks": [asdict(example) for example in plan.examples],
            "published": space.document["published"],
            "fits": [asdict(fit) for fit in plan.fits],
            "cannot_stand": [asdict(item) for item in plan.barred],
            "infeasible": [str(item) for item in space.infeasible],
            "forbid": space.document.get("forbid") or [],
            "limits": _limits(space),
            "runs": asdict(plan.runs),
            "acts": [asdict(act) for act in plan.outlook.acts],
            "acts_notes": list(plan.outlook.notes),
            "power": list(plan.outlook.power),
            "duplicates": list(plan.duplicates),
        },
        indent=2,
        ensure_ascii=False,
    )


def plan_text(plan: Plan, path: str, overrides: Sequence[str] = ()) -> str:
    """Return the plan for people.

    Args:
        plan: The plan.
        path: The file as the user named it, for the commands that are suggested.
        overrides: Texts `KEY=VALUE`, for the same.
    """
    space = plan.space
    parts = [
        f"{path} is sound: study {space.name}, {space.task}.",
        _list("Warnings", space.warnings),
        data_text(plan.images, plan.data, plan.data_note, plan.duplicates),
        _decisions_text(space),
        _networks_text(plan),
        published_text(space.document["published"], plan.examples[0]),
        _weights_text(plan.examples[0]),
        fits_text(plan.fits),
        barred_text(plan.barred),
        _list("Cannot be built, and is not proposed", [str(item) for item in space.infeasible]),
        _list(
            "Forbidden combinations", [_rule(rule) for rule in space.document.get("forbid", ())]
        ),
        _limits_text(space),
        _runs_text(plan),
        outlook_text(plan.outlook),
        f"Next:  {run_command(path, [*overrides, *_data_to_name(plan)])}",
    ]
    return "\n\n".join(part for part in parts if part)


def _data_to_name(plan: Plan) -> list[str]:
    """Return the override without which a file that names no data cannot run."""
    return ["data.source=PATH"] if plan.space.document["data"]["source"] is None else []


def _data(config: Mapping[str, Any]) -> tuple[DataSet | None, str | None]:
    if config["data"]["source"] is None:
        return None, "data.source is null: the network can be checked and built, not trained"
    return load_data(config["data"], config["task"]), None


def _declared_images(data: Mapping[str, Any]) -> Images:
    """Return what the file says about images that are not here."""
    classes = data.get("classes")
    count = len(classes) if isinstance(classes, list) else classes
    size = data["image_size"]
    return Images(data["channels"] or 3, (size, size), count or 10)


def _runs(space: Space, config: Mapping[str, Any], images: Images, data: DataSet | None) -> Runs:
    wanted = config["search"]["trials"]
    trials = _distinct(space, wanted)
    baseline = bool(space.decisions) and space.plain() is None
    epochs = config["train"]["epochs"]
    side_by_side = workers(config["resources"], trials + baseline)
    epoch_s = most = likely = None
    if data is not None:
        try:
            epoch_s = seconds_per_epoch(
                config, images, len(data.train.images), len(data.val.images)
            )
        except AttnsearchError:
            pass  # the default network cannot be built; the list of networks says why
        else:
            share = budget_share(config["search"]["scheduler"], epochs)
            whole = epoch_s * epochs / side_by_side
            most = _START_SECONDS + whole * (trials + baseline)
            # One is never stopped: the plain network.
            likely = _START_SECONDS + whole * (1 + share * max(trials + baseline - 1, 0))
    return Runs(trials, baseline, epochs, side_by_side, epoch_s, most, likely)


def _distinct(space: Space, wanted: int) -> int:
    """Return how many trials there can be: no more than the space has configs."""
    if not space.decisions:
        return 1
    try:
        return sum(1 for _ in itertools.islice(space.grid(), wanted))
    except SpaceError:  # a range without steps never runs out
        return wanted


def _data_fields(data: DataSet | None) -> dict[str, Any] | None:
    if data is None:
        return None
    return {
        "classes": list(data.class_names),
        "channels": data.channels,
        "image_size": list(data.image_size),
        "images": {name: len(getattr(data, name).labels) for name in ("train", "val", "test")},
        "fingerprint": data.fingerprint,
        "notes": list(data.notes),
    }


def _decisions_text(space: Space) -> str:
    if not space.decisions:
        return "Decisions: none. This is one network, and `run` trains it once."
    rows = [
        (
            decision.name,
            decision.label(decision.default())
            if decision.kind == "choice"
            else value_text(decision.default()),
            values_text(decision),
            " or ".join(
                f"{name} is {' or '.join(sorted(values))}" for name, values in decision.parents
            )
            or "always",
        )
        for decision in space.decisions
    ]
    headers = ["name", "first", "values", "asked"]
    return f"Decisions: {len(rows)}\n" + table(headers, rows, indent="  ")


def _networks_text(plan: Plan) -> str:
    rows: list[tuple[str, ...]] = [
        (
            example.which,
            quantity(example.params),
            quantity(example.macs),
            example.label,
            example.outside or "",
        )
        for example in plan.examples
    ]
    headers = ["", "params", "MACs", "inserted", "left out because"]
    columns = len(headers) if any(row[-1] for row in rows) else len(headers) - 1
    headers, rows = headers[:columns], [row[:columns] for row in rows]
    count = plan.space.architecture_count()
    told = f"Networks: {count:,} different ones" if count > 1 else "Network:"
    return told + "\n" + table(headers, rows, right={"params", "MACs"}, indent="  ")


def _weights_text(example: Example) -> str:
    return f"Weights ({example.which} network): {example.weights}" if example.weights else ""


def _rule(rule: Mapping[str, Any]) -> str:
    return " with ".join(f"{name}: {value_text(value)}" for name, value in rule.items())


def _limits(space: Space) -> dict[str, float]:
    limits = space.document.get("limits") or {}
    return {name: value for name, value in limits.items() if value is not None}


def _limits_text(space: Space) -> str:
    limits = _limits(space)
    if not limits:
        return ""
    told = ", ".join(f"{name} at most {quantity(value)}" for name, value in limits.items())
    return paragraph(
        f"Limits: {told}. They are measured on the built network before it trains; what is over "
        "a limit is recorded as infeasible and costs no training.",
        hanging="  ",
    )


def _runs_text(plan: Plan) -> str:
    runs, search = plan.runs, plan.space.document["search"]
    out = [
        f"Runs to come: {plural(runs.trials, 'trial')} of up to {plural(runs.epochs, 'epoch')}, "
        f"{runs.workers} at a time"
    ]
    if plan.space.decisions:
        scheduler = search["scheduler"]
        name = next(iter(scheduler)) if isinstance(scheduler, Mapping) else scheduler
        out.append(f"  sampler {search['sampler']}, scheduler {name}")
        if runs.trials < search["trials"]:
            out.append(f"  the space has no more than these; search.trials: {search['trials']}")
        if runs.baseline:
            out.append("  and the plain network beside them, since the space does not contain it")
        else:
            out.append("  trial 0 is the plain network, which is never stopped early")
    if runs.epoch_seconds is not None and runs.most_seconds and runs.likely_seconds:
        out.append(
            f"  estimated time: {duration(runs.epoch_seconds)} for an epoch of the default "
            f"network; at most {duration(runs.most_seconds)} for the study"
        )
        if runs.likely_seconds < 0.9 * runs.most_seconds:
            out.append(f"  with early stopping about {duration(runs.likely_seconds)}")
        out.append("  (from a few steps measured now on this machine; other networks differ)")
    return "\n".join(out)


def _list(title: str, items: Sequence[str], most: int = 15) -> str:
    if not items:
        return ""
    out = [f"{title}:"]
    out += [paragraph(item, indent="  * ", hanging="    ") for item in items[:most]]
    if len(items) > most:
        out.append(f"  and {len(items) - most} more")
    return "\n".join(out)
