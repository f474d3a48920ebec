"""ImageCLEF's separation files, its score by hand, and a cutter beside a figure taken whole."""

import numpy as np
import pytest
from PIL import Image

from pathasst.core.errors import BadDataset
from pathasst.evaluate.imageclef import challenge_score, evaluate, exact, read_separation, whole_figure

TRUTH = [(0.0, 0.0, 50.0, 40.0), (50.0, 0.0, 100.0, 40.0)]


def point(x, y):
    return f'<point x="{x}" y="{y}"/>'


@pytest.fixture
def folder(tmp_path):
    corners = ["".join(point(x, y) for x, y in ((a, b), (c, b), (a, d), (c, d))) for a, b, c, d in TRUTH]
    objects = "".join(f"<object>{c}</object>" for c in corners)
    names = ("1-2-3", "lost", "broken")
    text = "".join(f"<annotation><filename>{n}</filename>{objects}</annotation>" for n in names)
    (tmp_path / "FigureSeparationTest2016GT.xml").write_text(f"<annotations>{text}</annotations>")
    (tmp_path / "figures").mkdir()
    Image.fromarray(np.full((40, 100, 3), 200, np.uint8)).save(tmp_path / "figures/1-2-3.jpg")
    (tmp_path / "figures/broken.jpg").write_bytes(b"half")
    return tmp_path


def test_a_cutter_beside_the_whole_figure(folder):
    table, scores = evaluate(folder, {"right": lambda picture: TRUTH, "whole figure": whole_figure})
    assert [[row[0], *row[1:4], row[4].value, row[5].value] for row in table.rows] == [
        ["right", 1, 2, 2, 1.0, 1.0],
        ["whole figure", 1, 2, 1, 0.0, 0.0],
    ]
    assert any("2 figures left out" in note for note in table.notes) and len(scores) == 4


@pytest.mark.parametrize(
    ("predicted", "score", "whole"),
    [
        (TRUTH, 1.0, True),
        (TRUTH[:1], 0.5, False),
        ([], 0.0, False),
        ([TRUTH[0], TRUTH[0]], 0.5, False),  # each true panel takes one
        ([(0, 0, 74, 40), TRUTH[1]], 1.0, True),  # two thirds of its own area lie in the first
        ([(0, 0, 76, 40), TRUTH[1]], 0.5, True),  # fewer by the challenge's rule, enough by IoU
        ([*TRUTH, (0, 0, 5, 5)], 2 / 3, False),
    ],
)
def test_both_rules(predicted, score, whole):
    assert challenge_score(TRUTH, predicted) == pytest.approx(score)
    assert exact(TRUTH, predicted) is whole


def test_another_layout_is_explained(tmp_path):
    with pytest.raises(BadDataset, match=r"holds no figures of ImageCLEF. Expected: .*imageclef.org"):
        read_separation(tmp_path)
    (tmp_path / "a.xml").write_text("<annotations><annotation><filename>x</filename><object><point/></object>")
    with pytest.raises(BadDataset, match="no separation file"):
        read_separation(tmp_path)
