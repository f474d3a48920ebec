"""`pathasst dataset`: look into, check and export what the stages wrote."""

from __future__ import annotations

import typer

app = typer.Typer(help="Datasets: show rows, validate shards, export.", no_args_is_help=True)
