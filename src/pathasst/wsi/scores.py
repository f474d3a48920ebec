"""What a lab reports of a slide, from its cells: Ki67 index, HER2 score, TPS, counts. Knows labels and counts, no picture.

A global value has a 95 % interval from whole tiles drawn with replacement: cells of one place are alike, and a slide is uneven.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pathasst.core.statistics import Interval, draw_counts, sums_interval, wilson

THRESHOLD = {"ki67_cells": 20.0, "pdl1_cells": 1.0}
"""Per cent at which the value is read differently: Ki67's 20 % (St Gallen 2015), TPS ≥ 1 %."""
FURTHER = {"pdl1_cells": (50.0,)}
POSITIVE = {"ki67_cells": ("positive",), "pdl1_cells": ("positive",), "her2_cells": ("3+",)}
"""Labels that hot spots are looked for by."""
GRADES = ("0", "1+", "2+", "3+")
TUMOUR = ("positive", "negative")
ENOUGH = 50
"""Cells from which on a tile has an index of its own."""


@dataclass(frozen=True, slots=True)
class SlideScore:
    """`value` in per cent with its interval; `sentences` for people, each whole."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)
    further: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def per_cent(interval: Interval) -> str:
    """`23.4 % (95 % interval 20.1–26.9 %)`."""
    return f"{100 * interval.value:.1f} % (95 % interval {100 * interval.low:.1f}–{100 * interval.high:.1f} %)"


def score(tool: str, labels: Sequence[str], counts: np.ndarray) -> SlideScore:
    """The score of a slide. `counts`: int [tiles, labels]."""
    by_label = dict(zip(labels, map(int, counts.sum(0)), strict=True)) if len(counts) else dict.fromkeys(labels, 0)
    if tool in ("ki67_cells", "pdl1_cells"):
        return _share(tool, labels, counts, by_label)
    if tool == "her2_cells":
        return _her2(labels, counts, by_label)
    total = sum(by_label.values())
    words = ", ".join(f"{n} {name}" for name, n in sorted(by_label.items(), key=lambda item: -item[1])) or "none"
    return SlideScore("objects", None, counts=by_label, sentences=[f"{total} objects: {words}."])


def _columns(labels: Sequence[str], counts: np.ndarray, names: Sequence[str]) -> np.ndarray:
    columns = [i for i, name in enumerate(labels) if name in names]
    return counts[:, columns].sum(1) if len(counts) else np.zeros(0, int)  # type: ignore[no-any-return]


def _ratio(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / np.maximum(sums[:, 1], 1)  # type: ignore[no-any-return]


def _share(tool: str, labels: Sequence[str], counts: np.ndarray, by_label: Mapping[str, int]) -> SlideScore:
    """The share of positive tumour cells: Ki67 index, TPS."""
    name = "Ki67 index" if tool == "ki67_cells" else "TPS"
    positive, cells = _columns(labels, counts, ("positive",)), _columns(labels, counts, TUMOUR)
    if not cells.sum():
        return SlideScore(name, None, counts=dict(by_label), sentences=[f"No tumour cells were found, so there is no {name}."])
    used = cells > 0
    interval = sums_interval(_ratio, np.stack([positive[used], cells[used]], 1))
    sentences = [
        f"{name} of the whole slide {per_cent(interval)}: {int(positive.sum())} of {int(cells.sum())} tumour cells in "
        f"{int(used.sum())} tiles."
    ]
    sentences += [
        f"The interval straddles {limit:g} %: the slide cannot be put on one side of it."
        for limit in (THRESHOLD[tool], *FURTHER.get(tool, ()))
        if interval.low * 100 < limit < interval.high * 100
    ]
    if used.sum() < 10:
        sentences.append(f"Only {int(used.sum())} tiles have cells: the interval is rough.")
    further: dict[str, Any] = {}
    large = cells >= ENOUGH
    if large.sum() >= 2:
        each = 100 * positive[large] / cells[large]
        low, middle, high = np.percentile(each, [10, 50, 90])
        further["tile_agreement"] = {
            "tiles": int(large.sum()),
            "least_cells": ENOUGH,
            "percentiles_10_50_90": [round(float(v), 1) for v in (low, middle, high)],
        }
        sentences.append(
            f"Tiles with at least {ENOUGH} tumour cells ({int(large.sum())}) have {low:.1f}–{high:.1f} % (10th–90th percentile), "
            f"the middle one {middle:.1f} %."
        )
    if tool == "pdl1_cells":
        sentences.append(_cps(by_label, further))
    value, low_end, high_end = (round(100 * v, 2) for v in (interval.value, interval.low, interval.high))
    return SlideScore(name, value, low_end, high_end, dict(by_label), sentences, further)


def _cps(by_label: Mapping[str, int], further: dict[str, Any]) -> str:
    """CPS, where the model tells immune cells apart; notes it in `further`."""
    immune = [n for name, n in by_label.items() if name.startswith("immune positive")]
    tumour = sum(by_label.get(name, 0) for name in TUMOUR)
    if not immune or not tumour:
        return "CPS is not given: the model does not tell stained immune cells apart (class `immune positive`)."
    value = min(100 * (by_label.get("positive", 0) + sum(immune)) / tumour, 100.0)
    further["cps"] = round(value, 1)
    return f"CPS {value:.1f}: stained tumour and immune cells per 100 tumour cells."


def _her2(labels: Sequence[str], counts: np.ndarray, by_label: Mapping[str, int]) -> SlideScore:
    """HER2 by the highest grade that, with those above, more than 10 % of the cells reach; how sure that is under resampling."""
    from pathasst.tools.cells.her2 import score as grade_of

    by_grade = {g: by_label.get(g, 0) for g in GRADES}
    grade, total = grade_of(by_grade), sum(by_grade.values())
    if grade is None:
        return SlideScore("HER2", None, counts=dict(by_label), sentences=["No cells were found, so there is no HER2 score."])
    columns = np.stack([_columns(labels, counts, (g,)) for g in GRADES], 1)
    columns = columns[columns.sum(1) > 0]
    samples = draw_counts(len(columns)) @ columns
    grades = [grade_of(dict(zip(GRADES, row, strict=True))) for row in samples]
    same = grades.count(grade) / len(grades)
    decisive = GRADES[GRADES.index(grade) :] if grade != "0" else GRADES[1:]
    interval = sums_interval(_ratio, np.stack([columns[:, [GRADES.index(g) for g in decisive]].sum(1), columns.sum(1)], 1))
    shares = ", ".join(f"{g}: {100 * n / total:.1f} %" for g, n in by_grade.items())
    sentences = [
        f"Estimated HER2 score {grade} from {total} cells in {len(columns)} tiles ({shares}).",
        f"Cells of {' or '.join(decisive)}: {per_cent(interval)}; more than 10 % decide.",
    ]
    if interval.low * 100 < 10 < interval.high * 100:
        sentences.append("The interval straddles 10 %: the score could be another one.")
    sentences.append(f"Of slides drawn from the same tiles {same:.0%} have this score.")
    further = {"score": grade, "same_score_when_resampled": round(same, 3)}
    low, high = round(100 * interval.low, 2), round(100 * interval.high, 2)
    return SlideScore("HER2", round(100 * interval.value, 2), low, high, dict(by_label), sentences, further)


def area_score(tool: str, by_label: Mapping[str, int]) -> dict[str, Any]:
    """Of one area, such as a hot spot: its cells, and the share of positive ones with Wilson's interval."""
    positive_names = POSITIVE.get(tool)
    cells = sum(by_label.get(n, 0) for n in (GRADES if tool == "her2_cells" else TUMOUR))
    if positive_names is None or not cells:
        return {"cells": sum(by_label.values()), "counts": dict(by_label)}
    interval = wilson(sum(by_label.get(n, 0) for n in positive_names), cells)
    per = {"percent": round(100 * interval.value, 1), "low": round(100 * interval.low, 1), "high": round(100 * interval.high, 1)}
    limit = THRESHOLD.get(tool)
    straddles = limit is not None and 100 * interval.low < limit < 100 * interval.high
    return {"cells": cells, "counts": dict(by_label), **per, "straddles": limit if straddles else None}


def area_words(tool: str, values: Mapping[str, Any]) -> str:
    """`area_score` in words, with the area's `mm2` where it is known: `0.20 mm², 130 cells: 21.5 % positive (95 % …)`."""
    size = f"{values['mm2']:.2f} mm², " if values.get("mm2") else ""
    words = f"{size}{values['cells']} cells"
    if "percent" in values:
        what = "3+ cells" if tool == "her2_cells" else "positive"
        words += f": {values['percent']} % {what} (95 % interval {values['low']}–{values['high']} %)"
    elif values["counts"]:
        words += ": " + ", ".join(f"{n} {name}" for name, n in sorted(values["counts"].items()))
    if values.get("straddles"):
        words += f"; the interval straddles {values['straddles']:g} %"
    return words + "."
