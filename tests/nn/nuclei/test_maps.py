"""Labels become maps and maps become labels again; what touches stays apart."""

import numpy as np
import pytest

from pathasst.imaging.instances import score_instances
from pathasst.nn.nuclei.maps import STEP, gather, targets


def discs(side: int = 96) -> np.ndarray:
    """Numbered discs in rows, of which neighbours touch."""
    y, x = np.indices((side, side))
    labels, number = np.zeros((side, side), np.int32), 0
    for cy in range(10, side - 8, 24):
        for cx in range(10, side - 8, 13):
            number += 1
            labels[((x - cx) ** 2 + (y - cy) ** 2 <= 42) & (labels == 0)] = number
    return labels


def test_true_maps_give_back_touching_nuclei():
    labels = discs()
    nuclei, scores = gather(targets(labels), 0.5, 0.3, 4)
    assert score_instances(labels, nuclei).f1[0.9] == 1.0
    assert len(scores) == nuclei.max() == labels.max() and (scores == 1).all()


def test_a_pixel_points_to_the_centre_of_its_nucleus():
    labels = np.zeros((20, 30), np.int32)
    labels[4:9, 10:19] = 7
    foreground, centre, to_x, to_y = targets(labels)
    assert foreground.sum() == 45 and centre[6, 14] == pytest.approx(1)
    assert to_x[4, 10] * STEP == pytest.approx(4) and to_y[4, 10] * STEP == pytest.approx(2)
    assert centre[0, 0] == to_x[0, 0] == 0


def test_specks_go_holes_are_filled_and_nothing_gives_nothing():
    maps = targets(discs())
    maps[0, 10, 10] = 0  # a hole in the first nucleus
    maps[0, 0:2, 90:92], maps[1, 0, 90] = 1, 1  # a speck
    nuclei, scores = gather(maps, 0.5, 0.3, 10)
    assert nuclei[10, 10] == nuclei[10, 11] > 0 and nuclei[0, 90] == 0
    assert scores[nuclei[10, 10] - 1] < 1
    empty, none = gather(np.zeros((4, 32, 32), np.float32), 0.5, 0.3, 4)
    assert not empty.any() and not len(none)
