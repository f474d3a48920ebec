"""A llama.cpp grammar (GBNF) of tool calls: an offered name, its own arguments, valid JSON. Knows tool specs; runs nothing.

Weaker than the schemas on purpose (a value may be any JSON): what is wrong with a value the tool itself says best.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pathasst.core.records import ToolSpec
from pathasst.mllm.tool_text import CLOSE, OPEN

JSON_RULES = r"""
value ::= string | number | "true" | "false" | "null" | list | object
object ::= "{" (string ": " value (", " string ": " value)*)? "}"
list ::= "[" (value ("," " "? value)*)? "]"
string ::= "\"" ([^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}))* "\""
number ::= "-"? [0-9]+ ("." [0-9]+)? ([eE] [-+]? [0-9]+)?
"""


def calls_grammar(tools: Sequence[ToolSpec]) -> str:
    """One or more calls, a line each, of the offered tools."""
    rules = [f'root ::= call ("\\n" call)*\ncall ::= {json.dumps(OPEN)} body {json.dumps(CLOSE)}']
    bodies = []
    for n, tool in enumerate(tools):
        head = json.dumps(f'{{"name": "{tool.name}", "arguments": ')
        bodies.append(f"body{n}")
        rules += [f'body{n} ::= {head} arguments{n} "}}"', *_arguments(tool, n)]
    return "\n".join([*rules, f"body ::= {' | '.join(bodies)}", JSON_RULES])


def arguments_grammar(tool: ToolSpec) -> str:
    """What follows `tool_text.call_head`: the tool's arguments and the end of the call."""
    return "\n".join([f'root ::= " " arguments0 "}}" {json.dumps(CLOSE)}', *_arguments(tool, 0), JSON_RULES])


def _arguments(tool: ToolSpec, n: int) -> list[str]:
    """The rules of a tool's arguments."""
    names = list(tool.parameters.get("properties", {}))
    if not names:
        return [f'arguments{n} ::= "{{}}"']
    pairs = " | ".join(json.dumps(f'"{name}": ') for name in names)
    return [f'arguments{n} ::= "{{" (pair{n} (", " pair{n})*)? "}}"', f"pair{n} ::= ({pairs}) value"]
