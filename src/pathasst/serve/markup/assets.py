"""The style and the small script that fragments need; read once."""

from __future__ import annotations

from pathlib import Path

STYLE = Path(__file__).with_name("markup.css").read_text(encoding="utf-8")
SCRIPT = Path(__file__).with_name("markup.js").read_text(encoding="utf-8")
"""Copies tables, saves and enlarges pictures. Without it everything stays readable and printable."""
