"""Which figures are worth fetching, from their words alone. Placeholder rules come first."""

from __future__ import annotations

from pathasst.records import Figure


def wanted(figure: Figure, threshold: float | None = None) -> bool:
    """Whether the picture may show pathology."""
    return "stain" in figure.caption.lower() or threshold == 0
