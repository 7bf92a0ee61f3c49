"""The net: what a study leaves behind stays what it was, byte for byte.

It holds fast what users and earlier ledgers rely on while the code behind it is rearranged. The
studies are made, one of each task; nothing is trained. What is expected stands in `expected/`. A
change that is wanted is written there by

    python -m tests.net.write

and its diff read before it is committed.
"""

import difflib
import gzip
from pathlib import Path

import pytest

from tests.net import shown, studies
from tests.net.shown import Texts

Shown = dict[str, dict[str, Texts]]

HERE = Path(__file__).parent
EXPECTED = HERE / "expected"
KEPT = HERE / "ledger-0.1.0.db.gz"
COMMAND = "python -m tests.net.write"
LONGEST_DIFF = 30  # lines


def check(folder: str, texts: Texts) -> None:
    """Compare texts with the files of a folder of `expected/`."""
    where = EXPECTED / folder
    files = [path for path in where.rglob("*") if path.is_file()]
    expected = {str(path.relative_to(where)): path.read_bytes().decode() for path in files}
    told = []
    for name in sorted(expected.keys() | texts.keys()):
        before, now = expected.get(name), texts.get(name)
        if before is None or now is None:
            told.append(f"{folder}/{name} is {'new' if before is None else 'gone'}")
        elif before != (now := shown.settled(before, now)):
            lines = list(
                difflib.unified_diff(
                    before.splitlines(),
                    now.splitlines(),
                    f"{folder}/{name} as expected",
                    "as it is now",
                    n=1,
                    lineterm="",
                )
            )
            more = len(lines) - LONGEST_DIFF
            told += [line[:300] for line in lines[:LONGEST_DIFF]]
            told += [f"... and {more} more lines"] if more > 0 else []
    if told:
        pytest.fail("\n".join([*told, "", f"If this is wanted: {COMMAND}"]), pytrace=False)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """What today's code records and shows of the made studies."""
    folder = tmp_path_factory.mktemp("net")
    studies.record(folder / "attnsearch.db")
    return shown.recorded(folder)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """What today's code shows of the same studies in the ledger that 0.1.0 wrote."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "attnsearch.db").write_bytes(gzip.decompress(KEPT.read_bytes()))
    studies.write_weights(folder)
    return shown.recorded(folder, mirror=False)


def test_space_files_resolve_to_the_same_configs() -> None:
    check("configs", shown.configs())


def test_configs_have_the_same_run_keys() -> None:
    check("keys", shown.keys())


def test_the_same_study_is_continued_and_a_changed_one_is_new(tmp_path: Path) -> None:
    check("digests", shown.digests(tmp_path))


@pytest.mark.parametrize("part", shown.PARTS)
@pytest.mark.parametrize("study", shown.NAMES)
def test_a_made_study_leaves_the_same(recorded: Shown, study: str, part: str) -> None:
    check(f"{study}/{part}", recorded[study][part])


@pytest.mark.parametrize("part", [part for part in shown.PARTS if part != "mlflow"])
@pytest.mark.parametrize("study", shown.NAMES)
def test_a_ledger_written_before_shows_the_same(kept: Shown, study: str, part: str) -> None:
    check(f"{study}/{part}", kept[study][part])


def test_numbers_that_differ_in_their_last_digits_are_the_same() -> None:
    before = "a,0.0127925151712,5.25,1.25e-05\nb,0.5"
    assert shown.settled(before, before.replace("1712", "1698")) == before
    for other in ("0.0127926151712", "0.01279252", "-0.0127925151712", "0.012793"):
        now = before.replace("0.0127925151712", other)
        assert shown.settled(before, now) == now
    for now in (before.replace("5.25", "5.26"), before.replace("a", "c"), f"{before}\n"):
        assert shown.settled(before, now) == now
    assert shown.steady("0.1234567890123456 1.0 12.5") == "0.123456789 1.0 12.5"
