"""`pathasst instruct`: pairs → conversations."""

from __future__ import annotations

from pathlib import Path

import typer


def instruct(
    pairs: list[Path] = typer.Argument(help="Dataset folder(s) of pairs."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder for the conversations."),
    recipe: str = typer.Option("embedded", help="A recipe's name, or a YAML file of your own."),
    invoke: int | None = typer.Option(None, help="How many tool conversations; 0 for none."),
    abstracts: Path | None = typer.Option(None, help="JSON lines of real abstracts for the literature samples."),
    wordings: Path | None = typer.Option(None, help="Folder of wordings that replace the packaged ones."),
    workers: int = typer.Option(1, help="Processes on this machine."),
    runner: str = typer.Option("native", help="native, or ray for a cluster."),
) -> None:
    """Make descriptions, question–answer conversations and tool use from pairs, without a language model.

    Example: pathasst instruct out/pairs --out out/conversations
    """
    from dataclasses import replace

    from pathasst import recipes
    from pathasst.instruct import pipeline
    from pathasst.tools.registry import all_specs

    settings = recipes.load_recipe("instruct", recipe, pipeline.InstructSettings)
    settings = replace(
        settings,
        invoke=settings.invoke if invoke is None else invoke,
        abstracts=str(abstracts or settings.abstracts),
        wordings=str(wordings or settings.wordings),
    )
    manifest = pipeline.run(pairs, out, settings, all_specs(), workers=workers, runner=runner)
    typer.echo(f"{manifest.rows} conversations in {out}")
    for reason, n in sorted(manifest.dropped.items(), key=lambda item: -item[1]):
        typer.echo(f"  left out: {n} × {reason}")
    for shard in manifest.failures:
        typer.echo(f"  failed: {shard.unit}: {shard.failed}")
