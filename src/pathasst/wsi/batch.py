"""One tool over many slides: a folder of results each, one table of all; a slide that cannot be read costs itself alone."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pathasst.core.errors import BadInput, MissingPackage, MissingWeights, PathAsstError
from pathasst.core.files import write_atomic
from pathasst.imaging.slides import is_slide, open_slide
from pathasst.tools.protocol import Tool
from pathasst.wsi.run import run_slide
from pathasst.wsi.settings import RunSettings

TABLE = "slides.csv"
TIFF_LIKE = (".tif", ".tiff")
FORMULA = ("=", "+", "-", "@", "\t")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideRow:
    """A row of `slides.csv`. `score` with its interval in per cent, where the tool has one; `error`: why there is no result."""

    slide: str
    um_per_px: float | None = None
    objects: int | None = None
    area_mm2: float | None = None
    score: float | None = None
    low: float | None = None
    high: float | None = None
    folder: str = ""
    error: str = ""


def find_slides(paths: Sequence[Path]) -> list[Path]:
    """The slides among `paths`, and those of folders among them with all below; a folder of DICOM files is one slide.

    Raises BadInput when there is none.
    """
    slides: list[Path] = []
    for path in paths:
        if not path.is_dir() or is_slide(path):
            slides.append(path)
            continue
        inside = [p for p in sorted(path.rglob("*")) if is_slide(p) or (p.is_file() and p.suffix.lower() in TIFF_LIKE)]
        folders = {p for p in inside if p.is_dir()}
        slides += [p for p in inside if not folders & set(p.parents)]
    if not slides:
        raise BadInput(f"no slide was found in {', '.join(map(str, paths))}.")
    return list(dict.fromkeys(slides))


def run_batch(
    slides: Sequence[Path],
    tool: Tool[Any],
    out: Path,
    settings: RunSettings,
    *,
    mpp: float | None = None,
    scales: Mapping[str, float] | None = None,
    model: str | None = None,
    progress: bool = True,
) -> Iterator[SlideRow]:
    """Run the tool over each slide into `out/NAME`, and write `out/slides.csv` anew after each; the same call goes on.

    `scales`: µm per px by file name (`read_scales`), which count more than `mpp`. Raises MissingPackage and MissingWeights, which
    hold for every slide; any other error is a row's.
    """
    rows: list[SlideRow] = []
    names: Counter[str] = Counter()
    for path in slides:
        names[path.name] += 1
        folder = out / (path.name if names[path.name] == 1 else f"{path.name}-{names[path.name]}")
        scale = (scales or {}).get(path.name, mpp)
        try:
            with open_slide(path, scale) as slide:
                summary = run_slide(slide, tool, folder, settings, model=model, progress=progress).summary
        except (MissingPackage, MissingWeights):
            raise
        except PathAsstError as error:
            rows.append(SlideRow(slide=str(path), error=str(error)))
        else:
            score = summary["score"]
            rows.append(
                SlideRow(
                    slide=str(path),
                    um_per_px=summary["um_per_px"],
                    objects=summary["objects"],
                    area_mm2=summary["area_mm2"],
                    score=score["value"],
                    low=score["low"],
                    high=score["high"],
                    folder=str(folder),
                )
            )
        _write(rows, out / TABLE)
        yield rows[-1]


def _write(rows: Sequence[SlideRow], file: Path) -> None:
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow(field.name for field in fields(SlideRow))
    for row in rows:
        writer.writerow(f"'{v}" if isinstance(v, str) and v.startswith(FORMULA) else v for v in asdict(row).values())
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, sink.getvalue().encode())
