"""What may come while a tool call is being written: an offered name, then any valid JSON object, then the closing tag.

Knows text alone. `allowed` judges a text that the model would have written with one more token; the generator asks it for the
likeliest tokens in turn, so a call is always readable and always names a tool that was offered.
"""

from __future__ import annotations

from collections.abc import Sequence

from pathasst.mllm.tool_text import CLOSE, OPEN

END = "}" + CLOSE
_ESCAPES = set('"\\/bfnrtu')
_LITERALS = ("true", "false", "null")
_NUMBER = set("0123456789+-.eE")


def allowed(text: str, names: Sequence[str]) -> bool:
    """Whether `text`, all that the assistant has written, can still become words and complete calls of tools in `names`."""
    while OPEN in text:
        _, _, text = text.partition(OPEN)
        for name in names:
            head = f'{{"name": "{name}", "arguments": '
            if head.startswith(text):
                return True
            if text.startswith(head):
                end = object_end(text[len(head) :])
                if end < 0:
                    return end == OPEN_ENDED
                text = text[len(head) + end :]
                break
        else:
            return False
        if len(text) < len(END):
            return END.startswith(text)
        if not text.startswith(END):
            return False
        text = text[len(END) :]
    return True


OPEN_ENDED, BROKEN = -1, -2


def object_end(text: str) -> int:
    """Where the JSON object that `text` begins with ends; OPEN_ENDED when it may still become one, BROKEN when it cannot."""
    if text and text[0] != "{":
        return BROKEN
    stack: list[str] = []
    wanted, at, empty = "value", 0, False  # value | key | colon | comma: what comes next; empty: a bracket was just opened
    while at < len(text):
        mark = text[at]
        if mark in " \n":
            at += 1
        elif stack and (empty or wanted == "comma") and mark == stack[-1]:
            stack.pop()
            at, wanted, empty = at + 1, "comma", False
            if not stack:
                return at
        elif wanted in ("comma", "colon"):
            if mark != {"comma": ",", "colon": ":"}[wanted]:
                return BROKEN
            at, wanted = at + 1, "key" if wanted == "comma" and stack[-1] == "}" else "value"
        elif wanted == "value" and mark in "{[":
            stack.append("}" if mark == "{" else "]")
            at, wanted, empty = at + 1, "key" if mark == "{" else "value", True
        else:
            at = _atom(text, at, wanted)
            if at < 0:
                return at
            wanted, empty = ("colon" if wanted == "key" else "comma"), False
    return OPEN_ENDED


def _atom(text: str, at: int, wanted: str) -> int:
    """Where a string, number or word that begins at `at` ends; a key must be a string."""
    if text[at] == '"':
        return _string(text, at)
    return BROKEN if wanted == "key" else _scalar(text, at)


def _string(text: str, at: int) -> int:
    at += 1
    while at < len(text):
        if text[at] == "\\":
            if at + 1 < len(text) and text[at + 1] not in _ESCAPES:
                return BROKEN
            at += 2
        elif text[at] == '"':
            return at + 1
        elif text[at] < " ":
            return BROKEN
        else:
            at += 1
    return OPEN_ENDED


def _scalar(text: str, at: int) -> int:
    """A number or true, false, null."""
    end = at
    while end < len(text) and text[end] not in ",]} \n":
        end += 1
    word = text[at:end]
    if any(literal.startswith(word) for literal in _LITERALS):
        return end if word in _LITERALS else OPEN_ENDED if end == len(text) else BROKEN
    if not word or set(word) - _NUMBER:
        return BROKEN
    if end == len(text):
        return OPEN_ENDED
    try:
        float(word)
    except ValueError:
        return BROKEN
    return end
