"""Reading points, splitting by group, and crops whose points stay on their pixels."""

import numpy as np
import pytest
from PIL import Image

from pathasst.core.errors import BadDataset, BadSettings
from pathasst.imaging.annotations import group_of
from pathasst.nn.crops import random_matrix
from pathasst.nn.p2pnet.data import Crops, LabelledField, jitter, read_fields, split_fields, warp
from pathasst.nn.p2pnet.settings import P2PNetSettings, PointData, PointTraining

CLASSES = ("positive", "negative")


def write(folder, rows, header="image,x,y,label"):
    for name in {r.split(",")[0] for r in rows}:
        Image.new("RGB", (60, 40), "white").save(folder / name)
    (folder / "points.csv").write_text("\n".join([header, *rows]))
    return str(folder / "points.csv")


def test_points_are_read_mapped_scaled_and_unnamed_labels_dropped(tmp_path):
    table = write(tmp_path, ["a.png,10,20,pos", "a.png,30,8,odd", "b.png,,,"])
    fields = read_fields(PointData(points=table, classes={"pos": "positive"}, scale=0.5), CLASSES)
    assert [f.name for f in fields] == ["a.png", "b.png"]
    assert fields[0].points.tolist() == [[5, 10]] and fields[0].labels.tolist() == [0]
    assert fields[0].image.shape == (20, 30, 3) and len(fields[1].points) == 0


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [(["a.png,1,2,pos"], "image,x,label,y2", "lacks"), (["a.png,one,2,positive"], "image,x,y,label", "line 2")],
)
def test_bad_tables_are_refused(tmp_path, rows, header, message):
    with pytest.raises(BadDataset, match=message):
        read_fields(PointData(points=write(tmp_path, rows, header)), CLASSES)


def test_a_missing_table_and_a_missing_picture_are_refused(tmp_path):
    with pytest.raises(BadDataset, match="there is no"):
        read_fields(PointData(points=str(tmp_path / "none.csv")), CLASSES)
    table = write(tmp_path, ["a.png,1,2,positive"])
    (tmp_path / "a.png").unlink()
    with pytest.raises(BadDataset, match=r"a\.png"):
        read_fields(PointData(points=table), CLASSES)


def test_groups_never_cross_splits_and_unknown_groups_are_refused():
    blank = np.zeros((4, 4, 3), np.uint8)
    names = ["p1_1_a.png", "p1_1_b.png", "p1_2_a.png", "p2_1_a.png"]
    pattern = r"^(p\d+_\d+)_"
    fields = [LabelledField(n, group_of(n, pattern), blank, np.empty((0, 2)), np.empty(0, int)) for n in names]
    data = PointData(points="x", group=pattern, val=("p1_2",), test=("p1_1",))
    splits = split_fields(fields, data)
    assert {k: [f.name for f in v] for k, v in splits.items()} == {
        "train": names[3:],
        "val": names[2:3],
        "test": names[:2],
    }
    with pytest.raises(BadDataset, match="p9_9"):
        split_fields(fields, PointData(points="x", group=pattern, test=("p9_9",)))
    with pytest.raises(BadDataset, match="group pattern"):
        group_of("odd.png", pattern)


def test_points_stay_on_their_pixels_through_every_random_warp():
    """Each cell is one dark 5×5 blot; after the warp its centre of mass must lie at its point, to a third of a px."""
    image = np.full((200, 240, 3), 255, np.uint8)
    cells = np.array([[x + 0.5, y + 0.5] for x in range(20, 230, 40) for y in range(20, 190, 40)], np.float32)
    for x, y in cells:
        image[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3] = 0
    field = LabelledField("f", "f", image, cells, np.arange(len(cells)))
    for seed in range(12):
        rng = np.random.default_rng(seed)
        crop, points, labels = warp(field, random_matrix(image.shape, 96, (0.9, 1.5), rng), 96)
        assert len(points) == len(labels)
        for x, y in points:
            if 12 < x < 84 and 12 < y < 84:
                x0, y0 = int(x) - 9, int(y) - 9
                dark = 255 - crop[y0 : y0 + 18, x0 : x0 + 18, 0].astype(float)
                yy, xx = np.mgrid[:18, :18] + 0.5
                assert abs((dark * xx).sum() / dark.sum() + x0 - x) < 0.34
                assert abs((dark * yy).sum() / dark.sum() + y0 - y) < 0.34


def test_jitter_keeps_shape_and_type_and_brown_browner_than_blue():
    image = np.zeros((32, 64, 3), np.uint8)
    image[:, :32], image[:, 32:] = (120, 70, 30), (110, 120, 180)
    for seed in range(10):
        out = jitter(image, np.random.default_rng(seed))
        assert out.shape == image.shape and out.dtype == np.uint8
        left, right = out[:, 4:28].mean((0, 1)), out[:, 36:60].mean((0, 1))
        assert left[0] - left[2] > right[0] - right[2]


def test_the_same_step_gives_the_same_crops_and_another_gives_others():
    image = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    field = LabelledField("f", "f", image, np.array([[40.0, 40.0]], np.float32), np.array([0]))
    settings = PointTraining(model=P2PNetSettings(classes=CLASSES), data=(), batch=2, crop=32)
    one, again, other = (Crops([field], [1], settings).batch(step, range(2)) for step in (3, 3, 4))
    assert (one[0] == again[0]).all() and (one[0] != other[0]).any()
    with pytest.raises(BadDataset):
        Crops([], [], settings)


@pytest.mark.parametrize(
    "wrong", [{"crop": 100}, {"zoom": (2.0, 1.0)}, {"data": (PointData(points="x", classes={"a": "unknown"}),)}]
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(BadSettings):
        PointTraining(**{"model": P2PNetSettings(classes=CLASSES), "data": (), **wrong})


def test_a_recipe_with_a_typing_error_is_refused(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model: {classes: [a]}\nstepz: 3\n")
    with pytest.raises(BadSettings, match="stepz"):
        PointTraining.load(recipe)


@pytest.mark.parametrize("name", [f"{recipe}/{tool}" for recipe in ("embedded", "paper") for tool in ("ki67", "her2", "pdl1")])
def test_every_shipped_recipe_makes_its_network(name):
    from pathasst.core.recipes import recipes_dir
    from pathasst.nn.p2pnet.model import P2PNet

    settings = PointTraining.load(recipes_dir() / f"{name}.yaml")
    net = P2PNet(settings.model)
    assert net.classify[2].out_features == len(settings.model.classes) + 1
