"""Labelled objects come out of COCO's polygons, its run lengths, and drawn masks as they were put in."""

import json

import numpy as np
import pytest
from PIL import Image

from pathasst.errors import BadDataset
from pathasst.tools.masks import read_outlined
from pathasst.tools.rle import encode


def picture(folder, name="a.png", side=40):
    folder.mkdir(exist_ok=True, parents=True)
    Image.fromarray(np.full((side, side + 8, 3), 200, np.uint8)).save(folder / name)


def square(x: int, y: int, side: int) -> np.ndarray:
    mask = np.zeros((40, 48), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def coco(folder, *segmentations, **more):
    picture(folder)
    drawn = [{"id": i, "image_id": 1, "segmentation": s, **more} for i, s in enumerate(segmentations)]
    content = {"images": [{"id": 1, "file_name": "a.png", "split": "test"}], "annotations": drawn}
    (folder / "labels.json").write_text(json.dumps(content))
    return folder / "labels.json"


def compressed(mask: np.ndarray) -> dict:
    from pycocotools import mask as tools

    found = tools.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": found["size"], "counts": found["counts"].decode()}


@pytest.mark.parametrize("form", ["polygon", "counts", "string"])
def test_coco_in_each_of_its_forms(tmp_path, form):
    mask = square(10, 6, 20)
    drawn = {
        "polygon": [[10, 6, 30, 6, 30, 26, 10, 26]],
        "counts": {"size": [40, 48], "counts": [int(n) for n in encode(mask).split()]},
        "string": compressed(mask),
    }[form]
    if form == "counts":  # ours leaves out the last run of zeros
        drawn["counts"].append(40 * 48 - sum(drawn["counts"]))
    (one,) = read_outlined(coco(tmp_path, drawn))
    image, (found,) = one.read()
    assert image.shape == (40, 48, 3) and one.split == "test" and found.box == (10, 6, 30, 26)
    assert np.array_equal(found.whole(40, 48), mask)


def test_numbered_masks_and_masks_of_one_value(tmp_path):
    picture(tmp_path / "images")
    picture(tmp_path / "images", "without.png")
    (tmp_path / "masks").mkdir()
    first, second = square(2, 3, 6), square(8, 3, 6)  # they touch
    Image.fromarray((first + 2 * second).astype(np.uint8)).save(tmp_path / "masks" / "a.png")
    (one,) = read_outlined(tmp_path)
    assert [o.box for o in one.read()[1]] == [(2, 3, 8, 9), (8, 3, 14, 9)]
    apart = (first | square(20, 20, 5) | square(40, 35, 2)).astype(np.uint8) * 255  # the last is too small to be an object
    Image.fromarray(apart).save(tmp_path / "masks" / "a.png")
    (one,) = read_outlined(tmp_path)
    assert [o.box for o in one.read()[1]] == [(2, 3, 8, 9), (20, 20, 25, 25)]


def test_what_is_no_set_of_masks_is_refused(tmp_path):
    with pytest.raises(BadDataset, match="images and masks"):
        read_outlined(tmp_path / "none.json")
    with pytest.raises(BadDataset, match="no picture with its mask"):
        read_outlined(tmp_path)
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(BadDataset, match="COCO"):
        read_outlined(tmp_path / "other.json")
    (one,) = read_outlined(coco(tmp_path / "odd", {"size": [40, 48], "counts": "\u00e9"}))
    with pytest.raises(BadDataset, match=r"labels\.json"):
        one.read()
    picture(tmp_path / "b" / "images")
    picture(tmp_path / "b" / "masks")
    (one,) = read_outlined(tmp_path / "b")
    with pytest.raises(BadDataset, match="one channel"):
        one.read()
    picture(tmp_path / "c" / "images")
    (tmp_path / "c" / "masks").mkdir()
    Image.fromarray(np.ones((9, 9), np.uint8)).save(tmp_path / "c" / "masks" / "a.png")
    (one,) = read_outlined(tmp_path / "c")
    with pytest.raises(BadDataset, match="40×48"):
        one.read()
