"""The commands that take a study's best network and use it."""

import click

from attnsearch.search import terminal
from attnsearch.search.commands.group import Verbatim


@click.command(cls=Verbatim)
@click.argument("study")
@click.option("--to", "folder", required=True, metavar="DIR", help="The folder to write.")
@click.option("--trial", type=int, help="Export this trial instead of the best one.")
@click.option("--onnx", is_flag=True, help="Write model.onnx too.")
def export(study: str, folder: str, trial: int | None, onnx: bool) -> str:
    """Write the best network of STUDY as a folder of files.

    `config.yaml` (a space without choices, which `attnsearch run` trains
    anew), `weights.safetensors`, `metrics.json` and a README that shows how
    to load it in Python.

    Examples:
      attnsearch export resnet-digits --to best
      attnsearch export resnet-digits --trial 7 --to trial-7 --onnx

    Next: in Python, `attnsearch.runs.load_export("best")` gives the network,
    ready for inference.
    """
    return terminal.export_text(study, folder, onnx=onnx, trial=trial)


@click.command(cls=Verbatim)
@click.argument("export")
@click.argument("images", nargs=-1, required=True)
@click.option("--to", "folder", required=True, metavar="DIR", help="The folder to write.")
@click.option("--probabilities", is_flag=True, help="Segmentation: those of each pixel too.")
@click.option("--overlays", is_flag=True, help="Segmentation: each mask over its image too.")
def predict(
    export: str, images: tuple[str, ...], folder: str, probabilities: bool, overlays: bool
) -> tuple[str, bool]:
    """Apply an exported network to IMAGES, files or folders.

    EXPORT is a folder that `attnsearch export` wrote. Segmentation writes
    for each image an index PNG of its size (`classes.csv` says what the
    values mean); classification one table, `predictions.csv`, with the label
    and the probability of each class.

    Nothing is overwritten. An image that cannot be read is named and left
    out, the others go on, and the exit status is 1.

    Examples:
      attnsearch predict best scans/ --to masks --overlays
      attnsearch predict best a.jpg b.jpg --to masks --probabilities

    Next: `attnsearch explain EXPORT IMAGES --to DIR`.
    """
    return terminal.predict_text(
        export, images, folder, probabilities=probabilities, overlays=overlays
    )


@click.command(cls=Verbatim)
@click.argument("export")
@click.argument("images", nargs=-1, required=True)
@click.option("--to", "folder", required=True, metavar="DIR", help="The folder to write.")
def explain(export: str, images: tuple[str, ...], folder: str) -> tuple[str, bool]:
    """Draw where an exported network looks in IMAGES, files or folders.

    One PNG an image: the image, the predicted mask, and the attention map of
    each inserted gc, ecrm and axial block. Where the image lies in `images/`
    beside `masks/`, its mask and the errors too.

    Example:
      attnsearch explain best scans/images/0017.jpg --to pictures

    Next: look at them.
    """
    return terminal.explain_text(export, images, folder)
