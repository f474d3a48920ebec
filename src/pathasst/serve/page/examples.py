"""Examples to begin with: pictures that come with the installation, so they work without a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Example:
    """One example. `picture`: whether it comes with one, a real field: the tools refuse drawn ones."""

    title: str
    note: str
    question: str
    picture: bool = True


EXAMPLES = (
    Example("Describe a picture", "immunohistochemistry, colon", "What does this picture show?"),
    Example("Count stained nuclei", "immunohistochemistry, colon", "What fraction of the nuclei is Ki67 positive?"),
    Example("Outline objects", "immunohistochemistry, colon", "Outline the objects in this picture."),
    Example(
        "Ask the literature",
        "no picture needed",
        "What does the literature say about Ki-67 expression and prognosis in cancer?",
        picture=False,
    ),
)


def pixels(example: Example) -> np.ndarray | None:
    """The example's picture, 512×512×3 uint8 RGB, or None."""
    if not example.picture:
        return None
    import skimage.data

    return skimage.data.immunohistochemistry()
