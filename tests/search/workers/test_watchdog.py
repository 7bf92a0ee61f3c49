"""Looks at a step that takes long do not harm it."""

import subprocess
import sys
import time
from pathlib import Path

from attnsearch.search.workers.losses import hang_place, newest_word
from attnsearch.search.workers.watchdog import watched

BUSY = """
import sys
from attnsearch.search.workers.watchdog import watched

def grow(depth):
    return {str(i): grow(depth - 1) for i in range(4)} if depth else [depth]

with open(sys.argv[1], "w") as stream, watched(stream, 0.001):
    import torch
    for _ in range(300):
        grow(6)
"""


def test_the_last_look_tells_where_it_stood(tmp_path: Path) -> None:
    with (tmp_path / "word").open("w") as stream:
        with watched(stream, 0.02):
            first_place()
            last_place()
        text = (tmp_path / "word").read_text()
        assert text.count("Timeout (0.02 s)!") > 2
        assert "first_place" in text and "in last_place)" in hang_place(newest_word(text))
        with watched(stream, 60):
            pass
    assert (tmp_path / "word").read_text() == ""


def first_place() -> None:
    time.sleep(0.2)


def last_place() -> None:
    time.sleep(0.2)


def test_a_busy_process_outlives_many_looks(tmp_path: Path) -> None:
    word = tmp_path / "word"
    subprocess.run([sys.executable, "-c", BUSY, word], check=True)
    assert word.read_text().count("Timeout (") > 100
