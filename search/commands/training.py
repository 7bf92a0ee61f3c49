"""The commands that train, and the one that says beforehand what would be trained."""

import gc

import click

from attnsearch.blocks import meta_device
from attnsearch.search import terminal
from attnsearch.search.commands.group import Verbatim
from attnsearch.search.text import doing

set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override one key of the file, as in --set train.epochs=3. The value is YAML; paths are "
    "relative to the current folder. May be repeated.",
)


@click.command(cls=Verbatim)
@click.argument("space")
@set_option
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
    return terminal.run_space(space, overrides, fresh=fresh, until=until)


@click.command(cls=Verbatim)
@click.argument("space")
@set_option
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def check(space: str, overrides: tuple[str, ...], as_json: bool) -> str:
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
    meta_device.leave_out()
    from attnsearch.search.check import check_space

    gc.freeze()  # nothing of what is loaded by now is ever garbage
    with doing("reading the file and its data, building networks, timing a few steps"):
        return check_space(space, overrides, as_json=as_json)


@click.command(cls=Verbatim)
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
@set_option
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
    names = [name.strip() for name in (plans or "").split(",") if name.strip()]
    return terminal.ablate_config(
        config, names, overrides, seeds=seeds, retune=retune or None, fresh=fresh
    )
