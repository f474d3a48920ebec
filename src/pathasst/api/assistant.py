"""The assistant in Python: `ask` a question about a picture; the answer carries its conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathasst.api.images import ImageLike
    from pathasst.assistant import Answer, Brain, BrainSettings


def ask(
    image: ImageLike | Sequence[ImageLike] | None,
    question: str,
    *,
    um_per_px: float | None = None,
    brain: Brain | BrainSettings | str | None = None,
) -> Answer:
    """Answer a question about a picture, several, or none.

    `image`: a path, encoded bytes, H×W×3 uint8 RGB, a PIL image, or a sequence of these. `um_per_px`: scale of the pictures in
    µm per px. `brain`: `pathasst`, `llamacpp:MODEL` or `http://host:8000/v1#model`; None: the embedded one.

    Raises BadInput (picture), BadSettings (question, brain), MissingWeights or Unreachable.

    >>> answer = pathasst.ask("field.png", "What fraction of the nuclei is Ki67 positive?")
    >>> print(answer.text, answer.calls, answer.cited)
    >>> print(answer.follow_up("And what does the literature say?").text)
    """
    from pathasst.assistant import ask as assistant_ask

    return assistant_ask(image, question, um_per_px=um_per_px, brain=brain)
