from __future__ import annotations

import numpy as np
import pytest
from curate_samples import compound, onnx_file, texture

from pathasst.core.errors import MissingWeights
from pathasst.core.records import Panel
from pathasst.curate.detect import JoinSettings, LearnedDetector, combine, load_detector, snap
from pathasst.curate.letters import LetterReader
from pathasst.curate.panels import CutDetector, OnnxDetector
from pathasst.nn.detector.boxes import Boxes
from pathasst.nn.detector.settings import DetectorSettings


class Told:
    """A network that sees what it is told to: (box, score, class 0 panel or 1 letter)."""

    def __init__(self, *rows):
        self.rows = rows

    settings = DetectorSettings(classes=("panel", "letter"), min_score=0.4)

    def detect(self, pictures, *, min_score=None):
        rows = [r for r in self.rows if r[1] >= (self.settings.min_score if min_score is None else min_score)]
        boxes = np.array([r[0] for r in rows], np.float32).reshape(-1, 4)
        return [Boxes(boxes, np.array([r[1] for r in rows], np.float32), np.array([r[2] for r in rows], np.int64))]


def touching() -> np.ndarray:
    return np.hstack([texture(1), texture(2, tint=(120, 150, 200))])


def test_pictures_that_touch_are_parted_where_the_network_sees_two_and_the_cut_is_exact():
    sheet = touching()
    assert len(CutDetector()(sheet)) == 1
    seen = Told(((3, 2, 254, 198), 0.8, 0), ((266, 4, 517, 197), 0.7, 0))
    found = LearnedDetector(seen)(sheet)
    assert [p.box for p in found] == [(0, 0, 260, 200), (260, 0, 520, 200)]


def test_what_the_gutters_found_stays_when_the_network_sees_nothing_or_one():
    sheet = compound([texture(n) for n in range(4)], 2)
    gutters = CutDetector()(sheet)
    assert LearnedDetector(Told())(sheet) == gutters
    whole = ((14, 14, 534, 214), 0.45, 0)
    assert LearnedDetector(Told(whole))(sheet) == gutters


def test_unsure_boxes_count_where_the_caption_names_more_panels_and_only_there():
    sheet = touching()
    halves = Told(((0, 0, 258, 200), 0.3, 0), ((262, 0, 520, 200), 0.25, 0))
    finder = LearnedDetector(halves)
    assert len(finder.cut(sheet)[0]) == len(finder.cut(sheet, 1)[0]) == 1
    assert [p.box for p in finder.cut(sheet, 2)[0]] == [(0, 0, 260, 200), (260, 0, 520, 200)]


def test_a_caption_that_names_fewer_panels_joins_what_the_network_sees_as_so_many():
    sheet = compound([texture(n) for n in range(4)], 2)
    gutters = CutDetector()(sheet)
    row = (
        ((0, 0, sheet.shape[1], gutters[2].box[1] - 5), 0.9, 0),
        ((0, gutters[2].box[1], sheet.shape[1], sheet.shape[0]), 0.9, 0),
    )
    pieces = [(p.box, 0.9, 0) for p in gutters]
    assert len(LearnedDetector(Told(*row)).cut(sheet, 2)[0]) == 2
    assert LearnedDetector(Told(*pieces)).cut(sheet, 2)[0] == gutters


def test_the_network_is_not_asked_where_the_gutters_part_as_many_as_the_caption_names():
    sheet = compound([texture(n) for n in range(4)], 2)
    assert LearnedDetector(object()).cut(sheet, 4) == CutDetector().cut(sheet)


def test_seams_part_what_neither_gutters_nor_network_see_as_so_many():
    assert len(LearnedDetector(Told()).cut(touching(), 2)[0]) == len(CutDetector().cut(touching(), 2)[0]) == 2


def test_a_whole_that_the_network_is_surer_of_is_not_split():
    sheet = touching()
    halves = [((0, 0, 258, 200), 0.5, 0), ((262, 0, 520, 200), 0.5, 0)]
    assert len(LearnedDetector(Told(*halves, ((0, 0, 520, 200), 0.9, 0)))(sheet)) == 1


def test_pieces_that_the_network_sees_as_one_picture_are_joined():
    pieces = [Panel(box=(0, 0, 100, 98)), Panel(box=(0, 102, 100, 200)), Panel(box=(120, 0, 220, 200))]
    seen = [Panel(box=(1, 1, 99, 199), score=0.9), Panel(box=(120, 0, 220, 200), score=0.9)]
    blank = np.zeros((200, 220, 3), np.uint8)
    assert [p.box for p in combine(pieces, seen, JoinSettings(), blank)] == [(0, 0, 100, 200), (120, 0, 220, 200)]
    also = [*seen, Panel(box=(0, 0, 100, 97), score=0.6)]
    assert len(combine(pieces, also, JoinSettings(), blank)) == 3
    unsure = [Panel(box=p.box, score=0.45) for p in seen]
    assert len(combine(pieces, unsure, JoinSettings(), blank)) == 3


def test_edges_snap_to_the_frame_or_to_the_nearest_straight_edge():
    sheet = touching()
    assert snap((6, 3, 251, 196), (0, 0, 520, 200), sheet) == (0, 0, 260, 200)
    flat = np.full((200, 520, 3), 90, np.uint8)
    assert snap((6, 3, 251, 196), (0, 0, 520, 200), flat) == (0, 0, 251, 200)


def test_a_letter_inside_a_panel_that_the_network_sees_is_read():
    import cv2

    sheet = touching()
    for x, letter in ((20, "A"), (280, "B")):
        cv2.rectangle(sheet, (x, 60), (x + 30, 94), (255, 255, 255), -1)
        cv2.putText(sheet, letter, (x + 4, 88), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (0, 0, 0), 2, cv2.LINE_AA)
    halves = [((0, 0, 259, 200), 0.8, 0), ((261, 0, 520, 200), 0.8, 0)]
    letters = [((22, 64, 46, 90), 0.7, 1), ((282, 64, 306, 90), 0.7, 1)]
    panels, small = LearnedDetector(Told(*halves, *letters)).cut(sheet)
    assert len(small) >= 2
    assert LetterReader()(sheet, panels, small) == ["A", "B"]


def test_every_kind_of_detector_is_loaded_by_its_name(tmp_path):
    assert isinstance(load_detector("xycut"), CutDetector)
    onnx = onnx_file(tmp_path / "det.onnx", np.array([[128, 256, 200, 200, 0.99, 0.99]]))
    finder = load_detector(str(onnx))
    assert isinstance(finder, OnnxDetector)
    panels, small = finder.cut(compound([texture(n) for n in range(4)], 2, "abcd"))
    assert len(panels) == 1 and len(small) >= 4
    with pytest.raises(MissingWeights):
        load_detector(str(tmp_path))
