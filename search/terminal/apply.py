"""`attnsearch predict` and `attnsearch explain`: a trained network on a user's images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnsearch.search.text import plural

if TYPE_CHECKING:
    from attnsearch.runs.exports import Predicted


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
