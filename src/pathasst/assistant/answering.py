"""`ask`: one question to the assistant, the call that everything else (command line, demo, page, API) is built on."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pathasst.assistant.agent import Agent, Limits, OnEvent
from pathasst.assistant.answer import Answer
from pathasst.assistant.brain import open_brain
from pathasst.assistant.brains.settings import Brain, BrainSettings
from pathasst.assistant.grounding import Grounding
from pathasst.assistant.images import ChatPictures, PictureInput
from pathasst.core.errors import BadSettings
from pathasst.tools.protocol import Registry

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST_QUESTION = 20_000  # characters


def ask(
    image: Any,
    question: str,
    history: Answer | None = None,
    brain: Brain | BrainSettings | str | None = None,
    registry: Registry | None = None,
    *,
    limits: Limits | None = None,
    on_event: OnEvent | None = None,
    cancel: threading.Event | None = None,
    um_per_px: float | None = None,
    advice: str = "",
) -> Answer:
    """Answer a question about a picture (or several, or none).

    `image`: a path, encoded bytes, H×W×3 uint8 RGB, a PIL image, a `PictureInput`, a sequence of these, or None (with `history`:
    the pictures of before). `um_per_px`: micrometres per pixel of these pictures, where a PictureInput
    does not say its own. `history`: the answer before, whose conversation goes on. `brain`: see `open_brain`. `registry`: the
    tools on offer; by default every specialist model that is here, the literature and, for a brain that does not see, `look`.
    `on_event` is told what happens while it happens; `cancel`, once set, ends the wait and gives what there is. `advice`: see
    `Agent.run`.

    Raises BadInput (picture), BadSettings (question, brain), MissingWeights, MissingPackage or Unreachable.
    """
    if not question.strip():
        raise BadSettings('ask a question, for example: pathasst ask image.png "What does this picture show?"')
    if len(question) > LONGEST_QUESTION:
        raise BadSettings(f"the question has {len(question)} characters; {LONGEST_QUESTION} are allowed.")
    chat_pictures = ChatPictures(list(history.pictures) if history else [])
    pictures = _pictures(image)
    for picture in pictures:
        chat_pictures.add(picture if isinstance(picture, PictureInput) else PictureInput(picture, um_per_px=um_per_px))
    mind = brain if isinstance(brain, Brain) else open_brain(brain)
    tools = registry if registry is not None else registry_for(mind)
    agent = Agent(mind, tools, limits or Limits(), grounding=grounding_of(mind))
    if on_event is not None:
        agent.on_event = on_event
    if cancel is not None:
        agent.cancel = cancel
    try:
        return agent.run(question, chat_pictures, history, advice)
    finally:
        agent.worker.close()


Answer._ask = staticmethod(ask)


def registry_for(brain: Brain) -> Registry:
    """The tools for a brain: one that sees and writes by itself may zoom in; others have the look, similar cases and glossary."""
    return default_registry(look=not brain.sees or grounding_of(brain) is Grounding.COMPOSED)


def grounding_of(brain: Brain) -> Grounding:
    """How far a brain's words are trusted; one that does not say so is checked."""
    return getattr(brain, "grounding", Grounding.CHECKED)


@lru_cache(maxsize=2)
def default_registry(look: bool = False) -> Registry:
    """The specialist models and the literature search; with `look` also look, similar cases and glossary, which tell of pictures
    and terms in words, without it zoom, which shows.

    Each is made once per process.
    """
    from pathasst.tools.glossary_tool import GlossaryTool
    from pathasst.tools.look import Look
    from pathasst.tools.registry import default_registry as specialists
    from pathasst.tools.similar_cases import SimilarCases
    from pathasst.tools.zoom import Zoom

    registry = specialists()
    for tool in (Look(), SimilarCases(), GlossaryTool()) if look else (Zoom(),):
        registry.add(tool)
    return registry


def not_offered(registry: Registry | None = None) -> list[str]:
    """Names of the tools that are not offered because files are missing or their model is still to come."""
    from pathasst.tools.registry import SPECIALISTS

    tools = (registry or default_registry()).tools
    return [name for name in SPECIALISTS if name not in tools or tools[name].missing()]


def _pictures(image: Any) -> Sequence[Any]:
    if image is None:
        return []
    return image if isinstance(image, list | tuple) else [image]
