"""The count of red cells: by the picture's own scores, and strict with what is cut, covered or of an odd size."""

import numpy as np

from pathasst.nn.detector.boxes import Boxes
from pathasst.tools.red_cells import counted

WHITE, RED = 0, 1


def smear(scores, places, sides=40.0, white=()):
    """Square boxes of red cells around places, and of white cells."""
    sides = np.broadcast_to(np.asarray(sides, float), (len(places),))[:, None] / 2
    red = np.concatenate([np.array(places, float) - sides, np.array(places, float) + sides], axis=1)
    boxes = np.concatenate([red, np.array(white, float).reshape(-1, 4)]).astype(np.float32)
    classes = np.array([RED] * len(places) + [WHITE] * len(white))
    return Boxes(boxes, np.array([*scores, *[0.9] * len(white)], np.float32), classes)


def count(boxes):
    found = counted(boxes, RED, WHITE, (480, 640, 3))
    return found and (int(found[0].sum()), found[1])


GRID = [(60 + 60 * k, 100) for k in range(8)]


def test_free_cells_count_from_half_of_the_best_score_on_whatever_the_scores_are():
    """The same cells, of which two score lower, in a laboratory whose cells all score half as high again lower."""
    scores = np.array([0.8] * 6 + [0.5, 0.45])
    assert count(smear(scores, GRID))[0] == 8
    assert count(smear(scores * 0.7, GRID))[0] == 8
    assert count(smear([0.8] * 6 + [0.35, 0.3], GRID))[0] == 6


def test_what_is_cut_covered_of_odd_size_or_on_a_white_cell_must_score_high():
    best = [0.8] * 6
    places = GRID[:6]
    for doubtful, sides, white in (
        ((10, 300), 40, ()),  # cut by the edge
        ((70, 110), 40, ()),  # over its neighbour
        ((300, 300), 90, ()),  # twice the size
        ((300, 300), 40, ((270, 270, 340, 340),)),  # on a white cell
    ):
        all_sides = [40] * 6 + [sides]
        assert count(smear([*best, 0.6], [*places, doubtful], all_sides, white))[0] == 6
        assert count(smear([*best, 0.75], [*places, doubtful], all_sides, white))[0] == 7


def test_the_range_goes_from_what_is_hardly_in_doubt_to_all_that_may_be_a_cell():
    number, (low, high) = count(smear([0.8, 0.8, 0.8, 0.8, 0.6, 0.35], GRID[:6]))
    assert number == 5 and low == 4 and high == 6


def test_a_picture_without_sure_cells_is_left_to_the_fixed_threshold():
    assert count(smear([0.45] * 8, GRID)) is None
    assert count(Boxes.none()) is None
