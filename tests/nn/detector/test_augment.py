"""Training windows: boxes follow their pixels; the same step gives the same windows."""

import numpy as np
import pytest

from pathasst.core.errors import BadDataset
from pathasst.nn.detector.augment import Windows, colour, repeats, window


@pytest.fixture(scope="module")
def plain(settings):
    """Windows without colour changes and mosaics."""
    return settings.replace(colour=0.0, mosaic=0.0)


@pytest.mark.parametrize("changes", [{}, {"mosaic": 1.0}, {"zoom": (0.45, 0.5), "stretch": 0.2}])
def test_each_box_holds_its_disc(plain, discs, colours, changes):
    settings = plain.replace(**changes)
    windows = Windows([discs(i) for i in range(6)], settings)
    seen = 0
    for step in range(6):
        pixels, boxes, labels = windows.batch(step, range(settings.batch))
        assert pixels.shape == (settings.batch, 3, settings.crop, settings.crop)
        for image, some, kinds in zip(pixels.numpy().transpose(0, 2, 3, 1).astype(int), boxes, labels, strict=True):
            for (x1, y1, x2, y2), kind in zip(some.numpy().round().astype(int), kinds.tolist(), strict=True):
                inside = image[y1:y2, x1:x2].reshape(-1, 3)
                coloured = np.abs(inside - colours[kind]).max(1) < 60
                assert coloured.mean() > 0.5  # π/4 of a whole disc's box
                assert x1 >= 0
                assert y2 <= settings.crop
                seen += 1
    assert seen > 20


def test_a_field_fills_its_window_and_a_figure_is_shown_whole(discs, plain):
    picture = discs(1, 96, 80)
    rng = np.random.default_rng(0)
    field = window(picture, 64, 64, plain.replace(zoom=(0.1, 0.2)), rng)[0]
    assert not (field == 114).all(-1).any()
    fitted = plain.replace(model=plain.model.replace(scale=0.0), zoom=(0.5, 0.5), turns=False, stretch=0.0)
    figure, boxes, _ = window(picture, 96, 96, fitted, rng)
    assert (figure == 114).all(-1).mean() > 0.6
    assert len(boxes) == len(picture.boxes)


def test_a_step_always_gives_the_same_windows_and_another_step_others(discs, settings):
    made = [Windows([discs(i) for i in range(5)], settings) for _ in range(2)]
    assert (made[0].batch(3, range(4))[0] == made[1].batch(3, range(4))[0]).all()
    assert (made[0].batch(3, range(4))[0] != made[1].batch(4, range(4))[0]).any()


def test_every_picture_comes_up_once_an_epoch(discs, plain):
    settings = plain.replace(batch=4, stretch=0.0)
    pictures = [discs(i) for i in range(8)]
    asked = []
    for picture in pictures:
        source, name = picture.source, picture.name
        picture.source = lambda source=source, name=name: (asked.append(name), source())[1]
    for step in (0, 1):
        Windows(pictures, settings).batch(step, range(4))
    assert sorted(asked) == sorted(p.name for p in pictures)


def test_colour_changes_shades_not_shape(discs):
    image = discs(2).pixels()
    changed = colour(image, 1.0, np.random.default_rng(3))
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    assert (changed != image).any()


def test_training_on_nothing_is_refused(settings):
    with pytest.raises(BadDataset):
        Windows([], settings)


def test_pictures_of_rare_classes_come_up_more_often():
    labels = [np.array([0, 0])] * 15 + [np.array([0, 1]), np.array([], np.int64)]
    assert repeats(labels, 0.0).tolist() == [1] * 17
    assert repeats(labels, 0.5).tolist() == [1] * 15 + [3, 1]  # √(0.5 · 17) of class 1, which is on one picture
