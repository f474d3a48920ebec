"""How far a brain's own words are trusted. Knows nothing else."""

from __future__ import annotations

from enum import StrEnum


class Grounding(StrEnum):
    """How far a brain's own words are trusted."""

    COMPOSED = "composed"  # not at all: answers are composed from sources
    CHECKED = "checked"  # each sentence is held to the sources; one that has none is left out
    MARKED = "marked"  # only what contradicts a source is left out; what has none is marked as the model's own
