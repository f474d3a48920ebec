"""A reasoning model's message taken apart: what it thought, and what it says. Knows the forms that servers use; no room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OPEN, CLOSE = "<think>", "</think>"


def apart(message: Mapping[str, Any]) -> tuple[str, str]:
    """(thoughts, content) of a chat message, whose content may be text, a list of parts, or missing.

    Thoughts come in a field of their own (`reasoning_content`, `reasoning`), between `<think>` and `</think>`, or before a lone
    `</think>`, whose beginning was part of the prompt. An unclosed `<think>` was cut off: all of it is thought.
    """
    fields = [message.get("reasoning_content"), message.get("reasoning")]
    thoughts = [text for text in fields if isinstance(text, str) and text.strip()]
    inside, content = split(_text(message.get("content")))
    return "\n".join(dict.fromkeys([*thoughts, *([inside] if inside else [])])), content


def split(text: str) -> tuple[str, str]:
    """(thoughts, the rest) of a text. One without marks comes back as it is."""
    if CLOSE not in text and OPEN not in text:
        return "", text
    thoughts, words, at = [], [], 0
    first_open, first_close = text.find(OPEN), text.find(CLOSE)
    if first_close >= 0 and (first_open < 0 or first_close < first_open):  # a lone end
        thoughts.append(text[:first_close])
        at = first_close + len(CLOSE)
    while (start := text.find(OPEN, at)) >= 0:
        words.append(text[at:start])
        end = text.find(CLOSE, start)
        thoughts.append(text[start + len(OPEN) : end if end >= 0 else len(text)])
        at = end + len(CLOSE) if end >= 0 else len(text)
    words.append(text[at:].replace(CLOSE, ""))
    return "\n".join(filter(None, map(str.strip, thoughts))), "".join(words).strip()


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):  # some servers answer in parts
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return ""


class Stream:
    """Pieces of a reply in, its words out: what stands between the marks is kept back."""

    def __init__(self) -> None:
        self.inside, self._pending = False, ""

    def add(self, piece: str) -> str:
        """The words that can be shown now; the beginning of a mark waits for its end."""
        self._pending += piece
        words = []
        while True:
            mark = CLOSE if self.inside else OPEN
            at = self._pending.find(mark)
            if at < 0:
                break
            words.append("" if self.inside else self._pending[:at])
            self._pending, self.inside = self._pending[at + len(mark) :], not self.inside
        begun = next((n for n in range(len(mark) - 1, 0, -1) if self._pending.endswith(mark[:n])), 0)
        cut = len(self._pending) - begun
        words.append("" if self.inside else self._pending[:cut])
        self._pending = self._pending[cut:]
        return "".join(words)

    def close(self) -> str:
        """What still waits."""
        return "" if self.inside else self._pending
