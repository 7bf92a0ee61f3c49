"""The commands that show what studies found."""

import click

from attnsearch.blocks.garbage import no_garbage
from attnsearch.search import terminal
from attnsearch.search.commands.group import Verbatim


@click.command(cls=Verbatim)
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
@no_garbage()
def report(study: str, formats: str, folder: str | None) -> str:
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
    return terminal.report_text(study, formats, folder)


@click.command(cls=Verbatim)
@click.argument("studies", nargs=-1, required=True, metavar="STUDY STUDY ...")
@click.option("--to", "folder", metavar="DIR", help="Write a report with its figures there too.")
@click.option(
    "--plan",
    default="confirm",
    show_default=True,
    metavar="NAME",
    help="Which of their plans: confirm, or an ablation's, as loco.",
)
@click.option(
    "--allow",
    multiple=True,
    type=click.Choice(["epochs", "network"]),
    help="Combine studies although these differ. May be repeated.",
)
@click.option(
    "--ledger",
    "ledgers",
    multiple=True,
    metavar="FILE|URL",
    help="Look for the studies there. May be repeated.  [default: as `list`]",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def combine(
    studies: tuple[str, ...],
    folder: str | None,
    plan: str,
    allow: tuple[str, ...],
    ledgers: tuple[str, ...],
    as_json: bool,
) -> str:
    """Compare the same arms over several data sets: one table, one claim.

    Each STUDY is one data set. Their confirmed arms with the same blocks at
    the same places are ranked (wins, mean ranks, critical difference), and
    each difference is pooled over the data sets, with its heterogeneity.
    Studies that measured different things are refused, with what differs. A
    verdict needs five data sets. To train the same arms on other data, name
    exported configs in `confirm.configs`.

    Examples:
      attnsearch combine polyps lesions xrays
      attnsearch combine polyps lesions xrays --to paper/combined

    Next: open `combined.html` in a browser.
    """
    return terminal.combine_text(
        studies, ledgers=ledgers, plan=plan, allow=allow, folder=folder, as_json=as_json
    )


@click.command("list", cls=Verbatim)
@no_garbage()
def list_() -> str:
    """List the studies, with their state.

    They are read from the ledger: `attnsearch.db` in the current folder, or
    the URL in ATTNSEARCH_LEDGER.

    Example:
      attnsearch list

    Next: `attnsearch show STUDY`.
    """
    return terminal.studies_text()


@click.command(cls=Verbatim)
@click.argument("study")
@click.argument("trial", type=int, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def show(study: str, trial: int | None, as_json: bool) -> str:
    """Show the leaderboard of STUDY, or everything about one TRIAL.

    A study is addressed by its name, or as NAME/NUMBER where there are
    several of that name.

    Examples:
      attnsearch show resnet-digits
      attnsearch show resnet-digits/2 --json
      attnsearch show resnet-digits 7

    Next: `attnsearch export STUDY --to DIR`.
    """
    if trial is None:
        return terminal.study_text(study, as_json=as_json)
    return terminal.trial_text(study, trial, as_json=as_json)


@click.command(cls=Verbatim)
@click.argument("study")
@click.option("--to", "file", required=True, metavar="FILE", help="The SQLite file to write.")
def optuna(study: str, file: str) -> str:
    """Write the trials of STUDY as an Optuna storage, for its dashboard.

    Each trial with its decisions and their ranges, values, curve, state and
    costs; tuned arms are studies of their own. It is a view: the ledger
    stays the record, and nothing is read back. FILE is written anew where
    it is a storage of this study; anything else is left alone.

    Examples:
      attnsearch optuna resnet-digits --to study.db
      attnsearch optuna resnet-digits/2 --to second.db

    Next: `pip install optuna-dashboard`, then
    `optuna-dashboard sqlite:///study.db`.
    """
    return terminal.optuna_text(study, file)


@click.command(cls=Verbatim)
@click.argument("study", required=False)
def sync(study: str | None) -> str:
    """Make MLflow's view of STUDY, or of all studies, whole from the ledger.

    Records follow by themselves while a study runs, and when `show` or `ui`
    looks at it. This looks every run up in the store: after a server was
    away, or `mlflow.db`, `mlruns` or single runs were deleted. Curves are not
    doubled. Exit status 1 if the store does not take all of it.

    Examples:
      attnsearch sync
      attnsearch sync resnet-digits/2
    """
    return terminal.sync_text(study)


@click.command(cls=Verbatim)
@click.argument("study", required=False)
@click.option(
    "--delete",
    multiple=True,
    type=click.Choice(["checkpoints", "surpassed", "pictures", "unnamed"]),
    metavar="KIND",
    help="Delete files of this kind; may be given several times.",
)
def clean(study: str | None, delete: tuple[str, ...]) -> str:
    """List the files of STUDY, or of all, that may be deleted, and their size.

    Without --delete nothing is changed. The weights of winners, and files
    that a running study works on, are never listed. Kinds: `checkpoints` of
    interrupted runs, weights of `surpassed` trials, `pictures` of validation
    images, `unnamed` files that the ledger does not know.

    Examples:
      attnsearch clean
      attnsearch clean resnet-digits --delete checkpoints
    """
    return terminal.clean_text(study, delete)


@click.command(cls=Verbatim)
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--open", "opened", is_flag=True, help="Open a browser at the newest study.")
def ui(port: int, host: str, opened: bool) -> int:
    """Browse the studies in MLflow's web pages.

    Starts MLflow's own server on the store that `run` writes to, and prints a
    link for each study: its arms, or before confirm its trials, side by side.
    Ctrl-C stops it. Whoever can reach the address can read and change the
    records.

    Examples:
      attnsearch ui --open
      attnsearch ui --port 8080
    """
    return terminal.serve(host, port, opened=opened)
