"""`pathasst collect`: figures with captions out of articles, PubMed Central and books."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pathasst.dataset import Manifest

app = typer.Typer(help="Figures with captions: from JATS articles, PubMed Central, books.", no_args_is_help=True)


@app.command("folder")
def folder(
    folder: Path = typer.Argument(..., help="Folder with JATS articles (.xml, .nxml, .gz), searched with its subfolders."),
    out: Path = typer.Option(..., "--out", "-o", help="Dataset folder to write."),
    figures: Path | None = typer.Option(None, help="Folder with the picture files, when they do not lie beside the articles."),
    mapping: Path | None = typer.Option(None, help='JSON or CSV that says which file is which figure: href or "article/figure".'),
    licence: str = typer.Option("any", help="open, research or any."),
    text_only: bool = typer.Option(False, "--text-only", help="Keep captions without pictures."),
    workers: int = typer.Option(1, help="Processes."),
    runner: str = typer.Option("native", help="native (this machine) or ray (a cluster)."),
) -> None:
    """Figures of a folder of articles. Example: pathasst collect folder articles --figures pictures --out out/figures"""
    from pathasst.collect.folder import collect_folder

    manifest = collect_folder(
        folder, out, figures=figures, mapping=mapping, licence=licence, text_only=text_only, workers=workers, runner=runner
    )
    summary(manifest, out)


def summary(manifest: Manifest, out: Path) -> None:
    """Print what a stage made and what it left out."""
    typer.echo(f"{manifest.stage}: {manifest.rows} figures in {len(manifest.shards)} shards → {out}")
    for reason, number in manifest.dropped.most_common():
        typer.echo(f"  left out, {reason}: {number}")
    for shard in manifest.failures:
        typer.echo(f"  failed, tried again in the next run: {shard.unit}: {shard.failed}")
