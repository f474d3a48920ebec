"""Examples to begin with: pictures that come with the installation, so they work without a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Example:
    """One example. `picture`: immunohistochemistry | a file of the example article | empty."""

    title: str
    note: str
    question: str
    picture: str = ""


EXAMPLES = (
    Example(
        "Count stained nuclei",
        "Ki67, a drawn figure",
        "What fraction of the nuclei is Ki67 positive?",
        "demo-001-g003.jpg",
    ),
    Example("Describe a picture", "immunohistochemistry, colon", "What does this picture show?", "immunohistochemistry"),
    Example("Outline objects", "immunohistochemistry, colon", "Outline the objects in this picture.", "immunohistochemistry"),
    Example(
        "Ask the literature", "no picture needed", "What does the literature say about Ki-67 expression and prognosis in cancer?"
    ),
)


def pixels(example: Example) -> np.ndarray | None:
    """The example's picture, H×W×3 uint8 RGB, or None. Raises BadInput if the file is gone."""
    if not example.picture:
        return None
    if example.picture == "immunohistochemistry":
        import skimage.data

        return skimage.data.immunohistochemistry()
    from pathasst.core.resources import example_article
    from pathasst.imaging.pictures import load

    return load(example_article() / example.picture)
