"""A conversation as token ids and a loss mask, in one pass; and a model's text back as a turn.

A `ChatTemplate` is a handful of strings saved in the checkpoint, so nobody guesses it from a path. `render` appends ids and
mask through one inner helper, so that they cannot disagree (no second tokenisation looks for the mask). Supervised are the
words of the assistant and its stop token; role headers, tool results, pictures and the system turn are not. Knows
tokenizers and records; knows no model. Paper: Table 1 ("Training of PathAsst").
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.records import IMAGE, ToolSpec, Turn
from pathasst.mllm.tool_text import calls_of, list_tools, write_calls

FILE = "chat_template.pathasst.json"
_LOOP = re.compile(r"(.{8,120}?)\1{3}\Z", re.DOTALL)
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
    special: bool = True  # openers and closers hold control tokens of the tokenizer

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
        """The same template for `transformers`' `apply_chat_template`: text turns and picture placeholders, without tools."""
        cases = "".join(
            f"{{% {'if' if n == 0 else 'elif'} message['role'] == {role!r} %}}"
            f"{{{{ {self.openers[role]!r} }}}}{{{{ words.text }}}}{{{{ {self.closers[role]!r} }}}}"
            for n, role in enumerate(ROLES)
        )
        parts = (
            "{% set words = namespace(text='') %}{% if message['content'] is string %}{% set words.text = message['content'] %}"
            "{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}{% set words.text = words.text + '"
            + IMAGE
            + "\\n' %}{% else %}{% set words.text = words.text + part['text'] %}{% endif %}{% endfor %}{% endif %}"
        )
        first = self.openers["system"] + self.system + self.closers["system"]
        start = f"{{% if not messages or messages[0]['role'] != 'system' %}}{{{{ {first!r} }}}}{{% endif %}}"
        prompt = f"{{% if add_generation_prompt %}}{{{{ {self.openers['assistant']!r} }}}}{{% endif %}}"
        return f"{start}{{% for message in messages %}}{parts}{cases}{{% endif %}}{{% endfor %}}{prompt}"

    def stop_ids(self, tokenizer: Any) -> list[int]:
        """The stop as token ids, exactly as `render` supervises them."""
        return _encode(tokenizer, self.stop, special=self.special)

    def before_stop(self, text: str, *, finished: bool = False) -> str:
        """What the model wrote up to the stop; until it is `finished`, without an end that may be the beginning of one."""
        stop = self.stop.strip()
        before, found, _ = text.partition(stop)
        if found or finished:
            return before
        begun = next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)
        return text[: len(text) - begun]

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
    openers={"system": "", "user": "User: ", "assistant": "Assistant: ", "tool": "Tool: "},
    closers={"system": "\n", "user": " ###\n", "assistant": " ###\n", "tool": " ###\n"},
    stop=" ###",
    special=False,
)
TEMPLATES = {t.name: t for t in (CHATML, PAPER)}


def template_of(name: str, tokenizer: Any) -> ChatTemplate:
    """A template by name: `chatml`, `paper`, or `tokenizer` (the tokenizer's own). Raises BadSettings for any other."""
    if name == "tokenizer":
        return from_tokenizer(tokenizer)
    if name not in TEMPLATES:
        raise BadSettings(f"no chat template is called {name!r}; choose one of {', '.join([*TEMPLATES, 'tokenizer'])}.")
    return TEMPLATES[name]


def from_tokenizer(tokenizer: Any) -> ChatTemplate:
    """The tokenizer's own chat template, found by rendering marked turns with it once. Raises BadSettings when that fails."""
    marks = ["\u2402S\u2402", "\u2402U\u2402", "\u2402A\u2402", "\u2402V\u2402", "\u2402B\u2402"]
    roles = ["system", "user", "assistant", "user", "assistant"]
    messages = [{"role": r, "content": m} for r, m in zip(roles, marks, strict=True)]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    rest, between = text, []
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found:
            raise BadSettings("the tokenizer's chat template drops or changes a turn; use template: chatml or paper.")
        between.append(before)
    prompt = tokenizer.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    after_user = prompt.split(marks[1])[1]
    after_assistant = between[3]
    stop = next((s for s in _stops(tokenizer) if after_assistant.startswith(s)), after_assistant.split("\n")[0])
    closer = rest
    user = after_assistant.removeprefix(closer)
    answer = between[2]
    system_closer = between[1].removesuffix(user)
    user_closer = system_closer if answer.startswith(system_closer) else ""
    if after_user != answer or after_assistant != closer + user:
        raise BadSettings("the tokenizer's chat template does not join turns evenly; use template: chatml or paper.")
    return ChatTemplate(
        name="tokenizer",
        openers={"system": between[0], "user": user, "assistant": answer.removeprefix(user_closer), "tool": user},
        closers={"system": system_closer, "user": user_closer, "assistant": closer, "tool": user_closer},
        stop=stop,
    )


def render(
    turns: Sequence[Turn],
    tokenizer: Any,
    template: ChatTemplate,
    *,
    tools: Sequence[ToolSpec] = (),
    images: int = 0,
    image_tokens: int = 0,
    max_length: int = 0,
    prompt: bool = False,
    name: str = "conversation",
) -> Rendered:
    """Ids and loss mask of a conversation.

    `images` pictures are expected, each marked `<image>` in a user turn and expanded to `image_tokens` ids; `prompt` opens
    the assistant's turn at the end. With `max_length`, whole turns are left out from the end, down to the last one after
    which something is still supervised. Raises BadInput, naming the sample, when the marks and pictures differ in number or
    nothing supervised fits.
    """
    turns = list(turns)
    system = turns.pop(0).content if turns and turns[0].role == "system" else template.system
    marks = sum(t.content.count(IMAGE) for t in turns if t.role == "user")
    if marks != images:
        raise BadInput(f"{name}: {marks} {IMAGE} marks for {images} pictures.")
    rendered, add = _appender(tokenizer)
    add(template.openers["system"], False, template.special)
    add("\n".join(filter(None, [system, list_tools(tools)])), False, False)
    add(template.closers["system"], False, template.special)
    prefix = len(rendered.ids)
    opening = 0
    if turns and turns[0].role == "user" and turns[0].content.startswith(IMAGE):
        opening = prefix + len(_encode(tokenizer, template.openers["user"], special=template.special)) + image_tokens
    ends: list[tuple[int, bool]] = []
    for turn in turns:
        _add_turn(turn, template, add, rendered, tokenizer, image_tokens)
        ends.append((len(rendered.ids), turn.role == "assistant"))
    if prompt:
        add(template.openers["assistant"], False, template.special)
    if not max_length or len(rendered.ids) <= max_length:
        return Rendered(rendered.ids, rendered.mask, prefix, opening)
    if prompt:
        raise BadInput(f"{name}: the prompt has {len(rendered.ids)} tokens, {max_length} are allowed. Ask for less at once.")
    fitting = [n for n, (end, answer) in enumerate(ends) if answer and end <= max_length]
    if not fitting:
        raise BadInput(f"{name}: within {max_length} tokens nothing of the assistant's words is left; raise max_length.")
    end = ends[fitting[-1]][0]
    return Rendered(rendered.ids[:end], rendered.mask[:end], prefix, opening, len(turns) - fitting[-1] - 1)


def goes_round(text: str) -> bool:
    """Whether the text ends with one phrase of 8 to 120 characters four times over: a small model does not come out of that."""
    return bool(_LOOP.search(text[-600:]))


def _appender(tokenizer: Any) -> tuple[Rendered, Callable[[str, bool, bool], None]]:
    """The one helper through which text enters: ids and mask grow together."""
    rendered = Rendered()

    def add(text: str, supervised: bool, special: bool) -> None:
        ids = _encode(tokenizer, text, special=special)
        rendered.ids.extend(ids)
        rendered.mask.extend([supervised] * len(ids))

    return rendered, add


def _add_turn(
    turn: Turn,
    template: ChatTemplate,
    add: Callable[[str, bool, bool], None],
    rendered: Rendered,
    tokenizer: Any,
    image_tokens: int,
) -> None:
    if turn.role not in ROLES or turn.role == "system":
        raise BadInput(f"a turn of the role {turn.role!r} cannot stand inside a conversation.")
    add(template.openers[turn.role], False, template.special)
    content = (
        turn.content if template.special else turn.content.replace(template.stop.strip(), "# # #")
    )  # words cannot end a turn
    if turn.role == "user":
        pieces = content.split(IMAGE)
        for n, piece in enumerate(pieces):
            add(piece, False, False)
            if n < len(pieces) - 1:
                rendered.ids.extend([tokenizer.convert_tokens_to_ids(IMAGE)] * image_tokens)
                rendered.mask.extend([False] * image_tokens)
    elif turn.role == "tool":
        add(f"{turn.tool}: {content}" if turn.tool else content, False, False)
    else:
        add("\n".join(filter(None, [content, write_calls(turn.tool_calls)])), True, False)
    closer = template.closers[turn.role]
    if turn.role == "assistant":
        add(template.stop, True, template.special)
        closer = closer.removeprefix(template.stop)
    add(closer, False, template.special)


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
