"""Who watches a study that a program runs."""

import io
import sys
from types import ModuleType

import pytest

from attnsearch.search.api.watching import watched
from attnsearch.search.study import Progress, Several, TrialInfo
from attnsearch.search.terminal import PlainProgress
from attnsearch.search.terminal.progress import Shown

TRIAL = TrialInfo(0, "plain", {}, 1)


def shown(progress: Progress | bool | None) -> list[type[Progress]]:
    with watched(progress, []) as watcher:
        if not isinstance(watcher, Several):
            return []
        watchers = [
            each.display if isinstance(each, Shown) else each for each in watcher._watchers
        ]
        return [type(each) for each in watchers]


class Heard(Progress):
    """Remembers the calls of two events."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def trial_started(self, trial: TrialInfo) -> None:
        self.calls.append(trial)

    def note(self, text: str) -> None:
        self.calls.append(text)


def test_a_script_prints_nothing_unless_it_asks_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert shown(None) == []
    assert shown(False) == []
    assert shown(True) == [PlainProgress]
    assert shown(Heard()) == [Heard]


def test_a_terminal_and_a_notebook_print(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert shown(None) == [PlainProgress]
    assert shown(False) == []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert shown(None) == []
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    with watched(None, []) as watcher:
        watcher.trial_started(TRIAL)
    printed = capsys.readouterr()
    assert printed.out == "trial 000 started: plain\n", "a notebook shows standard error in red"
    assert printed.err == ""


def test_every_watcher_hears_every_event_and_may_ask_for_the_end() -> None:
    events = {name for name in vars(Progress) if not name.startswith("_")} - {"stop"}
    assert events <= vars(Several).keys(), "also of one that a later `Progress` brings"
    one, other = Heard(), Heard()
    with watched(one, [other]) as watcher:
        watcher.trial_started(TRIAL)
        watcher.note("a note")
        assert one.calls == other.calls == [TRIAL, "a note"]
        assert not watcher.stopping()
        other.stop = True
        assert watcher.stopping()
