"""Labelled pictures: three formats, one result; splits by group; what is refused."""

import json
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from pathasst.core.errors import BadDataset
from pathasst.imaging.pictures import encode_png, load
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
    picture = encode_png(np.zeros((9, 9, 3), np.uint8))
    for line in lines[1:]:
        (tmp_path / line.partition(",")[0]).write_bytes(picture)
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
        ("boxes.csv", "image,xmin,ymin,xmax,ymax,label\na,1,2,3,4,cell\n", "none of its 1 pictures"),
        ("boxes.xml", "<html/>", "no export of CVAT"),
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
    (tmp_path / "a.png").write_bytes(encode_png(np.zeros((9, 9, 3), np.uint8)))
    (tmp_path / "boxes.csv").write_text("image,xmin,ymin,xmax,ymax,label,split\na.png,1,2,3,4,cell,holdout\n")
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
    assert "3 annotations are left out: 3 not of the form" in says and "1 pictures are left out: 1 that cannot be read" in says


def test_a_yolo_folder_without_one_good_line_is_refused(yolo) -> None:
    with pytest.raises(BadDataset, match="is no line"):
        read(yolo("images", "labels", "images", "cell 0.5 0.5 0.25 0.25"), ["cell"])


@pytest.mark.parametrize(
    "train",
    [
        "/content/drive/set/images/train",
        "C:\\\\lab\\\\set\\\\images\\\\train",
        "list.txt",
    ],
)
def test_yolo_paths_of_another_machine(yolo, tmp_path, train) -> None:
    data = yolo("images/train", "labels/train", f'"{train}"')
    (tmp_path / "list.txt").write_text("/content/set/images/train/a.png\n")
    (labelled,) = read(data, ["cell"])
    assert labelled.boxes.tolist() == [[60, 45, 100, 75]]


def test_what_a_yolo_folder_lacks_is_said(yolo, tmp_path) -> None:
    data = yolo("images", "labels", "list.txt\nval: gone")
    (tmp_path / "list.txt").write_text("images/a.png\nimages/gone.png\n")
    with pytest.warns(UserWarning, match=r"2 pictures are left out: 1 that are not there, 1 of val \(gone\), where none is"):
        assert len(read(data, ["cell"])) == 1


@pytest.mark.parametrize(
    ("text", "more", "right"),
    [
        ("0 0.5 0.5 0.25 0.25 0.1 0.1", "kpt_shape: [1, 2]", [[60, 45, 100, 75]]),  # key points are no outline
        ("0, 0.5, 0.5, 0.25, 0.25", "", [[60, 45, 100, 75]]),
        ("0 80 60 40 30\n0 0.5 0.5 0.25 0.25", "", [[60, 45, 100, 75]]),  # px where shares should be
    ],
)
def test_yolo_lines_of_other_programs(yolo, tmp_path, text, more, right) -> None:
    data = yolo("images", "labels", f"images\n{more}", text)
    with warnings.catch_warnings(record=True) as warned:
        (labelled,) = read(data, ["cell"])
    assert labelled.boxes.tolist() == right
    assert len(warned) == text.count("\n")


def test_yolo_classes_by_quoted_numbers_and_pictures_of_any_kind(tmp_path) -> None:
    for name in ("images/a.jp2", "labels/a.txt", "data.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
    Image.fromarray(np.zeros((120, 160, 3), np.uint8)).save(tmp_path / "images/a.jp2")
    (tmp_path / "labels/a.txt").write_text("1 0.5 0.5 0.25 0.25")
    (tmp_path / "data.yaml").write_text('names: {"0": dirt, "1": cell}\ntrain: images\n')
    (labelled,) = read(DetectorData(boxes=str(tmp_path / "data.yaml")), ["cell"])
    assert labelled.boxes.tolist() == [[60, 45, 100, 75]]


def coco(folder, images, annotations):
    content = {"images": images, "categories": [{"id": 1, "name": "cell"}, {"id": 2}], "annotations": annotations}
    (folder / "c.json").write_text(json.dumps(content))
    return DetectorData(boxes=str(folder / "c.json"))


def test_odd_images_of_a_coco_file_cost_themselves(tmp_path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 50, 3), np.uint8))
    name = "..\\..\\media\\upload\\4\\a.png"  # Label Studio 1.16
    images = [{"id": 1, "file_name": name}, {"id": 2, "file_name": name}, {"id": 3}, {"id": 4, "file_name": "gone.png"}]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [n, 2, 3, 4]} for n in (1, 2, 3, 4)]
    boxes.append({"id": 5, "image_id": 1, "category_id": 1, "bbox": [60, 2, 3, 4]})
    with pytest.warns(UserWarning) as warned:
        (labelled,) = read(coco(tmp_path, images, boxes), ["cell"])
    assert labelled.boxes.tolist() == [[1, 2, 4, 6], [2, 2, 5, 6]]
    says = " ".join(str(w.message) for w in warned)
    for part in ("3 (unknown image)", "1 images are left out", "not there: gone.png", "1 outside of the picture"):
        assert part in says


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_on_stored_pixels_lie_where_they_were_drawn(tmp_path, orientation) -> None:
    stored = np.zeros((80, 160, 3), np.uint8)
    stored[20:40, 30:80] = 255  # what the box is around
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    images = [{"id": 1, "file_name": "a.png", "width": 160, "height": 80}]
    boxes = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [30, 20, 50, 20]}]
    (labelled,) = read(coco(tmp_path, images, boxes), ["cell"])
    shown = load(tmp_path / "a.png")
    assert shown.shape == (160, 80, 3)
    ys, xs = shown[..., 0].nonzero()
    assert labelled.boxes.tolist() == [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]


def test_labels_of_another_size_are_scaled_or_refused(tmp_path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 50, 3), np.uint8))
    boxes = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [20, 10, 40, 20]}]
    (labelled,) = read(coco(tmp_path, [{"id": 1, "file_name": "a.png", "width": 100, "height": 80}], boxes), ["cell"])
    assert labelled.boxes.tolist() == [[10, 5, 30, 15]]
    with pytest.raises(BadDataset, match="1 of another size than the labels say"):
        read(coco(tmp_path, [{"id": 1, "file_name": "a.png", "width": 90, "height": 90}], boxes), ["cell"])


def test_tables_of_other_programs(tmp_path) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), np.zeros((40, 50, 3), np.uint8))
    (tmp_path / "b.csv").write_text("sep=;\nfilename;width;height;class;xmin;ymin;xmax;ymax\na.png;50;40;cell;1,5;2;10;20\n")
    (labelled,) = read(DetectorData(boxes=str(tmp_path / "b.csv")), ["cell"])
    assert labelled.boxes.tolist() == [[1.5, 2, 10, 20]]
