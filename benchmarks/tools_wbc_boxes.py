"""Boxes around the white cells of single-cell pictures (PBC), so that a classifier is taught what a detector will hand it.

    python benchmarks/tools_wbc_boxes.py $PATHASST_DATA/pbc_blood out/wbc.csv

The nucleus is the purple region nearest to the middle; the box is grown to the cell by what is more coloured than the background
and no red cell. A square of 1.1 times the longer side is written, as `blood_cells` cuts it. Columns: path, label, group, box.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import cv2
import numpy as np


def cell_box(picture: np.ndarray) -> tuple[int, int, int, int]:
    """The square around the cell at the middle of H×W×3 uint8 RGB."""
    smooth = cv2.GaussianBlur(picture, (0, 0), 2).astype(np.int16)
    # White cells are bluer than red ones: purple nuclei strongly, their cytoplasm a little.
    purple = (smooth[..., 2] - smooth[..., 1]).clip(0, 255).astype(np.uint8)
    limit = cv2.threshold(purple, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0]
    mask = cv2.morphologyEx((purple > limit * 0.75).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((15, 15), np.uint8))
    _, _, stats, centres = cv2.connectedComponentsWithStats(mask)
    height, width = mask.shape
    away = np.hypot(centres[1:, 0] - width / 2, centres[1:, 1] - height / 2) - np.sqrt(stats[1:, cv2.CC_STAT_AREA])
    best = 1 + int(away.argmin())
    x, y, w, h = stats[best, :4]
    side = 1.1 * max(w, h)
    cx, cy = x + w / 2, y + h / 2
    return round(cx - side / 2), round(cy - side / 2), round(cx + side / 2), round(cy + side / 2)


def main() -> None:
    """Write the table."""
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.parent.mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open(newline="") as source, out.open("w", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerow(["path", "label", "group", "xmin", "ymin", "xmax", "ymax"])
        for row in csv.DictReader(source):
            path = (folder / row["image"]).resolve()
            picture = cv2.imread(str(path))[..., ::-1]
            writer.writerow([path, row["label"], row["image"], *cell_box(picture)])


if __name__ == "__main__":
    main()
