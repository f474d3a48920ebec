"""Reading short text in small crops: PP-OCR's recogniser, as rapidocr ships it, run straight by ONNX Runtime.

Knows pixel arrays. rapidocr's own pipeline takes half a second to set up, which every worker
would pay, and reads crops one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.core.errors import MissingWeights
from pathasst.nn.onnx import open_session

if TYPE_CHECKING:
    import numpy as np
    from onnxruntime import InferenceSession

HEIGHT, WIDTH = 48, 96  # px the recogniser is fed; a line of text gets 320, which costs three times as much


def recognise(crops: Sequence[np.ndarray]) -> list[tuple[str, float]]:
    """(text, mean confidence of its characters) of each H×W×3 uint8 BGR crop; text wider than two of its heights is squeezed.

    Raises MissingWeights where rapidocr has no model for it.
    """
    import cv2
    import numpy as np

    if not crops:
        return []
    pixels = np.zeros((len(crops), HEIGHT, WIDTH, 3), np.float32)
    for row, crop in zip(pixels, crops, strict=True):
        width = min(WIDTH, -(-crop.shape[1] * HEIGHT // crop.shape[0]))
        row[:, :width] = cv2.resize(crop, (width, HEIGHT)) / np.float32(127.5) - 1
    session, characters = _recogniser()
    (probabilities,) = session.run(None, {session.get_inputs()[0].name: pixels.transpose(0, 3, 1, 2)})
    return [_decoded(row, characters) for row in probabilities]


def _decoded(probabilities: np.ndarray, characters: Sequence[str]) -> tuple[str, float]:
    """Connectionist temporal classification, greedily: the best character of each step, without repeats and blanks."""
    best = probabilities.argmax(axis=1)
    is_sign = best > 0
    is_sign[1:] &= best[1:] != best[:-1]
    score = float(probabilities.max(axis=1)[is_sign].mean()) if is_sign.any() else 0.0
    return "".join(characters[n] for n in best[is_sign]), score


@cache
def _recogniser() -> tuple[InferenceSession, list[str]]:
    """The model and its characters, blank first."""
    package = find_spec("rapidocr")
    files = sorted((Path(package.origin).parent / "models").glob("*_rec_*.onnx")) if package and package.origin else []
    if not files:
        raise MissingWeights("rapidocr's recogniser is not here; `pip install --force-reinstall 'rapidocr~=3.10'` brings it.")
    session = open_session(files[-1])
    return session, ["", *session.get_modelmeta().custom_metadata_map["character"].splitlines(), " "]
