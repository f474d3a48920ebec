"""What curation reaches on real captions and figures, as floors below the values of docs/measured/curate.md."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

DATA = Path(os.environ.get("PATHASST_DATA", "/nonexistent"))
pytestmark = [pytest.mark.real, pytest.mark.skipif(not DATA.is_dir(), reason="set PATHASST_DATA to the sample data")]


@pytest.mark.parametrize(("name", "letters", "f1"), [("prostate", 0.95, 0.90), ("panelseg", 0.91, 0.84)])
def test_captions_are_split_as_people_split_them(name, letters, f1):
    import curate_captions

    gold = curate_captions.load(DATA, name)
    scores = curate_captions.score(curate_captions.grammar, gold)
    plain = curate_captions.score(curate_captions.regex, gold)
    assert scores["letters"].value >= letters
    assert scores["f1"].value >= f1
    assert scores["letters"].value > plain["letters"].value + 0.2
    assert scores["verbatim"] == 1.0
    told = curate_captions.score(curate_captions.with_picture, gold)
    assert told["letters"].value >= 0.95
    assert told["f1"].value >= 0.90


def test_figures_are_cut_where_the_pdf_has_its_pictures():
    import curate_panels

    figures = json.loads((DATA / "articles" / "figures.json").read_text())
    from pathasst.curate.panels import CutDetector

    scores = curate_panels.score_panels(CutDetector(), curate_panels.real(DATA, figures[::2]))
    assert scores["map50"] >= 0.90
    assert scores["exact"].value >= 0.80
