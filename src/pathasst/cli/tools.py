"""`pathasst tools`: list the specialist models, read a card, run one on a picture, a slide's region or a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pathasst.cli.options import ARGUMENTS, OWN_WEIGHTS

if TYPE_CHECKING:
    from pathasst.tools.protocol import Tool

LINE_SECONDS = 10.0
"""Between two lines of progress where there is no terminal."""

app = typer.Typer(help="The specialist models: list, read a card, run one.", no_args_is_help=True)


@app.command("list")
def list_tools() -> None:
    """The tools, and which can run here. Example: pathasst tools list"""
    from rich.console import Console
    from rich.table import Table

    from pathasst.tools.registry import all_classes

    table = Table("tool", "here", "expects", box=None)
    for cls in all_classes():
        if cls.name == "papers_search":
            here = "[dim]pathasst papers search[/]"
        else:
            missing = cls.missing()
            here = f"[yellow]pathasst models pull {' '.join(missing)}[/]" if missing else "[green]yes[/]"
        table.add_row(cls.name, here, cls.card.expects)
    Console().print(table)


@app.command("card")
def card(name: str = typer.Argument(help="A tool of `pathasst tools list`.")) -> None:
    """What a tool is for, its arguments, scores and limits. Example: pathasst tools card ki67_cells"""
    from rich.console import Console
    from rich.markdown import Markdown

    from pathasst.tools.cards import as_markdown
    from pathasst.tools.registry import tool_class

    Console().print(Markdown(as_markdown(tool_class(name))))


@app.command("run")
def run(
    name: str = typer.Argument(help="A tool of `pathasst tools list`."),
    image: Path = typer.Argument(None, help="A picture, or a slide."),
    arguments: str = ARGUMENTS,
    um_per_px: float = typer.Option(None, help="Micrometres per pixel of the picture."),
    region: str = typer.Option(None, help="x,y,width,height of a slide, in px of its finest level."),
    level: int = typer.Option(0, help="Level of the slide to read, 0 = finest."),
    out: Path = typer.Option(None, "--out", "-o", help="Folder for the JSON result and the annotated pictures."),
    model: str = OWN_WEIGHTS,
    as_json: bool = typer.Option(False, "--json", help="Print the whole result as JSON."),
    geojson: Path = typer.Option(None, help="File for what was found as GeoJSON for QuPath; of a region in px of the slide."),
    coco: Path = typer.Option(None, help="File for what was found as COCO JSON."),
) -> None:
    """Run one tool. Example: pathasst tools run segment field.png --args '{"box": [10, 10, 200, 200]}' --out out"""
    from pathasst.core.errors import BadInput
    from pathasst.imaging.slides import parse_box
    from pathasst.tools import batch, exports

    tool = make_tool(name, model)
    if tool.needs_image and image is None:
        raise BadInput(f"{name} needs a picture: pathasst tools run {name} IMAGE")
    if image is None and (geojson or coco):
        raise BadInput(f"{name} looks at no picture, so it finds nothing in one.")
    tool_arguments = arguments_of(arguments, um_per_px)
    with _tile_bar(name):
        result = batch.run_one(tool, image, tool_arguments, parse_box(region) if region else None, level)
    if result.error:
        raise BadInput(result.error)
    typer.echo(batch.as_json(result) if as_json else f"{result.words}\n[{result.version}, {result.seconds:.2f} s]")
    for file, write in ((geojson, exports.write_geojson), (coco, exports.write_coco)):
        if file is not None:
            write(result, image, file)
            typer.echo(f"wrote {file}", err=as_json)
    if out is not None:
        stem = image.name if image else name
        if region:  # another region of the slide is another result
            stem += "." + "_".join(map(str, parse_box(region)))
        for file in batch.save(result, out, stem):
            typer.echo(f"wrote {file}", err=as_json)


@contextmanager
def _tile_bar(name: str) -> Iterator[None]:
    """A bar over the tiles of a large picture, on a terminal; elsewhere a line every ten seconds."""
    import time

    from rich.console import Console
    from rich.progress import Progress

    from pathasst.core.progress import listening

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=None, visible=False)
        last = time.monotonic()

        def show(done: int, total: int) -> None:
            nonlocal last
            bar.update(task, completed=done, total=total, visible=total > 1)
            if not console.is_terminal and time.monotonic() - last > LINE_SECONDS:
                last = time.monotonic()
                typer.echo(f"{name}: {done} of {total} tiles", err=True)

        with listening(show):
            yield


@app.command("batch")
def batch_folder(
    name: str = typer.Argument(help="A tool of `pathasst tools list`."),
    folder: Path = typer.Argument(help="Folder of pictures or slides, searched with its sub-folders."),
    out: Path = typer.Option(
        ..., "--out", "-o", help="Folder for results.csv (by picture), cells.csv (by cell), JSON and drawings."
    ),
    arguments: str = ARGUMENTS,
    um_per_px: float = typer.Option(None, help="Micrometres per pixel of the pictures."),
    model: str = OWN_WEIGHTS,
    geojson: bool = typer.Option(False, "--geojson", help="Also write each picture's objects as GeoJSON for QuPath."),
) -> None:
    """Run one tool over a folder; finished pictures are kept. Example: pathasst tools batch ki67_cells fields --out out"""
    from rich.progress import track

    from pathasst.tools import batch

    tool = make_tool(name, model)
    tool_arguments = arguments_of(arguments, um_per_px)
    total = len(batch.find_pictures(folder, out))
    rows = list(track(batch.run_folder(tool, folder, out, tool_arguments, geojson=geojson), "pictures", total=total))
    failed = [d for d in rows if d.result.error]
    skipped = sum(d.skipped for d in rows)
    counts = f"{total - len(failed) - skipped} done, {skipped} done before, {len(failed)} not usable"
    typer.echo(f"{total} pictures: {counts}; {out / 'results.csv'}, {out / 'cells.csv'}")
    if others := batch.passed_over(folder, out):
        typer.echo("passed over, no pictures: " + ", ".join(f"{n} {suffix}" for suffix, n in others.items()), err=True)
    for d in failed:
        typer.echo(f"  {d.name}: {d.result.error}", err=True)
    if len(failed) == total:
        raise typer.Exit(1)


@app.command("evaluate")
def evaluate(
    name: str = typer.Argument(help="A tool that boxes, counts, classifies or outlines."),
    labels: Path = typer.Argument(
        help="Labels: boxes (CSV, COCO JSON, YOLO data.yaml), points (CSV image, x, y, label), classes (folders, CSV, Parquet), "
        "masks (COCO JSON, or a folder with images and masks)."
    ),
    split: str = typer.Option("", help="Only pictures of this split, as the file names it."),
    um_per_px: float = typer.Option(
        None, help="Micrometres per pixel of the pictures; default: the file's own, else as `run` does."
    ),
    classes: list[str] = typer.Option([], "--class", help="A class by the tool's name: immunopositive=positive; several times."),
    model: str = OWN_WEIGHTS,
    out: Path = typer.Option(None, "--out", "-o", help="JSON file for every score."),
) -> None:
    """Measure a tool on labels of your own. Example: pathasst tools evaluate blood_cells bccd/boxes.csv --split val"""
    import json

    from pathasst.core.errors import BadSettings
    from pathasst.tools.measure import measure

    if odd := [c for c in classes if not all(c.partition("=")[::2])]:
        raise BadSettings(f"--class {odd[0]} must be the label's name and the tool's, as immunopositive=positive.")
    rename = dict(c.split("=", 1) for c in classes)
    measured = measure(make_tool(name, model), labels, split, um_per_px, rename)
    typer.echo(f"{measured.title}\n\n{measured.table}")
    for reason in measured.skipped:
        typer.echo(f"left out: {reason}", err=True)
    if out is not None:
        out.write_text(json.dumps(measured.values, indent=1), encoding="utf-8")


def make_tool(name: str, model: str | None = None) -> Tool[Any]:
    """The tool of this name, with a folder of the user's own weights if one is given. Raises BadSettings."""
    from pathasst.core.errors import BadSettings
    from pathasst.tools.registry import make

    if name == "papers_search":
        raise BadSettings(f"{name} looks at no picture and has no weights: it is run by `pathasst papers search`.")
    return make(name, model)


def arguments_of(text: str, um_per_px: float | None) -> dict[str, Any]:
    """The arguments of `--args`, and the scale if it is given. Raises BadSettings."""
    import json

    from pathasst.core.errors import BadSettings

    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadSettings(f"--args must be JSON, such as '{{\"um_per_px\": 0.25}}': {error}") from None
    if not isinstance(values, dict):
        raise BadSettings("--args must be a JSON object")
    return values if um_per_px is None else {**values, "um_per_px": um_per_px}
