"""A tool's card as Markdown, for the command line, the page and the docs. Knows the protocol, no tool."""

from __future__ import annotations

from typing import Any

from pathasst.core.records import NOTICE
from pathasst.tools.protocol import Tool


def as_markdown(cls: type[Tool[Any]]) -> str:
    """Purpose, what it expects, classes, scores, limits, licence, weights and arguments."""
    card = cls.card
    lines = [f"# {cls.name}", "", card.purpose, "", f"- expects: {card.expects}"]
    if card.classes:
        lines.append(f"- classes: {', '.join(card.classes)}")
    lines.append(f"- scores: {card.scores or 'none measured'}")
    lines.append(f"- validated against labels of this very task: {'yes' if card.validated else 'no'}")
    for title, text in (("limits", card.limits), ("licence", card.licence), ("weights", ", ".join(cls.weights))):
        if text:
            lines.append(f"- {title}: {text}")
    lines += ["", "## Arguments", ""]
    spec = cls.spec().parameters
    required = set(spec.get("required", ()))
    for name, value in spec.get("properties", {}).items():
        default = "required" if name in required else f"default {value.get('default')}"
        lines.append(f"- `{name}` ({default}): {value.get('description', '')}")
    if not spec.get("properties"):
        lines.append("none")
    return "\n".join([*lines, "", NOTICE]) + "\n"
