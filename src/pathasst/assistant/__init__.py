"""The assistant: a brain that decides, tools that measure, literature that is cited, and an answer that says what was run."""

from pathasst.assistant.agent import Event, Limits
from pathasst.assistant.answer import Answer, ChatPicture, RetrievedAbstract, Step
from pathasst.assistant.answering import ask, default_registry, not_offered
from pathasst.assistant.brain import open_brain, parse_brain
from pathasst.assistant.brains.settings import Brain, BrainSettings

__all__ = [
    "Answer",
    "Brain",
    "BrainSettings",
    "Event",
    "Limits",
    "ChatPicture",
    "RetrievedAbstract",
    "Step",
    "ask",
    "default_registry",
    "not_offered",
    "open_brain",
    "parse_brain",
]
