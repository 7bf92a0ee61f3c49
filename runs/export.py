"""The winner leaves: a folder with one config, one weights file, its scores and a README.

`config.yaml` is a space file without choices, `weights.safetensors` also says what the network
takes and tells (see `weights`), `metrics.json` holds what was recorded of the run.
"""

import copy
import inspect
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from attnsearch.blocks.catalog import find_block
from attnsearch.blocks.network import build_network
from attnsearch.runs.evaluate import Normalisation
from attnsearch.runs.ledger import Ledger
from attnsearch.runs.onnx import export_onnx
from attnsearch.runs.rows import StudyRow, TrialRow
from attnsearch.runs.weights import ExportError, Interface, pack_weights, read_weights
from attnsearch.spaces import dump, load_space

CONFIG, WEIGHTS, METRICS, README, ONNX = (
    "config.yaml",
    "weights.safetensors",
    "metrics.json",
    "README.md",
    "model.onnx",
)
# What belongs to a study and not to one training.
STUDY_KEYS = ("search", "confirm", "ablation", "forbid", "limits")


def export_study(
    ledger: Ledger,
    study: str | StudyRow,
    to: str | Path,
    *,
    onnx: bool = False,
    trial: int | None = None,
) -> Path:
    """Write a study's best finished trial, by its first objective, to a folder.

    Args:
        ledger: Where the study is recorded.
        study: Its row, its name, or its name and number.
        to: The folder; created, or overwritten if it holds an export.
        onnx: Also write `model.onnx`.
        trial: The number of another trial to export.

    Returns:
        The folder.

    Raises:
        ExportError: If there is no such finished trial, its weights are gone, or the folder holds
            something else.
        LedgerError: If there is no such study.
        OnnxError: If the network cannot be written as ONNX.
    """
    row = ledger.find_study(study) if isinstance(study, str) else study
    chosen = _choose(row, ledger.trials(row.id), trial)
    if chosen.weights_path is None:
        raise ExportError(
            f"the weights of trial {chosen.number} of study {row.label} were not kept: only the "
            f"best trials' are; train it again with `attnsearch run` and its config"
        )
    state, interface = read_weights(Path(chosen.weights_path))
    suffix = "best" if trial is None else f"{chosen.number:03d}"
    config = {
        key: value for key, value in chosen.config.items() if key not in STUDY_KEYS
    } | {"name": f"{row.name}-{suffix}"}
    config["train"] = config["train"] | {"seed": chosen.seed}
    record = {
        "study": row.label,
        "trial": chosen.number,
        "trial_name": chosen.name,
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
    return save_export(to, config, state, interface, record, onnx=onnx)


def save_export(
    to: str | Path,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    interface: Interface,
    record: Mapping[str, Any],
    *,
    onnx: bool = False,
) -> Path:
    """Write an export: all of it, or nothing.

    Args:
        to: The folder; created, or overwritten if it holds an export.
        config: A resolved config.
        state: The trained state dict.
        interface: What the network takes and tells.
        record: For `metrics.json`: `metrics` with the scores that count, and whatever else was
            recorded. NaN is written as null.
        onnx: Also write `model.onnx`.

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
        with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as temporary:
            folder = Path(temporary)
            (folder / CONFIG).write_text(dump(dict(config)), encoding="utf-8")
            (folder / WEIGHTS).write_bytes(pack_weights(state, interface))
            text = json.dumps(_without_nan(record), indent=2)
            (folder / METRICS).write_text(text + "\n", encoding="utf-8")
            modules = _copy_blocks(config, folder)
            if onnx:
                shape = (interface.channels, *interface.image_size)
                export_onnx(load_export(folder), folder / ONNX, shape)
            readme = _readme(config, interface, record, modules, onnx)
            (folder / README).write_text(readme, encoding="utf-8")
            to.mkdir(exist_ok=True)
            (to / ONNX).unlink(missing_ok=True)
            for file in folder.iterdir():
                os.replace(file, to / file.name)
    except OSError as error:
        raise ExportError(f"{to}: the export cannot be written ({error})") from error
    return to


def load_export(folder: str | Path) -> nn.Module:
    """The trained network of an export, on the CPU and ready for inference.

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
    config = load_space(folder / CONFIG).resolve({})
    state, interface = read_weights(folder / WEIGHTS)
    untrained = copy.deepcopy(config)
    untrained["network"]["weights"] = None  # the trained weights replace them
    network = build_network(
        untrained, interface.channels, len(interface.class_names), interface.image_size
    )
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ExportError(f"{folder}: {WEIGHTS} does not fit {CONFIG}: {error}") from error
    channels_last = bool(config["train"]["channels_last"])
    if channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    attributes = {
        "config": config,
        "interface": interface,
        "class_names": interface.class_names,
        "preprocess": Preprocess(interface, channels_last),
    }
    for name, value in attributes.items():
        setattr(network, name, value)
    return network.eval()


def is_export(folder: str | Path) -> bool:
    """Whether a folder holds what `save_export` wrote."""
    folder = Path(folder)
    if not all((folder / name).is_file() for name in (CONFIG, WEIGHTS, METRICS, README)):
        return False
    try:
        read_weights(folder / WEIGHTS)
    except ExportError:
        return False
    return True
