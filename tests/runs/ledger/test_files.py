"""A project can be moved and copied; nothing of another one is deleted; damage is noticed."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from attnsearch.runs.ledger.checksums import DamagedFile, check_file
from attnsearch.runs.ledger.files import weights_folder
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.patience import LedgerError
from attnsearch.runs.ledger.requests import Ending, Request
from attnsearch.runs.ledger.states import State
from attnsearch.runs.store import Store, StoreError, open_store


def project(folder: Path) -> Path:
    """Make a project with one finished run; return its ledger."""
    folder.mkdir()
    with Ledger(folder / "attnsearch.db") as ledger:
        path = weights_folder(ledger) / "k.safetensors"  # type: ignore[arg-type]
        ledger.write_file(path, b"weights of k")
        run = ledger.claim(Request("k", {}, 0, 1))
        predictions = {"val": {"labels": np.arange(200) % 7}}
        ending = Ending(State.FINISHED, weights_path=str(path))
        ledger.finish(run.run_id, ending, predictions=predictions)
    return folder / "attnsearch.db"


def absolute(file: Path) -> None:
    """Write the ledger's paths as earlier releases did, without checksums."""
    with sqlite3.connect(file) as database:
        path = file.parent / "attnsearch-weights" / "k.safetensors"
        database.execute("UPDATE run SET weights_path = ?", (str(path),))
        database.execute("DROP TABLE stored_file")
        database.execute("UPDATE attnsearch_schema SET version = 2")


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_a_project_elsewhere_has_its_own_files(tmp_path: Path, how: object, old: bool) -> None:
    first = project(tmp_path / "first")
    if old:
        absolute(first)
    assert callable(how)
    how(first.parent, tmp_path / "second")
    own = tmp_path / "second" / "attnsearch-weights" / "k.safetensors"
    with Ledger(tmp_path / "second" / "attnsearch.db") as ledger:
        row = ledger.run(1)
        assert row.weights_path == str(own) and ledger.intact(row.weights_path)
        assert ledger.drop_file(Path(row.weights_path))
    assert not own.exists()
    if first.exists():
        with Ledger(first) as ledger:
            assert ledger.intact(ledger.run(1).weights_path)


@pytest.mark.parametrize("linked", [False, True])
def test_files_of_another_project_are_read_and_never_deleted(tmp_path: Path, linked: bool) -> None:
    first = project(tmp_path / "first")
    absolute(first)
    theirs = first.parent / "attnsearch-weights"
    shutil.copytree(first.parent, tmp_path / "second")
    shutil.rmtree(tmp_path / "second" / theirs.name)
    if linked:
        (tmp_path / "second" / theirs.name).symlink_to(theirs)
    with Ledger(tmp_path / "second" / "attnsearch.db") as ledger:
        path = ledger.run(1).weights_path
        assert path is not None and Path(path).read_bytes() == b"weights of k"
        assert not ledger.drop_file(Path(path))
    assert (theirs / "k.safetensors").exists()


def test_weights_elsewhere_are_deleted_by_who_wrote_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNSEARCH_WEIGHTS", str(tmp_path / "disk"))
    first = project(tmp_path / "first")
    path = tmp_path / "disk" / "k.safetensors"
    with Ledger(first) as ledger:
        assert ledger.run(1).weights_path == str(path)
        ledger.write_file(path, b"again")  # it was there before
        assert not ledger.drop_file(path)
        ledger.write_file(path.with_name("mine"), b"")
        assert ledger.drop_file(path.with_name("mine"))
    assert path.read_bytes() == b"again"


def test_a_changed_byte_is_noticed_wherever_it_stands(tmp_path: Path) -> None:
    with Ledger(project(tmp_path / "first")) as ledger:
        path = Path(str(ledger.run(1).weights_path))
        sound = path.read_bytes()
        for place in range(len(sound)):
            path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
            assert not ledger.intact(str(path))
        with pytest.raises(DamagedFile, match="does not hold what was stored"):
            check_file(path, ledger.checksum(path))
        ledger.write_file(path, b"trained anew")
        assert ledger.intact(str(path))


def test_damaged_predictions_are_no_numbers(tmp_path: Path) -> None:
    """Bytes of a zip file that say nothing about its arrays may change; no number does."""
    file = project(tmp_path / "first")
    with sqlite3.connect(file) as database:
        ((sound,),) = database.execute("SELECT data FROM prediction").fetchall()
    noticed = 0
    with Ledger(file) as ledger:
        for place in range(len(sound)):
            wrong = sound[:place] + bytes([sound[place] ^ 0x55]) + sound[place + 1 :]
            with sqlite3.connect(file) as database:
                database.execute("UPDATE prediction SET data = ?", (wrong,))
            try:
                labels = ledger.predictions(1)["val"]["labels"]
            except LedgerError as error:
                assert "predictions of run 1" in str(error) and "damaged" in str(error)
                noticed += 1
            else:
                assert np.array_equal(labels, np.arange(200) % 7)
    assert noticed > len(sound) / 3


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store that a URL names."""
    monkeypatch.setenv("ATTNSEARCH_STORE", f"memory://{tmp_path}")
    opened = open_store()
    assert opened is not None
    return opened


def test_weights_of_a_store_are_there_on_another_machine(tmp_path: Path, store: Store) -> None:
    first = project(tmp_path / "first")
    assert store.get("k.safetensors") == b"weights of k"
    with sqlite3.connect(first) as database:
        ((name,),) = database.execute("SELECT weights_path FROM run").fetchall()
    assert name == "$ATTNSEARCH_STORE/k.safetensors", "wherever the store is, and with no login"
    here = tmp_path / "second" / "attnsearch-weights" / "k.safetensors"
    here.parent.mkdir(parents=True)
    shutil.copy(first, here.parents[1])
    with Ledger(here.parents[1] / "attnsearch.db") as ledger:
        assert ledger.run(1).weights_path == str(here)
        assert ledger.intact(str(here)) and here.read_bytes() == b"weights of k"
        here.write_bytes(b"weights of K")
        assert ledger.intact(str(here)), "a damaged copy is fetched anew"
        here.unlink()
        store.put("k.safetensors", b"other weights")
        assert not ledger.intact(str(here)), "and what the store has is compared too"
        assert not here.exists()
        assert ledger.drop_file(here)
        assert store.names("") == []
        assert ledger.checksum(here) is None


def test_weights_that_a_store_does_not_take_are_not_kept(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StoreError("no answer")

    monkeypatch.setattr(Store, "put", away)
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        path = weights_folder(ledger) / "k.safetensors"  # type: ignore[arg-type]
        with pytest.raises(OSError, match="no answer"):
            ledger.write_file(path, b"weights")
        assert not path.exists() and ledger.checksum(path) is None


@pytest.mark.parametrize("named", ["memory://{}", "{}/shared"])
def test_a_store_that_comes_later_or_goes_changes_no_checksum(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNSEARCH_STORE", named.format(tmp_path))
    file = project(tmp_path / "first")
    with Ledger(file) as ledger:
        path = Path(str(ledger.run(1).weights_path))
        known = ledger.checksum(path)
        assert known is not None
        ledger.write_file(path, b"weights of k")
        monkeypatch.setenv("ATTNSEARCH_WEIGHTS", str(path.parent))
        monkeypatch.delenv("ATTNSEARCH_STORE")
        assert ledger.checksum(path) == known and ledger.run(1).weights_path == str(path)
        ledger.write_file(path, b"trained anew")
        assert ledger.checksum(path) != known
        monkeypatch.setenv("ATTNSEARCH_STORE", named.format(tmp_path))
        assert ledger.intact(str(path)), "what lies here is what was noted last"
