"""The commands that take a study's best network and use it."""

import click

from attnsearch.search import terminal
from attnsearch.search.commands.group import Verbatim


@click.command(cls=Verbatim)
@click.argument("study")
@click.option("--to", "folder", required=True, metavar="DIR", help="The folder to write.")
@click.option("--trial", type=int, help="Export this trial instead of the best one.")
@click.option("--format", "formats", metavar="LIST", help="safetensors,onnx,torch_export")
@click.option("--source", is_flag=True, help="Write network.py: the network without attnsearch.")
@click.option("--onnx", is_flag=True, help="Short for --format onnx.")
@click.option("--register", metavar="NAME", help="In MLflow's model registry too.")
def export(
    study: str,
    folder: str,
    trial: int | None,
    formats: str | None,
    source: bool,
    onnx: bool,
    register: str | None,
) -> str:
    """Write the best network of STUDY as a folder of files.

    `config.yaml` (a space without choices, which `attnsearch run` trains
    anew), `weights.safetensors`, `metrics.json` and a README that shows how
    to load it in Python. `--format onnx,torch_export` writes model.onnx and
    model.pt2 too, whose metadata hold mean, std and classes; both are
    compared with the network before they are kept. `--source` writes
    network.py, one readable file that needs PyTorch and no attnsearch.

    Examples:
      attnsearch export resnet-digits --to best
      attnsearch export resnet-digits --trial 7 --to trial-7 --format onnx
      attnsearch export resnet-digits --to best --register digits

    Next: in Python, `attnsearch.runs.load_export("best")` gives the network,
    ready for inference.
    """
    names = [name.strip() for name in (formats or "").split(",") if name.strip()]
    names += [*(["onnx"] if onnx else []), *(["source"] if source else [])]
    return terminal.export_text(study, folder, formats=names, trial=trial, register=register)


@click.command(cls=Verbatim)
@click.argument("export")
@click.argument("data")
@click.option("--part", type=click.Choice(["train", "val", "test", "all"]), help="What counts.")
@click.option("--groups", metavar="PATTERN|CSV", help="One patient's images, as data.groups.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def evaluate(export: str, data: str, part: str | None, groups: str | None, as_json: bool) -> str:
    """Score an exported network on DATA with labels or masks.

    EXPORT is a folder that `attnsearch export` wrote; DATA is what
    `data.source` takes: an .npz, a folder, or a built-in set. The test part
    counts where there is one, else the validation part, else all images. Of
    the study's own data no training image counts unless you ask for it.

    Intervals are over patients where --groups or the export's own groups say
    who they are, else over images. They are of this one network: other seeds
    score otherwise, which only the study's report can tell.

    Examples:
      attnsearch evaluate best other-hospital/
      attnsearch evaluate best scans.npz --part all --groups '^(p[0-9]+)_'

    Next: `attnsearch predict EXPORT IMAGES --to DIR`.
    """
    return terminal.evaluate_text(export, data, part=part, groups=groups, as_json=as_json)


@click.command(cls=Verbatim)
@click.argument("export")
@click.argument("images", nargs=-1, required=True)
@click.option("--to", "folder", required=True, metavar="DIR", help="The folder to write.")
@click.option("--probabilities", is_flag=True, help="Segmentation: those of each pixel too.")
@click.option("--overlays", is_flag=True, help="Segmentation: each mask over its image too.")
def predict(
    export: str, images: tuple[str, ...], folder: str, probabilities: bool, overlays: bool
) -> tuple[str, bool]:
    """Apply an exported network to IMAGES, files, folders or .npz files.

    EXPORT is a folder that `attnsearch export` wrote. Segmentation writes
    for each image an index PNG of its size (`classes.csv` says what the
    values mean); else there is one table, `predictions.csv`, with the label,
    or all classes that an image shows, and the probability of each class.

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
    """Draw where an exported network looks in IMAGES, files, folders or .npz.

    One PNG an image: the image, the predicted mask, and the attention map of
    each inserted gc, ecrm and axial block. Where the image lies in `images/`
    beside `masks/`, or beside its mask, that and the errors too.

    Example:
      attnsearch explain best scans/images/0017.jpg --to pictures

    Next: look at them.
    """
    return terminal.explain_text(export, images, folder)
