"""PathCLIP as the function that `curate` takes: cosines of pictures and texts. That room may not import this one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from pathasst.clip.model import DualEncoder

DEFAULT = "pathclip-lite"


@dataclass
class ClipSimilarity:
    """Cosines of pictures with texts, float32 [n, m]. Picklable: each process loads its own model, in ONNX Runtime if it can."""

    id: str
    version: str = ""

    @cached_property
    def _clip(self) -> DualEncoder:
        from pathasst.clip.onnx import load

        return load(self.id)

    def __call__(self, pictures: Sequence[np.ndarray], texts: Sequence[str]) -> np.ndarray:
        return self._clip.similarity(pictures, texts)

    def encode(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Embeddings of pictures, float32 [n, d], unit rows."""
        return self._clip.encode_image(pictures)

    def __getstate__(self) -> dict[str, Any]:
        return {"id": self.id, "version": self.version}


def clip_similarity(model: str) -> ClipSimilarity | None:
    """PathCLIP by id or folder, ready for workers; None for `none`, and for `auto` where the default's weights are not here.

    Raises MissingWeights when a named model is not here.
    """
    from pathasst.clip.onnx import prepare
    from pathasst.core import weights

    name = DEFAULT if model == "auto" else model
    if name == "none" or (model == "auto" and not weights.present(DEFAULT)):
        return None
    prepare(name)
    return ClipSimilarity(name, weights.version(name))
