"""Uploads: one person's files are nobody else's, names are never paths, and time deletes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pathasst.core.errors import BadInput
from pathasst.serve.uploads import UploadStore

EVIL = [
    "../../etc/passwd",
    "/etc/passwd",
    "..\\..\\windows",
    "a/../../b",
    "\x00",
    "",
    ".",
    "..",
    "con",
    "x" * 500,
    "<script>.png",
    "file-1",
]


@pytest.fixture
def store(tmp_path: Path) -> UploadStore:
    return UploadStore(tmp_path / "up", keep_seconds=60)


@pytest.mark.parametrize("name", EVIL)
def test_a_name_is_never_a_path(store: UploadStore, name: str) -> None:
    upload = store.put("anna", name, b"x")
    path = store.path("anna", upload.id)
    assert path.name == upload.id
    assert path.parent.parent == store.home
    assert "/" not in upload.name
    assert "\\" not in upload.name
    assert len(upload.name) <= 100


@pytest.mark.parametrize("user", ["../anna", "anna/../bert", "", "/", "\x00"])
def test_a_user_is_never_a_path(store: UploadStore, user: str) -> None:
    assert store.path(user, store.put(user, "a", b"x").id).parent.parent == store.home


@pytest.mark.parametrize("id", [*EVIL, "file-" + "0" * 31 + "/", "file-" + "g" * 32, "*", "file-*", "../" + "file-" + "0" * 32])
def test_an_id_is_never_a_path(store: UploadStore, id: str) -> None:
    store.put("anna", "a", b"x")
    for action in (store.get, store.path, store.delete):
        with pytest.raises(BadInput):
            action("anna", id)


def test_people_do_not_see_each_other(store: UploadStore) -> None:
    upload = store.put("anna", "a.png", b"x")
    assert store.list("bert") == []
    for action in (store.get, store.path, store.delete):
        with pytest.raises(BadInput, match="no file"):
            action("bert", upload.id)
    assert store.path("anna", upload.id).read_bytes() == b"x"


def test_time_deletes(tmp_path: Path) -> None:
    store = UploadStore(tmp_path, keep_seconds=0.05)
    upload = store.put("anna", "a.png", b"x")
    path = store.path("anna", upload.id)
    time.sleep(0.06)
    assert store.list("anna") == []
    with pytest.raises(BadInput, match="expired"):
        store.get("anna", upload.id)
    assert store.sweep() == 1
    assert not path.exists()
    assert not list(tmp_path.rglob("*.json"))


def test_quota_and_modes(tmp_path: Path) -> None:
    store = UploadStore(tmp_path / "up", quota=10)
    store.put("anna", "a", b"x" * 8)
    with pytest.raises(BadInput, match="delete some"):
        store.put("anna", "b", b"x" * 3)
    store.put("bert", "b", b"x" * 8)
    folder = store.path("anna", store.list("anna")[0].id).parent
    assert folder.stat().st_mode & 0o077 == 0
