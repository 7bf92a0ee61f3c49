import errno
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from attnsearch.search.cli import call, cli
from attnsearch.search.commands import group
from attnsearch.search.exit import DONE, FAILED, INTERRUPTED, WRONG_INPUT

STATISTICS = ("scipy.stats", "scipy.optimize", "scipy.ndimage", "statsmodels")
SCREEN = 45  # lines
COMMANDS = {
    "run": {"space", "--set", "--fresh", "--until"},
    "check": {"space", "--set", "--json"},
    "ablate": {"config", "--plans", "--seeds", "--retune", "--set", "--fresh"},
    "export": {"study", "--to", "--trial", "--format", "--source", "--onnx", "--register"},
    "evaluate": {"export", "data", "--part", "--groups", "--json"},
    "predict": {"export", "images", "--to", "--probabilities", "--overlays"},
    "explain": {"export", "images", "--to"},
    "report": {"study", "--format", "--to"},
    "optuna": {"study", "--to"},
    "combine": {"studies", "--to", "--plan", "--allow", "--ledger", "--json"},
    "list": set(),
    "sync": {"study"},
    "clean": {"study", "--delete"},
    "show": {"study", "trial", "--json"},
    "blocks": {"name", "--published"},
    "sites": {"backbone", "--stem", "--width", "--image-size", "--decoder"},
    "schema": set(),
    "init": {
        *("data", "--to", "--task", "--classes", "--groups", "--hours"),
        *("--mask-name", "--mask-values", "--mask-colors"),
    },
    "ui": {"--port", "--host", "--open"},
}
ATTNSEARCH = (sys.executable, "-c", "from attnsearch.search.cli import main; main()")


def test_commands_and_options_are_these() -> None:
    """Users' scripts rely on them: a change here is a change of the contract."""
    found = {
        name: {
            parameter.opts[0] if isinstance(parameter, click.Option) else str(parameter.name)
            for parameter in command.params
        }
        for name, command in cli.commands.items()
    }
    assert found == COMMANDS
    assert {option for parameter in cli.params for option in parameter.opts} == {
        "--debug",
        "--version",
    }


def test_help_answers_at_once_and_loads_nothing_heavy() -> None:
    heavy = ("torch", "ray", "mlflow", "optuna", "numpy", "pandas", "sklearn", "rich", "pydantic")
    script = (
        "import sys\nfrom attnsearch.search.cli import call\ncall(['--help'])\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        times.append(time.perf_counter() - start)
        assert done.stderr.strip() == "[]"
    assert statistics.median(times) < 1.0


def test_check_of_the_shipped_file_loads_nothing_that_it_has_no_use_for(tmp_path: Path) -> None:
    heavy = (
        "ray",
        "mlflow",
        "optuna",
        "pandas",
        "sqlalchemy",
        "sympy",
        "torch._dynamo.eval_frame",
        "torch._decomp",
    )
    heavy += (*STATISTICS, "matplotlib", "sklearn")
    space = Path(__file__).parents[2] / "spaces" / "resnet.yaml"
    script = (
        f"import sys\nfrom attnsearch.search.cli import call\ncall(['check', {str(space)!r}])\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    script += (
        "\nfrom attnsearch.search.study import run_study\n"
        f"print([name for name in {STATISTICS!r} if name in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "power: with 3 seeds you would see a difference of" in done.stdout
    # The second: what a study has loaded before it starts Ray.
    assert done.stderr.strip().splitlines()[-2:] == ["[]", "[]"]


def test_the_last_collections_walk_through_nothing(tmp_path: Path) -> None:
    script = (
        "import atexit, gc, sys\nfrom attnsearch.search.cli import main\n"
        "left = lambda: print(len(gc.get_objects()), gc.get_freeze_count(), file=sys.stderr)\n"
        "atexit.register(left)\nsys.argv = ['attnsearch', 'schema']\nmain()\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    left, frozen = map(int, done.stderr.split())
    assert left < 1000 < 50_000 < frozen


def test_bare_command_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call([]) == DONE
    told = capsys.readouterr()
    assert told.err == ""
    for name in COMMANDS:
        assert f"\n  {name} " in told.out
    assert len(told.out.splitlines()) <= SCREEN


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_has_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call([name, "--help"]) == DONE
    told = capsys.readouterr().out
    assert f"\n    attnsearch {name}" in told
    assert max(map(len, told.splitlines())) <= 80
    assert len(told.splitlines()) <= SCREEN
    for option in COMMANDS[name]:
        assert option in told or option.upper() in told


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert call(["--version"]) == DONE
    assert capsys.readouterr().out == f"attnsearch {version('attnsearch')}\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["rnu", "x.yaml"], "did you mean 'run'?"),
        (["bloks"], "did you mean 'blocks'?"),
        (["zzz"], "there are: run, check, ablate, export"),
        (["run", "x.yaml", "--fersh"], "--fresh"),
        (["run"], "Missing argument 'SPACE'"),
        (["export", "study"], "--to"),
        (["sites", "resnet18", "--width", "wide"], "'wide' is not a valid float"),
        (["show", "study", "first"], "'first' is not a valid integer"),
    ],
)
def test_wrong_usage_is_status_2_with_a_hint(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(words) == WRONG_INPUT
    told = capsys.readouterr()
    assert hint in told.err
    assert told.out == ""
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["blocks", "pza"], "psa"),
        (["sites", "resnet19"], "resnet18"),
        (["sites", "resnet20", "--stem", "imagenet"], "small"),
        (["sites", "resnet18", "--width", "-1"], "width"),
    ],
)
def test_wrong_names_are_one_line_and_status_2(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(words) == WRONG_INPUT
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert line.startswith("attnsearch: ")
    assert hint in line


def test_unknown_study_is_one_line_that_says_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATTNSEARCH_LEDGER", raising=False)
    for words in (["list"], ["show", "s"], ["show", "s", "1"], ["export", "s", "--to", "d"]):
        assert call(words) == WRONG_INPUT
        told = capsys.readouterr()
        assert len(told.err.splitlines()) == 1
        assert "attnsearch.db" in told.err
    assert list(tmp_path.iterdir()) == []


def boom(error: BaseException) -> click.Command:
    @click.command()
    def command() -> None:
        raise error

    return command


def test_unexpected_error_is_a_message_with_a_way_to_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli.commands, "list", boom(ZeroDivisionError("by\nzero")))
    assert call(["list"]) == FAILED
    told = capsys.readouterr().err
    assert "unexpected ZeroDivisionError: by zero" in told
    assert "attnsearch --debug list" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("words", [["--debug", "list"], ["list", "--debug"]])
def test_debug_shows_the_traceback(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli.commands, "list", boom(ZeroDivisionError()))
    assert call(words) == FAILED
    assert "Traceback" in capsys.readouterr().err


def test_an_error_may_name_its_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from attnsearch.blocks.errors import AttnsearchError

    class Lost(AttnsearchError):
        exit_status = 1

    monkeypatch.setitem(cli.commands, "list", boom(Lost("the cluster is gone")))
    assert call(["list"]) == FAILED
    assert capsys.readouterr().err == "attnsearch: the cluster is gone\n"


def test_ctrl_c_is_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli.commands, "list", boom(KeyboardInterrupt()))
    assert call(["list"]) == INTERRUPTED
    assert "Traceback" not in capsys.readouterr().err


def test_broken_pipe_is_no_error_and_others_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(group, "_hang_up", lambda: None)
    monkeypatch.setitem(cli.commands, "list", boom(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    assert call(["list"]) == DONE
    monkeypatch.setitem(cli.commands, "list", boom(OSError(errno.ENOSPC, "No space left")))
    assert call(["list"]) == FAILED
    assert "No space left" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="pipes of a POSIX shell")
@pytest.mark.parametrize(
    ("words", "reader"),
    [("schema", "head -1"), ("--help", "true"), ("sites resnet152", "true")],
)
def test_a_reader_that_leaves_early_sees_no_error(words: str, reader: str, tmp_path: Path) -> None:
    """`true` has left before the first byte is written."""
    script = f'"$PYTHON" -c "$CODE" {words} 2>errors | {reader}; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": sys.executable, "CODE": ATTNSEARCH[2]},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.splitlines()[-1] == "0"
    assert (tmp_path / "errors").read_text() == ""


def test_schema_is_json_and_knows_the_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["schema"]) == DONE
    schema = json.loads(capsys.readouterr().out)
    assert {"name", "task", "data", "network", "insert"} <= set(schema["properties"])


def test_library_exports_lazily() -> None:
    script = (
        "import sys, attnsearch.search as s\nassert 'ray' not in sys.modules\n"
        "assert dir(s) and 'run_study' in dir(s)\n"
        "try:\n    s.nothing\nexcept AttributeError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "has no attribute 'nothing'" in done.stdout
