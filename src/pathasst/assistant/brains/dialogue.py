"""How a small text model is asked for tools: one question at a time, shown on examples first. Knows no engine.

The examples are ours, written for this; none is among the requests that tool choice is measured on (`evaluate`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pathasst.assistant.brains.messages import SYSTEM, person_words, result_words
from pathasst.core.records import ToolSpec, Turn

HOW = """You work in steps. To the person's words you first reply with the tools needed now, as JSON: {"tools": [names]}.
Name several where several things are asked for. Name none, {"tools": []}, for small talk, questions about yourself, and
general knowledge that needs neither picture nor literature. Then you are asked for each tool's arguments, or to answer."""
ANSWER_NOW = "Answer the person now, in plain words."
PICTURES_GIVEN = "\n(Pictures given: image1 (picture). You cannot see them; the tools can.)"
EXAMPLES: tuple[tuple[str, bool, tuple[str, ...]], ...] = (
    ("Hello!", False, ()),
    ("How many proliferating nuclei are in this field? It was scanned at 0.25 µm per pixel.", True, ("ki67_cells",)),
    ("Are there studies on tumour budding in colorectal cancer?", False, ("papers_search",)),
    ("What kind of tissue do you see?", True, ("look",)),
    ("Grade the HER2 membrane staining, and bring two papers on HER2-low carcinoma.", True, ("her2_cells", "papers_search")),
    ("What does the abbreviation TPS mean?", False, ()),
    ("Make three pictures of an SCC cell with a dark nucleus.", False, ("lbc_generate",)),
    ("Draw a line around the nucleus at x 45, y 210.", True, ("segment",)),
    ("Which Bethesda class is it, and where are the abnormal cells?", True, ("lbc_classify", "lbc_detect")),
    ("Are the platelets in this smear too few?", True, ("blood_cells",)),
    ("Tumour proportion score, please.", True, ("pdl1_cells",)),
    ("Who made you?", False, ()),
)
"""The person's words, whether a picture came with them, and the tools that are right."""
WALK = ("ki67_cells", {"um_per_px": 0.25}, "212 of 400 nuclei are positive: index 53 %.", "The Ki67 index is 53 % (212 of 400).")
"""One example walked to its end: a call, its arguments, its result, the answer."""


def dialogue(turns: Sequence[Turn], tools: Sequence[ToolSpec], longest: int) -> list[dict[str, str]]:
    """The conversation as messages that end with the person's words or a tool's result.

    Results are cut to `longest` characters and stand in the person's messages, as data. Without tools no examples are shown.
    """
    messages = _opening(tools)
    calls: list[dict[str, Any]] = []
    for turn in turns:
        if turn.role == "assistant":
            calls = [{"name": c.name, "arguments": c.arguments} for c in turn.tool_calls]
            if calls:
                _say(messages, "assistant", json.dumps({"tools": [c["name"] for c in calls]}))
                continue
            if tools:
                _say(messages, "assistant", '{"tools": []}')
                _say(messages, "user", ANSWER_NOW)
            _say(messages, "assistant", turn.content)
        elif turn.role == "tool":
            arguments = calls.pop(0)["arguments"] if calls else {}
            _say(messages, "user", _result(turn.tool, arguments, result_words(turn), longest))
        else:
            _say(messages, "user", person_words(turn, sees=False))
    return messages


def arguments_asked(tool: ToolSpec) -> str:
    """The question for one tool's arguments: each with what it means."""
    required = tool.parameters.get("required", [])
    lines = [
        f"- {name}{'' if name in required else ' (only if the person says so)'}: {_meaning(schema)}"
        for name, schema in tool.parameters.get("properties", {}).items()
    ]
    listed = "\n".join(lines)
    return f"Arguments of {tool.name}, as JSON; leave out what the person does not say:\n{listed}"


def _opening(tools: Sequence[ToolSpec]) -> list[dict[str, str]]:
    if not tools:
        return [{"role": "system", "content": f"{SYSTEM}\nNo tools are left: answer in plain words with what there is."}]
    by_name = {tool.name: tool for tool in tools}
    listed = "\n".join(f"- {tool.name}: {tool.description}" for tool in tools)
    messages = [{"role": "system", "content": f"{SYSTEM}\n{HOW}\nTools:\n{listed}"}]
    for words, picture, names in EXAMPLES:
        if not set(names) <= set(by_name):
            continue
        _say(messages, "user", words + (PICTURES_GIVEN if picture else ""))
        _say(messages, "assistant", json.dumps({"tools": list(names)}))
        if names == (WALK[0],):
            _walk(messages, by_name[WALK[0]])
    return messages


def _walk(messages: list[dict[str, str]], tool: ToolSpec) -> None:
    name, arguments, result, answer = WALK
    _say(messages, "user", arguments_asked(tool))
    _say(messages, "assistant", json.dumps(arguments))
    _say(messages, "user", _result(name, arguments, result, 1000))
    _say(messages, "assistant", '{"tools": []}')
    _say(messages, "user", ANSWER_NOW)
    _say(messages, "assistant", answer)


def _result(tool: str, arguments: Mapping[str, Any], text: str, longest: int) -> str:
    text = text if len(text) <= longest else text[:longest].rsplit(" ", 1)[0] + " … (cut)"
    with_ = f" arguments='{json.dumps(arguments, ensure_ascii=False)}'" if arguments else ""
    return f'<tool_output tool="{tool}"{with_}>\n{text}\n</tool_output>'


def _say(messages: list[dict[str, str]], role: str, content: str) -> None:
    """Add a message; two of one role in a row become one, since templates want the roles to take turns."""
    if messages[-1]["role"] == role:
        messages[-1]["content"] += f"\n{content}"
    else:
        messages.append({"role": role, "content": content})


def _meaning(schema: Mapping[str, Any]) -> str:
    """An argument's kind and its description, in a few words."""
    kinds = [schema, *schema.get("anyOf", [])]
    kind: Mapping[str, Any] = next((k for k in kinds if k.get("type") not in (None, "null") or "enum" in k), {})
    if "enum" in kind:
        name = "one of " + ", ".join(map(str, kind["enum"]))
    elif kind.get("type") == "array":
        pairs = kind.get("items", {}).get("type") == "array"
        name = "list of [x, y]" if pairs else "list of numbers"
    else:
        name = {"boolean": "true or false", "string": "text"}.get(str(kind.get("type")), str(kind.get("type", "any")))
    return f"{name}. {schema.get('description', '')}".strip()
