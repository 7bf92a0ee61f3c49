"""The command `attnsearch`.

Only click is imported here, and each command imports what it needs when it is called: `--help`
answers before Torch or Ray could be loaded.
"""

import contextlib
import gc
import io
import os
import sys
from collections.abc import Sequence
from typing import TextIO, cast

import click

from attnsearch.search import commands
from attnsearch.search.exit import DONE, FAILED, INTERRUPTED, WRONG_INPUT

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 99}


def _version(ctx: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    from importlib.metadata import version

    click.echo(f"attnsearch {version('attnsearch')}")
    ctx.exit()


@click.group(
    cls=commands.Commands,
    context_settings=_SETTINGS,
    invoke_without_command=True,
)
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
      attnsearch ui                       what it found, in the browser

    Your own data:
      attnsearch init DATA --to my.yaml   a commented space file for it
      attnsearch check my.yaml            all errors at once, or the plan
      attnsearch run my.yaml              search, confirm; again to continue
      attnsearch export STUDY --to best   the winner: config and weights

    Exit status: 0 done, 1 the run failed, 2 the input is wrong, 130 stopped
    by Ctrl-C.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for command in (  # in the order of use, which `--help` lists them in
    commands.run,
    commands.check,
    commands.ablate,
    commands.export,
    commands.evaluate,
    commands.predict,
    commands.explain,
    commands.report,
    commands.combine,
    commands.list_,
    commands.show,
    commands.optuna,
    commands.sync,
    commands.clean,
    commands.blocks,
    commands.sites,
    commands.schema,
    commands.init,
    commands.ui,
):
    cli.add_command(command)


def call(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

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
            import traceback

            _complain(traceback.format_exc().rstrip())
        return _explain(error, words)
    return status if isinstance(status, int) else DONE


def _explain(error: Exception, words: list[str]) -> int:
    """Print one message for an error and return the exit status it stands for."""
    import shlex

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
    from attnsearch.runs.addresses import without_secrets

    with contextlib.suppress(OSError, ValueError):
        click.echo(without_secrets(message), file=cast(TextIO, sys.stderr))


def main() -> None:
    """Run the command line as the console script."""
    if sys.getfilesystemencoding() != "utf-8":
        _begin_again_in_utf8()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may be no text
            stream.reconfigure(errors="backslashreplace")
    status = call()
    gc.freeze()  # the interpreter's last collections take 0.4 s of a core where torch is loaded
    sys.exit(status)


def _begin_again_in_utf8() -> None:
    """Replace this process by one whose names and texts are UTF-8, whatever the locale says.

    Files are written for other machines, and neither Ray nor a URL can name a path otherwise.
    """
    os.environ["PYTHONUTF8"] = "1"  # for the workers
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


if __name__ == "__main__":
    main()
