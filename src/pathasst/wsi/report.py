"""A run over a slide as one HTML file, pictures inside, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pathasst.core.errors import BadInput
from pathasst.core.files import write_atomic
from pathasst.core.records import Annotation
from pathasst.imaging.slides import Slide
from pathasst.tools.protocol import Tool

CROP_UM = 250.0
"""Side of the pictures of hot spots."""


def write_report(slide: Slide, tool: Tool[Any], out: Path, summary: Mapping[str, Any]) -> Path:
    """`report.html` from the summary and the pictures of the folder."""
    from jinja2 import Environment

    from pathasst import __version__
    from pathasst.wsi.pictures import OVERVIEW
    from pathasst.wsi.scores import POSITIVE

    template = Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8")
    page = Environment(autoescape=True).from_string(template)
    text = page.render(
        s=summary,
        version=__version__,
        card=tool.card,
        dense=" and ".join(POSITIVE.get(tool.name, ("all objects",))),
        overview=_data((out / OVERVIEW).read_bytes(), "jpeg"),
        spots=[(spot, _crop(slide, out, spot)) for spot in summary["hot_spots"]],
    )
    write_atomic(out / "report.html", text.encode())
    return out / "report.html"


def _data(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _crop(slide: Slide, out: Path, spot: Mapping[str, Any]) -> str:
    """The middle of a hot spot with its cells drawn in; empty where the slide cannot be read."""
    from pathasst.imaging.drawing import annotate
    from pathasst.wsi.tables import cells_in

    assert slide.um_per_px
    side = min(CROP_UM / slide.um_per_px, *slide.size)
    x = min(max(spot["x"] - side / 2, 0), slide.size[0] - side)
    y = min(max(spot["y"] - side / 2, 0), slide.size[1] - side)
    try:
        region = slide.read((x, y, side, side), downsample=max(side / 640, 1))
    except BadInput:
        return ""
    factor = region.image.shape[1] / side
    marks = [
        Annotation(kind="point", label=label, coordinates=[(cx - x) * factor, (cy - y) * factor])
        for cx, cy, label in cells_in(out, (x, y, x + side, y + side))
    ]
    return _data(annotate(region.image, marks), "png")
