"""`attnsearch evaluate`, `predict` and `explain`: a trained network on a user's images."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attnsearch.search.text import one_line, plural, table

if TYPE_CHECKING:
    from attnsearch.runs.exports import Predicted, Score


def evaluate_text(
    export: str, data: str, *, part: str | None, groups: str | None, as_json: bool = False
) -> str:
    """Score an export on data and say how well it does.

    Raises:
        AttnsearchError: As `attnsearch.runs.exports.evaluate.evaluate_export`.
    """
    from dataclasses import asdict

    from attnsearch.runs.exports import evaluate_export
    from attnsearch.runs.results import finite
    from attnsearch.spaces.keys import metric_name

    done = evaluate_export(export, data, part=part, groups=groups)
    if as_json:
        return json.dumps(finite(asdict(done)), indent=2, ensure_ascii=False)
    of = "" if done.groups is None else f" of {plural(done.groups, 'patient')}"
    which = "all" if done.part == "all" else f"the {done.part} part,"
    lines = [f"{one_line(done.data)}: {which} {plural(done.images, 'image')}{of}", ""]
    headers = ("metric", "score", "95 % interval", "images")
    named = {metric_name(name): score for name, score in done.metrics.items()}
    lines.append(table(headers, _rows(named), right={"score", "images"}))
    if done.classes:
        kinds = {"dice": "Dice", "map": "average precision"}
        what = next((kinds[name] for name in kinds if name in done.metrics), "recall")
        lines += ["", table(("class", what, *headers[2:]), _rows(done.classes), right={what})]
    lines += ["", *(f"Note: {one_line(note)}" for note in done.notes)] if done.notes else []
    return "\n".join(lines)


def _rows(scores: "Mapping[str, Score]") -> list[tuple[str, str, str, str]]:
    return [
        (
            one_line(name),
            "-" if math.isnan(score.value) else f"{score.value:.4f}",
            "-" if score.interval is None else "{:.4f} to {:.4f}".format(*score.interval),
            f"{score.images:,}",
        )
        for name, score in scores.items()
    ]


def predict_text(
    export: str,
    images: Sequence[str],
    folder: str,
    *,
    probabilities: bool = False,
    overlays: bool = False,
) -> tuple[str, bool]:
    """Apply an export to images and say what was written, and whether all could be read.

    Raises:
        AttnsearchError: As `attnsearch.runs.exports.predict.predict_images`.
    """
    from attnsearch.runs.exports import predict_images

    done = predict_images(export, images, folder, probabilities=probabilities, overlays=overlays)
    return _outcome(done, folder)


def explain_text(export: str, images: Sequence[str], folder: str) -> tuple[str, bool]:
    """Draw what an export sees in images and say what was written, and whether all could be.

    Raises:
        AttnsearchError: As `attnsearch.runs.exports.explain.explain_images`.
    """
    from attnsearch.runs.exports import explain_images

    done = explain_images(export, images, folder)
    return _outcome(done, folder)


def _outcome(done: "Predicted", folder: str) -> tuple[str, bool]:
    out = [f"Wrote {', '.join(done.files)} of {plural(done.images, 'image')} to {folder}."]
    out = [*(out if done.files else []), *(f"Note: {note}" for note in done.notes)]
    if done.faults:
        out.append(f"Could not be read, and left out: {plural(len(done.faults), 'image')}")
        out += [f"  {fault}" for fault in done.faults]
    return "\n".join(out), not done.faults
