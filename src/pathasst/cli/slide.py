"""`pathasst slide`: what a slide is, its tissue and tiles, any tool over the whole of it."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(help="Whole slides: look, cut into tiles, run a tool over all of one, hand it to QuPath.", no_args_is_help=True)
SLIDE = typer.Argument(help="A slide: a scanner's file, OME-TIFF, a folder of DICOM files, Deep Zoom, a large picture.")
MPP = typer.Option(None, "--mpp", help="Micrometres per pixel of the finest level, if the file states none or a wrong one.")
INCLUDE = typer.Option(None, help="GeoJSON of areas, such as QuPath exports: look only inside of them.")
EXCLUDE = typer.Option(None, help="GeoJSON of areas that are left out.")


@app.command("info")
def info(slide: Path = SLIDE, mpp: float = MPP, as_json: bool = typer.Option(False, "--json", help="As JSON.")) -> None:
    """Size, levels, scale, objective, tissue. Example: pathasst slide info case.svs"""
    import json

    from pathasst.imaging.slides import open_slide
    from pathasst.imaging.slides.tissue import find_tissue

    with open_slide(slide, mpp) as opened:
        tissue = find_tissue(opened)
        area = tissue.area_mm2(opened.um_per_px)
        values = {
            "slide": opened.name,
            "format": opened.vendor,
            "width": opened.size[0],
            "height": opened.size[1],
            "um_per_px": opened.um_per_px,
            "scale": str(opened.scale),
            "objective_power": opened.objective_power,
            "levels": [[level.width, level.height] for level in opened.levels],
            "pictures": opened.pictures(),
            "tissue_percent": round(100 * tissue.share, 1),
            "tissue_mm2": None if area is None else round(area, 2),
            "left_out": tissue.left_out,
        }
    if as_json:
        typer.echo(json.dumps(values, indent=1, ensure_ascii=False))
        return
    levels = ", ".join(f"{width}×{height}" for width, height in values["levels"])  # type: ignore[union-attr]
    typer.echo(f"{values['slide']}: {values['width']}×{values['height']} px, {values['format'] or 'unknown format'}")
    typer.echo(f"scale: {values['scale']}; objective: {values['objective_power'] or 'not stated'}")
    typer.echo(f"levels: {levels}")
    typer.echo(f"tissue: {values['tissue_percent']} %" + ("" if area is None else f", {area:.1f} mm²"))


@app.command("run")
def run(
    tool: str = typer.Argument(help="ki67_cells, her2_cells, pdl1_cells, blood_cells, lbc_detect, lbc_classify or segment."),
    slide: Path = SLIDE,
    out: Path = typer.Option(..., help="Folder of the results; the same command goes on with an interrupted run."),
    mpp: float = MPP,
    include: Path = INCLUDE,
    exclude: Path = EXCLUDE,
    tissue: bool = typer.Option(True, help="Look for tissue first; --no-tissue takes every tile (smears, cytology)."),
    arguments: str = typer.Option("{}", "--args", help="The tool's arguments as JSON."),
    model: str = typer.Option(None, help="A folder of your own weights."),
    workers: int = typer.Option(1, help="Processes."),
    sets: list[str] = typer.Option([], "--set", help="Any setting: hotspots=5, hotspot_cells=500, hotspot_mm2=1, tile=1024 …"),
) -> None:
    """Run a tool over a whole slide. Example: pathasst slide run ki67_cells case.svs --out out/case"""
    from pathasst.cli.tools import _arguments, _make
    from pathasst.imaging.slides import open_slide
    from pathasst.wsi.run import run_slide
    from pathasst.wsi.settings import RunSettings

    settings = RunSettings.of(
        {
            "arguments": _arguments(arguments, None),
            "include": str(include or ""),
            "exclude": str(exclude or ""),
            "tissue": tissue,
            "workers": workers,
        },
        sets,
        where="pathasst slide run",
    )
    made = _make(tool, model)
    with open_slide(slide, mpp) as opened:
        result = run_slide(opened, made, out, settings, model=model)
    for line in result.summary["sentences"]:
        typer.echo(line)
    for line in result.warnings:
        typer.secho(f"Warning: {line}", fg="yellow")
    typer.echo(result.summary["notice"])
    typer.echo(f"for QuPath: {result.geojson}; cells: {out / 'cells.csv'}; report: {result.report}")


@app.command("tiles")
def tiles(
    slide: Path = SLIDE,
    out: Path = typer.Option(..., help="Folder of the tiles (JPEG) and tiles.csv."),
    um_per_px: float = typer.Option(0.5, help="Micrometres per pixel of the tiles."),
    size: int = typer.Option(512, help="px of a tile's side."),
    overlap: int = typer.Option(0, help="px that neighbours share."),
    least_tissue: float = typer.Option(0.1, help="Share of tissue from which a tile is kept."),
    mpp: float = MPP,
    include: Path = INCLUDE,
    exclude: Path = EXCLUDE,
    threads: int = typer.Option(2, help="Threads that read ahead."),
) -> None:
    """Cut a slide's tissue into pictures. Example: pathasst slide tiles case.svs --out tiles --um-per-px 0.5 --size 512"""
    from pathasst.imaging.slides import open_slide
    from pathasst.wsi.cut import cut_tiles

    with open_slide(slide, mpp) as opened:
        done, failed = cut_tiles(
            opened, out, um_per_px, size, overlap, least_tissue, include=include, exclude=exclude, threads=threads
        )
    typer.echo(f"{done} tiles in {out}, listed in {out / 'tiles.csv'}" + (f"; {failed} could not be read" if failed else ""))
