"""Whole slides in Python."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.imaging.slides import Slide

if TYPE_CHECKING:
    from pathasst.assistant import Answer
    from pathasst.imaging.slides.tissue import Tissue
    from pathasst.wsi.run import SlideRun


class WholeSlide(Slide):
    """An open slide (see `Slide`) with what can be done on all of it."""

    def tissue(self) -> Tissue:
        """Where the tissue is: `mask` H×W bool, `outlines()` in px of the finest level, `area_mm2`. Raises BadInput."""
        from pathasst.imaging.slides.tissue import find_tissue

        return find_tissue(self)

    def run(
        self,
        tool: str,
        *,
        out: Path | str | None = None,
        include: Path | str | None = None,
        exclude: Path | str | None = None,
        model: str | None = None,
        settings: dict[str, Any] | None = None,
        progress: bool = False,
        **arguments: Any,
    ) -> SlideRun:
        """Run a tool on every tile with tissue; the same call goes on with an interrupted run.

        `out`: folder of the results; None: a temporary one that is removed when Python ends. `include`, `exclude`: GeoJSON of
        areas. `settings`: of `RunSettings`, such as `{"hotspots": 5}`. `arguments`: the tool's own.
        Raises BadInput for a slide of unknown scale, without tissue or of another kind; BadSettings; MissingWeights.

        >>> run = pathasst.slide("case.svs").run("ki67_cells", out="out/case")
        >>> run.text, run.numbers["value"], run.geojson
        """
        from pathasst.api.tools import _tool
        from pathasst.dataset import output_folder
        from pathasst.wsi.run import run_slide
        from pathasst.wsi.settings import RunSettings

        values = {"arguments": arguments, "include": str(include or ""), "exclude": str(exclude or ""), **(settings or {})}
        run_settings = RunSettings.of(values, where="settings")
        return run_slide(self, _tool(tool, model), output_folder(out), run_settings, model=model, progress=progress)

    def ask(self, question: str, *, out: Path | str | None = None, history: Answer | None = None, brain: str = "") -> Answer:
        """Ask about the slide: the tool that the question needs runs over all of it, into `out/TOOL`; the same call goes on.

        `history`: the answer before. `brain`: as in `pathasst.ask`. Raises BadInput, BadSettings, MissingWeights.

        >>> with pathasst.slide("case.svs") as case: print(case.ask("What is the Ki67 index?", out="out/case").text)
        """
        from pathasst.assistant.slides import ask_slide
        from pathasst.dataset import output_folder

        return ask_slide(self, question, output_folder(out), history, brain or None)


def slide(path: Path | str, *, um_per_px: float | None = None) -> WholeSlide:
    """Open a whole slide: any format of OpenSlide, a folder of DICOM files, OME-TIFF, a large picture, a Deep Zoom folder.

    `um_per_px`: µm per px of the finest level, if the file does not state it or is wrong.
    Raises MissingPackage without the extra `slides`, BadInput for what cannot be read, BadSettings for an absurd scale.

    >>> with pathasst.slide("case.svs") as case: print(case.size, case.um_per_px)
    """
    from pathasst.imaging.slides.formats import open_as

    return open_as(WholeSlide, path, um_per_px)


__all__ = ["WholeSlide", "slide"]
