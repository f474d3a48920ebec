"""`pathasst doctor`: what is installed, which weights are here, which device is used, what is missing and how to get it."""

from __future__ import annotations


def doctor() -> None:
    """Say what is installed, which weights are here, what is missing and how to get it."""
