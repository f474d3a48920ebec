"""A conversation as token ids and a loss mask, in one pass; and a model's text back as a turn.

`render` appends ids and mask through one inner helper, so that they cannot disagree (no second tokenisation looks for the
mask). Supervised are the words of the assistant and its stop token; role headers, tool results, pictures and the system turn
are not. Knows tokenizers and records; knows no model. Paper: Table 1 ("Training of PathAsst").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pathasst.core.errors import BadInput
from pathasst.core.records import IMAGE, ToolSpec, Turn
from pathasst.mllm.chat_template import ROLES, ChatTemplate, encode
from pathasst.mllm.tool_text import list_tools, write_calls

_LOOP = re.compile(r"(.{8,120}?)\1{3}\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Rendered:
    """Token ids and, for each, whether the loss counts it. Both lists have the same length."""

    ids: list[int] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    prefix: int = 0  # length of the system turn, which conversations with the same tools share
    opening: int = 0  # where the picture ends that the first question begins with; 0 when it begins with words
    dropped_turns: int = 0  # turns left out to fit `max_length`


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
                ids += encode(self.tokenizer, piece.text, special=piece.control)
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
