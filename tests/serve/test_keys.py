"""Keys: shown once, stored as hashes, refused when wrong or revoked."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pathasst.core.errors import BadSettings
from pathasst.serve.keys import KeyStore


def test_a_key_works_until_it_is_revoked(tmp_path: Path) -> None:
    store, running = KeyStore(tmp_path / "k" / "keys.json"), KeyStore(tmp_path / "k" / "keys.json")
    assert not running.active()
    key, secret = store.add("Ward 3")
    found = running.check(secret)
    assert found is not None
    assert (found.id, found.name) == (key.id, "Ward 3")
    store.revoke(key.id)
    assert running.check(secret) is None
    assert not running.active()
    assert running.list()[0].revoked


def test_the_file_holds_no_secret_and_is_the_owners(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys.json")
    secrets = [store.add(f"n{n}")[1] for n in range(3)]
    text = (tmp_path / "keys.json").read_text()
    assert not any(s.split("-", 2)[2] in text for s in secrets)
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600
    assert len(set(secrets)) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s[:-1] + "~",
        lambda s: s + "x",
        lambda s: s.upper(),
        lambda s: "",
        lambda s: "pa--",
        lambda s: "pa-00000000-" + s.split("-", 2)[2],
        lambda s: f" {s}",
        lambda s: "\ud800" * 43,
    ],
)
def test_a_wrong_key_is_none(tmp_path: Path, change: object) -> None:
    store = KeyStore(tmp_path / "keys.json")
    _, secret = store.add("a")
    assert store.check(change(secret)) is None  # type: ignore[operator]


@pytest.mark.parametrize("name", ["", "x" * 61, "a\nb", "<b>"])
def test_bad_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadSettings):
        KeyStore(tmp_path / "keys.json").add(name)


def test_a_damaged_file_opens_no_door(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text('[{"id": 1}]')
    with pytest.raises(BadSettings, match="damaged"):
        KeyStore(tmp_path / "keys.json").check("pa-00000000-" + "a" * 43)
