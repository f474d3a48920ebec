"""Pictures as people have them: a path, encoded bytes, an array, a PIL image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.core.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    ImageLike = Path | str | bytes | np.ndarray | Image


def as_array(image: ImageLike) -> np.ndarray:
    """A picture as H×W×3 uint8 RGB.

    Raises BadInput for a file that cannot be read, or an array of another shape or type.
    """
    import numpy as np

    from pathasst.imaging.pictures import load

    if isinstance(image, str | Path | bytes):
        return load(image)
    pixels = np.asarray(image.convert("RGB")) if hasattr(image, "convert") else image
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise BadInput("a picture is a path, encoded bytes, a PIL image, or an array H×W×3 uint8 RGB.")
    return pixels
