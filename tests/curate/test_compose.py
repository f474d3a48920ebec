from __future__ import annotations

import numpy as np
import pytest
from curate_samples import texture

from pathasst.core.errors import BadInput
from pathasst.curate.compose import Composer, ComposeSettings, close_gaps, draw_grid, read_layouts, tight
from pathasst.curate.panels import CutDetector
from pathasst.curate.panels_train import PanelsRecipe, composed_figures
from pathasst.imaging.boxes import iou

PICTURES = [texture(n, 120, 160) for n in range(6)]


def test_the_same_generator_gives_the_same_figure_and_boxes_lie_inside():
    composer = Composer(PICTURES)
    for seed in range(30):
        figure, again = composer(np.random.default_rng(seed)), composer(np.random.default_rng(seed))
        assert (figure.picture == again.picture).all()
        height, width = figure.picture.shape[:2]
        assert max(height, width) == composer.settings.side
        for box in [*figure.panels, *(b for b in figure.letters if b)]:
            assert 0 <= box[0] < box[2] <= width
            assert 0 <= box[1] < box[3] <= height


def test_panels_never_overlap_and_letters_stand_where_the_style_says():
    composer = Composer(PICTURES, settings=ComposeSettings(single=0.0, letters=1.0))
    inside = outside = 0
    for seed in range(40):
        figure = composer(np.random.default_rng(seed))
        assert all(iou(a, b) == 0 for n, a in enumerate(figure.panels) for b in figure.panels[n + 1 :])
        for panel, letter in zip(figure.panels, figure.letters, strict=True):
            if letter:
                within = iou(panel, letter) > 0
                inside, outside = inside + within, outside + (not within)
                assert within == figure.style["inside"]
    assert inside > 20 and outside > 20


def test_letters_are_really_printed():
    plain = Composer(PICTURES, settings=ComposeSettings(single=0.0, letters=1.0, inside=0.0, white=1.0, words=0.0))
    found = 0
    for seed in range(20):
        figure = plain(np.random.default_rng(seed))
        for box in (b for b in figure.letters if b):
            x1, y1, x2, y2 = (int(v) for v in box)
            ink = (figure.picture[y1:y2, x1:x2] < 128).any(axis=2).mean()
            found += 1
            assert 0.05 < ink < 0.9
    assert found > 20


def test_figures_with_wide_white_gutters_are_cut_right_by_the_gutter_method():
    easy = ComposeSettings(
        single=0.0, touching=0.0, thin=0.0, white=1.0, inset=0.0, letters=0.0, border=0.0, words=0.0, marks=0.0
    )
    composer, right = Composer(PICTURES, settings=easy), 0
    for seed in range(20):
        figure = composer(np.random.default_rng(seed))
        found = CutDetector()(figure.picture)
        right += len(found) == len(figure.panels) and all(max(iou(p.box, b) for p in found) > 0.5 for b in figure.panels)
    assert right >= 17


def test_a_layout_of_a_real_figure_is_read_and_its_gaps_closed(tmp_path):
    rows = [
        "f/1.jpg,0,0,90,100,panel,1,1,9,9,A",
        "f/1.jpg,110,0,200,100,panel,111,1,119,9,B",
        "f/2.jpg,0,0,50,50,panel,1,1,2,2,A",
    ]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    layouts = read_layouts(tmp_path / "boxes.csv")
    assert layouts == [[(0.0, 0.0, 0.45, 1.0), (0.55, 0.0, 1.0, 1.0)]]
    left, right = close_gaps(layouts[0])
    assert left[2] == pytest.approx(0.5) and right[0] == pytest.approx(0.5)
    (tmp_path / "boxes.csv").write_text("a,b,c\n")
    with pytest.raises(BadInput):
        read_layouts(tmp_path / "boxes.csv")


def test_a_grid_covers_the_figure():
    for seed in range(30):
        rects = draw_grid(np.random.default_rng(seed))
        assert len(rects) >= 2
        assert sum((r[2] - r[0]) * (r[3] - r[1]) for r in rects) == pytest.approx(1.0)


def test_a_picture_on_ground_of_its_own_colour_ends_where_its_ink_does():
    figure = np.full((50, 60, 3), 255, np.uint8)
    figure[10:20, 15:30] = 0
    assert tight(figure, (5, 5, 55, 45), 255) == (15.0, 10.0, 30.0, 20.0)
    assert tight(figure, (40, 30, 55, 45), 255) == (40.0, 30.0, 55.0, 45.0)


def test_drawn_sets_give_the_trainer_boxes_and_labels_of_the_picture_it_will_see():
    composer = Composer(PICTURES)
    sets = composed_figures(composer, 3, seed=5)
    for n, item in enumerate(sets):
        figure = composer(np.random.default_rng((5, n)))
        assert (item.pixels() == figure.picture).all()
        assert (item.boxes[item.labels == 0] == np.array(figure.panels, np.float32)).all()
        assert (item.labels == 1).sum() == sum(b is not None for b in figure.letters)


@pytest.mark.parametrize("name", ["embedded", "paper"])
def test_the_recipes_load(name):
    recipe = PanelsRecipe.load(name)
    assert recipe.training.model.classes == ("panel", "letter")
    assert recipe.training.model.size == recipe.training.crop <= recipe.compose.side
