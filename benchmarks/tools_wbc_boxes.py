"""Boxes around the white cells of single-cell pictures, so that a head is taught what a detector will hand it.

    python benchmarks/tools_wbc_boxes.py $PATHASST_DATA out/wbc

Writes `pbc.csv` and `tecom.csv`: path, label, box. In PBC the nucleus is the purple region nearest to the middle, and the box is
grown to the cell by what is more coloured than the background and no red cell; in Tecom the cell is outlined. A square of 1.1
times the longer side is written, as `blood_cells` cuts it.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import cv2
import numpy as np

from pathasst.tools.blood_cells import MARGIN

Box = tuple[int, int, int, int]


def cell_box(picture: np.ndarray) -> Box:
    """The square around the cell at the middle of H×W×3 uint8 RGB."""
    smooth = cv2.GaussianBlur(picture, (0, 0), 2).astype(np.int16)
    # White cells are bluer than red ones: purple nuclei strongly, their cytoplasm a little.
    purple = (smooth[..., 2] - smooth[..., 1]).clip(0, 255).astype(np.uint8)
    limit = cv2.threshold(purple, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0]
    mask = cv2.morphologyEx((purple > limit * 0.75).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((15, 15), np.uint8))
    _, _, stats, centres = cv2.connectedComponentsWithStats(mask)
    height, width = mask.shape
    away = np.hypot(centres[1:, 0] - width / 2, centres[1:, 1] - height / 2) - np.sqrt(stats[1:, cv2.CC_STAT_AREA])
    x, y, w, h = (int(v) for v in stats[1 + int(away.argmin()), :4])
    return square(x, y, w, h)


def square(x: int, y: int, w: int, h: int) -> Box:
    """The square around a rectangle, MARGIN times its longer side."""
    side = MARGIN * max(w, h)
    cx, cy = x + w / 2, y + h / 2
    return round(cx - side / 2), round(cy - side / 2), round(cx + side / 2), round(cy + side / 2)


def of_pbc(folder: Path, row: dict[str, str]) -> tuple[str, Box]:
    """File and box of a row of PBC's table."""
    return row["image"], cell_box(cv2.imread(str(folder / row["image"]))[..., ::-1])


def of_tecom(folder: Path, row: dict[str, str]) -> tuple[str, Box]:
    """File and box of a row of Tecom's table."""
    return row["file"], square(
        *cv2.boundingRect((cv2.imread(str(folder / row["mask"]), cv2.IMREAD_UNCHANGED) > 0).astype(np.uint8))
    )


def write(data: Path, out: Path) -> None:
    """Both tables."""
    out.mkdir(parents=True, exist_ok=True)
    for name, set_name, read in (("pbc", "pbc_blood", of_pbc), ("tecom", "wbc_tecom", of_tecom)):
        folder = (data / set_name).resolve()
        with (folder / "labels.csv").open(newline="") as source, (out / f"{name}.csv").open("w", newline="") as sink:
            writer = csv.writer(sink)
            writer.writerow(["path", "label", "xmin", "ymin", "xmax", "ymax"])
            for row in csv.DictReader(source):
                file, box = read(folder, row)
                writer.writerow([folder / file, row["label"], *box])


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
