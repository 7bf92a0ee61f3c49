"""`attnsearch predict` and `attnsearch explain`: a trained network on a user's images."""

from collections.abc import Sequence

from attnsearch.search.text import plural


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
    return _outcome(done.images, done.files, done.faults, done.notes, folder)


def explain_text(export: str, images: Sequence[str], folder: str) -> tuple[str, bool]:
    """Draw what an export sees in images and say what was written, and whether all could be.

    Raises:
        AttnsearchError: As `attnsearch.runs.exports.explain.explain_images`.
    """
    from attnsearch.runs.exports import explain_images

    done = explain_images(export, images, folder)
    return _outcome(done.images, done.files, done.faults, done.notes, folder)


def _outcome(
    count: int, files: Sequence[str], faults: Sequence[str], notes: Sequence[str], folder: str
) -> tuple[str, bool]:
    out = [f"Wrote {', '.join(files)} of {plural(count, 'image')} to {folder}."] if files else []
    out += [f"Note: {note}" for note in notes]
    if faults:
        out.append(f"Could not be read, and left out: {plural(len(faults), 'image')}")
        out += [f"  {fault}" for fault in faults]
    return "\n".join(out), not faults
