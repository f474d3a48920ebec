"""`pathasst atlas`: build an atlas of your own cases, for the tool similar_cases."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(help="Atlases of known cases, for the tool similar_cases.", no_args_is_help=True)


@app.command("build")
def build(
    place: Path = typer.Argument(help="CSV (file, case, diagnosis, caption …), dataset of pairs, or folder of pictures."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the atlas."),
    model: str = typer.Option("pathclip-lite", "--model", "-m", help="PathCLIP whose vectors it holds."),
    link: str = typer.Option("", help="Link of each case; {case} stands for its name."),
    licence: str = typer.Option("", help="Licence and attribution, shown with each case."),
) -> None:
    """Vectors and thumbnails of known cases. The assistant does not offer the tool similar_cases, which reads them, yet.

    Example: pathasst atlas build cases.csv --out atlas
    """
    from rich.progress import Progress

    from pathasst.clip import atlas
    from pathasst.clip.onnx import load

    sources = atlas.read_sources(place, link, licence)
    with Progress(transient=True) as progress:
        task = progress.add_task("pictures", total=len(sources))
        entries, broken = atlas.build(sources, load(model, threads=1), model, lambda n: progress.advance(task, n))
    entries.save(out)
    typer.echo(f"{len(entries.cases)} cases, {len(entries.vectors)} pictures in {out}; {broken} pictures could not be read")
