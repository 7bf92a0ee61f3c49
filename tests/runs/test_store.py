"""A store that a URL names: what it is given is there whole, or the reason is told, no login."""

from pathlib import Path

import pytest

from attnsearch.runs import store as module
from attnsearch.runs.store import (
    StoreError,
    check_store,
    is_store_named,
    open_store,
    store_folder,
    store_value,
)


@pytest.fixture(params=["memory", "fsspec+file"])
def named(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URL of a store: one of fsspec's, by its own and by pyarrow's way to it."""
    url = f"{request.param}://{tmp_path}/bucket"
    monkeypatch.setenv("ATTNSEARCH_STORE", url)
    return url


def test_what_is_put_is_there_under_its_name_until_it_is_dropped(named: str) -> None:
    store = open_store()
    assert store is not None and store_folder() is None and is_store_named()
    assert store.names("checkpoints/k-1") == []
    for name, content in (("a", b"first"), ("b", b""), ("a", b"second")):
        store.put(f"checkpoints/k-1/{name}", memoryview(content))
    store.put("k.safetensors", b"weights")
    assert sorted(store.names("checkpoints/k-1")) == ["a", "b"]
    assert store.names("checkpoints") == ["k-1"]
    assert store.get("checkpoints/k-1/a") == b"second"
    store.drop("checkpoints/k-1/b")
    store.drop("checkpoints/k-1/b")
    assert store.names("checkpoints/k-1") == ["a"]
    store.drop("checkpoints/k-1")
    assert store.names("checkpoints/k-1") == []
    assert store.get("k.safetensors") == b"weights"
    with pytest.raises(StoreError, match="nothing cannot be read"):
        store.get("nothing")
    check_store()
    assert not [name for name in store.names("") if name.startswith(".attnsearch")]


def test_a_folder_is_no_store_of_files_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for named in (str(tmp_path / "shared"), f"file://{tmp_path}/shared"):
        monkeypatch.setenv("ATTNSEARCH_STORE", named)
        assert store_folder() == tmp_path / "shared"
        assert open_store() is None
        check_store()
        assert not list((tmp_path / "shared").iterdir())
    monkeypatch.setenv("ATTNSEARCH_STORE", str(tmp_path / "shared" / "file" / "below"))
    (tmp_path / "shared" / "file").touch()
    with pytest.raises(StoreError, match="file/below cannot be written"):
        check_store()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATTNSEARCH_STORE", "shared")
    assert store_value() == str(tmp_path / "shared"), "workers run elsewhere"
    monkeypatch.setenv("ATTNSEARCH_STORE", "s3://bucket/name")
    assert store_value() == "s3://bucket/name"
    monkeypatch.setenv("ATTNSEARCH_STORE", "")
    assert (store_folder(), open_store(), is_store_named()) == (None, None, False)
    check_store()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param(
            "s3://anna:s3cr3t@bucket/weights?endpoint_override=127.0.0.1:9&scheme=http",
            "written",
            marks=pytest.mark.slow,  # it tries again for a while
        ),
        ("nowhere://anna:s3cr3t@bucket/weights", "nowhere"),
        ("s3://bucket?secret_key=s3cr3t&region", "s3://bucket"),
    ],
)
def test_a_store_that_is_away_is_told_without_its_login(
    url: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNSEARCH_STORE", url)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError, match=words) as caught:
        check_store()
    assert "ATTNSEARCH_STORE=" in str(caught.value)
    assert "s3cr3t" not in f"{caught.value} {open_store()} {open_store()!r}"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(url: str) -> None:
        raise ImportError("Install adlfs to access Azure")

    monkeypatch.setattr(module, "_opened", opened)
    monkeypatch.setenv("ATTNSEARCH_STORE", "abfs://box@account.dfs.core.windows.net")
    with pytest.raises(StoreError, match="install adlfs on every machine"):
        check_store()
