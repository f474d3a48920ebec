"""Splitting and refining by a language model, always checked, with the grammar and the rules to fall back on.

Knows any client with `json(prompt, model, system=…)`, such as `pathasst.llm.connect` gives: an OpenAI-compatible server, the
paper's own caption tool (LLaMA-2-7B behind one) included. The prompts are the files in `prompts/`; a folder of the user's
replaces them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from pydantic import BaseModel

from pathasst.core.errors import BadInput
from pathasst.curate.captions.refine import Refined, check
from pathasst.curate.captions.refine import refine as refine_by_rule
from pathasst.curate.captions.split import SubCaption
from pathasst.curate.captions.split import split as split_by_grammar
from pathasst.curate.captions.verify import is_verbatim

if TYPE_CHECKING:
    from pathasst.llm import Client  # noqa: F401 - the usual `Asker`

M = TypeVar("M", bound=BaseModel)


class Asker(Protocol):
    """What is needed of a language model: an answer that keeps a schema."""

    def json(self, prompt: str, model: type[M], *, system: str = "") -> M:
        """Raises BadInput when no valid answer comes, Unreachable when the server does not answer."""
        ...


class PanelText(BaseModel):
    """One panel's words, as the model gives them."""

    letter: str
    caption: str


class PanelTexts(BaseModel):
    """The answer to the split prompt."""

    panels: list[PanelText]


class Caption(BaseModel):
    """The answer to the refine prompt."""

    caption: str


def prompt(name: str, folder: Path | str | None = None) -> str:
    """The text of a prompt: `<folder>/<name>.txt` when it is there, else the packaged one."""
    own = Path(folder) / f"{name}.txt" if folder else None
    path = own if own and own.is_file() else Path(__file__).with_name("prompts") / f"{name}.txt"
    return path.read_text(encoding="utf-8")


def split(
    ask: Asker, caption: str, letters: Sequence[str] = (), prompts: Path | str | None = None
) -> tuple[list[SubCaption], str]:
    """Sub-captions and who made them: "llm", or "grammar" with the reason when the answer fails the verbatim check.

    Raises Unreachable, OverBudget: the stage stops, and goes on from its finished shards and cached answers when run again.
    """
    try:
        answer = ask.json(caption, PanelTexts, system=prompt("split", prompts))
    except BadInput as error:
        return split_by_grammar(caption, letters), f"grammar ({type(error).__name__})"
    parts = [SubCaption(p.letter.strip("() .:").upper(), p.caption.strip(), p.caption.strip()) for p in answer.panels]
    if not parts:
        return [SubCaption("", caption, caption)], "llm"
    if len({n.letter for n in parts}) < len(parts) or not all(n.letter and n.text for n in parts):
        return split_by_grammar(caption, letters), "grammar (letters)"
    if not all(is_verbatim(n.text, caption) for n in parts):
        return split_by_grammar(caption, letters), "grammar (not verbatim)"
    return parts, "llm"


def refine(ask: Asker, caption: str, source: str = "", prompts: Path | str | None = None) -> tuple[Refined, str]:
    """A refined caption and who made it: "llm", or "rule" when the answer states something new or loses a negation."""
    try:
        answer = ask.json(caption, Caption, system=prompt("refine", prompts))
    except BadInput as error:
        return refine_by_rule(caption, source), f"rule ({type(error).__name__})"
    checked = check(answer.caption.strip(), caption, source)
    if checked.reason or not checked.text:
        return refine_by_rule(caption, source), f"rule ({checked.reason or 'empty'})"
    return checked, "llm"
