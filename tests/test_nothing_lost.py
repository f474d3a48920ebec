"""A run that reads nothing, over a good dataset or index, fails and leaves every byte of it: each stage by its command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pathasst.cli.main import app
from pathasst.core.records import Figure, Pair
from pathasst.dataset import Unit, run_stage

sys.path.extend([str(Path(__file__).parent / room) for room in ("collect", "curate", "papers", "instruct")])
from collect_samples import article_xml, fig, picture
from curate_samples import figure, texture
from instruct_samples import write_pairs
from paper_samples import corpus, document

Inputs = tuple[list[str], list[str]]  # arguments of a good run and of one that can take nothing


def _folder(home: Path) -> Inputs:
    (home / "good").mkdir()
    (home / "good" / "a.xml").write_bytes(article_xml(fig("f1")))
    (home / "good" / "g1.jpg").write_bytes(picture())
    (home / "bad").mkdir()
    (home / "bad" / "a.xml").write_bytes(b"<article><front>")
    return ["collect", "folder", f"{home}/good"], ["collect", "folder", f"{home}/bad"]


def _books(home: Path) -> Inputs:
    (home / "good.html").write_text('<figure><img src="g.jpg"><figcaption>Figure 1. A gland.</figcaption></figure>')
    (home / "g.jpg").write_bytes(picture((200, 150)))
    (home / "bad.epub").write_bytes(b"PK\x03\x04 cut short")
    return ["collect", "books", f"{home}/good.html"], ["collect", "books", f"{home}/bad.epub"]


def _import(home: Path) -> Inputs:
    (home / "g.jpg").write_bytes(picture())
    (home / "good.csv").write_text("filepath,title\ng.jpg,A gland.\n")
    (home / "bad.csv").write_text("filepath,title\nmissing.jpg,A gland.\n")
    return ["dataset", "import", f"{home}/good.csv"], ["dataset", "import", f"{home}/bad.csv"]


def _curate(home: Path) -> Inputs:
    good = [figure("f1", texture(1), "H&E stain of a gland with crowded nuclei.")]
    _dataset(home / "good", Figure, good)
    _dataset(home / "bad", Figure, [figure("f1", None, "H&E stain of a gland.")])
    more = ["--similarity", "none", "--no-report", "--set", "select=''"]
    return ["curate", f"{home}/good", *more], ["curate", f"{home}/bad", *more]


def _instruct(home: Path) -> Inputs:
    write_pairs(home / "good")
    _dataset(home / "bad", Pair, [])
    more = ["--invoke", "0"]
    return ["instruct", f"{home}/good", *more], ["instruct", f"{home}/bad", *more]


def _papers(home: Path) -> Inputs:
    (home / "good.xml").write_bytes(document(*corpus(4)))
    (home / "bad.xml").write_text("<html/>")
    return ["papers", "build", f"{home}/good.xml", "--no-vectors"], ["papers", "build", f"{home}/bad.xml", "--no-vectors"]


def _dataset(folder: Path, kind: type, records: list) -> None:
    run_stage(folder, stage="t", record=kind, units=[Unit("00000")], work=lambda _: records, progress=False)


@pytest.mark.parametrize("stage", [_folder, _books, _import, _curate, _instruct, _papers])
def test_a_run_that_reads_nothing_leaves_what_was_good(
    stage: Callable[[Path], Inputs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stage is _papers:  # the others use the cache's quick forms of their models
        monkeypatch.setenv("PATHASST_CACHE", str(tmp_path / "cache"))
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    good, bad = stage(inputs)
    out = tmp_path / "out"
    place = ["--index" if stage is _papers else "--out", str(out)]
    first = CliRunner().invoke(app, [*good, *place])
    assert first.exit_code == 0, first.output
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    second = CliRunner().invoke(app, [*bad, *place])
    assert second.exit_code != 0
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
