"""The tissue mask of overviews on points labelled by eye, beside two rules on saturation, in one run.

    PATHASST_DATA=… python benchmarks/slides_tissue.py [--half dev] [--show] [--json FILE]

`data/tissue_labels.csv` holds 24 points of each of 66 overviews of `slide_atlas` (480 px, one slide a case, seed 20): 12 drawn
uniformly, 12 within 6 px of the border of the mask as it was when they were drawn. They were labelled on enlarged pictures that
show neither mask nor stratum, before any mask was compared: T tissue (fat and pale stroma too), G glass (lumina and tears too),
P pen, D dirt, U cannot tell, which is left out: most often a point on the very edge. The stratum `uniform` stands for whole
slides, `border` for the hard places. The rules were mended on the half `dev`; `test` has other cases. Intervals: bootstrap over
cases, seed 0.

Beside it: Otsu's threshold on HSV saturation, and CLAM's default (median of 7 px, saturation over 8 of 255, closed by 4 px).
"""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from measured import command_line, save
from skimage.filters import threshold_otsu

from pathasst.core.statistics import Interval, mean_interval, sums_interval
from pathasst.imaging.slides import open_slide
from pathasst.imaging.slides.tissue import find_tissue

LABELS = Path(__file__).parent / "data" / "tissue_labels.csv"
Point = dict[str, Any]  # a row of the labels, with `stain`, `case`, `tissue`, and for each method whether its mask has the point


def otsu(image: np.ndarray) -> np.ndarray:
    """Saturation over Otsu's threshold."""
    saturation = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 1]
    return np.asarray(saturation > threshold_otsu(saturation))


def clam(image: np.ndarray) -> np.ndarray:
    """CLAM's default `sthresh` 8, `mthresh` 7, `close` 4, without its filter by area, which is made for other scales."""
    saturation = cv2.medianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 1], 7)
    return cv2.morphologyEx((saturation > 8).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((4, 4), np.uint8)) > 0


OTHERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"Otsu on saturation": otsu, "CLAM's default": clam}
METHODS = ("pathasst", *OTHERS)


def read_points(data: Path, half: str | None) -> list[Point]:
    """The points that could be labelled, with what each method says of them."""
    with (data / "slide_atlas" / "slides.csv").open(encoding="utf-8", newline="") as file:
        slides = {Path(row["overview"]).stem: row for row in csv.DictReader(file)}
    by_overview: dict[str, list[Point]] = defaultdict(list)
    with LABELS.open(newline="") as file:
        for row in csv.DictReader(file):
            if half in (None, row["half"]) and row["label"] != "U":
                by_overview[row["overview"]].append(row)
    for overview, points in by_overview.items():
        with open_slide(data / "slide_atlas" / "overviews" / f"{overview}.jpg") as slide:
            image = slide.read().image
            masks = {"pathasst": find_tissue(slide).mask} | {name: rule(image) for name, rule in OTHERS.items()}
        for point in points:
            x, y = int(point["x"]), int(point["y"])
            point |= {"stain": slides[overview]["stain_type"], "case": slides[overview]["case"], "tissue": point["label"] == "T"}
            point |= {name: bool(mask[y, x]) for name, mask in masks.items()}
    return [point for points in by_overview.values() for point in points]


def share(points: Iterable[Point], method: str, of: bool | None = None) -> Interval | str:
    """How often the mask is right, of all points or of those that are tissue (True) or not (False)."""
    rows = [p for p in points if of in (None, p["tissue"])]
    if not rows:
        return "–"
    return mean_interval([p[method] == p["tissue"] for p in rows], [p["case"] for p in rows])


def balanced_gain(points: list[Point], other: str) -> Interval:
    """Mean of sensitivity and specificity, less the other method's."""
    tissue = np.array([p["tissue"] for p in points])
    hits = [np.array([p[method] for p in points]) == tissue for method in ("pathasst", other)]
    rows = np.stack([tissue, ~tissue, *(hit & part for hit in hits for part in (tissue, ~tissue))], 1).astype(float)

    def gain(sums: np.ndarray) -> np.ndarray:
        in_tissue, on_glass, ours_in, ours_on, theirs_in, theirs_on = sums.T
        return ((ours_in - theirs_in) / in_tissue + (ours_on - theirs_on) / on_glass) / 2  # type: ignore[no-any-return]

    return sums_interval(gain, rows, [p["case"] for p in points])


def table(points: list[Point], names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Of each method: points, agreement, sensitivity, specificity."""
    count = f"{len(points)} of {len({p['case'] for p in points})} cases"
    return {
        name: {
            "points": count,
            "agreement": share(points, name),
            "sensitivity": share(points, name, True),
            "specificity": share(points, name, False),
        }
        for name in names
    }


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__)
    parser.add_argument("--half", choices=("dev", "test"), help="only this one")
    parser.add_argument("--show", action="store_true", help="name the points that the mask gets wrong")
    options = parser.parse_args()
    points = read_points(Path(os.environ["PATHASST_DATA"]), options.half)
    values: dict[str, Any] = {}
    for half in sorted({p["half"] for p in points}):
        own = [p for p in points if p["half"] == half]
        uniform = [p for p in own if p["stratum"] == "uniform"]
        groups = {"uniform": uniform, "border": [p for p in own if p["stratum"] == "border"]}
        groups |= {f"uniform, {s}": [p for p in uniform if p["stain"] == s] for s in sorted({p["stain"] for p in uniform})}
        values[half] = {name: table(group, METHODS) for name, group in groups.items()}
        for name, group in values[half].items():
            for method, row in group.items():
                print(f"{half}  {name:20s} {method:20s}", "  ".join(f"{k} {v}" for k, v in row.items()))
        values[half]["mean of both, pathasst less"] = {
            other: {stratum: balanced_gain(groups[stratum], other) for stratum in ("uniform", "border")} for other in OTHERS
        }
        print(half, "mean of sensitivity and specificity, pathasst less", values[half]["mean of both, pathasst less"])
    if options.show:
        for p in points:
            if p["pathasst"] != p["tissue"]:
                print(p["overview"], p["stratum"], f"({p['x']}, {p['y']})", p["label"], "mask", "T" if p["pathasst"] else "–")
    save(options.json, values)


if __name__ == "__main__":
    main()
