"""A slide with spots at known places, and a tool that finds them: exact, without a model."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from pathasst.core.errors import BadInput
from pathasst.core.records import Annotation, ToolResult
from pathasst.tools.protocol import Arguments, Tool, ToolCard

SIDE, MPP = 3000, 0.5
TISSUE = (300, 400, 2700, 2500)  # x1 y1 x2 y2 px


def places(count: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Middles of spots (n×2 px, at least 24 px apart) and whether each is brown."""
    rng = np.random.default_rng(seed)
    x1, y1, x2, y2 = TISSUE
    points: list[np.ndarray] = []
    while len(points) < count:
        point = rng.uniform([x1 + 20, y1 + 20], [x2 - 20, y2 - 20])
        if all(((point - other) ** 2).sum() > 24**2 for other in points):
            points.append(point)
    middles = np.array(points)
    # Brown is commoner on the left, so that there is a hot spot.
    return middles, rng.random(count) < np.where(middles[:, 0] < 1200, 0.6, 0.1)


def slide_file(folder: Path, count: int = 400) -> Path:
    import cv2
    import tifffile

    image = np.full((SIDE, SIDE, 3), 244, np.uint8)
    x1, y1, x2, y2 = TISSUE
    image[y1:y2, x1:x2] = (222, 200, 216)
    for (x, y), brown in zip(*places(count), strict=True):
        cv2.circle(image, (round(x), round(y)), 6, (110, 60, 20) if brown else (50, 60, 150), -1, cv2.LINE_AA)
    path = folder / "spots.tif"
    with tifffile.TiffWriter(path) as writer:
        for i, step in enumerate((1, 2, 4)):
            small = image if step == 1 else cv2.resize(image, None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_AREA)
            per_cm = 10000 / MPP / step
            writer.write(
                small, tile=(256, 256), photometric="rgb", compression="zlib", resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER", subfiletype=int(i > 0), metadata=None,
            )  # fmt: skip
    return path


class SpotArguments(Arguments):
    """How long a tile takes."""

    seconds: float = 0.0
    um_per_px: float | None = None


class Spots(Tool[SpotArguments]):
    """Dark spots as points, brown ones positive. A picture whose upper left px is black is refused."""

    name = "ki67_cells"
    card = ToolCard(purpose="finds spots", expects="spots", classes=("positive", "negative"), validated=True)
    arguments = SpotArguments

    def version(self) -> str:
        return "spots@1"

    def run(self, arguments: SpotArguments, image: np.ndarray) -> ToolResult:
        import cv2

        if image[0, 0].max() == 0:
            raise BadInput("black")
        time.sleep(arguments.seconds)
        dark = (image.min(-1) < 110).astype(np.uint8)
        count, _, stats, middles = cv2.connectedComponentsWithStats(dark)
        marks = []
        for i in range(1, count):
            if stats[i, cv2.CC_STAT_AREA] < 20:
                continue
            x, y = (float(v) + 0.5 for v in middles[i])
            red, _, blue = image[int(y), int(x)].astype(int)
            marks.append(Annotation(kind="point", label="positive" if red > blue else "negative", coordinates=[x, y]))
        return ToolResult(name=self.name, annotations=marks)


def main() -> None:
    """The run of a child process: slide, folder, seconds a tile."""
    from pathasst.imaging.slides import open_slide
    from pathasst.wsi.run import run_slide

    path, out, seconds = sys.argv[1:]
    with open_slide(path) as slide:
        run_slide(slide, Spots(), Path(out), settings(float(seconds)), progress=False)


def settings(seconds: float = 0.0, **changes: Any) -> Any:
    from pathasst.wsi.settings import RunSettings

    # The time is no setting of the tool that changes the result, so it goes in by the class.
    SpotArguments.model_fields["seconds"].default = seconds
    SpotArguments.model_rebuild(force=True)
    return RunSettings(tile=512, overlap=64, per_unit=4, hotspot_mm2=0.2, **changes)


if __name__ == "__main__":
    main()
