"""`pathasst models`: list, fetch and read about weights."""

from __future__ import annotations

import typer

app = typer.Typer(help="Weights: what there is, what is here, fetch it, read its card.", no_args_is_help=True)


@app.command("list")
def list_models() -> None:
    """Every model the registry knows. Example: pathasst models list"""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table

    from pathasst.core import weights

    console = Console(highlight=False)
    for entry in weights.registry().values():
        lacking = weights.lacking(entry.id)
        here = "[green]here[/]    " if not lacking else "[dim]not here[/]" if entry.id in lacking else "[yellow]waits[/]   "
        mark = " [yellow](research only)[/]" if entry.research_only and "research" not in entry.licence else ""
        head = Table.grid(padding=(0, 2, 0, 0))
        head.add_row(f"[bold]{entry.id:<22}[/]", here, f"{entry.size_mb:5.0f} MB", f"{entry.licence}{mark}")
        console.print(head)
        console.print(Padding(entry.purpose, (0, 0, 0, 4)), style="dim")
        if lacking and entry.id not in lacking:
            console.print(f"    waits for {', '.join(lacking)}: pathasst models pull {entry.id}", style="yellow")


@app.command("pull")
def pull(
    ids: list[str] = typer.Argument(None, help="Model ids; none: all of the recipe."),
    recipe: str = typer.Option("embedded", help="Without ids: whose models, embedded or paper."),
    accept_unpinned: bool = typer.Option(
        False, "--accept-unpinned", help="Trust files whose SHA-256 is not known as they come now; they are checked ever after."
    ),
) -> None:
    """Fetch models, checking every file. Example: pathasst models pull minilm mobilesam"""
    from pathasst.core import weights

    for id_ in ids or [e.id for e in weights.registry().values() if e.recipe == recipe]:
        entry = weights.get(id_)
        typer.echo(f"{id_}: {'already here' if weights.present(id_) else f'fetching {entry.size_mb:.0f} MB …'}")
        typer.echo(f"  {weights.pull(id_, accept_unpinned=accept_unpinned)}")


@app.command("card")
def card(model: str = typer.Argument(..., help="A model's id, as `models list` shows it.")) -> None:
    """Print a model card. Example: pathasst models card minilm"""
    from rich.console import Console
    from rich.markdown import Markdown

    from pathasst.core import weights

    Console().print(Markdown(weights.card(model)))
