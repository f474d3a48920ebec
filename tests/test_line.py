"""The whole line, by its commands: article → figures → pairs → conversations; `kill -9` or Ctrl-C in any step changes nothing.

A command that is stopped is a process of its own; the others run in this one, which has the libraries already.
"""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import skimage.data
from PIL import Image
from typer.testing import CliRunner

from pathasst import dataset
from pathasst.cli.main import app
from pathasst.core.records import Conversation, Figure, Pair
from pathasst.core.resources import example_article

ARTICLES = 3
STEPS = {
    "collect": ("collect", "folder", "{articles}", "--out", "{out}", "--per-shard", "1"),
    "curate": ("curate", "{figures}", "--out", "{out}", "--no-report", "--similarity", "none"),
    "instruct": ("instruct", "{pairs}", "--out", "{out}", "--invoke", "1500"),
}


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some variants of the example article, and each step run once without interruption."""
    folder = tmp_path_factory.mktemp("line")
    for n in range(ARTICLES):
        _variant(folder / "articles" / f"a{n}", n)
    for step in STEPS:
        _run(step, folder, _dataset(folder, step))
    return folder


def test_the_line_keeps_provenance_and_drops_the_chart(line: Path) -> None:
    figures = list(dataset.read(line / "figures", Figure))
    pairs = list(dataset.read(line / "pairs", Pair))
    conversations = list(dataset.read(line / "conversations", Conversation))
    assert len(figures) == 3 * ARTICLES
    assert all(f.label and f.mentions and f.source.licence == "CC0-1.0" for f in figures)
    assert pairs
    assert not [p for p in pairs if p.figure_id.endswith("/f2")], "the bar chart is not pathology"
    assert all(p.caption and p.image and p.trail and p.source.doi for p in pairs)
    assert {c.kind for c in conversations} == {"describe", "converse", "invoke"}
    for folder, kind in (("figures", Figure), ("pairs", Pair), ("conversations", Conversation)):
        assert dataset.validate(line / folder, kind) == []


def test_compound_figure_is_cut_and_its_caption_split(line: Path) -> None:
    parts = [p for p in dataset.read(line / "pairs", Pair) if p.source.doi.endswith("example.0") and p.figure_id.endswith("/f1")]
    by_letter = {p.panel.letter: p for p in parts if p.panel}
    assert sorted(by_letter) == list("ABCD")
    words = {"A": "mucosa", "B": "adenocarcinoma", "C": "brown", "D": "neutrophil"}
    for letter, pair in by_letter.items():
        assert [x for x, word in words.items() if word in pair.caption.lower()] == [letter]


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)], ids=["kill", "ctrl-c"])
@pytest.mark.parametrize("step", STEPS)
def test_stopped_step_resumes_to_the_same_dataset(
    line: Path, tmp_path: Path, step: str, stop: signal.Signals, code: int, start: Callable[[Sequence[str]], Any]
) -> None:
    out = tmp_path / "stopped"
    process = start(_words(step, line, out))
    deadline = time.monotonic() + 120
    while not [p for p in out.rglob("*.parquet") if ".writing" not in str(p)] and process.runs() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, stop)
    status, said = process.ended()
    assert status == code, "the signal must fall in the middle"
    assert stop is signal.SIGKILL or "run the same command to go on" in said
    assert "Traceback" not in said
    _run(step, line, out)
    assert _shards(out) == _shards(_dataset(line, step))


def _variant(folder: Path, n: int) -> None:
    """The example article with another DOI and a real compound figure: of its own, which is drawn, select rightly drops half."""
    shutil.copytree(example_article(), folder)
    xml = folder / "article.xml"
    xml.write_text(xml.read_text(encoding="utf-8").replace("example.1", f"example.{n}"), encoding="utf-8")
    real = Image.fromarray(skimage.data.immunohistochemistry())
    quarters = [real.crop((x, y, x + 256, y + 256)).resize((384, 384)) for y in (0, 256) for x in (0, 256)]
    lettered = runpy.run_path(str(example_article() / "draw.py"))["lettered"]
    lettered(quarters, 2).save(folder / "demo-001-g001.jpg", quality=88)
    if n:  # cropped, so that the pictures of the variants are no duplicates
        for path in folder.glob("demo-*"):
            with Image.open(path) as picture:
                side = picture.size[0] - 40 * n
                picture.convert("RGB").crop((0, 0, side, side)).save(path)


def _dataset(folder: Path, step: str) -> Path:
    return folder / {"collect": "figures", "curate": "pairs", "instruct": "conversations"}[step]


def _words(step: str, folder: Path, out: Path) -> list[str]:
    places = {"articles": folder / "articles", "figures": folder / "figures", "pairs": folder / "pairs", "out": out}
    return [part.format(**places) for part in STEPS[step]]


def _run(step: str, folder: Path, out: Path) -> None:
    result = CliRunner().invoke(app, _words(step, folder, out))
    assert result.exit_code == 0, result.output[-3000:]


def _shards(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.parquet")}
