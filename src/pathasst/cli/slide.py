"""`pathasst slide`: what a slide is, its tissue and tiles, any tool over the whole of it."""

from __future__ import annotations

from pathlib import Path

import typer

from pathasst.cli.options import ARGUMENTS, OWN_WEIGHTS, TISSUE, WORKERS
from pathasst.clip import DEFAULT_PATHCLIP

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
    levels = ", ".join(f"{level.width}×{level.height}" for level in opened.levels)
    typer.echo(f"{values['slide']}: {values['width']}×{values['height']} px, {values['format'] or 'unknown format'}")
    typer.echo(f"scale: {values['scale']}; objective: {values['objective_power'] or 'not stated'}")
    typer.echo(f"levels: {levels}")
    typer.echo(f"tissue: {values['tissue_percent']} %" + ("" if area is None else f", {area:.1f} mm²"))


@app.command("run")
def run(
    tool: str = typer.Argument(
        help="ki67_cells, her2_cells, pdl1_cells, he_nuclei, blood_cells, lbc_detect, lbc_classify or segment."
    ),
    slide: Path = SLIDE,
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the results; the same command goes on with an interrupted run."),
    mpp: float = MPP,
    include: Path = INCLUDE,
    exclude: Path = EXCLUDE,
    tissue: bool = TISSUE,
    arguments: str = ARGUMENTS,
    model: str = OWN_WEIGHTS,
    workers: int = WORKERS,
    sets: list[str] = typer.Option([], "--set", help="Any setting: hotspots=5, hotspot_cells=500, hotspot_mm2=1, tile=1024 …"),
) -> None:
    """Run a tool over a whole slide. Example: pathasst slide run ki67_cells case.svs --out out/case"""
    from pathasst.cli.tools import arguments_of, make_tool
    from pathasst.core.malloc import keep_few_arenas
    from pathasst.imaging.slides import open_slide
    from pathasst.wsi.run import run_slide
    from pathasst.wsi.settings import RunSettings

    keep_few_arenas()

    settings = RunSettings.of(
        {
            "arguments": arguments_of(arguments, None),
            "include": str(include or ""),
            "exclude": str(exclude or ""),
            "tissue": tissue,
            "workers": workers,
        },
        sets,
        where="pathasst slide run",
    )
    opened_tool = make_tool(tool, model)
    with open_slide(slide, mpp) as opened:
        result = run_slide(opened, opened_tool, out, settings, model=model)
    for line in result.summary["sentences"]:
        typer.echo(line)
    for line in result.warnings:
        typer.secho(f"Warning: {line}", fg="yellow")
    typer.echo(result.summary["notice"])
    typer.echo(f"for QuPath: {result.geojson}; cells: {out / 'cells.csv'}; report: {result.report}")


@app.command("batch")
def batch(
    tool: str = typer.Argument(help="A tool of `pathasst slide run`."),
    slides: list[Path] = typer.Argument(help="Slides, or folders of slides, searched with all below."),
    out: Path = typer.Option(
        ..., "--out", "-o", help="Folder of each slide's results, and slides.csv; the same command goes on."
    ),
    scales: Path = typer.Option(
        None, help="CSV with the columns slide (file name) and mpp: scales that files lack or have wrong."
    ),
    mpp: float = MPP,
    tissue: bool = TISSUE,
    arguments: str = ARGUMENTS,
    model: str = OWN_WEIGHTS,
    workers: int = WORKERS,
    sets: list[str] = typer.Option([], "--set", help="Any setting, as of `pathasst slide run`."),
) -> None:
    """Run a tool over many slides. Example: pathasst slide batch ki67_cells slides --out out --scales scales.csv"""
    from pathasst.cli.tools import arguments_of, make_tool
    from pathasst.core.malloc import keep_few_arenas
    from pathasst.imaging.slides import read_scales
    from pathasst.wsi.batch import TABLE, find_slides, run_batch
    from pathasst.wsi.settings import RunSettings

    keep_few_arenas()
    values = {"arguments": arguments_of(arguments, None), "tissue": tissue, "workers": workers}
    settings = RunSettings.of(values, sets, where="pathasst slide batch")
    by_name = read_scales(scales) if scales else {}
    paths = find_slides(slides)
    failed = 0
    for row in run_batch(paths, make_tool(tool, model), out, settings, mpp=mpp, scales=by_name, model=model):
        failed += bool(row.error)
        typer.secho(f"{row.slide}: {row.error or row.folder}", fg="yellow" if row.error else None, err=bool(row.error))
    typer.echo(f"{len(paths)} slides: {len(paths) - failed} done, {failed} not usable; {out / TABLE}")


@app.command("export")
def export(
    run: Path = typer.Argument(help="Folder of `pathasst slide run`."),
    slide: Path = SLIDE,
    to: str = typer.Option(
        ..., help="coco, yolo (tiles and labels), ome-tiff (a label mask), dicom (annotations), dicom-sr (report)."
    ),
    out: Path = typer.Option(..., "--out", "-o", help="The file to write; for yolo the folder."),
    um_per_px: float = typer.Option(0.0, help="Scale of YOLO's pictures and of the mask; 0: the one that the tool read at."),
    point_um: float = typer.Option(10.0, help="Diameter of the box or disc that a point becomes, in µm."),
    mpp: float = MPP,
) -> None:
    """Write a run's objects for other programs. Example: pathasst slide export out/case case.svs --to coco --out case.json"""
    from pathasst.imaging.slides import open_slide
    from pathasst.wsi.exports import export as write
    from pathasst.wsi.run import SlideRun

    with open_slide(slide, mpp) as opened:
        typer.echo(f"wrote {write(SlideRun(run), opened, to, out, um_per_px=um_per_px, point_um=point_um)}")


@app.command("tiles")
def tiles(
    slide: Path = SLIDE,
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the tiles (JPEG) and tiles.csv."),
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
    from pathasst.wsi.regions import Regions

    with open_slide(slide, mpp) as opened:
        regions = Regions.read(opened, include, exclude)
        count, failed = cut_tiles(opened, out, um_per_px, size, overlap, least_tissue, regions=regions, threads=threads)
    for note in regions.notes:
        typer.echo(note, err=True)
    typer.echo(f"{count} tiles in {out}, listed in {out / 'tiles.csv'}" + (f"; {failed} could not be read" if failed else ""))


@app.command("features")
def features(
    slide: Path = SLIDE,
    out: Path = typer.Option(..., "--out", "-o", help="The HDF5 file (.h5), in TRIDENT's layout."),
    um_per_px: float = typer.Option(0.5, help="Micrometres per pixel of the tiles."),
    size: int = typer.Option(224, help="px of a tile's side."),
    model: str = typer.Option(DEFAULT_PATHCLIP, "--model", "-m", help="PathCLIP: registry id, folder or checkpoint."),
    mpp: float = MPP,
) -> None:
    """PathCLIP's vector of every tile with tissue. Example: pathasst slide features case.svs --out case.h5"""
    from pathasst.imaging.slides import open_slide
    from pathasst.wsi.features import write_features

    with open_slide(slide, mpp) as opened:
        vectors = write_features(opened, model, out, um_per_px=um_per_px, size=size)
    typer.echo(f"{len(vectors.features)} tiles, {vectors.features.shape[1]} values each ({vectors.encoder}), in {out}")


@app.command("search")
def search(
    slide: Path = SLIDE,
    text: list[str] = typer.Argument(help="What to look for, in words; two or more also give the slide's likeliest label."),
    vectors: Path = typer.Option(..., "--features", help="The file of `pathasst slide features`."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the heat maps (JPEG, GeoJSON)."),
    model: str = typer.Option(DEFAULT_PATHCLIP, "--model", "-m", help="The PathCLIP that made the features."),
    top: int = typer.Option(10, help="Tiles that a label is pooled over (MI-Zero)."),
    mpp: float = MPP,
) -> None:
    """Heat map of a text on a slide. Example: pathasst slide search case.svs "signet ring cells" --features case.h5 --out out"""
    from pathasst.clip.onnx import load
    from pathasst.wsi.features import load_slide_features, write_heat_map

    clip = load(model, threads=0)
    opened, tiles = load_slide_features(slide, vectors, mpp)
    with opened:
        for number, words in enumerate(text, 1):
            scores = tiles.text_scores(clip, words)
            name = f"{number}-{''.join(c if c.isalnum() else '-' for c in words.lower())[:40]}"
            files = write_heat_map(opened, tiles, scores, out, name, words)
            x, y = tiles.coords[int(scores.argmax())]
            typer.echo(f"{words}: best {scores.max():.3f} at {x}, {y} px; {files[0]}, {files[1]}")
    if len(text) > 1:
        for label, odds in tiles.classify(clip, {words: [words] for words in text}, top).items():
            typer.echo(f"{odds:.3f}  {label}")
        typer.secho("The label is a guess from words alone: the model was not trained on it.", fg="yellow", err=True)


@app.command("cluster")
def cluster(
    slide: Path = SLIDE,
    vectors: Path = typer.Option(..., "--features", help="The file of `pathasst slide features`."),
    out: Path = typer.Option(
        ..., "--out", "-o", help="Folder for the areas (GeoJSON), their overview, each cluster's typical tiles."
    ),
    count: int = typer.Option(6, "--count", "-k", help="Clusters."),
    mpp: float = MPP,
) -> None:
    """Group a slide's tiles by what they look like. Example: pathasst slide cluster case.svs --features case.h5 --out clusters"""
    from pathasst.wsi.clusters import TileClusters, write_clusters
    from pathasst.wsi.features import load_slide_features

    opened, tiles = load_slide_features(slide, vectors, mpp)
    with opened:
        files = write_clusters(opened, tiles, TileClusters.of(tiles, count), out)
    typer.echo(f"wrote {', '.join(map(str, files))}")


@app.command("nearest")
def nearest(
    vectors: Path = typer.Argument(help="The file of `pathasst slide features` of the slide with the place."),
    at: str = typer.Option(..., help="The place: x,y in px of the finest level."),
    others: list[Path] = typer.Option([], "--in", help="Files of other slides to look in; without any, the same slide."),
    count: int = typer.Option(10, "--count", "-k", help="Places."),
) -> None:
    """Places that look like one. Example: pathasst slide nearest case.h5 --at 21000,9400 --in other.h5 --in third.h5"""
    from pathasst.core.errors import BadSettings
    from pathasst.wsi.clusters import nearest_places
    from pathasst.wsi.features import SlideFeatures

    try:
        x, y = map(float, at.split(","))
    except ValueError:
        raise BadSettings(f"--at is x,y in px, such as 21000,9400, not {at!r}.") from None
    first = SlideFeatures(vectors)
    files = [SlideFeatures(file) for file in others] or [first]
    for one, px, py, cosine in nearest_places(first.vector_at(x, y), files, count):
        typer.echo(f"{cosine:.3f}  {one.file}  {px}, {py} px")


@app.command("parts")
def parts(archive: Path = typer.Argument(None, help="An npm archive of OpenSeadragon that you fetched elsewhere.")) -> None:
    """Fetch what the viewer needs: OpenSeadragon, once, from the npm registry. Example: pathasst slide parts"""
    from pathasst.serve.viewer.openseadragon import fetch

    typer.echo(f"OpenSeadragon is in {fetch(archive)}")


@app.command("view")
def view(
    slides: list[Path] = typer.Argument(help="Slides, or folders of slides and runs."),
    runs: list[Path] = typer.Option([], "--run", help="Folder of `pathasst slide run`, whose results are layers."),
    mpp: float = MPP,
    port: int = typer.Option(8010, help="Port on this machine; 0: any free one."),
) -> None:
    """Show slides in the browser, on this machine alone. Example: pathasst slide view case.svs --run out/case"""
    import uvicorn

    from pathasst.serve.viewer import Shelf
    from pathasst.serve.viewer.routes import viewer_app

    shelf = Shelf()
    for path in slides:
        if path.is_dir() and not _is_slide(path):
            shelf.add_folder(path)
        else:
            shelf.add(path, mpp, runs)
    if not shelf.entries:
        from pathasst.core.errors import BadInput

        raise BadInput(f"no slide was found in {', '.join(map(str, slides))}.")
    server = uvicorn.Server(uvicorn.Config(viewer_app(shelf), host="127.0.0.1", port=port, log_level="warning"))
    typer.echo(f"{len(shelf.entries)} slides at http://127.0.0.1:{port}/ (Ctrl-C ends)")
    server.run()


def _is_slide(path: Path) -> bool:
    from pathasst.imaging.slides import is_slide

    return is_slide(path) or any(path.glob("*.dzi"))
