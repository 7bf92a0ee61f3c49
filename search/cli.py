"""The command `attnsearch`.

Only click is imported here, and each command imports what it needs when it is called: `--help`
answers before Torch or Ray could be loaded.
"""

import contextlib
import difflib
import inspect
import os
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, TextIO, cast

import click

from attnsearch.search.exit import DONE, FAILED, INTERRUPTED, WRONG_INPUT


class _Verbatim(click.Command):
    """Prints its help as it is written: examples must not be wrapped like prose."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        for line in inspect.cleandoc(self.help or "").splitlines():
            formatter.write(f"  {line}".rstrip() + "\n")


class _Commands(_Verbatim, click.Group):
    """Lists commands in the order of use, suggests names, and lets the reader hang up.

    `attnsearch schema | head -1` closes our output early. Whoever read it had enough: that is no
    error and prints none.
    """

    command_class = _Verbatim

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], self.commands, n=1)
            hint = (
                f"did you mean {close[0]!r}?"
                if close
                else "there are: " + ", ".join(self.commands)
            )
            ctx.fail(f"no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        with _reader_may_hang_up():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _reader_may_hang_up():
            status = super().invoke(ctx)
            sys.stdout.flush()
            return status


@contextlib.contextmanager
def _reader_may_hang_up() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        _hang_up()
        raise click.exceptions.Exit(DONE) from None


def _hang_up() -> None:
    """Send what is still buffered nowhere, or the interpreter complains when it exits."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 99}

_set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override one key of the file, as in --set train.epochs=3. The value is YAML; paths are "
    "relative to the current folder. May be repeated.",
)


def _version(ctx: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    from importlib.metadata import version

    click.echo(f"attnsearch {version('attnsearch')}")
    ctx.exit()


@click.group(cls=_Commands, context_settings=_SETTINGS, invoke_without_command=True)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Print the version and exit.",
)
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Which attention block, where in the network, with which hyperparameters?

    One YAML file, the space, says which blocks may stand where in a ResNet.
    `run` searches it and records every trial in MLflow.

    First steps:
      attnsearch run spaces/resnet.yaml   a small search on built-in data
      attnsearch show resnet-digits       what it found
      attnsearch ui                       the same in the browser

    Your own data:
      attnsearch init DATA --to my.yaml   a commented space file for it
      attnsearch blocks                   WHICH blocks there are
      attnsearch sites resnet18           WHERE they can stand
      attnsearch check my.yaml            all errors at once, or the plan
      attnsearch run my.yaml              search, confirm; again to continue
      attnsearch ablate STUDY             what of the winner matters
      attnsearch export STUDY --to best   the winner: config and weights
      attnsearch predict best IMAGES --to DIR   masks, or labels
      attnsearch explain best IMAGES --to DIR   where it looks

    Exit status: 0 done, 1 the run failed, 2 the input is wrong, 130 stopped
    by Ctrl-C.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@cli.command()
@click.argument("space")
@_set_option
@click.option("--fresh", is_flag=True, help="Start a new study and ignore finished runs.")
@click.option(
    "--until",
    type=click.Choice(["explore", "confirm", "ablate"]),
    help="Stop after this act; the same command without it goes on.",
)
def run(space: str, overrides: tuple[str, ...], fresh: bool, until: str | None) -> int:
    """Search SPACE, a YAML file; then confirm and ablate as it says.

    The best networks are trained again on fresh seeds beside their controls
    (`confirm:`), and parts of the winner are taken away (`ablation:`). Each
    act prints what it will train, and for how long, before it starts.

    Ctrl-C stops within seconds and keeps everything; the same command
    continues. Trials that another study has already finished are taken over,
    not trained again. An exported `config.yaml` is a space without choices:
    running it trains that one network.

    Examples:
      attnsearch run spaces/resnet.yaml
      attnsearch run my.yaml --set search.trials=40 --set resources.gpus=0.5
      attnsearch run my.yaml --until explore
      attnsearch run best/config.yaml --fresh

    Next: `attnsearch show STUDY`, `attnsearch ui`, and
    `attnsearch export STUDY --to DIR`.
    """
    from attnsearch.search.terminal import run_space

    return run_space(space, overrides, fresh=fresh, until=until)


@cli.command()
@click.argument("space")
@_set_option
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def check(space: str, overrides: tuple[str, ...], as_json: bool) -> int:
    """Print every error of SPACE, or the plan of its study.

    The plan: the decisions, how many networks they span, the smallest and
    the largest of them, every block tried at every site, and the runs to
    come with an estimate of their time. Nothing is trained or recorded.

    Examples:
      attnsearch check spaces/resnet.yaml
      attnsearch check my.yaml --set network.width=0.25
      attnsearch check my.yaml --json

    Next: `attnsearch run SPACE`.
    """
    from attnsearch.search.check import check_space

    click.echo(check_space(space, overrides, as_json=as_json))
    return DONE


@cli.command()
@click.argument("config")
@click.option(
    "--plans",
    metavar="PLAN,...",
    help="loco, positions, blocks, ofat, pairwise, factorial.  [default: the file's, or loco]",
)
@click.option(
    "--seeds", type=click.IntRange(1), help="Runs of each arm.  [default: the file's, or 5]"
)
@click.option("--retune", is_flag=True, help="Tune each arm's training, with equal budgets.")
@_set_option
@click.option("--fresh", is_flag=True, help="Start a new study and ignore finished runs.")
def ablate(
    config: str,
    plans: str | None,
    seeds: int | None,
    retune: bool,
    overrides: tuple[str, ...],
    fresh: bool,
) -> int:
    """Vary one network part by part: what of it matters?

    CONFIG is an exported folder, a config without choices, or the name of a
    study, whose winner is taken. The plans:

      loco       the network without each of its insertions
      positions  each inserted block at every other place where it may stand
      blocks     every other block at the places where the network has one
      ofat       one hyperparameter at a time, through its range
      pairwise   of each two insertions both, one, the other, neither
      factorial  every subset of the insertions

    Arms are compared on validation data unless `--set ablation.part=test`.
    Ctrl-C keeps everything; the same command continues.

    Examples:
      attnsearch ablate resnet-digits --plans loco,positions --seeds 5
      attnsearch ablate best --plans ofat
      attnsearch ablate best/config.yaml --set resources.gpus=0.5

    Next: `attnsearch report STUDY`.
    """
    from attnsearch.search.terminal import ablate_config

    named = [name.strip() for name in (plans or "").split(",") if name.strip()]
    return ablate_config(config, named, overrides, seeds=seeds, retune=retune or None, fresh=fresh)


@cli.command()
@click.argument("study")
@click.option("--to", "folder", required=True, metavar="DIR", help="The folder to write.")
@click.option("--trial", type=int, help="Export this trial instead of the best one.")
@click.option("--onnx", is_flag=True, help="Write model.onnx too.")
def export(study: str, folder: str, trial: int | None, onnx: bool) -> int:
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
    from attnsearch.search.terminal import export_text

    click.echo(export_text(study, folder, onnx=onnx, trial=trial))
    return DONE


@cli.command()
@click.argument("export")
@click.argument("images", nargs=-1, required=True)
@click.option("--to", "folder", required=True, metavar="DIR", help="The folder to write.")
@click.option("--probabilities", is_flag=True, help="Segmentation: those of each pixel too.")
@click.option("--overlays", is_flag=True, help="Segmentation: each mask over its image too.")
def predict(
    export: str,
    images: tuple[str, ...],
    folder: str,
    probabilities: bool,
    overlays: bool,
) -> int:
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
    from attnsearch.search.terminal import predict_text

    text, complete = predict_text(
        export, images, folder, probabilities=probabilities, overlays=overlays
    )
    click.echo(text)
    return DONE if complete else FAILED


@cli.command()
@click.argument("export")
@click.argument("images", nargs=-1, required=True)
@click.option("--to", "folder", required=True, metavar="DIR", help="The folder to write.")
def explain(export: str, images: tuple[str, ...], folder: str) -> int:
    """Draw where an exported network looks in IMAGES, files or folders.

    One PNG an image: the image, the predicted mask, and the attention map of
    each inserted gc, ecrm and axial block. Where the image lies in `images/`
    beside `masks/`, its mask and the errors too.

    Example:
      attnsearch explain best scans/images/0017.jpg --to pictures

    Next: look at them.
    """
    from attnsearch.search.terminal import explain_text

    text, complete = explain_text(export, images, folder)
    click.echo(text)
    return DONE if complete else FAILED


@cli.command()
@click.argument("study")
@click.option(
    "--format",
    "formats",
    default="md,latex,csv,html",
    show_default=True,
    metavar="LIST",
    help="Which files, separated by commas.",
)
@click.option("--to", "folder", metavar="DIR", help="Where to.  [default: beside the ledger]")
def report(study: str, formats: str, folder: str | None) -> int:
    r"""Write what STUDY found: tables, figures, the protocol's paragraph.

    `report.md`, `report.tex` (compiles by itself, or stands in a paper by
    \input), `report.csv` (every run a row) and `report.html` (one file, for
    a browser). Nothing is trained and no test data is opened. A study that
    still goes on has a report too; it compares nothing that is not complete.

    Examples:
      attnsearch report resnet-digits
      attnsearch report resnet-digits/2 --format latex,csv --to paper/tables

    Next: open `report.html` in a browser.
    """
    from attnsearch.search.terminal import report_text

    click.echo(report_text(study, formats, folder))
    return DONE


@cli.command("list")
def list_() -> int:
    """List the studies, with their state.

    They are read from the ledger: `attnsearch.db` in the current folder, or
    the URL in ATTNSEARCH_LEDGER.

    Example:
      attnsearch list

    Next: `attnsearch show STUDY`.
    """
    from attnsearch.search.terminal import studies_text

    click.echo(studies_text())
    return DONE


@cli.command()
@click.argument("study")
@click.argument("trial", type=int, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def show(study: str, trial: int | None, as_json: bool) -> int:
    """Show the leaderboard of STUDY, or everything about one TRIAL.

    A study is addressed by its name, or as NAME/NUMBER where there are
    several of that name.

    Examples:
      attnsearch show resnet-digits
      attnsearch show resnet-digits/2 --json
      attnsearch show resnet-digits 7

    Next: `attnsearch export STUDY --to DIR`.
    """
    from attnsearch.search.terminal import study_text, trial_text

    if trial is None:
        click.echo(study_text(study, as_json=as_json))
    else:
        click.echo(trial_text(study, trial, as_json=as_json))
    return DONE


@cli.command()
@click.argument("name", required=False)
@click.option("--published", is_flag=True, help="List the published networks instead.")
def blocks(name: str | None, published: bool) -> int:
    """List the blocks, or explain one: WHICH may be inserted.

    NAME is a block of the list, or your own as `module:Class`.

    Examples:
      attnsearch blocks
      attnsearch blocks psa
      attnsearch blocks --published

    Next: `attnsearch sites BACKBONE` for where it can stand.
    """
    from attnsearch.search.terminal import block_text, blocks_text

    if published:
        from attnsearch.search.check import networks_text

        if name is not None:
            raise click.UsageError("--published lists networks; leave out the block's name")
        click.echo(networks_text())
        return DONE
    click.echo(blocks_text() if name is None else block_text(name))
    return DONE


@cli.command()
@click.argument("backbone")
@click.option("--stem", type=click.Choice(["imagenet", "small"]), help="As network.stem.")
@click.option("--width", type=float, default=1.0, show_default=True, help="As network.width.")
@click.option(
    "--image-size", type=click.IntRange(1), help="As data.image_size.  [default: as published]"
)
@click.option("--decoder", help="As network.decoder, for segmentation: unet, fpn, fcn or aspp.")
def sites(
    backbone: str, stem: str | None, width: float, image_size: int | None, decoder: str | None
) -> int:
    """List the sites of a network: WHERE blocks may stand.

    BACKBONE is one of resnet18 34 50 101 152 (ImageNet's),
    resnet20 32 44 56 110 (CIFAR's) and the published networks, such as
    scnet50, axial_resnet26 or medt; the end of a listing names them all.

    Examples:
      attnsearch sites resnet18
      attnsearch sites resnet50 --stem small --width 0.5 --image-size 64
      attnsearch sites resnet34 --decoder unet --image-size 128

    Next: name them under `insert:` in the space file, then
    `attnsearch check SPACE`.
    """
    from attnsearch.search.terminal import sites_text

    click.echo(
        sites_text(backbone, stem=stem, width=width, image_size=image_size, decoder=decoder)
    )
    return DONE


@cli.command()
def schema() -> int:
    """Print the JSON Schema of space files, for editors.

    Example:
      attnsearch schema > space.schema.json

    Next: an editor that knows the schema completes the keys of a file that
    begins with `# yaml-language-server: $schema=space.schema.json`.
    """
    import json

    from attnsearch.spaces import schema as space_schema

    click.echo(json.dumps(space_schema(), indent=2))
    return DONE


@cli.command()
@click.argument("data")
@click.option("--to", "file", required=True, metavar="FILE", help="The space file to write.")
def init(data: str, file: str) -> int:
    """Write a commented space file for DATA.

    DATA is a folder of class folders, or one with images/ and masks/ for
    segmentation (both with or without train/val/test), an .npz file in
    MedMNIST layout, `digits` or `scenes`. Its classes, counts and image
    sizes decide what is proposed; the comments say why. An existing FILE is
    left alone.

    Examples:
      attnsearch init ~/xrays --to xrays.yaml
      attnsearch init ~/polyps --to polyps.yaml
      attnsearch init pathmnist.npz --to path.yaml

    Next: read the file, then `attnsearch check FILE`.
    """
    from attnsearch.search.terminal import write_space

    click.echo(write_space(data, file))
    return DONE


@cli.command()
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
def ui(port: int, host: str) -> int:
    """Browse the studies in MLflow's web pages.

    Starts MLflow's own server on the store that `run` writes to. Ctrl-C stops
    it. Whoever can reach the address can read and change the records.

    Examples:
      attnsearch ui
      attnsearch ui --port 8080
    """
    from attnsearch.search.terminal import serve

    return serve(host, port)


def call(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and returns its exit status.

    Every error ends as one message on standard error; the traceback is shown with `--debug`.

    Args:
        arguments: The words after `attnsearch`; by default those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words  # before or after the command's name
    words = [word for word in words if word != "--debug"]
    try:
        status = cli.main(words, prog_name="attnsearch", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return WRONG_INPUT
    except (click.Abort, KeyboardInterrupt):
        _complain("attnsearch: stopped by Ctrl-C")
        return INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _explain(error, words)
    return status if isinstance(status, int) else DONE


def _explain(error: Exception, words: list[str]) -> int:
    """Print one message for an error and returns the exit status it stands for."""
    from attnsearch.blocks.errors import AttnsearchError

    if isinstance(error, AttnsearchError):
        problems = getattr(error, "problems", None)
        if problems is None:
            _complain(f"attnsearch: {error}")
        else:  # of a space file, each with its place first, where editors look for it
            count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
            _complain(f"{error}\nattnsearch: {count}; nothing was started")
        return getattr(error, "exit_status", WRONG_INPUT)
    again = shlex.join(["attnsearch", "--debug", *words])
    what = " ".join(str(error).split())
    _complain(
        f"attnsearch: unexpected {type(error).__name__}{': ' + what if what else ''}\n"
        f"This is a fault in attnsearch or beneath it. The traceback: {again}"
    )
    return FAILED


def _complain(message: str) -> None:
    # The terminal may be gone; there is nobody left to tell then.
    with contextlib.suppress(OSError, ValueError):
        click.echo(message, file=cast(TextIO, sys.stderr))


def main() -> None:
    """The console script."""
    sys.exit(call())


if __name__ == "__main__":
    main()
