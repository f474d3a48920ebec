"""What may come while a tool call is being written: an offered name, then arguments that fit its schema, then the closing tag.

Knows text alone. `allowed` judges a text that the model would have written with one more token; the generator asks it for the
likeliest tokens in turn, so a call is always readable, names a tool that was offered and fits that tool's JSON schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pathasst.mllm.json_prefix import OPEN_ENDED, value_end
from pathasst.mllm.tool_text import CLOSE, OPEN

END = "}" + CLOSE


def allowed(text: str, offered: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether `text`, all that the assistant has written, can still become words and complete calls of tools on offer.

    `offered`: tool's name → JSON schema of its arguments.
    """
    while OPEN in text:
        _, _, text = text.partition(OPEN)
        for name, schema in offered.items():
            head = f'{{"name": "{name}", "arguments": '
            if head.startswith(text):
                return True
            if text.startswith(head):
                end = value_end(text, len(head), {"type": "object", **schema})
                if end < 0:
                    return end == OPEN_ENDED
                text = text[end:]
                break
        else:
            return False
        if len(text) < len(END):
            return END.startswith(text)
        if not text.startswith(END):
            return False
        text = text[len(END) :]
    return True
