"""The winner leaves: a folder with one config, one weights file, its scores and a README.

`config.yaml` is a space file without choices, `weights.safetensors` also says what the network
takes and tells (see `weights`), `metrics.json` holds what was recorded of the run.
"""

import copy
import hashlib
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from attnsearch.blocks.build import build_network, find_function, source_files
from attnsearch.blocks.imported import importable
from attnsearch.blocks.naming import describe, insertions
from attnsearch.runs.exports.card import confirm_table, front_matter, table_record
from attnsearch.runs.exports.formats import FORMATS, find_formats
from attnsearch.runs.exports.preprocess import Preprocess
from attnsearch.runs.exports.weights import ExportError, Interface, pack_weights, read_weights
from attnsearch.runs.ledger import State, changed_inputs, inputs
from attnsearch.runs.readers import surroundings
from attnsearch.runs.results import collect_plan, finite, rank, ranked
from attnsearch.runs.whole import unfinished
from attnsearch.runs.words import render
from attnsearch.spaces import dump, load_space
from attnsearch.spaces.file import parse, read_text
from attnsearch.spaces.keys import NAME_MOST, keys_of, own_names

if TYPE_CHECKING:  # to load an export needs no database
    from attnsearch.runs.ledger import Ledger, PlanRow, StudyRow, TrialRow

CHECKSUM = "weights_sha256"  # in the metrics file
CONFIG, WEIGHTS = "config.yaml", "weights.safetensors"
METRICS, README = "metrics.json", "README.md"
# What belongs to a study and not to one training.
STUDY_KEYS = keys_of("search", "plans", "limits")


def export_study(
    ledger: "Ledger",
    study: "str | StudyRow",
    to: str | Path,
    *,
    formats: Collection[str] = (),
    trial: int | None = None,
) -> Path:
    """Write a study's winner to a folder.

    Where confirm has frozen a winner, that is the run of its arm with the best validation score;
    the test part has no say. Otherwise it is the best finished trial by the first objective,
    among those within the limits where there are any. The earliest of equals in both cases.

    Args:
        ledger: Where the study is recorded.
        study: Its row, its name, or its name and number.
        to: The folder; created, or overwritten if it holds an export.
        formats: Also write these forms of the network, names of `FORMATS`.
        trial: The number of a trial to export instead.

    Returns:
        The folder.

    Raises:
        ExportError: If there is no such finished trial, its weights are gone, or the folder holds
            something else.
        LedgerError: If there is no such study.
        OnnxError: If the network cannot be written as ONNX.
    """
    row = ledger.find_study(study) if isinstance(study, str) else study
    plan = _confirmed(ledger, row) if trial is None else None
    if plan is not None:
        chosen, confirmed = _choose_run(ledger, plan)
        confirmed["confirm"] |= table_record(collect_plan(ledger, plan))
    else:
        chosen, confirmed = _choose(row, ledger.trials(row.id), trial), {}
    if chosen.weights_path is None:
        raise ExportError(
            f"the weights of trial {chosen.number} of study {row.label} were not kept: only the "
            f"best trials' are; train it again with `attnsearch run` and its config"
        )
    ledger.fetch(Path(chosen.weights_path))
    if not Path(chosen.weights_path).is_file():
        raise ExportError(
            f"{chosen.weights_path}: the weights of {chosen.name} of study {row.label} are gone; "
            f"put the file back, or train anew: attnsearch run SPACE --fresh"
        )
    _make_importable(row)
    own = chosen.config | {"network": chosen.config["network"] | {"weights": None}}
    if changed := changed_inputs(row.inputs, inputs(own)):
        raise ExportError(
            f"{'; '.join(changed)} is another one than study {row.label} was run with, and the "
            f"export would hold that beside the trained weights; restore it, or run anew"
        )
    path = Path(chosen.weights_path)
    state, interface = read_weights(path, ledger.checksum(path))
    suffix = "best" if trial is None else f"{chosen.number:03d}"
    config = {key: value for key, value in chosen.config.items() if key not in STUDY_KEYS} | {
        "name": exported_name(row.name, suffix)
    }
    config["train"] = config["train"] | {"seed": chosen.seed}
    record = {
        "study": row.label,
        "trial": chosen.number if plan is None else None,
        "trial_name": chosen.name,
        **confirmed,
        "objectives": row.objectives,
        "seed": chosen.seed,
        "key": chosen.key,
        "metrics": chosen.metrics,
        "epochs": list(chosen.epochs),
        "costs": chosen.costs,
        "decisions": chosen.values,
        "data_fingerprint": row.fingerprint,
        "provenance": row.provenance[-1] if row.provenance else {},
    }
    return save_export(to, config, state, interface, record, formats=formats)


def _make_importable(study: "StudyRow") -> None:
    """Let the modules of the user's own be imported from where the study last found them."""
    for start in study.provenance[-1:] if any(":" in name for name in study.inputs) else ():
        folder = Path(start["folder"])
        files = [folder / word for word in start["command"] if word.endswith((".yaml", ".yml"))]
        for place in (Path.cwd(), *(file.parent for file in files), folder):
            importable(place)


def exported_name(study: str, suffix: str) -> str:
    """Return the name of an exported config, cut so that a space file takes it."""
    return f"{study[: NAME_MOST - len(suffix) - 1]}-{suffix}"


def save_export(
    to: str | Path,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    interface: Interface,
    record: Mapping[str, Any],
    *,
    formats: Collection[str] = (),
) -> Path:
    """Write an export: all of it, or nothing.

    Args:
        to: The folder; created, or overwritten if it holds an export.
        config: A resolved config.
        state: The trained state dict.
        interface: What the network takes and tells.
        record: For `metrics.json`: `metrics` with the scores that count, and whatever else was
            recorded. NaN is written as null.
        formats: Also write these forms of the network, names of `FORMATS`.

    Returns:
        The folder.

    Raises:
        ExportError: If the folder holds something else or cannot be written.
        OnnxError: If the network cannot be written as ONNX.
    """
    to = Path(to)
    if to.exists() and not (to.is_dir() and (not any(to.iterdir()) or is_export(to))):
        raise ExportError(f"{to}: holds something that is no export; give another folder")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with unfinished(to.parent) as folder:
            folder.mkdir()
            (folder / CONFIG).write_text(dump(dict(config)), encoding="utf-8")
            packed = pack_weights(state, interface)
            (folder / WEIGHTS).write_bytes(packed)
            checksum = hashlib.sha256(packed).hexdigest()
            text = json.dumps(finite({**record, CHECKSUM: checksum}), indent=2)
            (folder / METRICS).write_text(text + "\n", encoding="utf-8")
            packages = _copy_blocks(config, folder)
            forms = [FORMATS[name] for name in find_formats(formats)]
            network = load_export(folder) if forms else None
            for form in forms:
                form.write(network, folder / form.file)
            readme = _readme(config, interface, record, packages, [form.file for form in forms])
            (folder / README).write_text(readme, encoding="utf-8")
            if not to.exists():
                folder.rename(to)
                return to
            for form in FORMATS.values():
                (to / form.file).unlink(missing_ok=True)
            # The checksum first: beside it, the weights that were there are no whole export.
            for file in sorted(folder.iterdir(), key=lambda file: file.name != METRICS):
                if file.is_dir():
                    shutil.copytree(file, to / file.name, dirs_exist_ok=True)
                else:
                    file.replace(to / file.name)
    except OSError as error:
        raise ExportError(f"{to}: the export cannot be written ({error})") from error
    return to


def load_export(folder: str | Path) -> nn.Module:
    """Return the trained network of an export, on the CPU and ready for inference.

    `net(net.preprocess(images))` gives logits (N, K); `images` is an array (N, H, W) or
    (N, H, W, C) of uint8, or a list of PIL images or of such arrays of any size.

    Args:
        folder: What `attnsearch export` wrote.

    Returns:
        The network in evaluation mode, with `config` (the resolved config), `class_names` (in the
        order of the logits), `interface` and `preprocess`.

    Raises:
        ExportError: If a file is missing, damaged, or does not fit the others.
        SpaceError: If its config is not valid.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ExportError(f"{folder}: there is no such folder")
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise ExportError(f"{folder}: no export, {' and '.join(missing)} missing")
    config = _read_config(folder / CONFIG)
    state, interface = read_weights(folder / WEIGHTS, _checksum(folder))
    untrained = copy.deepcopy(config)
    untrained["network"]["weights"] = None  # the trained weights replace them
    network: Any = build_network(
        untrained,
        interface.channels,
        len(interface.class_names),
        config["data"]["image_size"],
    )
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ExportError(f"{folder}: {WEIGHTS} does not fit {CONFIG}: {error}") from error
    channels_last = bool(config["train"]["channels_last"])
    if channels_last:
        network.to(memory_format=torch.channels_last)
    network.config, network.interface = config, interface
    network.class_names = interface.class_names
    network.preprocess = Preprocess(interface, channels_last)
    trained: nn.Module = network.eval()
    return trained


def _checksum(folder: Path) -> str | None:
    """Return the checksum of an export's weights; None where it has none that can be read."""
    try:
        noted = json.loads((folder / METRICS).read_text(encoding="utf-8")).get(CHECKSUM)
    except (OSError, ValueError, AttributeError):
        return None
    return None if noted is None else str(noted)


def is_export(folder: str | Path) -> bool:
    """Return whether a folder holds what `save_export` wrote."""
    folder = Path(folder)
    if not all((folder / name).is_file() for name in (CONFIG, WEIGHTS, METRICS, README)):
        return False
    try:
        read_weights(folder / WEIGHTS)
    except ExportError:
        return False
    return True


def _read_config(path: Path) -> dict[str, Any]:
    """Return an export's config, also where what its training alone needed is not."""
    elsewhere = {"network": "weights", "data": "groups", "train": "loop"}
    overrides = [f"{section}.{key}=null" for section, key in elsewhere.items()]
    config = load_space(path, overrides).resolve({})
    written = parse(read_text(path, str(path)), str(path)).value
    for section, key in elsewhere.items():
        if key in written[section]:
            config[section][key] = written[section][key]
    return config


def _confirmed(ledger: "Ledger", study: "StudyRow") -> "PlanRow | None":
    """Return the current confirm plan of a study, if its winner is frozen."""
    plans = ledger.plans(study.id, superseded=False)
    return next((row for row in plans if row.plan.act == "confirm" and row.winner), None)


def _choose_run(ledger: "Ledger", plan: "PlanRow") -> tuple["TrialRow", dict[str, Any]]:
    """Return run of the winner with the best validation score, and what is recorded of confirm."""
    winner, metric = str(plan.winner), f"val_{plan.plan.metric}"
    every = [run for run in ledger.arm_runs(plan)[winner] if run is not None]
    finished = [run for run in every if run.state == State.FINISHED and run.weights_path]
    if not finished:
        raise ExportError(
            f"the weights of {winner}, the winner of confirm, are gone; run the study again with "
            f"--fresh, or export a trial of exploring with --trial NUMBER"
        )
    scores = {index: (run.metrics[metric],) for index, run in enumerate(finished)}
    chosen = finished[rank(scores, {metric: plan.plan.direction})[0]]
    names = sorted({name for run in finished for name in run.metrics})
    kept = [name for name in names if name.startswith(("val_", "test_"))]
    return chosen, {
        "confirm": {
            "winner": winner,
            "chosen_by": f"{metric} of this run, the best of the winner's runs",
            "ranking": [list(item) for item in plan.ranking],
            "seeds": [run.seed for run in every if run.seed in plan.plan.shared_seeds],
            "runs": [
                {key: getattr(run, key) for key in ("name", "seed", "fold", "state")}
                | {"metrics": {name: run.metrics.get(name) for name in kept}}
                for run in every
            ],
            "plan": plan.hash,
        }
    }


def _choose(study: "StudyRow", rows: "Sequence[TrialRow]", number: int | None) -> "TrialRow":
    """Return the trial to export: the one asked for, or the best that finished within limits."""
    trials = [row for row in rows if row.arm is None]
    finished = {row.number: row for row in trials if row.state == State.FINISHED}
    if not finished:
        raise ExportError(
            f"study {study.label} has no finished trial to export; "
            f"`attnsearch show {study.label}` lists its trials"
        )
    if number is not None:
        if number in finished:
            return finished[number]
        states = {row.number: row.state for row in trials}
        why = f"is {states[number]}" if number in states else "does not exist"
        listed = ", ".join(str(n) for n in sorted(finished))
        raise ExportError(
            f"trial {number} of study {study.label} {why}; finished are trials {listed}"
        )
    leaders = ranked(list(finished.values()), study.objectives)
    if not leaders:
        over = "; ".join(
            f"trial {number} {'is ' + row.over if row.over else 'has no score'}"
            for number, row in finished.items()
        )
        raise ExportError(
            f"no finished trial of study {study.label} keeps its limits: {over}; raise them, "
            "or name a trial (--trial NUMBER)"
        )
    return leaders[0]


def _copy_blocks(config: Mapping[str, Any], folder: Path) -> list[str]:
    """Put the modules of a user's own classes beside the config, so that the export loads alone.

    With them goes what they import from beside them.

    Returns:
        The packages that one is part of: they cannot be copied and must be installed.
    """
    packages = []
    names = {name for _, name in own_names(config)} | {e["block"] for e in config["insert"]}
    for name in sorted(name for name in names if ":" in name):
        module, _, rest = name.partition(":")[0].partition(".")
        root, files = source_files(find_function(name))
        if rest or root / f"{module}.py" not in files:
            packages.append(module)
            continue
        for file in files:
            to = folder / file.relative_to(root)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, to)
    return packages


def _readme(
    config: Mapping[str, Any],
    interface: Interface,
    record: Mapping[str, Any],
    packages: Sequence[str],
    files: Sequence[str],
) -> str:
    scores = {**record.get("metrics", {}), **record.get("costs", {})}
    return front_matter(config, record) + render(
        "attnsearch.runs.exports",
        "README.md.jinja",
        config=config,
        inserted=describe(config) if insertions(config) else "nothing inserted",
        interface=interface,
        covered=interface.crop and surroundings(interface.image_size, interface.crop),
        seed=record.get("seed", config["train"]["seed"]),
        confirm=record.get("confirm"),
        table=confirm_table(record.get("confirm") or {}),
        packages=packages,
        files=files,
        numbers=lambda values: ", ".join(f"{value:.6g}" for value in values),
        scores={name: value for name, value in scores.items() if isinstance(value, int | float)},
    )
