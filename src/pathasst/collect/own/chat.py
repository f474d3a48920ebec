"""Other programs' conversations as turns: LLaVA, ShareGPT, OpenAI messages, question–answer rows. Knows their keys, no files."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from string import ascii_uppercase
from typing import Any

from pathasst.core.errors import BadInput
from pathasst.core.records import IMAGE, ToolCall, Turn
from pathasst.llm.thoughts import apart
from pathasst.llm.tool_calls import call_of

ROLES = {
    **dict.fromkeys(("human", "user", "question", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "model", "bot", "chatgpt", "answer"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "function_response", "ipython"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), "call"),
}
LISTS = ("messages", "conversations", "conversation", "dialog", "dialogue", "texts", "chat")
QUESTION, ANSWER = ("question", "query", "instruction", "prompt"), ("answer", "response", "output", "completion")
_MARK = re.compile(r"<image>|<img>(?:[^<]{0,300}</img>)?|<ImageHere>|<\|image(?:_pad|_1)?\|>|<image_placeholder>", re.IGNORECASE)
_CHOICE = re.compile(r"(?:(?:choice|option|opt|answer)[ _-]?)?([a-j])")
_CALL = re.compile(r"<tool_call>\s*(?P<json>\{.*?\})\s*</tool_call>", re.DOTALL)
_RESPONSE = re.compile(r"\A\s*(?:<tool_response>.*?</tool_response>\s*)+\Z", re.DOTALL)
_ONE_RESPONSE = re.compile(r"<tool_response>\s*(.*?)\s*</tool_response>", re.DOTALL)


@dataclass(slots=True)
class Chat:
    """A conversation as it was read. `pictures`: what its messages name as pictures, in order of their marks."""

    turns: list[Turn] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    pictures: list[Any] = field(default_factory=list)


def is_chat(values: Mapping[str, Any]) -> bool:
    """Whether a row is a conversation."""
    lists = any(isinstance(_loaded(values.get(name)), list) for name in LISTS)
    return lists or bool(_filled(values, QUESTION) and _filled(values, ANSWER))


def chat_of(values: Mapping[str, Any]) -> Chat:
    """The conversation of a row. Raises BadInput when it cannot be read, or teaches nothing."""
    chat = Chat(tools=_tool_names(values.get("tools")))
    if isinstance(values.get("system"), str) and values["system"].strip():
        chat.turns.append(Turn(role="system", content=values["system"].strip()))
    messages = next((m for n in LISTS if isinstance(m := _loaded(values.get(n)), list)), None)
    if messages is None:
        messages = _question_and_answer(values)
    for message in itertools.chain.from_iterable(map(_speakers, messages)):
        _add(chat, message)
    while chat.turns and chat.turns[-1].role != "assistant":
        chat.turns.pop()  # what nobody answered teaches nothing
    if chat.turns and chat.turns[-1].role == "assistant" and not any(t.role == "user" for t in chat.turns):
        raise BadInput("nobody asks")
    if not chat.turns:
        raise BadInput("there is no answer")
    names = [c.name for t in chat.turns for c in t.tool_calls]
    chat.tools = list(dict.fromkeys([*chat.tools, *names]))
    return chat


def with_marks(turns: list[Turn], pictures: int) -> list[Turn]:
    """Turns whose marks are as many as the pictures: where none is marked, the first question shows them.

    Raises BadInput where the numbers differ.
    """
    marks = sum(t.content.count(IMAGE) for t in turns)
    if marks == pictures:
        return turns
    if marks:
        raise BadInput(f"{marks} marks {IMAGE}, but {pictures} pictures")
    first = next(n for n, t in enumerate(turns) if t.role == "user")
    marked = replace(turns[first], content=f"{IMAGE}\n" * pictures + turns[first].content)
    return [*turns[:first], marked, *turns[first + 1 :]]


def _question_and_answer(values: Mapping[str, Any]) -> list[Any]:
    question, answer = _filled(values, QUESTION), _filled(values, ANSWER)
    choices = _choices(values, answer)
    if choices:
        question = "\n".join((question, *(f"{letter}. {text}" for letter, text in choices.items())))
        if answer.isdecimal() and answer not in choices.values() and int(answer) < len(choices):
            answer = list(choices)[int(answer)]  # Hugging Face gives the place in the list
    more = values.get("input")
    if isinstance(more, str) and more.strip():
        question = f"{question}\n{more.strip()}"
    history = _loaded(values.get("history"))
    pairs = [p for p in history if isinstance(p, list | tuple) and len(p) == 2] if isinstance(history, list) else []
    return [{"role": r, "content": str(t)} for q, a in [*pairs, (question, answer)] for r, t in (("user", q), ("assistant", a))]


def _choices(values: Mapping[str, Any], answer: str) -> dict[str, str]:
    """The answers to choose from by their letters: of `choices` or `options`, or of a column each (`Choice A`, `option_b`)."""
    offered = next(
        (c for n in ("choices", "options", "candidates") if isinstance(c := _loaded(values.get(n)), list | dict)), None
    )
    if isinstance(offered, list):
        offered = dict(zip(ascii_uppercase, offered, strict=False))
    if not offered:
        columns = ((_CHOICE.fullmatch(n), v) for n, v in values.items())
        offered = {m[1].upper(): v for m, v in columns if m and (len(m[0]) > 1 or re.fullmatch(r"[A-Ja-j]", answer))}
    texts = {str(k): str(v).strip() for k, v in offered.items() if isinstance(v, str | int | float) and str(v).strip()}
    return {k: re.sub(rf"\A\(?{re.escape(k)}\s*[).:]\s*", "", v) for k, v in texts.items() if v.lower() not in ("nan", "none")}


def _filled(values: Mapping[str, Any], names: tuple[str, ...]) -> str:
    filled = (str(v).strip() for n in names if isinstance(v := values.get(n), str | int | float) and not isinstance(v, bool))
    return next(filter(None, filled), "")


def _loaded(value: Any) -> Any:
    """A list or object, also where a table or Parquet holds it as JSON text."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _speakers(message: Any) -> list[Any]:
    """A message; or those of one entry that holds a question with its answer, as of The Cauldron: {"user": …, "assistant": …}."""
    if not isinstance(message, dict) or "role" in message or "from" in message:
        return [message]
    return [{"role": k, "content": v} for k, v in message.items() if str(k).lower() in ROLES] or [message]


def _add(chat: Chat, message: Any) -> None:
    if not isinstance(message, dict):
        raise BadInput("a message is no object")
    name = str(message.get("role", message.get("from", ""))).strip().lower()
    role = ROLES.get(name)
    if role is None:
        raise BadInput(f"a message is of the role {name[:60]!r}")
    thoughts, words = apart({**message, "content": _words(message.get("content", message.get("value")), chat)})
    calls = [_call(c) for c in _loaded(message.get("tool_calls")) or []]
    if role == "call":
        loaded = _loaded(words)
        calls += [_call(c) for c in (loaded if isinstance(loaded, list) else [loaded])]
        role, words = "assistant", ""
    if role == "assistant":
        calls += [_call(_loaded(m["json"])) for m in _CALL.finditer(words)]
        words = _CALL.sub("", words).strip()
        last = chat.turns[-1] if chat.turns else None
        if last and last.role == "assistant" and last.tool_calls and calls and not words and not last.content:
            chat.turns[-1] = replace(last, tool_calls=[*last.tool_calls, *calls])
            return
        if not (words or calls):
            raise BadInput("an answer is empty")
    if role == "user" and _RESPONSE.match(words):
        for response in _ONE_RESPONSE.findall(words):
            chat.turns.append(Turn(role="tool", content=response, tool=_answering(chat, {})))
        return
    tool = _answering(chat, message) if role == "tool" else ""
    chat.turns.append(
        Turn(role=role, content=words, tool_calls=calls, tool=tool, thoughts=thoughts if role == "assistant" else "")
    )


def _words(content: Any, chat: Chat) -> str:
    """The text of a message, pictures as our marks; those that its parts name are remembered."""
    if content is None:
        return ""
    if isinstance(content, str):
        return _MARK.sub(IMAGE, content).strip()
    if not isinstance(content, list):
        return json.dumps(content, ensure_ascii=False)
    words = []
    for part in content:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        if kind in ("image", "image_url", "input_image"):
            picture = next((part[k] for k in ("image", "image_url", "path", "url") if part.get(k)), None)
            if picture is not None:
                chat.pictures.append(picture)
            words.append(IMAGE)
        elif kind in ("text", "input_text", "output_text"):
            words.append(_MARK.sub(IMAGE, str(part.get("text") or "") if isinstance(part, dict) else str(part)))
        else:
            raise BadInput(f"a message holds {str(kind)[:40]!r}")
    return "\n".join(words).strip()


def _call(value: Any) -> ToolCall:
    call = call_of(_loaded(value))
    if call is None:
        raise BadInput("a tool call is no object with a name, or its arguments are no object")
    return call


def _answering(chat: Chat, message: Mapping[str, Any]) -> str:
    """The tool whose result a message is: by name, by the call's id, else the first call that nobody answered."""
    if isinstance(message.get("name"), str) and message["name"]:
        return str(message["name"])
    calls = next((t.tool_calls for t in reversed(chat.turns) if t.tool_calls), [])
    by_id = next((c.name for c in calls if c.id and c.id == message.get("tool_call_id")), "")
    answers = 0
    for turn in reversed(chat.turns):
        if turn.role != "tool":
            break
        answers += 1
    return by_id or (calls[min(answers, len(calls) - 1)].name if calls else "")


def _tool_names(tools: Any) -> list[str]:
    tools = _loaded(tools)
    if not isinstance(tools, list):
        return []
    names = []
    for tool in map(_loaded, tools):
        inner = tool.get("function", tool) if isinstance(tool, dict) else tool
        name = inner.get("name") if isinstance(inner, dict) else inner
        if isinstance(name, str) and name:
            names.append(name)
    return list(dict.fromkeys(names))
