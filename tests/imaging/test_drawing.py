"""Annotated pictures hold the marks at the right places and a legend."""

import numpy as np

from pathasst.core.records import Annotation
from pathasst.imaging import rle
from pathasst.imaging.drawing import annotate, colours_of, without_pictures
from pathasst.imaging.pictures import load


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


def test_the_label_of_a_box_at_the_top_edge_can_be_read():
    """Its colour fills a part of the box's upper left corner; a box further down has its label above itself."""
    image = np.full((600, 600, 3), 255, np.uint8)
    top, lower = ([40.0, y, 240.0, y + 150] for y in (0.0, 300.0))
    out = load(annotate(image, [Annotation(kind="box", label="HSIL", coordinates=top, score=0.9)]))
    assert (out[4:12, 46:80] != 255).any(-1).mean() > 0.9
    out = load(annotate(image, [Annotation(kind="box", label="HSIL", coordinates=lower, score=0.9)]))
    assert (out[288:296, 46:80] != 255).any(-1).mean() > 0.9 and (out[310:318, 46:80] == 255).all()


def test_the_legend_names_grades_in_their_order(monkeypatch):
    from PIL import ImageDraw

    written, text = [], ImageDraw.ImageDraw.text
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda pen, at, said, **o: (written.append(said), text(pen, at, said, **o)))
    marks = [Annotation(kind="point", label=label, coordinates=[9.0, 9.0]) for label in ("odd", "3+", "0", "2+", "0")]
    annotate(np.full((600, 600, 3), 255, np.uint8), marks)
    assert written == ["0: 2", "2+: 1", "3+: 1", "odd: 1"]


def test_a_small_picture_is_enlarged_and_an_empty_result_has_no_legend():
    image = np.full((100, 80, 3), 200, np.uint8)
    out = load(annotate(image, []))
    assert out.shape == (500, 400, 3)


def test_known_labels_have_their_colours():
    colours = colours_of(["negative", "positive", "odd"])
    assert colours["positive"] != colours["negative"] != colours["odd"]
    assert colours_of(["odd", "positive"])["positive"] == colours["positive"]


def test_a_labels_colour_does_not_depend_on_the_others():
    assert colours_of(["RBC", "WBC"])["RBC"] == colours_of(["WBC", "x", "RBC"])["RBC"]
    assert colours_of(["x"])["x"] == colours_of(["y", "z", "x"])["x"]


def test_many_boxes_have_no_words_over_the_cells():
    image = np.full((600, 600, 3), 255, np.uint8)
    boxes = [Annotation(kind="box", label="RBC", coordinates=[40 + 15 * n, 100, 50 + 15 * n, 110], score=0.9) for n in range(31)]
    above = slice(80, 97), slice(30, 560)
    assert (load(annotate(image, boxes))[above] == 255).all() and (load(annotate(image, boxes[:30]))[above] != 255).any()


def test_the_legend_grows_with_the_picture():
    mark = [Annotation(kind="point", label="positive", coordinates=[9.0, 9.0])]
    small, large = (load(annotate(np.full((s, s, 3), 255, np.uint8), mark)).shape[0] - s for s in (600, 2400))
    assert large > 2.5 * small


def test_of_many_masks_the_outlines_are_drawn():
    image = np.full((600, 600, 3), 255, np.uint8)
    square, marks = np.ones((20, 20), bool), []
    for n in range(64):
        x, y = 30 + 60 * (n % 8), 30 + 60 * (n // 8)
        counts = rle.encode(square, x, y, (600, 600))
        marks.append(Annotation(kind="mask", label="nucleus", coordinates=[x, y, x + 20.0, y + 20.0], rle=counts))
    out = load(annotate(image, marks))
    assert (out[40, 40] == 255).all() and (out[30, 30:50] != 255).any(-1).all()
    filled = load(annotate(image, marks[:60]))
    assert (filled[40, 40] != 255).any()


def test_nothing_is_drawn_of_the_tiles_of_a_slide():
    image = np.full((64, 64, 3), 255, np.uint8)
    with without_pictures():
        assert annotate(image, []) == b""
    assert load(annotate(image, [])).shape == (512, 512, 3)
