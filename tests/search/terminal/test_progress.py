import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from attnsearch.search.study.events import (
    ActInfo,
    Progress,
    StudyEnd,
    StudyInfo,
    TrialEnd,
    TrialInfo,
)
from attnsearch.search.terminal import display, plain
from attnsearch.search.terminal.plain import PlainProgress, StudyLog
from attnsearch.search.terminal.progress import LiveProgress, open_progress, sparkline

STUDY = StudyInfo(
    name="digits",
    number=1,
    trials=4,
    done=0,
    epochs=3,
    objectives={"val_accuracy": "max"},
    workers=2,
    sampler="tpe",
    scheduler="asha",
    ledger="sqlite:///a.db",
    tracking_uri="sqlite:///b.db",
)
FIRST = TrialInfo(0, "plain", {}, epochs=3)
SECOND = TrialInfo(1, "ecrm@layer4 psa@layer3.conv2", {"layer4.block": "ecrm"}, epochs=3)


def play(progress: Progress) -> Iterator[str]:
    """A study in which one trial finishes, one is stopped, one fails and one is infeasible."""
    progress.study_started(STUDY)
    progress.trial_started(FIRST)
    progress.trial_started(SECOND)
    progress.epoch(FIRST, 1, {"val_accuracy": 0.5})
    progress.epoch(SECOND, 2, {"val_accuracy": 0.25})
    yield "running"
    end = TrialEnd(
        "finished",
        {"val_accuracy": 0.875},
        {"params": 2_797_034},
        scores=(0.875,),
        best=True,
        seconds=12,
    )
    progress.trial_ended(FIRST, end)
    yield "one ended"
    progress.trial_ended(SECOND, TrialEnd("stopped", {"val_accuracy": 0.25}, seconds=3))
    third = TrialInfo(2, "gc@layer4", {}, epochs=3)
    progress.trial_started(third)
    progress.trial_ended(third, TrialEnd("failed", reason="out of memory: 9 GB\nmore of it"))
    over = TrialEnd("infeasible", costs={"params": 2e7}, reason="params 20 M over limits.params")
    progress.trial_ended(TrialInfo(3, "axial@layer4", {}, epochs=3), over)
    progress.note("MLflow is away; the records follow.")
    progress.study_ended(StudyEnd("finished", 4, 0, "All trials are done.", 21))
    yield "over"


def screen(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def console(width: int = 100) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, width=width, height=30, color_system=None
    )


def test_plain_lines() -> None:
    stream = io.StringIO()
    list(play(PlainProgress(stream)))
    assert [line.replace(", about 0.0 s left", "") for line in stream.getvalue().splitlines()] == [
        "study digits: 4 trials, up to 3 epochs each, 2 at a time; max val_accuracy; "
        "sampler tpe, scheduler asha",
        "trial 000 started: plain",
        "trial 001 started: ecrm@layer4 psa@layer3.conv2",
        "trial 000 finished: plain: val_accuracy 0.8750, 2.80 M params, 12 s, best so far "
        "(1 of 4)",
        "trial 001 stopped: ecrm@layer4 psa@layer3.conv2: val_accuracy 0.2500, 3.0 s (2 of 4)",
        "trial 002 started: gc@layer4",
        "trial 002 failed: gc@layer4: out of memory: 9 GB (3 of 4)",
        "trial 003 infeasible: axial@layer4: 20.0 M params: params 20 M over limits.params "
        "(4 of 4)",
        "MLflow is away; the records follow.",
        "All trials are done. (21 s)",
    ]


def test_a_continued_study_counts_on() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream)
    progress.study_started(StudyInfo(**{**vars(STUDY), "number": 2, "done": 3}))
    end = TrialEnd("finished", scores=(0.5,), reused=True)
    progress.trial_ended(FIRST, end)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("study digits/2 continues: 3 of 4 trials done")
    assert lines[1].endswith("taken over from an earlier run (4 of 4)")


def test_silence_is_broken_by_epochs_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "QUIET_SECONDS", 0.05)
    stream = io.StringIO()
    done = PlainProgress(io.StringIO())
    done.study_started(StudyInfo(**{**vars(STUDY), "done": 4}))
    assert done.status() == "4 of 4 done; writing the records"
    with PlainProgress(stream) as progress:
        scenes = play(progress)
        deadline = time.monotonic() + 30
        while "loading the data" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.02)
        next(scenes)
        while "0 of 4 done" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.02)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "loading the data, starting the workers, racing a few steps (train.speed)"
    (told, *_) = [line for line in lines if line.startswith("0 of 4 done")]
    assert "000 baseline at epoch 1 of 3 (0.5000)" in told
    assert "001 ecrm@layer4 psa@layer3.conv2 at epoch 2 of 3 (0.2500)" in told
    assert " left" in told


def test_the_log_keeps_the_lines_of_all_sessions(tmp_path: Path) -> None:
    study = StudyInfo(**{**vars(STUDY), "log": tmp_path / "logs" / "digits-1.log"})
    for _ in range(2):
        with StudyLog() as log:
            log.note("told before the study is open")
            log.study_started(study)
            log.trial_ended(FIRST, TrialEnd("finished", scores=(0.5,)))
    assert study.log is not None
    lines = study.log.read_text().splitlines()
    assert len(lines) == 6
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in lines)
    assert [line[21:] for line in lines[:2]] == [
        "told before the study is open",
        display.describe_study(study),
    ]


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    study = StudyInfo(**{**vars(STUDY), "log": tmp_path / "taken" / "digits-1.log"})
    with StudyLog() as log:
        log.study_started(study)
        log.note("nobody reads this")


def test_time_left_is_right_within_a_quarter_after_the_first_quarter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forty trials of unlike length, two side by side, of which a third stop early."""
    now = 0.0
    monkeypatch.setattr(display.time, "monotonic", lambda: now)
    errors = []
    for seed in range(20):
        generator = np.random.default_rng(seed)
        now = 0.0
        progress = PlainProgress(io.StringIO())
        progress.study_started(StudyInfo(**{**vars(STUDY), "trials": 40, "epochs": 9}))
        free, ends, told = [0.0, 0.0], 0.0, []
        events = []
        for number in range(40):
            start = min(free)
            epochs = 3 if generator.random() < 1 / 3 else 9
            pace = 10 * generator.lognormal(sigma=0.3)
            events += [(start + pace * e, number, e, epochs) for e in range(1, epochs + 1)]
            free[free.index(start)] = ends = start + pace * epochs
        for now, number, epoch, epochs in sorted(events):
            trial = TrialInfo(number, "plain", {}, epochs=9)
            progress.epoch(trial, epoch, {"val_accuracy": 0.5})
            if epoch == epochs:
                progress.trial_ended(trial, TrialEnd("stopped" if epochs == 3 else "finished"))
            left = progress._seconds_left()
            if left is not None and 0.25 < now / ends < 0.9:
                told.append(left / (max(free) - now))
        errors.append(np.abs(np.array(told) - 1).mean())
    assert np.mean(errors) < 0.15
    assert np.quantile(errors, 0.9) < 0.25


def test_curves_are_drawn_in_characters() -> None:
    assert sparkline([], 10) == ""
    assert sparkline([0.5], 10) == "▁"
    assert sparkline([0.0, 0.5, 1.0], 10) == "▁▅█"
    assert sparkline([0.0] * 50 + [1.0] * 50, 10) == "▁" * 5 + "█" * 5


def play_confirm(progress: Progress) -> Iterator[str]:
    """An act that goes on with its seventh run, which ends as its eighth begins."""
    progress.study_started(STUDY)
    metrics = ("val_accuracy",)
    progress.act_started(
        ActInfo("confirm", 18, 6, "confirm continues: 6 of 18 runs done", metrics)
    )
    runs = [
        TrialInfo(n, f"arm gc@layer4 seed {n - 4}", {}, 2, "confirm", "confirm") for n in (6, 7)
    ]
    for run in runs:
        progress.trial_started(run)
        progress.epoch(run, 1, {"val_accuracy": 0.5, "val_loss": 2.0})
    yield "running"
    progress.trial_ended(runs[0], TrialEnd("finished", {"val_accuracy": 0.75}, seconds=9))
    progress.trial_ended(runs[1], TrialEnd("failed", reason="out of memory"))
    yield "ended"


def test_the_table_says_what_checkpoints_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnsearch.search.terminal.progress._DISK_SECONDS", 0.0)
    held = [0]
    with LiveProgress(console()) as progress:
        progress.study_started(StudyInfo(**{**vars(STUDY), "checkpoint_bytes": lambda: held[0]}))
        progress.trial_started(FIRST)
        drawn = Console(file=io.StringIO(), width=120)
        for held[0] in (0, 12_345_678):
            drawn.print(progress._draw())
    assert screen(drawn).count("checkpoints") == 1
    assert "checkpoints 12.3 MB" in screen(drawn)


def test_acts_have_lines_of_their_own() -> None:
    stream = io.StringIO()
    list(play_confirm(PlainProgress(stream)))
    lines = [line.replace(" (about 0.0 s left)", "") for line in stream.getvalue().splitlines()]
    assert lines[1:] == [
        "confirm continues: 6 of 18 runs done",
        "confirm 7 of 18: arm gc@layer4 seed 2: val_accuracy 0.7500, 9.0 s",
        "confirm 8 of 18 failed: arm gc@layer4 seed 3: out of memory",
    ]


LONG = "gc@layer4 scconv@layer2.conv2 scconv@layer3.conv2"


def play_long_names(progress: Progress) -> str:
    """Two runs of arms with long names, of which one ends; return what stands for what."""
    progress.study_started(STUDY)
    legend = f"A is {LONG}"
    arms = ("baseline", LONG, f"capacity of {LONG}")
    progress.act_started(ActInfo("confirm", 9, 0, legend, ("val_accuracy",), arms))
    runs = [
        TrialInfo(n, f"arm {name} seed 1", {}, 2, "confirm", "confirm")
        for n, name in enumerate(arms[1:])
    ]
    for run in runs:
        progress.trial_started(run)
    progress.trial_ended(runs[0], TrialEnd("finished", {"val_accuracy": 0.75}, seconds=9))
    return legend


def test_lines_of_acts_have_letters_for_long_names() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream)
    legend = play_long_names(progress)
    assert stream.getvalue().splitlines()[1:] == [
        legend,
        "confirm 1 of 9: arm A seed 1: val_accuracy 0.7500, 9.0 s",
    ]
    assert progress.status().endswith("; 001 arm capacity of A seed 1 at epoch 0 of 2")


def test_lines_of_an_ablation_name_its_plan_once() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream)
    progress.study_started(STUDY)
    progress.act_started(ActInfo("ablation loco", 4, 0, "the plan", ("val_accuracy",)))
    run = TrialInfo(0, "arm loco: without gc@layer4 seed 1", {}, 2, "ablation", "ablation loco")
    progress.trial_started(run)
    assert progress.status().endswith("; 000 arm without gc@layer4 seed 1 at epoch 0 of 2")
    progress.trial_ended(run, TrialEnd("finished", {"val_accuracy": 0.75}, seconds=9))
    (line,) = stream.getvalue().splitlines()[2:]
    assert line == "ablation loco 1 of 4: arm without gc@layer4 seed 1: val_accuracy 0.7500, 9.0 s"


def test_the_table_has_letters_and_what_they_stand_for() -> None:
    shown = console(80)
    with LiveProgress(shown) as progress:
        legend = play_long_names(progress)
        shown.file.truncate(0)
        shown.print(progress._draw())
    drawn = screen(shown)
    assert "  capacity of A seed 1" in drawn and "…" not in drawn
    assert legend in drawn  # the line above may be far away by now


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ({"system/worker_memory_mb": 500.0}, "524 MB"),
        ({"system/worker_memory_mb": 5000.0}, "5.2 GB"),
        ({"system/worker_memory_mb": 5e3, "system/worker_gpu_peak_mb": 1500.0}, "1.6 GB"),
        ({}, "-"),
    ],
)
def test_the_table_shows_what_a_trial_holds(told: dict[str, float], shown: str) -> None:
    where = console(80)
    with LiveProgress(where) as progress:
        progress.study_started(STUDY)
        progress.epoch(FIRST, 1, {"val_accuracy": 0.5, **told})
        where.print(progress._draw())
        (row,) = [line for line in screen(where).splitlines() if line.startswith("000")]
    assert re.split(r"  +", row.strip())[-3:] == ["0.5000", shown, "baseline"]


def test_the_table_names_the_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = ("NVIDIA H200, 550.1", "NVIDIA H200, 550.1")
    monkeypatch.setattr(display, "gpu_names", lambda: cards)
    assert display.device_text("cuda") == "cuda (2 x NVIDIA H200)"
    assert display.device_text("cpu") == "cpu"
    monkeypatch.setattr(display, "gpu_names", lambda: ())  # they are on another machine
    assert display.device_text("cuda") == "cuda"


@pytest.mark.parametrize("width", [50, 80, 120])
def test_nothing_of_the_head_is_cut(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "gpu_names", lambda: ("NVIDIA H200, 550.1",) * 8)
    study = {**vars(STUDY), "device": "cuda", "checkpoint_bytes": lambda: 12_345_678}
    where = console(width)
    with LiveProgress(where) as progress:
        progress.study_started(StudyInfo(**study))
        progress._counts = {"finished": 110, "stopped": 84, "failed": 3, "infeasible": 12}
        progress._worked = 9
        progress.epoch(FIRST, 1, {"val_accuracy": 0.5})
        where.file.truncate(0)
        where.print(progress._draw())
    drawn = screen(where)
    for fact in ("209/4 trials", "elapsed", "left", "12 infeasible", "cuda (8 x NVIDIA H200)"):
        assert fact in drawn
    assert "checkpoints 12.3 MB" in drawn and "…" not in drawn


def test_the_table_shows_the_act() -> None:
    shown = console()
    with LiveProgress(shown) as progress:
        steps = play_confirm(progress)
        next(steps)
        shown.print(progress._draw())
        drawn = screen(shown)
        assert "6/18 confirm runs" in drawn and "  gc@layer4 seed 2" in drawn
        assert "1/2" in drawn and "0.5000" in drawn
        list(steps)
        shown.print(progress._draw())
    assert "8/18 confirm runs" in screen(shown)


def test_interrupted_trials_are_not_counted_as_done() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream)
    progress.study_started(STUDY)
    progress.trial_ended(FIRST, TrialEnd("interrupted"))
    assert stream.getvalue().splitlines()[-1] == "trial 000 interrupted: plain (0 of 4)"


def test_lines_that_nobody_reads_do_not_stop_the_search() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    assert list(play(PlainProgress(Gone())))[-1] == "over"
    closed = io.StringIO()
    closed.close()
    assert list(play(PlainProgress(closed)))[-1] == "over"


def test_live_table_shows_what_runs_and_keeps_what_ended() -> None:
    where = console()
    with LiveProgress(where) as progress:
        scenes = play(progress)
        next(scenes)
        where.file.truncate(0)
        progress._live.refresh()
        running = screen(where)
        assert "0/4 trials" in running
        assert "1/3" in running and "0.5000" in running
        assert "2/3" in running and "ecrm@layer4 psa@layer3.conv2" in running
        next(scenes)
        where.file.truncate(0)
        progress._live.refresh()
        later = screen(where)
        assert "1/4 trials" in later and "1 finished" in later
        assert "best  000  val_accuracy 0.8750  baseline" in later
        assert "left" in later
        list(scenes)
    told = screen(where)
    for line in (
        "001  stopped     ecrm@layer4 psa@layer3.conv2: val_accuracy 0.2500, 3.0 s",
        "002  failed      gc@layer4: out of memory: 9 GB",
        "003  infeasible  axial@layer4: 20.0 M params: params 20 M over limits.params",
        "MLflow is away; the records follow.",
    ):
        assert line in told
    assert told.rstrip().endswith("\x1b[?25h") or "All trials are done. (21 s)" in told


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_a_long_name_is_cut_and_not_the_numbers_before_it(width: int) -> None:
    where = console(width)
    with LiveProgress(where) as progress:
        progress.study_started(STUDY)
        values = {"train.augment": "a long setting " * 8, "train.lr": 0.05}
        label = "gc@layer4 scconv@layer2.conv2 scconv@layer3.conv2"
        progress.epoch(TrialInfo(7, label, values, epochs=120), 12, {"val_accuracy": 0.5})
        lines = where.render_lines(progress._draw(), pad=False)
    (row,) = [
        text
        for line in lines
        if (text := "".join(segment.text for segment in line)).startswith("007")
    ]
    assert "12/120" in row and "0.5000" in row and "gc@layer4" in row and len(row) <= width
    assert row.rstrip().endswith("…")


@pytest.mark.parametrize("width", [40, 60, 200])
def test_live_table_fits_any_width(width: int) -> None:
    where = console(width)
    with LiveProgress(where) as progress:
        scenes = play(progress)
        next(scenes)
        lines = where.render_lines(progress._draw(), pad=False)
        told = ["".join(segment.text for segment in line) for line in lines]
        assert max(map(len, told)) <= width
        assert any(line.startswith("000") and "1/3" in line for line in told)
        bars = [line for line in told if "\u2501" in line or "\u2578" in line]
        assert len(bars) == (0 if width < 48 else 2)
        list(scenes)


def test_several_objectives_have_a_front_and_no_best() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream)
    both = {"val_accuracy": "max", "params": "min"}
    progress.study_started(StudyInfo(**{**vars(STUDY), "objectives": both}))
    progress.trial_ended(FIRST, TrialEnd("finished", scores=(0.5, 2.8e6), best=True))
    assert (
        "plain: val_accuracy 0.5000, params 2.80 M, on the Pareto front"
        in stream.getvalue().splitlines()[-1]
    )


def test_plain_lines_where_there_is_no_terminal() -> None:
    with open_progress() as shown:
        assert isinstance(shown.display, PlainProgress)


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals")
@pytest.mark.parametrize(
    ("variables", "kind", "coloured"),
    [
        ({"TERM": "xterm-256color"}, "LiveProgress", True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "LiveProgress", False),
        ({"TERM": "dumb"}, "PlainProgress", False),
    ],
)
def test_a_terminal_gets_the_table(variables: dict[str, str], kind: str, coloured: bool) -> None:
    import pty

    script = (
        "from attnsearch.search.terminal.progress import open_progress\n"
        "from attnsearch.search.study.events import TrialEnd, TrialInfo\n"
        "with open_progress() as progress:\n"
        "    print(type(progress.display).__name__)\n"
        "    end = TrialEnd('failed', reason='why')\n"
        "    progress.trial_ended(TrialInfo(0, 'plain', {}, 1), end)\n"
    )
    main, terminal = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, **variables},
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
        check=True,
        timeout=60,
    )
    os.close(terminal)
    told = os.read(main, 100_000).decode()
    os.close(main)
    assert done.stdout.strip() == kind
    assert "plain: why" in told
    assert ("\x1b[31m" in told) == coloured
