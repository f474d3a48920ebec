"""A conversation as token ids and a loss mask, in one pass; and a model's text back as a turn.

A `ChatTemplate` is a handful of strings saved in the checkpoint, so nobody guesses it from a path. `render` appends ids and
mask through one inner helper, so that they cannot disagree (no second tokenisation looks for the mask). Supervised are the
words of the assistant and its stop token; role headers, tool results, pictures and the system turn are not. Knows
tokenizers and records; knows no model. Paper: Table 1 ("Training of PathAsst").
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.records import IMAGE, ToolSpec, Turn
from pathasst.mllm.tool_text import CLOSE, HOW, OPEN, PURPOSE_CHARACTERS, calls_of, list_tools, write_calls

FILE = "chat_template.pathasst.json"
_LOOP = re.compile(r"(.{8,120}?)\1{3}\Z", re.DOTALL)
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
class Rendered:
    """Token ids and, for each, whether the loss counts it. Both lists have the same length."""

    ids: list[int] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    prefix: int = 0  # length of the system turn, which conversations with the same tools share
    opening: int = 0  # where the picture ends that the first question begins with; 0 when it begins with words
    dropped_turns: int = 0  # turns left out to fit `max_length`


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
            return _encode(tokenizer, self.stop, special=True)
        return _encode(tokenizer, f"a{self.stop}", special=False)[len(_encode(tokenizer, "a", special=False)) :]

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
    together = _encode(tokenizer, "".join(runs), special=True)
    return replace(template, special=[i for run in runs for i in _encode(tokenizer, run, special=True)] == together)


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


def render(
    turns: Sequence[Turn],
    tokenizer: Any,
    template: ChatTemplate,
    *,
    tools: Sequence[ToolSpec] = (),
    images: int = 0,
    image_tokens: int | Sequence[int] = 0,
    max_length: int = 0,
    prompt: bool = False,
    name: str = "conversation",
) -> Rendered:
    """Ids and loss mask of a conversation.

    `images` pictures are expected, each marked `<image>` in a turn of the user or a tool and expanded to `image_tokens` ids (of
    all, or of each);
    `prompt` opens the assistant's turn at the end. With `max_length`, whole turns are left out from the end, down to the last one
    after which something is still supervised. Raises BadInput, naming the sample, when the marks and pictures differ in number
    or nothing supervised fits.
    """
    turns = list(turns)
    system = turns.pop(0).content if turns and turns[0].role == "system" else template.system
    marks = sum(t.content.count(IMAGE) for t in turns if t.role in ("user", "tool"))
    if marks != images:
        raise BadInput(f"{name}: {marks} {IMAGE} marks for {images} pictures.")
    text = _Text(tokenizer, template, [image_tokens] * images if isinstance(image_tokens, int) else image_tokens)
    text.add(template.bos + template.openers["system"], control=True)
    text.add("\n".join(filter(None, [system, list_tools(tools)])))
    text.add(template.closers["system"], control=True)
    prefix = opening = len(text.pieces)
    begins_with_picture = bool(turns) and turns[0].role == "user" and turns[0].content.startswith(IMAGE)
    ends: list[tuple[int, bool]] = []
    for n, turn in enumerate(turns):
        _add_turn(turn, template, text, opened=n == 0 and template.joined)
        ends.append((len(text.pieces), turn.role == "assistant"))
        if n == 0 and begins_with_picture:
            opening = next(m for m, piece in enumerate(text.pieces) if m >= prefix and piece.picture) + 1
    if prompt:
        text.add(template.openers["assistant"], control=True)
    ids, mask, starts = text.tokens()
    edge = starts[opening] if begins_with_picture else 0
    if not max_length or len(ids) <= max_length:
        return Rendered(ids, mask, starts[prefix], edge)
    if prompt:
        raise BadInput(f"{name}: the prompt has {len(ids)} tokens, {max_length} are allowed. Ask for less at once.")
    complete = [n for n, (end, answer) in enumerate(ends) if answer and starts[end] <= max_length]
    if not complete:
        raise BadInput(f"{name}: within {max_length} tokens nothing of the assistant's words is left; raise max_length.")
    end = starts[ends[complete[-1]][0]]
    return Rendered(ids[:end], mask[:end], starts[prefix], edge, len(turns) - complete[-1] - 1)


def goes_round(text: str) -> bool:
    """Whether the text ends with one phrase of 8 to 120 characters four times over: a small model does not come out of that."""
    return bool(_LOOP.search(text[-600:]))


@dataclass(slots=True)
class _Piece:
    """A run of text that the loss counts or does not."""

    text: str
    supervised: bool
    control: bool  # control tokens in it are control tokens; in others they stay words
    picture: bool = False


class _Text:
    """A conversation in the making: the one place through which text, and with it the mask, enters."""

    def __init__(self, tokenizer: Any, template: ChatTemplate, image_tokens: Sequence[int]) -> None:
        self.tokenizer, self.template = tokenizer, template
        self.image_tokens = iter(image_tokens)
        self.pieces: list[_Piece] = []
        self._control = re.compile("|".join(map(re.escape, {*tokenizer.all_special_tokens, IMAGE})))

    def add(self, text: str, *, supervised: bool = False, control: bool = False) -> None:
        """Append a run; in a template of plain words, words that spell a control token or the stop are broken up."""
        if not self.template.special and not control:
            text = self._control.sub(lambda m: f"{m[0][0]} {m[0][1:]}", text.replace(self.template.stop.strip(), "# # #"))
        self.pieces.append(_Piece(text, supervised, control))

    def add_picture(self) -> None:
        """Append a picture's placeholders."""
        self.pieces.append(_Piece(IMAGE * next(self.image_tokens), supervised=False, control=True, picture=True))

    def tokens(self) -> tuple[list[int], list[bool], list[int]]:
        """Ids, mask, and where each piece begins among them, with the end of the last.

        Control tokens part the pieces of one kind of template, so they are tokenised one by one. Where only words part them,
        tokens may reach over an edge (`▁User`): the whole text is tokenised at once, as any other program does. A token
        begins the piece of its last character, and is supervised if any of its characters is.
        """
        ids: list[int] = []
        mask: list[bool] = []
        if self.template.special:
            starts = [0]
            for piece in self.pieces:
                ids += _encode(self.tokenizer, piece.text, special=piece.control)
                mask += [piece.supervised] * (len(ids) - len(mask))
                starts.append(len(ids))
            return ids, mask, starts
        coded = self.tokenizer("".join(p.text for p in self.pieces), add_special_tokens=False, return_offsets_mapping=True)
        ids = list(coded.input_ids)
        lengths = [len(p.text) for p in self.pieces]
        counted = np.cumsum([0, *np.repeat([p.supervised for p in self.pieces], lengths)])  # supervised characters before each
        mask = [bool(counted[end] > counted[start]) for start, end in coded.offset_mapping]
        last = [max(start, end - 1) for start, end in coded.offset_mapping]
        starts = np.searchsorted(last, np.cumsum([0, *lengths]), side="left").tolist()
        starts[-1] = len(ids)
        return ids, mask, starts


def _add_turn(turn: Turn, template: ChatTemplate, text: _Text, *, opened: bool = False) -> None:
    """Append a turn; `opened`: a user turn goes on where the system's words stand."""
    if turn.role not in ROLES or turn.role == "system":
        raise BadInput(f"a turn of the role {turn.role!r} cannot stand inside a conversation.")
    if not (opened and turn.role == "user"):
        text.add(template.openers[turn.role], control=True)
    if turn.role in ("user", "tool"):
        content = f"{turn.tool}: {turn.content}" if turn.tool else turn.content
        for n, words in enumerate(content.split(IMAGE)):
            if n:
                text.add_picture()
            text.add(words)
    else:
        text.add(template.lead + "\n".join(filter(None, [turn.content, write_calls(turn.tool_calls)])), supervised=True)
    closer = template.closers[turn.role]
    if turn.role == "assistant":
        text.add(template.stop, supervised=True, control=True)
        closer = closer.removeprefix(template.stop)
    text.add(closer, control=True)


def _encode(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    """Ids of a text; with `special` off, control tokens written by a person or a paper stay plain words."""
    if not text:
        return []
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=not special).input_ids
    return ids


def _stops(tokenizer: Any) -> list[str]:
    return [str(tokenizer.eos_token), *map(str, tokenizer.all_special_tokens)]


def painted(rendered: Rendered, tokenizer: Any) -> list[tuple[str, bool]]:
    """Runs of text with the mask they carry, for showing; the ids of one picture are shown as `<image>×n`."""
    picture = tokenizer.convert_tokens_to_ids(IMAGE)
    runs: list[tuple[str, bool]] = []
    start, ids, mask = 0, rendered.ids, rendered.mask
    for n in range(1, len(ids) + 1):
        if n < len(ids) and mask[n] == mask[start] and (ids[n] == picture) == (ids[start] == picture):
            continue
        text = (
            f"{IMAGE}×{n - start}"
            if ids[start] == picture
            else tokenizer.decode(ids[start:n], clean_up_tokenization_spaces=False)
        )
        runs.append((text, mask[start]))
        start = n
    return runs
