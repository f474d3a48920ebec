"""Labelled pictures: three formats, one result; splits by group; what is refused."""

import json

import cv2
import numpy as np
import pytest

from pathasst.core.errors import BadDataset
from pathasst.nn.detector.data import gather, keep_in_memory, read, split
from pathasst.nn.detector.settings import DetectorData

ROWS = [("a.png", 4, 5, 20, 25, "cell"), ("a.png", 30, 8, 44, 20, "dirt"), ("b.png", 1, 2, 11, 12, "cell")]


@pytest.fixture
def folder(tmp_path):
    """The same two pictures as CSV, COCO and YOLO."""
    for part in ("csv", "coco", "yolo/images/train"):
        (tmp_path / part).mkdir(parents=True)
        for name in ("a.png", "b.png"):
            cv2.imwrite(str(tmp_path / part / name), np.full((40, 50, 3), (10, 20, 30), np.uint8))
    lines = ["image,xmin,ymin,xmax,ymax,label", *(",".join(map(str, r)) for r in ROWS), "b.png,7,7,7,9,cell"]
    (tmp_path / "csv/boxes.csv").write_text("\n".join(lines))
    names = ["cell", "dirt"]
    boxes = [{"image_id": n, "category_id": names.index(c), "bbox": [x1, y1, x2 - x1, y2 - y1]} for n, x1, y1, x2, y2, c in ROWS]
    coco = {
        "images": [{"id": n, "file_name": n} for n in ("a.png", "b.png")],
        "categories": [{"id": i, "name": n} for i, n in enumerate(names)],
        "annotations": boxes,
    }
    (tmp_path / "coco/boxes.json").write_text(json.dumps(coco))
    (tmp_path / "yolo/data.yaml").write_text("names: [cell, dirt]\ntrain: images/train\n")
    (tmp_path / "yolo/labels/train").mkdir(parents=True)
    for name in ("a", "b"):
        text = [
            f"{names.index(c)} {(x1 + x2) / 100} {(y1 + y2) / 80} {(x2 - x1) / 50} {(y2 - y1) / 40}"
            for n, x1, y1, x2, y2, c in ROWS
            if n == f"{name}.png"
        ]
        (tmp_path / f"yolo/labels/train/{name}.txt").write_text("\n".join(text))
    return tmp_path


@pytest.mark.parametrize("file", ["csv/boxes.csv", "coco/boxes.json", "yolo/data.yaml"])
def test_every_format_gives_the_same_boxes(folder, file):
    a, b = read(DetectorData(boxes=str(folder / file)), ("cell", "dirt"))
    assert (a.name, b.name) == ("a.png", "b.png")
    assert a.boxes == pytest.approx(np.array([[4, 5, 20, 25], [30, 8, 44, 20]]), abs=1e-4)
    assert a.labels.tolist() == [0, 1]
    assert len(b.boxes) == 1  # the box without width is dropped
    assert a.pixels()[0, 0].tolist() == [30, 20, 10]  # RGB


def test_labels_are_renamed_and_the_rest_is_background(folder):
    data = DetectorData(boxes=str(folder / "csv/boxes.csv"), classes={"dirt": "smudge"})
    a, b = read(data, ("smudge",))
    assert (len(a.boxes), len(b.boxes)) == (1, 0)


def test_pictures_are_decoded_once_when_kept(folder):
    pictures = read(DetectorData(boxes=str(folder / "csv/boxes.csv")), ("cell",))
    keep_in_memory(pictures)
    assert pictures[0].pixels() is pictures[0].pixels()


def test_groups_stay_whole_and_a_draw_depends_on_names_alone(tmp_path):
    lines = ["image,xmin,ymin,xmax,ymax,label"]
    lines += [f"p{i // 3}_{i}.png,1,1,9,9,cell" for i in range(90)]
    (tmp_path / "boxes.csv").write_text("\n".join(lines))
    data = DetectorData(boxes=str(tmp_path / "boxes.csv"), group=r"^(p\d+)_", test=0.3, val=0.2)
    parts = split(read(data, ("cell",)), data)
    groups = {k: {p.group for p in v} for k, v in parts.items()}
    assert sum(map(len, parts.values())) == 90
    assert not groups["train"] & groups["test"]
    assert not groups["train"] & groups["val"]
    assert all(len(g) >= 2 for g in groups.values())
    (tmp_path / "boxes.csv").write_text("\n".join(lines[:46]))  # half of the pictures: the others stay where they were
    fewer = split(read(data, ("cell",)), data)
    assert {p.name for p in fewer["test"]} <= {p.name for p in parts["test"]}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("boxes.csv", "image,xmin\na,1\n", "lacks the columns"),
        ("boxes.csv", "image,xmin,ymin,xmax,ymax,label\na,1,2,x,4,cell\n", "line 2"),
        ("boxes.csv", "image,xmin,ymin,xmax,ymax,label\n", "no pictures"),
        ("boxes.json", "{}", "COCO"),
        ("boxes.yaml", "train: images\n", "names"),
        ("boxes.txt", "", "boxes come as"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(BadDataset, match=says):
        read(DetectorData(boxes=str(tmp_path / name)), ("cell",))


def test_an_unknown_split_and_an_absent_file_are_refused(tmp_path):
    with pytest.raises(BadDataset, match="there is no"):
        gather([DetectorData(boxes=str(tmp_path / "no.csv"))], ("cell",))
    (tmp_path / "boxes.csv").write_text("image,xmin,ymin,xmax,ymax,label,split\na,1,2,3,4,cell,holdout\n")
    with pytest.raises(BadDataset, match="holdout"):
        gather([DetectorData(boxes=str(tmp_path / "boxes.csv"))], ("cell",))


@pytest.mark.real
def test_bccd_keeps_its_public_split(real_data):
    data = DetectorData(boxes=str(real_data / "bccd/boxes.csv"), splits={"val": "test"}, val=0.12)
    parts = gather([data], ("WBC", "RBC", "Platelets"))
    assert {k: len(v) for k, v in parts.items()}["test"] == 87
    assert 15 <= len(parts["val"]) <= 35


@pytest.fixture
def yolo(tmp_path):
    """Writes a YOLO folder: yolo(layout of pictures, of labels, `train` of data.yaml, the label's text)."""

    def write(pictures, labels, train, text="0 0.5 0.5 0.25 0.25", where="."):
        for folder in (pictures, labels, where):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / pictures / "a.png"), np.full((120, 160, 3), 20, np.uint8))
        (tmp_path / labels / "a.txt").write_text(text)
        (tmp_path / where / "data.yaml").write_text(f"names: [cell]\ntrain: {train}\n")
        return DetectorData(boxes=str(tmp_path / where / "data.yaml"))

    return write


@pytest.mark.parametrize(
    ("pictures", "labels", "train", "where"),
    [
        ("train/images", "train/labels", "../train/images", "."),
        ("images/train", "labels/train", "[images/train]", "."),
        ("images/blood/images/train", "images/blood/labels/train", "images/train", "images/blood"),
        ("images", "Labels", "images", "."),
        ("pics", "pics", "pics", "."),
        ("pics", "pics", "pics/a.png", "."),
    ],
)
def test_yolo_layouts_of_other_programs(yolo, pictures, labels, train, where) -> None:
    (found,) = read(yolo(pictures, labels, train, where=where), ["cell"])
    assert found.boxes.tolist() == [[60, 45, 100, 75]]


def test_yolo_lists_outlines_and_upper_case(yolo, tmp_path) -> None:
    data = yolo("images/train", "labels/train", "train.txt", "0.0 0.25 0.5 0.5 0.25 0.75 0.5 0.5 0.75")
    (tmp_path / "train.txt").write_text("./images/train/a.png\n")
    (tmp_path / "labels/train/a.txt").rename(tmp_path / "labels/train/a.TXT")
    (found,) = read(data, ["cell"])
    assert found.boxes.tolist() == [[40, 30, 120, 90]]


def test_a_folder_without_labels_or_boxes_is_refused(yolo, tmp_path) -> None:
    data = yolo("images/train", "wrong", "images/train")
    with pytest.raises(BadDataset, match="none of its 1 pictures has a label file"):
        read(data, ["cell"])
    with pytest.raises(BadDataset, match=r"looked in .*gone"):
        read(yolo("images/train", "labels/train", "gone"), ["cell"])
    with pytest.raises(BadDataset, match="none of the 1 training pictures has a box"):
        gather([yolo("images/train", "labels/train", "images/train", "")], ["cell"])


def test_one_odd_coco_annotation_costs_itself(tmp_path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 50, 3), np.uint8))
    rle = {"size": [40, 50], "counts": [5 * 40 + 4, 10, 40 * 50 - 5 * 40 - 14]}
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]},
        {"id": 2, "image_id": "1", "category_id": "1", "segmentation": [[5, 5, 20, 5, 20, 15]]},
        {"id": 3, "image_id": 1, "category_id": 1, "bbox": [], "segmentation": rle},
        {"id": 4, "image_id": 1, "category_id": 9, "bbox": [1, 2, 3, 4]},
        {"id": 5, "image_id": 1, "category_id": 1},
    ]
    coco = {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "cell"}], "annotations": annotations}
    (tmp_path / "c.json").write_text(json.dumps(coco))
    with pytest.warns(UserWarning, match=r"2 annotations are left out: 4 \(unknown category\), 5 \(no box\)"):
        (found,) = read(DetectorData(boxes=str(tmp_path / "c.json")), ["cell"])
    assert found.boxes.tolist() == [[1, 2, 4, 6], [5, 5, 20, 15], [5, 4, 6, 14]]


def test_one_odd_line_or_picture_of_a_yolo_folder_costs_itself(yolo, tmp_path) -> None:
    data = yolo("images", "labels", "images", "0 0.5 0.5 0.25 0.25\n0 0.5 half 0.25 0.25\n9 0.5 0.5 0.1 0.1\n0 0.1\n")
    (tmp_path / "images/b.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning) as warned:
        (only,) = read(data, ["cell"])
    assert only.boxes.tolist() == [[60, 45, 100, 75]]
    says = " ".join(str(w.message) for w in warned)
    assert "4 annotations are left out: 3 not of the form" in says and "1 of pictures that cannot be read" in says


def test_a_yolo_folder_without_one_good_line_is_refused(yolo) -> None:
    with pytest.raises(BadDataset, match="is no line"):
        read(yolo("images", "labels", "images", "cell 0.5 0.5 0.25 0.25"), ["cell"])
