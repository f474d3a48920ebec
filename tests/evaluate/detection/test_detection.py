"""Points by both rules, agreement of an index, masks of two folders; equal to plain counts, broken files named."""

import csv

import numpy as np
import pytest
from PIL import Image

from pathasst.core.errors import BadDataset
from pathasst.evaluate.detection import cells, nuclei
from pathasst.evaluate.detection.agreement import agreement


def anova_icc(x, y):
    """ICC(2,1) and ICC(3,1) straight from the two-way table."""
    table = np.stack([x, y], axis=1)
    n, k = table.shape
    grand = table.mean()
    msr = k * ((table.mean(1) - grand) ** 2).sum() / (n - 1)
    msc = n * ((table.mean(0) - grand) ** 2).sum() / (k - 1)
    residual = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + grand
    mse = (residual**2).sum() / ((n - 1) * (k - 1))
    return (msr - mse) / (msr + (k - 1) * mse + k * (msc - mse) / n), (msr - mse) / (msr + (k - 1) * mse)


@pytest.mark.parametrize("offset", [0.0, 8.0])
def test_agreement_equals_the_analysis_of_variance(offset):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 80, 40)
    y = x + offset + rng.normal(0, 5, 40)
    found = agreement(x, y)
    absolute, consistent = anova_icc(x, y)
    assert (found.icc.value, found.icc_consistency.value) == pytest.approx((absolute, consistent))
    difference = y - x
    spread = 1.96 * difference.std(ddof=1)
    limits = difference.mean() - spread, difference.mean() + spread
    assert (found.lower.value, found.upper.value) == pytest.approx(limits)
    assert found.mean_error.value == pytest.approx(np.abs(difference).mean())
    assert found.icc.low < found.icc.value < found.icc.high <= 1
    with pytest.raises(BadDataset, match="at least three"):
        agreement([1, 2], [1, 2])


def test_shrout_and_fleiss_first_two_judges():
    x, y = [9, 6, 8, 7, 10, 6], [2, 1, 4, 1, 5, 2]
    assert agreement(x, y).icc.value == pytest.approx(anova_icc(np.array(x, float), np.array(y, float))[0])
    assert agreement(x, x).icc.value == pytest.approx(1.0)


def put(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def tables(tmp_path):
    """Five pictures of ten cells; every one is predicted 2 px off, a fifth missed, one more per picture invented."""
    rng, truth, predicted = np.random.default_rng(0), [], []
    for image in range(5):
        for n in range(10):
            x, y = 20 + 40 * (n % 5), 20 + 40 * (n // 5)
            label = "positive" if rng.random() < 0.5 else "negative"
            truth.append({"image": f"{image}.png", "x": x, "y": y, "label": label, "patient": f"p{image // 2}"})
            if n % 5:
                predicted.append({"image": f"im/{image}.png", "x": x + 2, "y": y, "label": label, "score": rng.random()})
        predicted.append({"image": f"{image}.png", "x": 500, "y": 500, "label": "positive", "score": 0.1})
    return put(tmp_path / "truth.csv", truth), put(tmp_path / "predicted.csv", predicted)


def test_points_by_both_rules_and_an_index(tables):
    truth, predicted = map(cells.read_points, tables)
    table, scores = cells.evaluate("tool", truth, predicted, 12, "positive")
    rows = {(row[0], row[1]): row for row in table.rows}
    assert rows["any label", "optimal"][2:5] == [5, 50, 45]
    assert rows["any label", "optimal"][7].value == rows["any label", "greedy"][7].value == pytest.approx(2 * 40 / (50 + 45))
    assert {row[0] for row in table.rows} == {"any label", "negative", "positive"}
    assert any("the optimal rule gives +0.0000" in note for note in table.notes)
    assert any("ICC(2,1)" in note for note in table.notes) and table.pictures["Bland–Altman, positive"].startswith(b"\x89PNG")
    assert {"F1", "ICC(2,1)", "bias"} <= {s.metric for s in scores}
    with pytest.raises(BadDataset, match="the labels are: negative, positive"):
        cells.evaluate("tool", truth, predicted, 12, "brown")


def test_dense_cells_show_the_difference_of_the_rules(tmp_path):
    truth = put(tmp_path / "t.csv", [{"image": "a", "x": 4, "y": 0}, {"image": "a", "x": -8, "y": 0}])
    predicted = put(
        tmp_path / "p.csv", [{"image": "a", "x": 0, "y": 0, "score": 0.9}, {"image": "a", "x": 10, "y": 0, "score": 0.8}]
    )
    table, _ = cells.evaluate("tool", cells.read_points(truth), cells.read_points(predicted), 9)
    assert [row[7].value for row in table.rows] == [1.0, 0.5] and "+0.5000" in table.notes[0]


def test_a_picture_without_a_prediction_counts_as_missed(tables):
    truth, predicted = map(cells.read_points, tables)
    del predicted["0.png"]
    table, _ = cells.evaluate("tool", truth, predicted)
    assert table.rows[0][3:5] == [50, 36] and any("1 pictures have no prediction (0.png" in n for n in table.notes)


def test_a_table_without_coordinates_is_named(tmp_path):
    put(tmp_path / "t.csv", [{"image": "a", "left": 4}])
    assert len(cells.read_points(tmp_path / "t.csv")["a"].xy) == 0  # a picture without cells
    put(tmp_path / "t.csv", [{"file": "a", "x": 4, "y": 1}])
    with pytest.raises(BadDataset, match="expected a CSV with image, x, y"):
        cells.read_points(tmp_path / "t.csv")


@pytest.fixture
def masks(tmp_path):
    """Four masks of four squares; the prediction of one is moved, of one empty, of one of another size, of one missing."""
    for folder in ("truth", "out"):
        (tmp_path / folder).mkdir()
    mask = np.zeros((40, 40), np.uint16)
    for n in range(4):
        mask[2 + 20 * (n // 2) : 12 + 20 * (n // 2), 2 + 20 * (n % 2) : 12 + 20 * (n % 2)] = n + 1
    for name in "abcd":
        Image.fromarray(mask).save(tmp_path / f"truth/{name}.png")
    np.save(tmp_path / "out/a.npy", np.roll(mask, 2, 0).astype(np.int32))
    Image.fromarray(np.zeros_like(mask)).save(tmp_path / "out/b.png")
    Image.fromarray(mask[:20]).save(tmp_path / "out/c.png")
    return tmp_path


def test_masks_of_two_folders(masks):
    put(masks / "who.csv", [{"image": f"{n}.png", "patient": p} for n, p in zip("abcd", "xxyy", strict=True)])
    table, scores = nuclei.evaluate("tool", masks / "truth", masks / "out", masks / "who.csv")
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert rows["pooled"]["pictures"] == 3 and rows["pooled"]["objects"] == 12 and rows["pooled"]["predicted"] == 4
    assert rows["pooled"]["SQ"].value == pytest.approx(80 / 120) and rows["pooled"]["DQ"].value == pytest.approx(8 / 16)
    assert rows["mean of pictures"]["PQ"].value == pytest.approx((80 / 120) / 3)
    assert any("c: (40, 40) and (20, 40)" in n for n in table.notes) and any(
        "1 pictures have no predicted" in n for n in table.notes
    )
    assert {s.protocol for s in scores} == {"pooled", "mean of pictures"} and {s.clusters for s in scores} == {2}


def test_folders_without_a_name_in_common_are_explained(masks, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(BadDataset, match=r"no mask of .* has its name in .* no masks"):
        nuclei.evaluate("tool", masks / "truth", tmp_path / "none")
