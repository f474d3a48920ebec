"""`pathasst atlas`: build an atlas of your own cases, for the tool similar_cases."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(help="Atlases of known cases, for the tool similar_cases.", no_args_is_help=True)


@app.command("build")
def build(
    place: Path = typer.Argument(help="CSV (file, case, diagnosis, caption …), dataset of pairs, or folder of pictures."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the atlas."),
    model: str = typer.Option("", "--model", "-m", help="A PathCLIP whose vectors it holds; default: the shipped atlas's space."),
    fit: bool = typer.Option(False, "--fit", help="Fit the space to these pictures (500 or more), in place of the shipped one."),
    link: str = typer.Option("", help="Link of each case; {case} stands for its name."),
    licence: str = typer.Option("", help="Licence and attribution, shown with each case."),
) -> None:
    """Vectors and thumbnails of known cases. `PATHASST_ATLAS=FOLDER` makes the tool similar_cases read them.

    Example: pathasst atlas build cases.csv --out atlas
    """
    from rich.progress import Progress

    from pathasst.clip import atlas
    from pathasst.clip.onnx import load
    from pathasst.core.errors import BadSettings

    if fit and model:
        raise BadSettings("--fit makes a space of its own; --model takes that of a PathCLIP. Give one of them.")
    sources = atlas.read_sources(place, link, licence)
    encoder: atlas.PictureEncoder
    with Progress(transient=True) as progress:
        if fit:
            task = progress.add_task("space", total=len(sources))
            encoder = atlas.fitted_space(sources, lambda n: progress.advance(task, n))
        else:
            encoder = load(model, threads=1) if model else atlas.Atlas.load(atlas.SHIPPED).encoder()
        task = progress.add_task("pictures", total=len(sources))
        entries, broken = atlas.build(sources, encoder, model or atlas.NETWORK, lambda n: progress.advance(task, n))
    entries.save(out)
    typer.echo(f"{len(entries.cases)} cases, {len(entries.vectors)} pictures in {out}; {broken} pictures could not be read")
