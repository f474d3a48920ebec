"""Measures of detection: as pycocotools has them; thresholds; intervals."""

import contextlib
import io

import numpy as np
import pytest

from pathasst.nn.detector.boxes import Boxes, iou_matrix, suppress
from pathasst.nn.detector.evaluate import Truth, average_precision, best_threshold, collect, evaluate, match, mean_ap

NAMES = {0: "a", 1: "b", 2: "c"}


def made(pictures: int = 12, seed: int = 0) -> tuple[list[Boxes], list[Truth]]:
    """Truth, and boxes that hit most of it roughly, with false ones between."""
    rng = np.random.default_rng(seed)
    found, truth = [], []
    for _ in range(pictures):
        n = int(rng.integers(0, 9))
        corner, size = rng.uniform(0, 200, (n, 2)), rng.uniform(12, 60, (n, 2))
        boxes, labels = np.concatenate([corner, corner + size], 1), rng.integers(0, 3, n)
        seen = rng.random(n) < 0.8
        near = boxes[seen] + rng.normal(0, 3.5, (seen.sum(), 4))
        wrong = np.concatenate([c := rng.uniform(0, 200, (3, 2)), c + rng.uniform(12, 60, (3, 2))], 1)
        xyxy = np.concatenate([near, wrong]).astype(np.float32)
        classes = np.concatenate([labels[seen], rng.integers(0, 3, 3)])
        found.append(Boxes(xyxy, rng.permutation(1000)[: len(xyxy)].astype(np.float32) / 1000, classes))
        truth.append(Truth(boxes.astype(np.float32), labels))
    return found, truth


def coco(found: list[Boxes], truth: list[Truth]) -> tuple[float, float]:
    """(mAP@0.5, mAP@0.5:0.95) by pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def rows(i, xyxy, classes):
        for (x1, y1, x2, y2), c in zip(xyxy.tolist(), classes.tolist(), strict=True):
            yield {"image_id": i, "category_id": c, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}

    real = [r | {"iscrowd": 0} for i, t in enumerate(truth) for r in rows(i, t.xyxy, t.classes)]
    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO()
        gold.dataset = {
            "images": [{"id": i} for i in range(len(truth))],
            "categories": [{"id": c} for c in NAMES],
            "annotations": [r | {"id": k + 1} for k, r in enumerate(real)],
        }
        gold.createIndex()
        scored = [
            r | {"score": float(s)}
            for i, b in enumerate(found)
            for r, s in zip(rows(i, b.xyxy, b.classes), b.scores, strict=True)
        ]
        run = COCOeval(gold, gold.loadRes(scored), "bbox")
        run.params.maxDets = [1, 10, 300]
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][:, :, :, 0, 2]  # overlaps × recalls × classes
    return float(precision[0].mean()), float(precision.mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_average_precision_is_that_of_pycocotools(seed):
    found, truth = made(seed=seed)
    assert mean_ap(found, truth, list(NAMES)) == pytest.approx(coco(found, truth), abs=1e-9)


def test_each_true_box_is_hit_once_and_by_the_better_one():
    box = np.array([[0, 0, 10, 10]], np.float32)
    twice = Boxes(np.array([[0, 0, 10, 9], [0, 0, 10, 10]], np.float32), np.array([0.9, 0.8]), np.array([0, 0]))
    assert match(twice, box)[0].tolist() == [True, False]
    assert match(twice, box)[-1].tolist() == [False, True]  # at 0.95 only the second overlaps enough


def test_perfect_boxes_score_one_and_their_interval_is_narrow():
    _, truth = made()
    perfect = [Boxes(t.xyxy, np.ones(len(t.xyxy), np.float32), t.classes) for t in truth]
    scores = evaluate(perfect, truth, NAMES, 0.5, draws=50)
    assert scores.map50.value == scores.map.value == scores.map.low == 1.0
    assert scores.any_class.count_error.value == 0
    assert "| a |" in scores.table()


def test_intervals_hold_the_value_and_the_counts_are_those_above_the_threshold():
    found, truth = made(20)
    scores = evaluate(found, truth, NAMES, 0.5, draws=200)
    assert scores.map50.low < scores.map50.value < scores.map50.high
    assert mean_ap(found, truth, list(NAMES)) == pytest.approx((scores.map50.value, scores.map.value))
    errors = [abs(int((b.scores >= 0.5).sum()) - len(t.xyxy)) for b, t in zip(found, truth, strict=True)]
    assert scores.any_class.count_error.value == pytest.approx(np.mean(errors))


def test_a_class_that_is_nowhere_does_not_count_in_the_mean():
    found, truth = made()
    assert np.isnan(average_precision(collect(found, truth, 7))).all()
    assert mean_ap(found, truth, [*NAMES, 7]) == pytest.approx(mean_ap(found, truth, list(NAMES)))


def test_the_threshold_parts_right_from_wrong():
    truth = [Truth(np.array([[0, 0, 10, 10]], np.float32), np.array([0]))]
    found = [
        Boxes(np.array([[0, 0, 10, 10], [50, 50, 60, 60]], np.float32), np.array([0.72, 0.41], np.float32), np.array([0, 0]))
    ]
    assert 0.41 < best_threshold(found, truth, [0]) <= 0.72


def test_suppression_keeps_the_best_and_may_go_across_classes():
    boxes = Boxes(
        np.array([[0, 0, 10, 10], [1, 0, 11, 10], [40, 40, 50, 50]], np.float32),
        np.array([0.5, 0.9, 0.3], np.float32),
        np.array([0, 1, 0]),
    )
    assert iou_matrix(boxes.xyxy[:1], boxes.xyxy[1:])[0].tolist() == pytest.approx([9 / 11, 0])
    assert suppress(boxes, 0.5).classes.tolist() == [1, 0, 0]
    assert suppress(boxes, 0.5, across_classes=True).scores.tolist() == pytest.approx([0.9, 0.3])
    assert len(suppress(Boxes.none(), 0.5)) == 0
