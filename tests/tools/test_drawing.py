"""Annotated pictures hold the marks at the right places and a legend."""

import numpy as np

from pathasst.records import Annotation
from pathasst.tools import rle
from pathasst.tools.drawing import annotate, colours_of
from pathasst.tools.images import load


def test_points_boxes_and_masks_are_drawn_where_they_are():
    image = np.full((600, 600, 3), 255, np.uint8)
    mask = np.zeros((600, 600), bool)
    mask[400:500, 100:200] = True
    marks = [
        Annotation(kind="point", label="positive", coordinates=[50.5, 60.5]),
        Annotation(kind="box", label="WBC", coordinates=[300, 100, 400, 200], score=0.9),
        Annotation(kind="mask", label="object", coordinates=[100, 400, 200, 500], rle=rle.encode(mask)),
    ]
    out = load(annotate(image, marks))
    assert out.shape[1] == 600 and out.shape[0] > 600  # the legend lies below
    red, green, blue = (int(v) for v in out[60, 50])
    assert red > 200 and green < 90 and blue < 90
    assert (out[100, 300:400] != 255).any() and (out[150, 330:370] == 255).all()
    assert (out[450, 150] != 255).any() and (out[300, 150] == 255).all()


def test_a_small_picture_is_enlarged_and_an_empty_result_has_no_legend():
    image = np.full((100, 80, 3), 200, np.uint8)
    out = load(annotate(image, []))
    assert out.shape == (500, 400, 3)


def test_known_labels_have_their_colours():
    colours = colours_of(["negative", "positive", "odd"])
    assert colours["positive"] != colours["negative"] != colours["odd"]
    assert colours_of(["odd", "positive"])["positive"] == colours["positive"]
