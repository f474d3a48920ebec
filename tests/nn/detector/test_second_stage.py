"""The second stage: what looks like an object to the first and is none loses; it is kept beside the weights."""

import numpy as np
import pytest
import torch

from pathasst.core.errors import BadDataset, BadSettings
from pathasst.nn.detector import infer, second_stage
from pathasst.nn.detector.boxes import Boxes, iou_matrix
from pathasst.nn.detector.onnx import export, load_onnx
from pathasst.nn.detector.second_stage import SecondStage
from pathasst.nn.detector.settings import DetectorSettings, SecondStageSettings
from pathasst.nn.detector.train import truths

torch.set_num_threads(1)
RED = DetectorSettings(classes=("red", "blue"), ignored=("blue",), second_stage=SecondStageSettings(background=8))


class Stub:
    """A first stage that finds what a function of a picture's pixels says, without a network."""

    def __init__(self, find):
        self.find, self.settings = find, RED

    def detect(self, pictures, *, min_score):
        return [self.find(pixels) for pixels in pictures]


def all_alike(picture, pixels: np.ndarray) -> Boxes:
    """Every disc, and as surely places where none is."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, [pixels.shape[1] - 24, pixels.shape[0] - 24], (40, 2))
    empty = np.concatenate([corners, corners + 24], 1).astype(np.float32)
    empty = empty[iou_matrix(empty, picture.boxes).max(1) == 0][:10]
    boxes = np.concatenate([picture.boxes, empty])
    return Boxes(boxes, np.full(len(boxes), 0.5, np.float32), np.zeros(len(boxes), np.int64))


def test_boxes_of_nothing_and_of_ignored_classes_fall_behind(discs):
    pictures = [discs(i) for i in range(4)]
    by_pixels = {p.pixels().tobytes(): p for p in pictures}
    stage = second_stage.fit(Stub(lambda pixels: all_alike(by_pixels[pixels.tobytes()], pixels)), pictures)
    assert stage.head.classes == ("background", "blue", "red")
    assert stage.classes == ("red",)
    unseen = discs(77)
    judged = stage(unseen.pixels(), all_alike(unseen, unseen.pixels()))
    red = truths([unseen], RED)[0].xyxy
    assert len(red) > 1
    is_red = iou_matrix(judged.xyxy, red).max(1) > 0.99
    assert is_red[: len(red)].all()
    assert judged.scores[is_red].min() > judged.scores[~is_red].max()
    assert judged.scores.max() <= 0.5**0.6


def test_it_is_kept_beside_the_weights_and_beside_an_onnx(trained, discs, tmp_path):
    network, settings = infer.load(trained[0])
    settings = settings.replace(second_stage=SecondStageSettings(weight=0.3))
    detector = infer.Detector(infer.TorchReader(network), settings)
    plain = detector.detect([discs(5).pixels()], min_score=0.3)[0]
    detector.second_stage = second_stage.fit(detector, [discs(0), discs(1)])
    detector.second_stage.head.save(tmp_path / second_stage.FOLDER)
    infer.save(network, settings, tmp_path)
    export(tmp_path, tmp_path / "onnx" / "discs.onnx")
    here, again, onnx = (
        d.detect([discs(5).pixels()], min_score=0.3)[0]
        for d in (detector, infer.Detector.load(tmp_path), load_onnx(tmp_path / "onnx" / "discs.onnx"))
    )
    assert len(here) > 0
    assert not np.isin(here.scores, plain.scores).any()
    assert again.scores == pytest.approx(here.scores, abs=0.03)  # the head is stored in half precision
    sure = here.above(0.4)
    assert (iou_matrix(sure.xyxy, onnx.xyxy).max(1) > 0.9).all()


def test_the_first_stage_keeps_all_that_may_reach_the_score():
    stage = SecondStage(None, SecondStageSettings(weight=0.5, least=0.05), ("red",))
    assert stage.first_score(0.4) == pytest.approx(0.16)
    assert stage.first_score(0.01) == 0.05


def test_groups_that_cannot_be_and_a_head_of_others_are_refused(trained, discs):
    with pytest.raises(BadSettings, match="puts reported and ignored classes together: any"):
        RED.replace(second_stage=SecondStageSettings(groups={"red": "any", "blue": "any"}))
    with pytest.raises(BadSettings, match="names green, which are no classes"):
        RED.replace(second_stage=SecondStageSettings(groups={"green": "any"}))
    with pytest.raises(BadDataset, match="the detector hits no labelled object"):
        second_stage.fit(Stub(lambda pixels: Boxes.none()), [discs(0)])
    with pytest.raises(BadSettings, match="the second stage knows a, b; it does not belong to a detector of red, blue"):
        SecondStage.of(infer_head(("a", "b")), RED)


def infer_head(classes):
    """A head of these classes without weights."""
    from pathasst.nn.heads import Head

    return Head(classes, {})
