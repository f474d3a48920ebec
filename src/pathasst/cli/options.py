"""Options that several commands share."""

from __future__ import annotations

import typer

SET_HELP = "Change a setting: name=value, with dots into nested settings; may be given several times."
SET = typer.Option([], "--set", help=SET_HELP)
