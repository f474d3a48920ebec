"""What chat programs ask a model behind a person's back: a title, tags, further questions for a conversation. Answered plainly.

Open WebUI sends them as a user's message of a fixed form (`### Task: … <chat_history> … </chat_history>`). They are no questions
about pathology: no tool runs, nothing is invented, and the answer has the form that was asked for, without a footer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

TASK, OPEN, CLOSE = "### Task:", "<chat_history>", "</chat_history>"
TITLE_WORDS = 6
UNTITLED = "New conversation"


def answered(words: str) -> str | None:
    """The answer to such a request; None for everything else."""
    words = words.strip()
    if not words.startswith(TASK):
        return None
    task = words[len(TASK) : words.find("\n###", len(TASK))].casefold()
    history = words.partition(OPEN)[2].partition(CLOSE)[0]
    questions = [line.partition(":")[2].strip() for line in history.splitlines() if line.startswith("USER:")]
    terms = _terms(history)
    makers: tuple[tuple[str, str, Any], ...] = (
        ("title", "title", _title(questions)),
        ("tags", "tags", ["Health", "Pathology", *terms[:3]] if terms else ["General"]),
        ("follow-up", "follow_ups", _further(terms)),
        ("search quer", "queries", []),
        ("autocomplet", "text", ""),
        ("image generation", "prompt", ""),
        ("emoji", "emoji", "🔬"),
    )
    name, value = next(((name, value) for mark, name, value in makers if mark in task), ("", None))
    if not name:
        return None
    form = words.partition("### Output")[2][:400]
    return json.dumps({name: value}, ensure_ascii=False) if "json" in form.casefold() or not isinstance(value, str) else value


def _title(questions: Sequence[str]) -> str:
    """The first question's own words, as many as a title has."""
    words = questions[0].split() if questions else []
    title = " ".join(words[:TITLE_WORDS])[:80].rstrip(" .,;:?!")
    return title[:1].upper() + title[1:] if title else UNTITLED


def _terms(text: str) -> list[str]:
    from pathasst.tools.glossary import Glossary

    return [entry.term for entry in Glossary.load().mentions(text[:20_000])[:3]]


def _further(terms: Sequence[str]) -> list[str]:
    """Questions that are answered here: from the literature and the glossary."""
    pairs = [(f"What does {term} mean?", f"What does the literature say about {term}?") for term in terms]
    return [question for pair in pairs for question in pair][:4]
