"""Where the examples lie that come with the package. Knows no room."""

from __future__ import annotations

from pathlib import Path


def examples_dir() -> Path:
    """`examples/` of a checkout, `_examples` of an installed wheel."""
    installed = Path(__file__).parent.with_name("_examples")
    return installed if installed.is_dir() else Path(__file__).parents[3] / "examples"


def example_article() -> Path:
    """A folder with one small JATS article and its drawn figures (CC0)."""
    return examples_dir() / "article"
