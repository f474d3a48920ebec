"""Options that several commands share."""

from __future__ import annotations

import typer

SET_HELP = "Change a setting: name=value, with dots into nested settings; may be given several times."
SET = typer.Option([], "--set", help=SET_HELP)
RECIPE = typer.Option("embedded", help="A recipe's name, or a YAML file of your own.")
WORKERS = typer.Option(1, help="Processes on this machine.")
RUNNER = typer.Option("native", help="native (this machine) or ray (a cluster).")
LLM_MODEL = typer.Option("", help="The model's name at that server.")
PRICE_IN = typer.Option(None, help="Money per million tokens read.")
PRICE_OUT = typer.Option(None, help="Money per million tokens written.")
MAX_COST = typer.Option(None, help="Stop before more than this is spent; run again with more to go on.")
ARGUMENTS = typer.Option("{}", "--args", help="The tool's arguments as JSON.")
OWN_WEIGHTS = typer.Option(None, help="A folder of your own weights (`pathasst train points`, `train detector` …).")
TISSUE = typer.Option(True, help="Look for tissue first; --no-tissue takes every tile (smears, cytology).")
