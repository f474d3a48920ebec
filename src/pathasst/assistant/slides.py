"""A question about a whole slide: the router chooses the tool as for a picture, and the tool runs over all of the slide."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.assistant.agent import Limits, OnEvent
from pathasst.assistant.answer import Answer
from pathasst.assistant.answering import ask, registry_for
from pathasst.assistant.brain import open_brain
from pathasst.assistant.brains.settings import Brain, BrainSettings
from pathasst.assistant.images import PictureInput
from pathasst.core.errors import BadSettings
from pathasst.core.records import Picture, ToolResult
from pathasst.imaging.pictures import encode_png, read
from pathasst.imaging.slides import Slide
from pathasst.imaging.slides.grid import tiles_of
from pathasst.imaging.slides.tissue import Tissue, find_tissue
from pathasst.tools.protocol import SCALE, Arguments, Registry, Tool
from pathasst.wsi.pictures import OVERVIEW
from pathasst.wsi.plans import plan_for
from pathasst.wsi.run import run_slide
from pathasst.wsi.settings import RunSettings

if TYPE_CHECKING:
    import numpy as np

WEEK = 7 * 24 * 3600.0
"""Seconds that a question about a slide may take: it resumes, so nothing is lost by a limit, and nothing won."""
FIELD_UM = 512.0
"""Side of the field that stands for the slide where a question asks what it shows."""


def ask_slide(
    slide: Slide,
    question: str,
    out: Path,
    history: Answer | None = None,
    brain: Brain | BrainSettings | str | None = None,
    *,
    limits: Limits | None = None,
    on_event: OnEvent | None = None,
    cancel: threading.Event | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Answer:
    """Answer a question about a slide; a tool that it asks for runs over the whole slide, into `out/TOOL`.

    The same question again goes on with an interrupted run. What the slide shows is answered from the field with the most tissue.
    `settings`: of `RunSettings`. For the rest see `ask`. Raises BadInput for a slide of unknown scale or without tissue, and what
    `ask` raises.
    """
    mind = brain if isinstance(brain, Brain) else open_brain(brain)
    run_settings = RunSettings.of(dict(settings or {}), where="settings")
    registry = Registry(dict(registry_for(mind).tools))
    tissue = None if history else find_tissue(slide)
    for tool in registry.tools.copy().values():
        if tool.needs_image and _runs_on_tiles(tool):
            registry.add(_on_slide(tool, slide, tissue, out, run_settings, progress))
    times = (limits or Limits()).replace(tool_seconds=WEEK, seconds=WEEK)
    field = None if history else PictureInput(_field(slide, tissue), name=f"{slide.name}, one field", um_per_px=None)
    return ask(field, question, history, mind, registry, limits=times, on_event=on_event, cancel=cancel)


class _OnSlide(Tool[Any]):
    """A tool whose picture is a whole slide. Made by `_on_slide`, with the name, card and arguments of the tool that it runs."""

    tool: Tool[Any]
    slide: Slide
    tissue: Tissue | None
    out: Path
    settings: RunSettings
    progress: bool

    def version(self) -> str:
        return self.tool.version()

    def run(self, arguments: Arguments, image: np.ndarray) -> ToolResult:
        """The run over the slide; the field that was shown beside the question is not used. Raises BadInput."""
        values = {k: v for k, v in arguments.model_dump(exclude_unset=True).items() if k != SCALE}
        settings = self.settings.model_copy(update={"arguments": {**self.settings.arguments, **values}})
        result = run_slide(self.slide, self.tool, self.out / self.name, settings, tissue=self.tissue, progress=self.progress)
        overview = encode_png(read(result.folder / OVERVIEW).pixels)
        return ToolResult(
            name=self.name,
            text=result.text,
            numbers={"slide": {**result.summary, "folder": str(result.folder)}},
            warnings=result.warnings,
            pictures=[Picture(name="overview", image=overview)],
        )

    def _looked_at(self, image: Any) -> list[str]:
        """Nothing: the run looks at the slide itself."""
        return []


def _on_slide(
    tool: Tool[Any], slide: Slide, tissue: Tissue | None, out: Path, settings: RunSettings, progress: bool
) -> Tool[Any]:
    names = ("name", "card", "arguments", "weights", "notice")
    kind = type(f"{type(tool).__name__}OnSlide", (_OnSlide,), {name: getattr(tool, name) for name in names})
    wrapped: _OnSlide = kind()
    wrapped.tool, wrapped.slide, wrapped.tissue, wrapped.out = tool, slide, tissue, out
    wrapped.settings, wrapped.progress = settings, progress
    return wrapped


def _runs_on_tiles(tool: Tool[Any]) -> bool:
    if tool.missing():
        return False
    try:
        plan_for(tool)
    except BadSettings:
        return False
    return True


def _field(slide: Slide, tissue: Tissue | None) -> np.ndarray:
    """The field with the most tissue, the most central of equals; without tissue the slide's middle."""
    downsample = 1.0 if slide.um_per_px is None else max(0.5 / slide.um_per_px, 1.0)
    size = round(FIELD_UM / 0.5)
    tiles = tiles_of(slide, downsample, size, 0, tissue) or tiles_of(slide, downsample, size)
    middle = slide.size[0] / 2, slide.size[1] / 2

    def rank(tile: Any) -> tuple[float, float]:
        x, y, width, height = tile.region
        return round(tile.tissue, 2), -((x + width / 2 - middle[0]) ** 2) - (y + height / 2 - middle[1]) ** 2

    best = max(tiles, key=rank)
    return slide.read(best.region, downsample=downsample).image
