"""At which scale and in which tiles a tool works through a slide. Knows the tile tools; a slide, but not its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pathasst.core.errors import BadInput, BadSettings
from pathasst.imaging.slides import Slide
from pathasst.tools.boxing import BoxTool
from pathasst.tools.cells.detect import CellTool, detector
from pathasst.tools.he_nuclei import HeNuclei, segmenter
from pathasst.tools.lbc_classify import LbcClassify
from pathasst.tools.protocol import Tool
from pathasst.tools.registry import FURTHER
from pathasst.tools.segment import Segment

TOOLS = ("ki67_cells", "her2_cells", "pdl1_cells", "he_nuclei", "blood_cells", "lbc_classify", "lbc_detect", "segment")
"""Tools that run on a whole slide."""
ASSUMED = 0.25
"""µm per px (40×) of tools whose training pictures state no scale."""


@dataclass(frozen=True, slots=True)
class TilePlan:
    """`um_per_px` that tiles are read at, `size` and `overlap` in px of it; `apart_um`: two objects nearer are one."""

    um_per_px: float
    size: int
    overlap: int
    apart_um: float = 0.0

    def near(self, um_per_px: float) -> TilePlan:
        """The same tiles, in µm, at another scale; never larger, as a tool that brings them to its own scale would cut them."""
        shrink = self.um_per_px / um_per_px
        return TilePlan(um_per_px, max(int(self.size * shrink + 1e-6), 64), round(self.overlap * shrink), self.apart_um)


def plan_for(tool: Tool[Any]) -> TilePlan:
    """Raises BadSettings for a tool that has nothing to do on a slide's tiles."""
    if isinstance(tool, CellTool):
        trained = detector(tool.model).settings.um_per_px or ASSUMED
        return TilePlan(trained, 1024, 96, 12 * trained)  # 12 px: the paper's suppression of points
    if isinstance(tool, BoxTool):
        settings = tool.detector.settings
        network = (settings.um_per_px or ASSUMED) / (settings.scale or 1.0)
        # Read at the scale of the pictures that it was trained on; it resizes them itself.
        trained = settings.um_per_px or ASSUMED
        return TilePlan(trained, round(2 * settings.size * network / trained), round(settings.overlap * network / trained))
    if isinstance(tool, LbcClassify):
        return TilePlan(ASSUMED, 2048, 0)
    if isinstance(tool, HeNuclei):
        # Tiles no larger than the network's own, and overlapping by a large nucleus on either side.
        return TilePlan(segmenter(tool.model).settings.um_per_px, 1024, 96)
    if isinstance(tool, Segment) or (tool.needs_image and tool.name not in FURTHER):
        return TilePlan(0.5, 1024, 128, 3.0)
    raise BadSettings(f"{tool.name} does not run on a whole slide; these do: {', '.join(TOOLS)}.")


def scale_of(slide: Slide) -> float:
    """µm per px of the finest level. Raises BadInput when it is unknown."""
    if slide.um_per_px is None:
        reason = slide.scale.note or "the file states no scale; give it with --mpp"
        raise BadInput(f"{slide.name}: {reason} (µm per px of the finest level: 40× is about 0.25, 20× about 0.5).")
    return slide.um_per_px
