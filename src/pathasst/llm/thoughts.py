"""A reasoning model's message taken apart: what it thought, and what it says. Knows the forms that servers use; no room.

Models mark their thoughts in words of their own: `<think>`, `<thinking>`, `<thought>`, `[THINK]` (Mistral), `◁think▷` (Kimi),
`<|START_THINKING|>` (Cohere), `<unused94>` (MedGemma), `<|channel|>analysis` (gpt-oss); some mark the answer, too (`<answer>`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_WORDS = r"(?:[\w-]{1,20}:)?(?:think|thinking|thoughts?|reasoning|scratchpad)"
# A mark in backticks is spoken of, not used.
_MARK = re.compile(
    rf"""(?<!`)(?:
        (?P<close> </{_WORDS}\s*> | <\|(?:/|end_(?:of_)?){_WORDS}\|> | <unused95> | \[/THINK\] | ◁/think▷
          | <\|end\|> | <\|channel\|>final<\|message\|> )
      | (?P<shell> </?(?:answer|final_answer|response)> | <\|(?:begin|end)_of_solution\|> | <\|(?:START|END)_RESPONSE\|>
          | <\|start\|>assistant | <\|channel\|>commentary<\|message\|> | <\|return\|> )
      | (?P<open> <{_WORDS}(?:\s[^<>\n]{{0,60}})?> | <\|(?:begin_(?:of_)?|start_(?:of_)?)?{_WORDS}\|> | <unused94>(?:thought\n)?
          | \[THINK\] | ◁think▷ | <\|channel\|>analysis<\|message\|> )
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_OPENS = ("<", "[", "◁")
_LONGEST_MARK = 90
_SPEAKER = ("<|start|>", "<|channel|>", "<|return|>")  # a change of speaker or channel: no word of anybody
_CHANNELS = ("<|start|>assistant", *(f"<|channel|>{name}<|message|>" for name in ("analysis", "commentary", "final")))
_ANSWER = re.compile(
    r"<(answer|final_answer|response)>(.*?)(?:</\1>|\Z)|<\|begin_of_solution\|>(.*?)(?:<\|end_of_solution\|>|\Z)"
    r"|<\|START_RESPONSE\|>(.*?)(?:<\|END_RESPONSE\|>|\Z)",
    re.DOTALL,
)
# gpt-oss, where a server drops its special tokens.
_BARE_START, _BARE_END = "analysis", "assistantfinal"
_BARE_CHANNELS = re.compile(rf"{_BARE_START}(?=[A-Z])(.*?)(?:{_BARE_END}(.*)|\Z)", re.DOTALL)
_FIELDS = ("reasoning_content", "reasoning", "reasoning_text", "reasoning_details", "thinking", "thinking_blocks", "thoughts")
_INNER = ("text", "thinking", "reasoning", "summary", "content")


def apart(message: Mapping[str, Any]) -> tuple[str, str]:
    """(thoughts, content) of a chat message, whose content may be text, a list of parts, or missing.

    Thoughts come in a field of their own (`reasoning_content`, `thinking` …), in a part of that type, between marks, or before a
    lone end mark, whose beginning was part of the prompt. An unclosed mark was cut off: all that follows is thought. Where a
    model marks its answer, what stands before it is thought.
    """
    thoughts, content = parts(message)
    inside, content = split(content)
    return "\n".join(dict.fromkeys(t for t in (thoughts, inside) if t.strip())), content


def parts(message: Mapping[str, Any]) -> tuple[str, str]:
    """(thoughts, content) of a message, or of a stream's piece of one, by its fields and parts alone: no mark is read."""
    content = message.get("content")
    thoughts = next((text for field in _FIELDS if (text := _words(message.get(field)))), "")
    if isinstance(content, list):
        listed = [part for part in content if isinstance(part, Mapping)]
        inner = "".join(_words(part) for part in listed if not _is_said(part))
        content = "".join(_words(part) for part in listed if _is_said(part))
        thoughts = thoughts or inner
    if not content:  # why a server's model says nothing
        content = message.get("refusal")
    return thoughts, content if isinstance(content, str) else ""


def split(text: str) -> tuple[str, str]:
    """(thoughts, the rest) of a text. One without marks comes back as it is."""
    bare = _BARE_CHANNELS.fullmatch(text)
    if bare:
        return bare[1].strip(), (bare[2] or "").strip()
    thoughts: list[str] = []
    words: list[str] = []
    at, inside = 0, False
    for mark in _MARK.finditer(text):
        if mark["shell"] and not mark[0].startswith(_SPEAKER):
            continue
        (thoughts if inside else words).append(text[at : mark.start()])
        at = mark.end()
        if mark["close"] and not inside and text[at:].strip():
            thoughts, words = [*thoughts, *words], []  # its beginning stood in the prompt, or inside of other thoughts
        inside = inside if mark["shell"] else bool(mark["open"])
    if at:
        (thoughts if inside else words).append(text[at:])
    rest = "".join(words) if at else text
    answer = _ANSWER.search(rest)
    if not at and not answer:
        return "", text
    if answer:
        thoughts.append(rest[: answer.start()])
        rest = f"{next(g for g in answer.groups()[1:] if g is not None)}{rest[answer.end() :]}"
    return "\n".join(filter(None, map(str.strip, thoughts))), rest.strip()


def ends_alone(text: str) -> bool:
    """Whether the first mark of a text is an end: the model's thoughts begin in its prompt."""
    mark = _MARK.search(text)
    return bool(mark and mark["close"] and text[mark.end() :].strip())


def _is_said(part: Mapping[str, Any]) -> bool:
    return part.get("type") in (None, "text", "output_text", "refusal")


def _words(value: Any) -> str:
    """The words of a field or part, however deep: text, a list of parts, or an object with one of the usual keys."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_words, value))
    if isinstance(value, Mapping):
        return next((words for key in _INNER if (words := _words(value.get(key)))), "")
    return ""


class Stream:
    """Pieces of a reply in, its words out: what stands between the marks is held back.

    `inside`: the thoughts begin in the prompt, so that an end mark comes first.
    """

    def __init__(self, *, inside: bool = False) -> None:
        self.inside, self._pending, self._begun = inside, "", False
        self._bare = False

    def add(self, piece: str) -> str:
        """The words that can be shown now; the beginning of a mark waits for its end."""
        self._pending += piece
        if not self._begun:
            if _BARE_START.startswith(self._pending):
                return ""
            self._begun = True
            self._bare = bool(re.match(rf"{_BARE_START}(?=[A-Z])", self._pending))
        if self._bare:
            _, end, rest = self._pending.partition(_BARE_END)
            if not end:
                return ""
            self._pending, self._bare = rest, False
        words = []
        while mark := _MARK.search(self._pending):
            if not self.inside:
                words.append(self._pending[: mark.start()])
            self._pending = self._pending[mark.end() :]
            if not mark["shell"]:
                self.inside = bool(mark["open"])
        cut = _begun(self._pending)
        words.append("" if self.inside else self._pending[:cut])
        self._pending = self._pending[cut:]
        return "".join(words)

    def close(self) -> str:
        """What still waits."""
        return "" if self.inside or self._bare else self._pending


def _begun(text: str) -> int:
    """Where something begins that may yet become a mark; the end of the text where nothing does."""
    tail = max(0, len(text) - _LONGEST_MARK)
    for at in (at for at in range(tail, len(text)) if text[at] in _OPENS):
        begun = text[at:]
        if re.fullmatch(r"[<\[◁][\w|/:-]*(?:\s[^<>\n]*)?", begun) or any(c.startswith(begun) for c in _CHANNELS):
            return at
    return len(text)
