"""One tool on one slide, from the file to a folder of results. The room's front door.

tissue → tiles → tool (a stage that resumes) → objects without doubles at seams → scores, hot spots, pictures, report.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pathasst.core.errors import BadDataset, BadInput
from pathasst.core.files import write_atomic
from pathasst.dataset.manifest import Manifest
from pathasst.dataset.shards import read
from pathasst.imaging.geojson import feature, shape_geometry
from pathasst.imaging.slides import Slide
from pathasst.imaging.slides.grid import SlideTile, read_ahead, tiles_of
from pathasst.imaging.slides.tissue import Tissue, find_tissue
from pathasst.tools.protocol import Tool
from pathasst.wsi import grids, scores
from pathasst.wsi.objects import Seams, SlideObject, TileResult
from pathasst.wsi.plans import TilePlan, plan_for, scale_of
from pathasst.wsi.regions import Regions
from pathasst.wsi.settings import RunSettings
from pathasst.wsi.stage import run_tiles
from pathasst.wsi.tables import CellTable, cells_near

STAGE, SUMMARY, TISSUE = "tiles", "summary.json", "tissue.geojson"
BIN_UM = 50.0
"""Side of a bin of the density map."""
SAMPLES = 9
"""Tiles that the look sees before a tool runs on the slide."""


@dataclass(frozen=True)
class SlideRun:
    """A finished run: what was counted, and the files of its folder."""

    folder: Path

    @cached_property
    def summary(self) -> dict[str, Any]:
        """`summary.json`. Raises BadDataset when the run is not finished."""
        try:
            content: dict[str, Any] = json.loads((self.folder / SUMMARY).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadDataset(f"{self.folder} holds no finished run over a slide: {error}") from error
        return content

    @property
    def text(self) -> str:
        """The result in words."""
        return " ".join(self.summary["sentences"])

    @property
    def numbers(self) -> dict[str, Any]:
        """The score with its interval, counts, areas."""
        return dict(self.summary["score"])

    @property
    def warnings(self) -> list[str]:
        """Why the result is doubted, as whole sentences."""
        return list(self.summary["warnings"])

    @property
    def geojson(self) -> Path:
        """The objects' file, for QuPath."""
        return self.folder / "objects.geojson"

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.folder / "report.html"

    def objects(self) -> Iterator[SlideObject]:
        """Every object, in px of the slide's finest level, one after the other."""
        from pathasst.wsi.tables import read_objects

        return read_objects(self.folder)

    def __repr__(self) -> str:
        return f"<{self.summary['tool']} on {self.summary['slide']}: {self.text}>"


def run_slide(
    slide: Slide,
    tool: Tool[Any],
    out: Path,
    settings: RunSettings,
    *,
    tissue: Tissue | None = None,
    model: str | None = None,
    progress: bool = True,
) -> SlideRun:
    """Run a tool over a whole slide into the folder `out`; an interrupted run goes on where it was, to the same files.

    `tissue`: of this slide, by `find_tissue`, where the caller has it already.
    Raises BadInput for a slide of unknown scale, without tissue, or of another kind than the tool's; BadSettings for a tool that
    does not run on tiles; MissingWeights.
    """
    finest, plan = scale_of(slide), _plan(slide, tool, settings)
    regions = Regions.read(slide, settings.include, settings.exclude)
    tissue = (tissue or find_tissue(slide)) if settings.tissue else None
    region = tissue
    if regions.include is not None or regions.exclude is not None:
        region = (tissue or everything(slide)).within(regions.include, regions.exclude)
    tiles = tiles_of(slide, plan.um_per_px / finest, plan.size, plan.overlap, region, settings.least_tissue if region else 0.0)
    if not tiles:
        raise BadInput(f"{slide.name}: no tissue was found to look at; --no-tissue looks everywhere, --include where you drew.")
    out.mkdir(parents=True, exist_ok=True)
    doubts = look_at(slide, tool, tiles, settings)
    manifest = run_tiles(slide, tool, tiles, out / STAGE, settings, model=model, progress=progress)
    return write_results(slide, tool, out, settings, plan, tiles, region, regions, manifest, doubts)


def _plan(slide: Slide, tool: Tool[Any], settings: RunSettings) -> TilePlan:
    plan = plan_for(tool)
    if settings.um_per_px:
        plan = TilePlan(settings.um_per_px, round(plan.size * plan.um_per_px / settings.um_per_px), plan.overlap, plan.apart_um)
    finest = scale_of(slide)
    plan = plan.near(finest * slide.tile_downsample(max(plan.um_per_px, finest)))  # no finer than the slide is
    overlap = plan.overlap if settings.overlap < 0 else settings.overlap
    return TilePlan(plan.um_per_px, settings.tile or plan.size, overlap, plan.apart_um)


def everything(slide: Slide) -> Tissue:
    """A mask that takes the whole slide for tissue."""
    import numpy as np

    shrink = max(max(slide.size) / 2048, 1.0)
    shape = max(round(slide.size[1] / shrink), 1), max(round(slide.size[0] / shrink), 1)
    return Tissue(np.ones(shape, bool), (slide.size[0] / shape[1], slide.size[1] / shape[0]))


def look_at(slide: Slide, tool: Tool[Any], tiles: list[SlideTile], settings: RunSettings) -> list[str]:
    """Doubts that the slide is of the tool's kind, from a few tiles with the most tissue spread over it.

    Raises BadInput where most of them are clearly of another kind.
    """
    step = max(len(tiles) // SAMPLES, 1)
    groups = [tiles[i : i + step] for i in range(0, len(tiles), step)][:SAMPLES]
    tiles = [max(group, key=lambda t: t.tissue) for group in groups]
    refusals: list[str] = []
    doubts: Counter[str] = Counter()
    for _, region in read_ahead(slide, tiles, settings.threads):
        if isinstance(region, BadInput):
            continue
        try:
            doubts.update(tool._looked_at(region.image))
        except BadInput as error:
            refusals.append(str(error))
    if len(refusals) * 2 > len(tiles):
        raise BadInput(f"{slide.name}: {len(refusals)} of {len(tiles)} places that were looked at do not fit. {refusals[0]}")
    words = [f"{text} ({n} of {len(tiles)} places looked at)" for text, n in doubts.items() if n * 2 > len(tiles)]
    if refusals:
        words.append(f"{len(refusals)} of {len(tiles)} places that were looked at do not fit the tool: {refusals[0]}")
    return words


def write_results(
    slide: Slide,
    tool: Tool[Any],
    out: Path,
    settings: RunSettings,
    plan: TilePlan,
    tiles: list[SlideTile],
    tissue: Tissue | None,
    regions: Regions,
    manifest: Manifest,
    doubts: list[str],
) -> SlideRun:
    """The files of a run from its finished stage."""
    from pathasst.wsi.pictures import draw_pictures
    from pathasst.wsi.report import write_report

    finest = scale_of(slide)
    grid = grids.CountGrid(slide.size, BIN_UM / finest)
    table = CellTable(out, finest)
    seams = Seams(plan.apart_um / finest)
    tile_counts: list[Counter[str]] = []
    warnings: Counter[str] = Counter()
    area_px = 0.0
    with table:
        for tile in read(out / STAGE, TileResult):
            objects = regions.keep(seams.new(tile))
            tile_counts.append(Counter(o.label for o in objects))
            warnings.update(set(tile.warnings))
            area_px += tile.tissue * (tile.core[2] - tile.core[0]) * (tile.core[3] - tile.core[1])
            for one in objects:
                table.add(one)
                grid.add(one.label, one.x, one.y)
    score = scores.score(tool.name, *_counts_of(tile_counts, tool))
    area_mm2 = area_px * finest**2 * 1e-6
    spots = _hot_spots(tool.name, grid, out, settings, finest)
    rows = len(tile_counts)
    sentences = list(score.sentences)
    if table.objects and area_mm2:
        sentences.append(f"{table.objects} objects on {area_mm2:.2f} mm²: {table.objects / area_mm2:.0f} per mm².")
    sentences += [f"Hot spot {n}: {scores.area_words(tool.name, spot)}" for n, spot in enumerate(spots, 1)]
    if spots and tool.name in scores.THRESHOLD:
        sentences.append("Hot spots are the densest places of many: their intervals do not cover that choice.")
    notes = list(doubts) + [f"{text} ({n} of {rows} tiles)" for text, n in sorted(warnings.items()) if n * 10 > rows]
    dropped = dict(sorted(manifest.dropped.items()))
    if dropped:
        words = ", ".join(f"{n} {reason}" for reason, n in dropped.items())
        notes.append(f"Of {len(tiles)} tiles {sum(dropped.values())} were left out: {words}.")
    notes += [f"Tiles {f.unit}: {f.failed}" for f in manifest.failures]
    notes += regions.notes
    if slide.scale.note:
        notes.append(f"Scale: {slide.scale.note}.")
    notes += _standing_warnings(tool)
    summary: dict[str, Any] = {
        "slide": slide.name,
        "size_px": list(slide.size),
        "um_per_px": finest,
        "scale_from": slide.scale.source,
        "tool": tool.name,
        "version": tool.version_or_empty(),
        "read_at_um_per_px": plan.um_per_px,
        "tile_px": plan.size,
        "overlap_px": plan.overlap,
        "tiles": {"planned": len(tiles), "done": rows, "left_out": dropped},
        "tissue": None if tissue is None else {"share": round(tissue.share, 4), "left_out": tissue.left_out},
        "area_mm2": round(area_mm2, 4),
        "objects": table.objects,
        "score": score.plain(),
        "hot_spots": spots,
        "sentences": sentences,
        "warnings": notes,
        "notice": tool.notice,
        "settings": settings.plain(),
    }
    _write_tissue(out / TISSUE, tissue)
    draw_pictures(slide, tool.name, out, grid, tissue, spots)
    write_atomic(out / SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False).encode())
    write_report(slide, tool, out, summary)
    return SlideRun(out)


def _counts_of(tile_counts: list[Counter[str]], tool: Tool[Any]) -> tuple[list[str], Any]:
    """Labels, and int [tiles, labels]."""
    import numpy as np

    labels = list(dict.fromkeys([*tool.card.classes, *sorted({name for c in tile_counts for name in c})]))
    return labels, np.array([[c[name] for name in labels] for c in tile_counts], int).reshape(-1, len(labels))


def _hot_spots(tool: str, grid: grids.CountGrid, out: Path, settings: RunSettings, finest: float) -> list[dict[str, Any]]:
    """The densest discs with the cells in them counted exactly; with `hotspot_cells` as large as that many cells need."""
    if not settings.hotspots or tool not in scores.POSITIVE:
        return []
    radius = (settings.hotspot_mm2 * 1e6 / 3.141592653589793) ** 0.5 / finest
    spots = grids.hot_spots(grid, scores.POSITIVE[tool], radius, settings.hotspots)
    hot_spots = []
    for spot in spots:
        reach, labels = cells_near(out, spot.x, spot.y, spot.radius, settings.hotspot_cells)
        counts = dict(sorted(Counter(labels).items()))
        place = {"x": round(spot.x, 1), "y": round(spot.y, 1), "radius_px": round(reach, 1)}
        mm2 = 3.141592653589793 * (reach * finest) ** 2 * 1e-6
        hot_spots.append({**place, "mm2": round(mm2, 4), **scores.area_score(tool, counts)})
    return hot_spots


def _standing_warnings(tool: Tool[Any]) -> list[str]:
    """What holds for every result of the tool."""
    limits = [f"Limits of the tool: {tool.card.limits}."] if tool.card.limits else []
    return limits if tool.card.validated else ["The tool is not validated for this task.", *limits]


def _write_tissue(file: Path, tissue: Tissue | None) -> None:
    features = []
    if tissue is not None:
        for number, polygon in enumerate(tissue.outlines().geoms):
            features.append(feature(shape_geometry(polygon), f"tissue {number}", "Tissue", {}, kind="annotation"))
    write_atomic(file, json.dumps({"type": "FeatureCollection", "features": features}).encode())
