"""`doctor` says what is missing and how to get it; `models` lists, shows and refuses in sentences."""

from __future__ import annotations

import re
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pathasst.cli.main import app
from pathasst.core import weights
from pathasst.tools.lbc_detect import LbcDetect


def said(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result.output


def test_a_machine_without_fetched_weights_is_told_what_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATHASST_CACHE", str(tmp_path))
    monkeypatch.delenv("PATHASST_MODELS", raising=False)
    text = said("doctor")
    missing = text.split("Missing: ")[1].splitlines()
    assert int(re.match(r"\d+", missing[0])[0]) == len(missing) - 1
    for id_ in ("minilm", "smollm2-135m", "mobilesam"):
        assert f"  {id_}: pathasst models pull {id_}" in missing
    assert "  tool segment: pathasst models pull mobilesam" in missing
    assert "not writable" not in text


def test_a_cache_that_cannot_be_written_and_a_full_disk_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATHASST_CACHE", "/proc/pathasst")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "  a writable cache: set PATHASST_CACHE to a folder you may write (now /proc/pathasst)" in said("doctor").splitlines()
    monkeypatch.setattr("os.access", lambda path, mode: True)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12, 3 * 10**8))
    assert "  disk space for weights: 0.3 GB free in /proc/pathasst; set PATHASST_CACHE elsewhere" in said("doctor").splitlines()


def test_a_missing_package_is_named_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.util import find_spec

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ("ray", "faiss") else find_spec(name))
    lines = said("doctor").splitlines()
    assert "  ray: pip install 'pathasst[scale]'" in lines
    assert "  faiss: pip install --force-reinstall pathasst" in lines


def test_weights_that_nobody_published_are_not_offered_to_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LbcDetect, "missing", classmethod(lambda cls: ["never-made"]))
    text = said("doctor")
    assert "tool lbc_detect: no weights are published; train it" in text
    assert "pull never-made" not in text


def test_every_model_is_listed_within_eighty_columns() -> None:
    text = said("models", "list")
    assert all(len(line) <= 80 for line in text.splitlines())
    for entry in weights.registry().values():
        line = next(line for line in text.splitlines() if line.startswith(entry.id))
        lacking = weights.lacking(entry.id)
        assert ("not here" if entry.id in lacking else "waits" if lacking else "here") == line[23:].split("  ")[0].strip()
        assert f"{entry.size_mb:.0f} MB" in line


def test_a_model_that_waits_for_another_is_not_to_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATHASST_CACHE", str(tmp_path))
    assert weights.lacking("pathclip-lite") == ["efficientnet-lite0", "minilm"]
    lines = said("doctor").splitlines()
    assert any(line.split() == ["✗", "router-embedded", "is", "here,", "but", "needs", "e5-small"] for line in lines)
    assert not any(line.startswith("  router-embedded:") for line in lines)
    assert "  minilm: pathasst models pull minilm" in lines
    assert "    waits for e5-small: pathasst models pull router-embedded" in said("models", "list").splitlines()


def test_a_card_is_shown_and_an_unknown_model_refused() -> None:
    assert "Apache-2.0" in said("models", "card", "minilm")
    assert "already here" in said("models", "pull", "select-embedded")
    result = CliRunner().invoke(app, ["models", "pull", "gpt-9"])
    assert "no model is called 'gpt-9'; `pathasst models list` shows them all." in str(result.exception)
