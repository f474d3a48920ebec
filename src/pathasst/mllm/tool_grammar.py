"""What may come while a tool call is written, as a grammar: an offered name, arguments that fit its JSON schema, the closing tag.

Knows tool specs; runs nothing. The form is llguidance's Lark, which the transformers engine and llama.cpp both read. Arguments
come in the alphabet's order, spelled as `json.dumps` spells them: so datasets store them, and so the model was trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pathasst.core.records import ToolSpec
from pathasst.mllm.tool_text import CLOSE, OPEN, call_head

_SPELLING = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False, "lenient": True}


def calls_grammar(tools: Sequence[ToolSpec], stop: int | None = None) -> str:
    """Free words, in which each `<tool_call>` that is begun becomes a call of an offered tool.

    `stop`: a control token that may end the words, where the engine allows its tokenizer's own end alone (llama.cpp).
    """
    bodies = " | ".join(f"{json.dumps(call_head(t.name).removeprefix(OPEN) + ' ')} {_arguments(t.parameters)}" for t in tools)
    return "\n".join(
        [
            "%llguidance {}",
            "start: call* WORDS" + ("" if stop is None else f" | call* WORDS <[{stop}]>"),
            r"WORDS: /(.|\n)*/",
            f"open[lazy]: WORDS {json.dumps(OPEN)}",
            f"call: open ({bodies}) {json.dumps('}' + CLOSE)}",
        ]
    )


def arguments_grammar(tool: ToolSpec) -> str:
    """What follows `tool_text.call_head`: the tool's arguments and the end of the call."""
    return f'%llguidance {{}}\nstart: " " {_arguments(tool.parameters)} {json.dumps("}" + CLOSE)}'


def _arguments(schema: Mapping[str, Any]) -> str:
    properties = dict(sorted(schema.get("properties", {}).items()))
    return f"%json {json.dumps({'type': 'object', **schema, 'properties': properties, 'x-guidance': _SPELLING})}"
