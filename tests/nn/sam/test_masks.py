"""Labelled objects come out of COCO's polygons, its run lengths, and drawn masks as they were put in."""

import json

import numpy as np
import pytest
from PIL import Image

from pathasst.core.errors import BadDataset, BadInput
from pathasst.imaging.rle import encode
from pathasst.nn.sam.masks import read_outlined, usable


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
    assert np.array_equal(found.full_mask(40, 48), mask)


def folder_of(tmp_path, mask: np.ndarray | None = None, name: str = "a.png"):
    """One picture of 48×40 px and its mask."""
    picture(tmp_path / "images")
    (tmp_path / "masks").mkdir()
    if mask is not None:
        Image.fromarray(mask.astype(np.uint8)).save(tmp_path / "masks" / name)
    return tmp_path / "masks"


FIRST, SECOND = square(2, 3, 6), square(8, 3, 6)  # they touch


@pytest.mark.parametrize(
    ("mask", "boxes"),
    [
        (FIRST + 2 * SECOND, [(2, 3, 8, 9), (8, 3, 14, 9)]),  # numbered
        (FIRST + 2 * square(20, 20, 5) + 2 * square(30, 3, 6), [(2, 3, 8, 9), (30, 3, 36, 9), (20, 20, 25, 25)]),  # by class
        ((FIRST | square(20, 20, 5)) * 255, [(2, 3, 8, 9), (20, 20, 25, 25)]),  # of one value
        ((FIRST | square(40, 35, 2)) * 255, [(2, 3, 8, 9)]),  # the second is too small to be an object
    ],
)
def test_an_object_is_a_connected_part_of_one_number(tmp_path, mask, boxes):
    folder_of(tmp_path, mask)
    picture(tmp_path / "images", "without.png")
    (one,) = read_outlined(tmp_path)
    _, found = one.read()
    assert [o.box for o in found] == boxes
    assert sum(o.full_mask(40, 48).astype(int) for o in found).max() == 1
    assert all((np.unique(np.asarray(mask)[o.full_mask(40, 48)])).size == 1 for o in found)


@pytest.mark.parametrize("mode", ["I;16", "P", "1", "F"])
def test_a_mask_of_each_depth_has_its_objects(tmp_path, mode):
    values = FIRST * (1 if mode == "1" else 300 if mode in ("I;16", "F") else 3)
    picture = {
        "I;16": lambda: Image.fromarray(values.astype(np.uint16)),
        "P": lambda: Image.fromarray(values.astype(np.uint8)).convert("P"),
        "1": lambda: Image.fromarray(FIRST),
        "F": lambda: Image.fromarray(values.astype(np.float32)),
    }[mode]()
    folder_of(tmp_path)
    picture.save(tmp_path / "masks" / "a.tif")
    assert Image.open(tmp_path / "masks" / "a.tif").mode == mode
    (one,) = read_outlined(tmp_path)
    assert [o.box for o in one.read()[1]] == [(2, 3, 8, 9)]


def test_of_a_jpeg_mask_what_is_bright_counts(tmp_path):
    masks = folder_of(tmp_path)
    Image.fromarray((square(8, 8, 16) * 255).astype(np.uint8)).save(masks / "a.jpg", quality=60)
    (one,) = read_outlined(tmp_path)
    assert [o.box for o in one.read()[1]] == [(8, 8, 24, 24)]
    Image.fromarray((square(8, 8, 16) * 3).astype(np.uint8)).save(masks / "a.jpg", quality=95)
    with pytest.raises(BadDataset, match="brighter than 127; numbers are kept by PNG"):
        usable(read_outlined(tmp_path))


def test_what_is_no_set_of_masks_is_refused(tmp_path):
    with pytest.raises(BadDataset, match="images and masks"):
        read_outlined(tmp_path / "none.json")
    with pytest.raises(BadDataset, match="no picture with its mask"):
        read_outlined(tmp_path)
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(BadDataset, match="COCO"):
        read_outlined(tmp_path / "other.json")


def broken(masks):
    Image.fromarray(FIRST.astype(np.uint8)).save(masks / "a.png")
    whole = (masks / "a.png").read_bytes()
    (masks / "a.png").write_bytes(whole[:40])


@pytest.mark.parametrize(
    ("put", "reason"),
    [
        (broken, "the mask a.png is not a picture"),
        (lambda masks: (masks / "a.png").write_text("no picture"), "the mask a.png is not a picture"),
        (lambda masks: Image.new("RGB", (48, 40), "red").save(masks / "a.png"), "one channel"),
        (lambda masks: Image.new("L", (9, 9), 1).save(masks / "a.png"), "9×9 px, its picture 48×40"),
        (lambda masks: Image.new("1", (30_000, 30_000)).save(masks / "a.png"), "mask a.png"),
        (lambda masks: Image.new("L", (48, 40)).save(masks / "a.png"), "no object"),
    ],
)
def test_a_mask_of_no_use_costs_its_picture_and_says_why(tmp_path, put, reason):
    masks = folder_of(tmp_path)
    put(masks)
    with pytest.raises(BadDataset, match=reason):
        usable(read_outlined(tmp_path))
    picture(tmp_path / "images", "good.png")
    Image.fromarray(FIRST.astype(np.uint8)).save(masks / "good.png")
    (good,), (said,) = usable(read_outlined(tmp_path))
    assert good.name == "good.png" and said.startswith("a.png: ") and reason in said


@pytest.mark.parametrize(
    ("drawn", "reason"),
    [
        ({"size": [40, 48], "counts": "\u00e9"}, "no run lengths"),
        ([[1, 2]], "no polygon"),
        ({"size": [4, 4], "counts": [0, 16]}, "4×4"),
    ],
)
def test_a_drawing_of_no_use_costs_its_picture(tmp_path, drawn, reason):
    (one,) = read_outlined(coco(tmp_path, drawn))
    with pytest.raises(BadInput, match=reason):
        one.read()


def test_masks_named_as_others_name_them(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    mask = np.zeros((40, 60), np.uint8)
    mask[5:15, 10:30] = 1
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "images/a.png")
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "images/b.png")
    Image.fromarray(mask).save(tmp_path / "masks/a_mask.png")
    with pytest.warns(UserWarning, match="1 without a mask"):
        (outlined,) = read_outlined(tmp_path)
    (thing,) = outlined.read()[1]
    assert (thing.x, thing.y, thing.pixels.shape) == (10, 5, (10, 20))


def test_outlines_on_stored_pixels_lie_where_they_were_drawn(tmp_path):
    stored = np.zeros((80, 160, 3), np.uint8)
    stored[20:40, 30:80] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    outline = [[30, 20, 80, 20, 80, 40, 30, 40]]
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "width": 160, "height": 80}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": outline}],
    }
    (tmp_path / "c.json").write_text(json.dumps(coco), encoding="utf-8-sig")
    (outlined,) = read_outlined(tmp_path / "c.json")
    shown, (thing,) = outlined.read()
    ys, xs = shown[..., 0].nonzero()
    assert (thing.x, thing.y, thing.pixels.shape) == (xs.min(), ys.min(), (np.ptp(ys) + 1, np.ptp(xs) + 1))
