"""From pictures to boxes: tiles, scales, batches; a trained detector on disk and as ONNX."""

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pathasst.core.errors import BadInput, BadSettings, MissingWeights
from pathasst.nn import pretrained
from pathasst.nn.detector.boxes import Boxes, fuse, iou_matrix
from pathasst.nn.detector.infer import Detector, load, save
from pathasst.nn.detector.nets import build
from pathasst.nn.detector.onnx import OnnxReader, export, load_onnx
from pathasst.nn.detector.settings import DetectorSettings

SQUARES = DetectorSettings(classes=("dark", "darker"), size=128, scale=1.0, overlap=64)


def read_squares(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A reader that finds dark squares exactly, as a perfect network would."""
    boxes, scores = np.zeros((len(pixels), 40, 4), np.float32), np.zeros((len(pixels), 40, 2), np.float32)
    for b, image in enumerate(pixels):
        _, _, stats, _ = cv2.connectedComponentsWithStats((image[0] < 60).astype(np.uint8))
        for k, (x, y, w, h, area) in enumerate(stats[1:]):
            boxes[b, k] = x, y, x + w, y + h
            scores[b, k, int(image[0, y + h // 2, x + w // 2] < 20)] = 0.5 + area / 10_000
    return boxes, scores


def squares(width: int, height: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    image, boxes = np.full((height, width, 3), 200, np.uint8), []
    for x in range(5, width - 45, 50):
        for y in range(5, height - 45, 50):
            side = int(rng.integers(10, 40))
            image[y : y + side, x : x + side] = 40
            boxes.append([x, y, x + side, y + side])
    return image, np.array(boxes, np.float32)


@pytest.mark.parametrize(("width", "height"), [(100, 90), (130, 700), (611, 403)])
def test_tiles_find_everything_once_and_whole(width, height):
    image, boxes = squares(width, height)
    found = Detector(read_squares, SQUARES).detect([image])[0]
    assert len(found) == len(boxes)
    assert iou_matrix(found.xyxy, boxes).max(1) == pytest.approx(1.0)
    assert (np.diff(found.scores) <= 0).all()


def test_pictures_of_different_sizes_go_in_batches():
    made = [squares(w, h, i) for i, (w, h) in enumerate([(90, 120), (300, 60), (64, 64)])]
    found = Detector(read_squares, SQUARES, batch=3).detect([m[0] for m in made])
    assert [len(f) for f in found] == [len(m[1]) for m in made]


def test_a_scale_changes_what_is_looked_at_not_the_coordinates():
    image, boxes = squares(240, 200)
    found = Detector(read_squares, SQUARES).detect([image], scale=0.5)[0]
    assert iou_matrix(found.xyxy, boxes).max(1).min() > 0.6
    fitted = Detector(read_squares, SQUARES.replace(scale=0.0)).detect([image])[0]  # 240 px fitted to 128
    assert iou_matrix(fitted.xyxy, boxes).max(1).min() > 0.6


def test_scores_classes_and_numbers_are_limited_as_asked():
    image, boxes = squares(300, 300)
    image[5:45, 5:45] = 10
    detector = Detector(read_squares, SQUARES.replace(ignored=("darker",)))
    found = detector.detect([image], min_score=0.01)[0]
    assert len(found) == len(boxes) - 1
    assert not found.classes.any()
    assert len(detector.detect([image], most=3)[0]) == 3
    assert len(detector.detect([image], min_score=0.99)[0]) == 0


@pytest.mark.parametrize("views", [2, 4])
def test_mirrored_readings_agree_with_the_plain_one(views):
    image, boxes = squares(130, 210)
    plain, fused = (Detector(read_squares, SQUARES.replace(views=v)).detect([image])[0] for v in (1, views))
    assert iou_matrix(fused.xyxy, boxes).max(1) == pytest.approx(1.0)
    assert fused.scores == pytest.approx(plain.scores)


def test_a_box_that_one_reading_misses_counts_less():
    one = Boxes(np.array([[0, 0, 10, 10], [30, 0, 40, 10]], np.float32), np.array([0.8, 0.6], np.float32), np.array([0, 0]))
    other = Boxes(np.array([[1, 0, 11, 10]], np.float32), np.array([0.4], np.float32), np.array([0]))
    found = fuse([one, other], 0.5)
    assert found.scores.tolist() == pytest.approx([0.6, 0.3])
    assert found.xyxy[0].tolist() == pytest.approx([1 / 3, 0, 10 + 1 / 3, 10])


def test_an_empty_and_a_tiny_picture_give_nothing():
    for shape in ((64, 64, 3), (1, 1, 3), (3, 200, 3)):
        found = Detector(read_squares, SQUARES).detect([np.full(shape, 200, np.uint8)])[0]
        assert (len(found), found.xyxy.shape) == (0, (0, 4))


def test_a_trained_detector_finds_discs_of_new_fields(trained, discs):
    folder, scores = trained
    assert scores["test"]["any_class"]["ap50"]["value"] > 0.5
    detector = Detector.load(folder)
    assert detector.settings.classes == ("red", "blue")
    picture = discs(321)
    found = detector.detect([picture.pixels()], min_score=0.05)[0]
    best = iou_matrix(picture.boxes, found.xyxy).argmax(1)
    assert (iou_matrix(picture.boxes, found.xyxy).max(1) > 0.4).mean() >= 0.75
    assert found.classes[best].shape == picture.labels.shape


def test_onnx_gives_the_same_boxes(trained, tmp_path, discs):
    folder, _ = trained
    export(folder, tmp_path / "discs.onnx")
    image = discs(7).pixels()
    exact, found = (d.detect([image], min_score=0.05)[0] for d in (Detector.load(folder), load_onnx(tmp_path / "discs.onnx")))
    sure = exact.above(0.3)  # what ours finds in bfloat16 and ONNX in float32
    assert len(sure) > 0
    assert (iou_matrix(sure.xyxy, found.xyxy).max(1) > 0.9).all()


def _foreign(tmp_path, rows, dynamic=False):
    """An ONNX file that answers every picture with the same rows, as an exported YOLOv7 would."""
    import torch

    class Fixed(torch.nn.Module):
        def forward(self, x):
            return torch.tensor(rows) + 0 * x.mean()

    torch.onnx.export(Fixed(), (torch.zeros(1, 3, 64, 64),), str(tmp_path / "yolo.onnx"), dynamo=False, input_names=["images"])
    return tmp_path / "yolo.onnx"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "rows",
    [
        [
            [[20.0, 24.0, 20.0, 16.0, 0.9, 0.1, 0.8], [50.0, 50.0, 10.0, 10.0, 0.01, 0.5, 0.5]]
        ],  # centre, size, objectness, classes
        [[0.0, 10.0, 16.0, 30.0, 32.0, 1.0, 0.72]],  # picture, corners, class, score
    ],
)
def test_a_foreign_yolov7_is_read(tmp_path, rows):
    settings = DetectorSettings(classes=("a", "b"), size=64, overlap=0)
    found = load_onnx(_foreign(tmp_path, rows), settings).detect([np.full((64, 64, 3), 200, np.uint8)])[0]
    assert found.xyxy.tolist() == [[10, 16, 30, 32]]
    assert found.classes.tolist() == [1]
    assert found.scores[0] == pytest.approx(0.72)


def test_a_file_leaves_out_what_its_base_has(tmp_path, monkeypatch):
    base = pretrained.efficientnet_lite0(pretrained=False)
    monkeypatch.setattr(pretrained, "efficientnet_lite0", lambda: base)
    settings = SQUARES.replace(channels=16, blocks=1, base="efficientnet-lite0")
    network = build(settings)
    network.body.load_state_dict(base.state_dict(), strict=False)
    with torch.no_grad():
        network.body.bn1.bias += 0.5  # as a training of the norms alone would leave it
    save(network, settings, tmp_path)
    kept = {k for k in load_file(tmp_path / "model.safetensors") if k.startswith("body.")}
    assert kept == {"body.bn1.bias"}
    again = load(tmp_path)[0].state_dict()
    assert all(torch.equal(v.half(), again[k].half()) for k, v in network.state_dict().items())
    (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text().replace("efficientnet-lite0", ""))
    with pytest.raises(BadInput, match="tensors missing"):
        load(tmp_path)


def test_what_is_no_detector_is_refused(tmp_path, trained):
    with pytest.raises(MissingWeights, match="holds no detector"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"settings": {"classes": ["a"], "channels": 16}}')
    (tmp_path / "model.safetensors").write_bytes((trained[0] / "model.safetensors").read_bytes())
    with pytest.raises(BadInput, match="not a detector"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"settings": {"colour": 1}}')
    with pytest.raises(BadSettings, match="colour"):
        load(tmp_path)
    with pytest.raises(MissingWeights):
        OnnxReader(tmp_path / "no.onnx", 1)
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    with pytest.raises(BadInput, match="usable"):
        OnnxReader(tmp_path / "bad.onnx", 1)
    with pytest.raises(BadInput, match=r"bad\.onnx\.json"):
        load_onnx(tmp_path / "bad.onnx")


def test_boxes_join_and_cut():
    assert len(Boxes.join([])) == 0
    some = Boxes(np.zeros((3, 4), np.float32), np.array([0.9, 0.5, 0.1], np.float32), np.zeros(3, np.int64))
    assert len(Boxes.join([some, Boxes.none()]).above(0.4).first(1)) == 1


def test_settings_that_cannot_be_are_refused(settings):
    for change in (
        {"classes": ()},
        {"architecture": "x"},
        {"size": 100},
        {"overlap": 96},
        {"ignored": ("z",)},
        {"blocks": 9},
        {"base": "x"},
    ):
        with pytest.raises(BadSettings):
            settings.model.replace(**change)
