from __future__ import annotations

import cv2
import numpy as np
import pytest
from curate_samples import compound, onnx_file, texture

from pathasst.core.errors import BadInput, MissingWeights
from pathasst.core.records import Panel
from pathasst.curate.letters import Glyph, LetterReader, are_sure, assign_outside, plausible
from pathasst.curate.panels import CutDetector, OnnxDetector, reading_order
from pathasst.imaging.boxes import iou


def boxes(sheet: np.ndarray) -> list[tuple[float, ...]]:
    return [p.box for p in CutDetector()(sheet)]


@pytest.mark.parametrize(("count", "columns"), [(2, 2), (4, 2), (6, 3), (3, 1)])
def test_panels_on_light_ground_are_found_where_they_were_put(count, columns):
    sheet = compound([texture(n) for n in range(count)], columns, "abcdef"[:count])
    found = boxes(sheet)
    assert len(found) == count
    for n, box in enumerate(found):
        y, x = 14 + n // columns * 248, 14 + n % columns * 274
        assert iou(box, (x, y, x + 260, y + 200)) > 0.9


def test_thin_white_and_black_lines_between_pictures_are_gutters():
    for ground in (255, 0):
        sheet = np.hstack([texture(1), np.full((200, 4, 3), ground, np.uint8), texture(2)])
        assert len(boxes(sheet)) == 2


def test_one_picture_is_one_panel_and_its_margin_is_trimmed():
    sheet = np.full((260, 340, 3), 255, np.uint8)
    sheet[30:230, 40:300] = texture(3)
    assert iou(boxes(sheet)[0], (40, 30, 300, 230)) > 0.95
    assert boxes(np.full((120, 150, 3), 255, np.uint8)) == [(0.0, 0.0, 150.0, 120.0)]


def test_a_dark_scan_with_black_ground_is_not_cut():
    scan = np.zeros((300, 300, 3), np.uint8)
    scan[60:240, 60:140] = 120
    scan[60:240, 160:240] = 120
    assert len(boxes(scan)) == 1


def test_panels_come_in_reading_order():
    assert reading_order([(300, 10, 400, 100), (0, 12, 100, 100), (0, 200, 100, 300)]) == [
        (0, 12, 100, 100),
        (300, 10, 400, 100),
        (0, 200, 100, 300),
    ]


def test_letters_below_the_panels_are_read():
    sheet = compound([texture(n) for n in range(4)], 2, "abcd")
    panels, small = CutDetector().cut(sheet)
    assert LetterReader()(sheet, panels, small) == ["A", "B", "C", "D"]


def test_letters_go_to_panels_by_one_side_for_the_whole_figure():
    panels = [Panel(box=(0, 0, 100, 100)), Panel(box=(0, 130, 100, 230))]
    above = [Glyph("A", (40, -14, 50, -4), 1), Glyph("B", (40, 112, 50, 122), 1)]
    assert assign_outside(above, panels) == ["A", "B"]


def test_letters_that_cannot_be_names_are_dropped():
    assert plausible(["A", "A", "T"]) == ["A", "", ""]
    assert plausible(["G", "H"]) == ["G", "H"]


@pytest.mark.parametrize(
    ("letters", "sure"), [("AB", True), ("CAB", True), ("JKL", True), ("A", False), ("A ", False), ("AA", False), ("AC", False)]
)
def test_letters_are_sure_when_they_are_a_run_without_gaps(letters, sure):
    assert are_sure([x.strip() for x in letters]) == sure


def test_a_detectors_onnx_gives_panels_in_px_of_the_figure(tmp_path):
    # Two centre boxes at 512 px with objectness × class; one repeats the first, one is unsure.
    rows = np.array(
        [
            [128, 256, 200, 200, 0.99, 0.99],
            [130, 256, 200, 200, 0.95, 0.99],
            [384, 256, 200, 200, 0.98, 1],
            [256, 90, 50, 50, 0.3, 1],
        ]
    )
    panels = OnnxDetector(onnx_file(tmp_path / "det.onnx", rows))(np.zeros((512, 1024, 3), np.uint8))
    assert len(panels) == 2
    assert panels[0].box == pytest.approx((56, 56, 456, 456), abs=1)
    assert panels[1].score == pytest.approx(0.98)


def test_a_detector_that_is_missing_or_no_model_says_so(tmp_path):
    with pytest.raises(MissingWeights, match="export"):
        OnnxDetector(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(BadInput):
        OnnxDetector(tmp_path / "bad.onnx")


def charts(columns: int, rows: int, step: int = 210) -> np.ndarray:
    """Charts as programs draw them, close to each other: axes, tick labels beside them, a word below, bars in some."""
    sheet = np.full((rows * step + 10, columns * (step + 40) + 10, 3), 255, np.uint8)
    for n in range(rows * columns):
        x, y = 50 + n % columns * (step + 40), 10 + n // columns * step
        cv2.rectangle(sheet, (x, y), (x + 190, y + 150), (0, 0, 0), 1)
        for tick in range(4):
            cv2.putText(sheet, "0.5", (x - 26, y + 30 + 36 * tick), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (0, 0, 0), 1)
            if n % 2:
                cv2.rectangle(sheet, (x + 8 + 46 * tick, y + 20 + 10 * tick), (x + 45 + 46 * tick, y + 150), (30, 90, 160), -1)
        cv2.line(sheet, (x, y + 140), (x + 190, y + 10 + 20 * (n % 3)), (180, 60, 30), 2)
        cv2.putText(sheet, "time (days)", (x + 50, y + 172), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1)
    return sheet


@pytest.mark.parametrize(("columns", "rows"), [(2, 1), (3, 1), (2, 2), (3, 2)])
def test_charts_side_by_side_are_parted_where_the_caption_names_them(columns, rows):
    count = columns * rows
    panels, _ = CutDetector().cut(charts(columns, rows), count)
    assert len(panels) == count
    for n, panel in enumerate(panels):  # its axes whole, and nothing of its neighbours
        left, top, (x1, y1, x2, y2) = 50 + n % columns * 250, 10 + n // columns * 210, panel.box
        assert left - 30 <= x1 <= left + 2 and left + 188 <= x2 <= left + 195
        assert top - 8 <= y1 <= top + 2 and top + 148 <= y2 <= top + 185


def test_one_chart_is_not_torn_where_the_caption_names_more_than_it_has():
    assert len(CutDetector().cut(charts(1, 1), 3)[0]) == 1
