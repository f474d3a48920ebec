"""How turns become text: chat templates, of ours, of the families, and read off a tokenizer. Knows tokenizers; renders nothing.

A `ChatTemplate` is a handful of strings saved in the checkpoint, so nobody guesses it from a path; `chat` renders by it.
Paper: Table 1 ("Training of PathAsst").
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pathasst.core.errors import BadSettings
from pathasst.core.records import IMAGE, Turn
from pathasst.mllm.tool_text import CLOSE, HOW, OPEN, PURPOSE_CHARACTERS, calls_of

FILE = "chat_template.pathasst.json"
_JINJA_TOOLS = f"""
{{%- macro text(content) -%}}
{{%- if content is string -%}}{{{{ content }}}}
{{%- else -%}}{{%- for part in content or [] -%}}
{{%- if part.type in ('image', 'image_url') -%}}{{{{ '{IMAGE}\\n' }}}}{{%- else -%}}{{{{ part.text }}}}{{%- endif -%}}
{{%- endfor -%}}{{%- endif -%}}
{{%- endmacro -%}}
{{%- macro kind(schema) -%}}
{{%- set some = (schema.anyOf or []) | rejectattr('type', 'equalto', 'null') | list -%}}
{{%- if schema.enum is defined -%}}{{{{ schema.enum | join('|') }}}}
{{%- elif some -%}}{{{{ kind(some[0]) }}}}
{{%- elif schema.type == 'array' and schema.prefixItems -%}}
[{{%- for item in schema.prefixItems -%}}{{{{ kind(item) }}}}{{{{ ', ' if not loop.last else '' }}}}{{%- endfor -%}}]
{{%- elif schema.type == 'array' -%}}[{{{{ kind(schema['items'] or {{}}) }}}}]
{{%- else -%}}
{{{{ {{'number': 'float', 'integer': 'int', 'string': 'str', 'boolean': 'bool'}}.get(schema.type, 'any') }}}}
{{%- endif -%}}
{{%- endmacro -%}}
{{%- macro list_tools(tools) -%}}
{{{{ 'Tools:\\n' }}}}
{{%- for tool in tools -%}}{{%- set f = tool.function or tool -%}}
{{{{ f.name }}}}({{%- for name, schema in (f.parameters.properties or {{}}).items() -%}}
{{{{ name }}}}{{%- if name in (f.parameters.required or []) -%}}{{{{ ': ' + kind(schema) }}}}{{%- else -%}}?{{%- endif -%}}
{{{{ ', ' if not loop.last else '' }}}}
{{%- endfor -%}}){{%- set first = f.description.split('. ')[0].rstrip('.') -%}}
{{{{ ': ' }}}}
{{%- if first | length <= {PURPOSE_CHARACTERS} -%}}{{{{ first }}}}
{{%- else -%}}{{{{ first[:{PURPOSE_CHARACTERS}].rsplit(' ', 1)[0].rstrip(',;(') }}}}{{%- endif -%}}{{{{ '\\n' }}}}
{{%- endfor -%}}{{{{ {HOW!r} }}}}
{{%- endmacro -%}}
{{%- macro call(f) -%}}
{{{{ '{OPEN}{{"name": "' + f.name + '", "arguments": ' + (f.arguments | tojson(sort_keys=true)) + '}}{CLOSE}' }}}}
{{%- endmacro -%}}
"""
"""`tool_text.list_tools` and `write_calls` for other programs, and a message's words with its pictures."""
ROLES = ("system", "user", "assistant", "tool")
PAPER_SYSTEM = (
    "A dialogue between a professional pathology assistant and a human. "
    "The assistant provide informative, helpful, and detailed answers."
)


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """How turns become text. `openers` and `closers` hold one string per role; the assistant's closer begins with `stop`."""

    name: str
    openers: dict[str, str]
    closers: dict[str, str]
    stop: str  # what ends the assistant's words, supervised; what follows it in the closer is not
    system: str = PAPER_SYSTEM  # said when the conversation has no system turn
    special: bool = True  # control tokens part the runs of text, which are tokenised one by one; else the whole text at once
    bos: str = ""  # control token that the tokenizer puts before a text, for a template without control tokens of its own
    lead: str = ""  # what the assistant's words begin with: part of them, so that a prompt does not end in half a token
    joined: bool = False  # the system's words stand at the head of the first user turn, which then has no opener of its own

    def __post_init__(self) -> None:
        for role in ROLES:
            if role not in self.openers or role not in self.closers:
                raise BadSettings(f"chat template {self.name}: no opener or closer for the role {role!r}.")
        if not self.stop or not self.closers["assistant"].startswith(self.stop):
            raise BadSettings(f"chat template {self.name}: the assistant's closer must begin with the stop {self.stop!r}.")

    def save(self, folder: Path) -> None:
        """Write the template into a checkpoint folder."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> ChatTemplate:
        """Raises BadSettings when the folder holds no template: no loader guesses one."""
        path = folder / FILE
        if not path.is_file():
            raise BadSettings(f"{folder} holds no {FILE}; it was not written by `pathasst train mllm`.")
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def jinja(self) -> str:
        """The same template for `apply_chat_template` of transformers and vLLM: pictures, tools, calls and names.

        It gives the ids of `render` (tested)."""
        cases = "".join(
            f"{{%- {'if' if n == 0 else 'elif'} m.role == {role!r} %}}"
            f"{{{{- {self._opener(role)} + {self.lead if role == 'assistant' else ''!r} + t.words + {self.closers[role]!r} }}}}"
            for n, role in enumerate(ROLES)
        )
        end = repr(self.closers["system"])
        return (
            f"{_JINJA_TOOLS}{{%- set ns = namespace(start=0, system={self.system!r}) %}}"
            "{%- if messages and messages[0].role == 'system' %}{%- set ns.start = 1 %}"
            "{%- set ns.system = text(messages[0].content) %}{%- endif %}"
            "{{- " + repr(self.bos + self.openers["system"]) + " + ns.system + (('\\n' if ns.system else '') + list_tools(tools)"
            f" if tools else '') + {end} }}}}"
            "{%- for m in messages[ns.start:] %}{%- set t = namespace(words=text(m.content)) %}"
            "{%- if m.role == 'tool' and (m.name or m.tool_name) %}{%- set t.words = (m.name or m.tool_name) + ': ' + t.words %}"
            "{%- endif %}{%- if m.tool_calls %}{%- for c in m.tool_calls %}"
            "{%- set t.words = t.words + ('\n' if t.words else '') + call(c.function or c) %}{%- endfor %}{%- endif %}"
            f"{cases}{{%- endif %}}{{%- endfor %}}"
            f"{{%- if add_generation_prompt %}}{{{{- {self.openers['assistant']!r} }}}}{{%- endif %}}"
        )

    def _opener(self, role: str) -> str:
        """A role's opener as an expression of jinja, inside the loop over turns."""
        opener = repr(self.openers[role])
        return f"('' if loop.first else {opener})" if self.joined and role == "user" else opener

    def stop_ids(self, tokenizer: Any) -> list[int]:
        """The stop as token ids, as they follow words."""
        if self.special or self.stop in tokenizer.all_special_tokens:
            return encode(tokenizer, self.stop, special=True)
        return encode(tokenizer, f"a{self.stop}", special=False)[len(encode(tokenizer, "a", special=False)) :]

    def before_stop(self, text: str, *, finished: bool = False) -> str:
        """What the model wrote up to the stop; until it is `finished`, without an end that may be the beginning of one."""
        stop = self.stop.strip()
        before, ended, _ = text.partition(stop)
        if ended or finished:
            return before
        open_end = next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)
        return text[: len(text) - open_end]

    def parse(self, text: str) -> Turn:
        """What the model wrote, as an assistant turn: `<tool_call>` lines become `tool_calls`, the rest is content."""
        calls, words = calls_of(self.before_stop(text, finished=True))
        return Turn(role="assistant", content=words, tool_calls=calls)


CHATML = ChatTemplate(
    name="chatml",
    openers={role: f"<|im_start|>{role}\n" for role in ROLES},
    closers=dict.fromkeys(ROLES, "<|im_end|>\n"),
    stop="<|im_end|>",
)
PAPER = ChatTemplate(
    name="paper",
    openers={"system": "", "user": "User: ", "assistant": "Assistant:", "tool": "Tool: "},
    closers={"system": " ###\n", "user": " ###\n", "assistant": " ###\n", "tool": " ###\n"},
    stop=" ###",
    special=False,
    lead=" ",
)
LLAMA3 = ChatTemplate(
    name="llama3",
    openers={
        role: f"{'<|begin_of_text|>' if role == 'system' else ''}<|start_header_id|>{name}<|end_header_id|>\n\n"
        for role, name in zip(ROLES, ("system", "user", "assistant", "ipython"), strict=True)
    },
    closers=dict.fromkeys(ROLES, "<|eot_id|>"),
    stop="<|eot_id|>",
)
PHI3 = ChatTemplate(
    name="phi3",
    openers={role: f"<|{'user' if role == 'tool' else role}|>\n" for role in ROLES},
    closers=dict.fromkeys(ROLES, "<|end|>\n"),
    stop="<|end|>",
    special=False,
)
GEMMA = ChatTemplate(
    name="gemma",
    openers={
        "system": "<bos><start_of_turn>user\n",
        "user": "<start_of_turn>user\n",
        "assistant": "<start_of_turn>model\n",
        "tool": "<start_of_turn>user\n",
    },
    closers=dict.fromkeys(ROLES, "<end_of_turn>\n") | {"system": "\n\n"},
    stop="<end_of_turn>",
    joined=True,
)
MISTRAL = ChatTemplate(
    name="mistral",
    openers={"system": "<s>[INST] ", "user": "[INST] ", "assistant": "", "tool": "[INST] "},
    closers={"system": "\n\n", "user": "[/INST]", "assistant": "</s>", "tool": "[/INST]"},
    stop="</s>",
    special=False,
    lead=" ",
    joined=True,
)
TEMPLATES = {t.name: t for t in (CHATML, PAPER, LLAMA3, PHI3, GEMMA, MISTRAL)}
"""By name. SmolLM, Qwen and Phi 4 speak ChatML, Gemma 2 and 3 `gemma`; `tokenizer` reads any other off the tokenizer."""


def template_of(name: str, tokenizer: Any) -> ChatTemplate:
    """A template by name: `chatml`, `paper`, or `tokenizer` (the tokenizer's own).

    Raises BadSettings for any other, and for one whose control tokens are plain words to this tokenizer: such a stop is several
    tokens, of which the first also begins other words.
    """
    if name == "tokenizer":
        return from_tokenizer(tokenizer)
    if name not in TEMPLATES:
        raise BadSettings(f"no chat template is called {name!r}; choose one of {', '.join([*TEMPLATES, 'tokenizer'])}.")
    template = TEMPLATES[name]
    if template is not PAPER:
        if len(template.stop_ids(tokenizer)) != 1:
            raise BadSettings(f"template {name}: {template.stop} is no token of this LLM; use template: paper, or tokenizer.")
        return _as_tokenised(template, tokenizer)
    first = tokenizer("a").input_ids[:1]
    return replace(template, bos=tokenizer.bos_token if first and first[0] == tokenizer.bos_token_id else "")


def resaved_template(folder: Path, tokenizer: Any) -> ChatTemplate:
    """The template of a checkpoint that another program saved again: our file is not there, the tokenizer's template is.

    Ours is known by its text; any other is found by rendering. Raises BadSettings where there is none.
    """
    jinja = getattr(tokenizer, "chat_template", None)
    if not jinja:
        raise BadSettings(
            f"{folder} holds neither {FILE} nor a chat template of its tokenizer. Copy {FILE} from the folder that "
            "`pathasst train mllm` or `pathasst export` wrote."
        )
    for template in TEMPLATES.values():
        for each in (template, replace(template, bos=tokenizer.bos_token or "")):
            if each.jinja() == jinja:
                return each if template is PAPER else _as_tokenised(each, tokenizer)
    return from_tokenizer(tokenizer)


def _as_tokenised(template: ChatTemplate, tokenizer: Any) -> ChatTemplate:
    """The template, tokenised at once where this tokenizer joins words with what stands before them (SentencePiece)."""
    runs = [template.openers["user"], "It is 7 %.", template.closers["user"] + template.openers["assistant"], "Red"]
    together = encode(tokenizer, "".join(runs), special=True)
    return replace(template, special=[i for run in runs for i in encode(tokenizer, run, special=True)] == together)


def from_tokenizer(tokenizer: Any) -> ChatTemplate:
    """The tokenizer's own chat template, found by rendering marked turns with it once. Raises BadSettings when that fails."""
    from jinja2 import TemplateError

    marks = ["\u2402S\u2402", "\u2402U\u2402", "\u2402A\u2402", "\u2402V\u2402", "\u2402B\u2402"]
    roles = ["system", "user", "assistant", "user", "assistant"]
    messages = [{"role": r, "content": m} for r, m in zip(roles, marks, strict=True)]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False)
    except TemplateError:  # it has no system turn (Gemma 2): the first user turn carries its words
        messages = [{"role": "user", "content": f"{marks[0]}\n\n{marks[1]}"}, *messages[2:]]
        text = _apply(tokenizer, messages)
    rest, between = text, []
    for mark in marks:
        before, there, rest = rest.partition(mark)
        if not there:
            raise BadSettings("the tokenizer's chat template drops or changes a turn; use template: chatml or paper.")
        between.append(before)
    after_user = _apply(tokenizer, messages[: -len(marks) + 2], add_generation_prompt=True).split(marks[1])[1]
    closer, after_assistant, answer = rest, between[3], between[2]
    lead = answer.removeprefix(after_user) if answer.startswith(after_user) else ""  # what a prompt leaves to the assistant
    answer = answer.removesuffix(lead)
    stop = next((s for s in _stops(tokenizer) if after_assistant.startswith(s)), after_assistant.split("\n")[0])
    uneven = BadSettings(f"the tokenizer's chat template does not join turns evenly; use template: {', '.join(TEMPLATES)}.")
    if after_user != answer or not after_assistant.startswith(closer) or not closer.startswith(stop):
        raise uneven
    user = after_assistant.removeprefix(closer)
    joined = not between[1].endswith(user)
    system_closer = between[1].removesuffix(user)
    user_closer = next((c for c in (system_closer, closer) if c and answer.startswith(c)), "")
    template = ChatTemplate(
        name="tokenizer",
        openers={"system": between[0], "user": user, "assistant": answer.removeprefix(user_closer), "tool": user},
        closers={"system": system_closer, "user": user_closer, "assistant": closer, "tool": user_closer},
        stop=stop,
        lead=lead,
        joined=joined,
    )
    conversation = [{"role": r, "content": m} for r, m in zip(roles, marks, strict=True)]
    if tokenizer.apply_chat_template(conversation, chat_template=template.jinja(), tokenize=False) != text:
        raise uneven
    return _as_tokenised(template, tokenizer)


def _apply(tokenizer: Any, messages: list[dict[str, str]], **options: Any) -> str:
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))
    except (TemplateError, ValueError) as error:
        raise BadSettings(
            f"the tokenizer's chat template cannot be used ({error}); use template: {', '.join(TEMPLATES)}."
        ) from error


def encode(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    """Ids of a text; with `special` off, control tokens written by a person or a paper stay plain words."""
    if not text:
        return []
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=not special).input_ids
    return ids


def _stops(tokenizer: Any) -> list[str]:
    return [str(tokenizer.eos_token), *map(str, tokenizer.all_special_tokens)]
