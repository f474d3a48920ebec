"""The engine on transformers: any checkpoint, on a CPU or a GPU.

Keys, values and picture features of the last conversation are kept, so the next turn reads only what is new. Knows `Parts`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple

from pathasst.core.errors import BadSettings
from pathasst.core.hardware import has_fast_bfloat16
from pathasst.core.records import IMAGE, ToolSpec, Turn
from pathasst.imaging.pictures import read as read_picture
from pathasst.llm.constrained import Constraint, Constraints
from pathasst.mllm import adapter, model
from pathasst.mllm.chat import render
from pathasst.mllm.engine import MAX_LENGTH, Request
from pathasst.mllm.layouts import PatchTokens, token_count
from pathasst.mllm.model import Parts
from pathasst.mllm.packed_loss import embed
from pathasst.mllm.tool_grammar import arguments_grammar, calls_grammar
from pathasst.mllm.tool_text import OPEN, call_head

if TYPE_CHECKING:
    import torch

REMEMBERED_PICTURES = 16


class _Picture(NamedTuple):
    """A picture as the model reads it."""

    key: str  # its MD5
    tiles: torch.Tensor  # squares × patches × width
    size: tuple[int, int]  # height, width, px
    tokens: int


@dataclass(slots=True)
class _Memory:
    """What was read last: ids, the pictures among them, and the keys and values computed for them."""

    ids: list[int] = field(default_factory=list)
    pictures: tuple[str, ...] = ()
    cache: Any = None
    features: dict[str, _Picture] = field(default_factory=dict)  # by MD5 of the picture


class TransformersEngine:
    """`Parts` as an `Engine`; they stay on the device where they are."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self.template = parts, parts.template
        self._image_id = parts.tokenizer.convert_tokens_to_ids(IMAGE)
        self._memory = _Memory()
        self._lock = RLock()

    @classmethod
    def load(cls, folder: Path, *, vision: str = "", llm: str = "", device: str = "auto") -> TransformersEngine:
        """An adapter folder or a whole checkpoint on a device (`auto`: a GPU if there is one), in bfloat16 where that is fast.

        Raises BadSettings for a device that is not there, and what `adapter.load` and `model.load` raise.
        """
        import torch

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise BadSettings(f"device {device} was asked for, but torch sees no CUDA GPU; choose device cpu.")
        dtype = torch.bfloat16 if has_fast_bfloat16(device) else torch.float32  # with AMX, prompts are read 2.4 times as fast
        is_adapter = (folder / adapter.FILE).is_file()
        parts = adapter.load(folder, dtype, vision=vision, llm=llm) if is_adapter else model.load(folder, dtype)
        parts.model.to(device)
        return cls(parts)

    def generate(self, request: Request, *, max_new_tokens: int, calls: bool = True, call: str = "") -> Iterator[str]:
        """As `Engine.generate`."""
        turns, images, tools = request
        with self._lock:
            ids, pictures = self._prompt(turns, images, tools)
            received: list[int] = self.tokenize(call_head(call)) if call else []
            constraint = self._constraint(tools, calls, call)
            barred = [self._image_id, *([] if calls or call else self.tokenize(OPEN)[:1])]
            for token in self._tokens([*ids, *received], pictures, max_new_tokens, received, constraint, barred):
                received.append(token)
                yield self._text(received)

    def generate_many(self, requests: Sequence[Request], *, max_new_tokens: int, batch: int, calls: bool = True) -> list[str]:
        """As `Engine.generate_many`, in padded batches: on a CPU several times as fast as one by one, since each token waits
        for the weights to pass by."""
        prompts = [self._prompt(*request) for request in requests]
        order = sorted(range(len(prompts)), key=lambda n: len(prompts[n][0]))
        texts = [""] * len(prompts)
        for start in range(0, len(order), batch):
            members = order[start : start + batch]
            constraints = [self._constraint(requests[n][2], calls) for n in members]
            barred = [self._image_id, *([] if calls else self.tokenize(OPEN)[:1])]
            generated = self._together([prompts[n] for n in members], constraints, max_new_tokens, barred)
            for n, text in zip(members, generated, strict=True):
                texts[n] = text
        return texts

    def prompt_ids(self, turns: Sequence[Turn], images: int, tools: Sequence[ToolSpec]) -> list[int]:
        """As `Engine.prompt_ids`; where pictures are cut into tiles, with as many as one can have."""
        return self._render(turns, [self.parts.most_image_tokens] * images, tools)

    def _render(self, turns: Sequence[Turn], image_tokens: Sequence[int], tools: Sequence[ToolSpec]) -> list[int]:
        return render(
            turns,
            self.parts.tokenizer,
            self.template,
            tools=tools,
            images=len(image_tokens),
            image_tokens=image_tokens,
            prompt=True,
            max_length=MAX_LENGTH,
        ).ids

    def tokenize(self, text: str) -> list[int]:
        """As `Engine.tokenize`."""
        return list(self.parts.tokenizer(text, add_special_tokens=False).input_ids)

    @cached_property
    def _stop(self) -> list[int]:
        return self.template.stop_ids(self.parts.tokenizer)

    @cached_property
    def _constraints(self) -> Constraints:
        """Made when the first tool is offered."""
        tokenizer = self.parts.tokenizer
        single = self._stop[:1] if len(self._stop) == 1 or self.template.special else []
        stops = {i for i in (tokenizer.eos_token_id, *single) if i is not None}
        return Constraints(tokenizer, self.parts.llm.get_input_embeddings().weight.shape[0], sorted(stops))

    def _constraint(self, tools: Sequence[ToolSpec], calls: bool, call: str = "") -> Constraint | None:
        if call:
            return self._constraints.start(arguments_grammar(next(t for t in tools if t.name == call)))
        return self._constraints.start(calls_grammar(tools)) if tools and calls else None

    def _together(
        self,
        prompts: Sequence[tuple[list[int], list[_Picture]]],
        constraints: Sequence[Constraint | None],
        most: int,
        barred: Sequence[int],
    ) -> list[str]:
        """One padded batch through transformers' own generation."""
        import torch

        parts, longest = self.parts, max(len(ids) for ids, _ in prompts)
        pad, device = parts.tokenizer.pad_token_id or 0, parts.model.device
        ids = torch.tensor([[pad] * (longest - len(i)) + i for i, _ in prompts], device=device)
        attention = torch.tensor([[0] * (longest - len(i)) + [1] * len(i) for i, _ in prompts], device=device)
        pictures = [picture for _, some in prompts for picture in some]
        processor = _Constrained(constraints, barred)
        with self._lock, torch.inference_mode():
            generated = parts.model.generate(
                inputs_embeds=embed(parts, ids, _gathered(pictures)),
                attention_mask=attention,
                max_new_tokens=most,
                do_sample=False,
                stop_strings=None if self.template.special else [self.template.stop.strip()],
                tokenizer=parts.tokenizer,
                logits_processor=[processor],
            )
        return [self._text(row.tolist()) for row in generated]

    def _prompt(
        self, turns: Sequence[Turn], images: Sequence[bytes], tools: Sequence[ToolSpec]
    ) -> tuple[list[int], list[_Picture]]:
        pictures = [self._picture(image) for image in images]
        return self._render(turns, [picture.tokens for picture in pictures], tools), pictures

    def _picture(self, image: bytes) -> _Picture:
        """The picture with its patch tokens; computed once as long as it is remembered."""
        key = hashlib.md5(image, usedforsecurity=False).hexdigest()
        remembered = self._memory.features
        if key not in remembered:
            while len(remembered) >= REMEMBERED_PICTURES:
                remembered.pop(next(iter(remembered)))
            height, width = read_picture(image, name="picture 1").pixels.shape[:2]
            tokens = token_count(self.parts.model, height, width)
            remembered[key] = _Picture(key, model.features(self.parts, [image]), (height, width), tokens)
        return remembered[key]

    def _tokens(
        self,
        ids: list[int],
        pictures: list[_Picture],
        most: int,
        received: list[int],
        constraint: Constraint | None,
        barred: Sequence[int],
    ) -> Iterator[int]:
        """Greedy tokens up to the stop, none of `barred`. `received` is what the caller has received, kept by the caller."""
        import torch

        eos = self.parts.tokenizer.eos_token_id
        with torch.inference_mode():
            logits = self._read(ids, pictures)
            for _ in range(most):
                logits[barred] = float("-inf")
                if constraint is not None:
                    constraint.allow(logits)
                token = int(logits.argmax())
                if token == eos or (token == self._stop[0] and (len(self._stop) == 1 or self.template.special)):
                    return
                yield token
                if self.template.stop.strip() in self._text(received[-8:]):
                    return
                if constraint is not None:
                    constraint.accept(token)
                    if constraint.finished:
                        return
                logits = self._step(token)

    def _read(self, ids: list[int], pictures: list[_Picture]) -> torch.Tensor:
        """Logits after `ids`; what equals the last conversation's beginning is not read again."""
        import torch
        from transformers import DynamicCache

        memory = self._memory
        keys = tuple(picture.key for picture in pictures)
        shared = _common(memory.ids, ids)
        same = sum(picture.tokens for picture in pictures[: _common(memory.pictures, keys)])
        if ids[:shared].count(self._image_id) > same:  # another picture from here on
            shared = [n for n, i in enumerate(ids) if i == self._image_id][same]
        shared = min(shared, len(ids) - 1)
        if shared and ids[shared] == self._image_id and ids[shared - 1] == self._image_id:  # never cut through a picture
            while shared and ids[shared - 1] == self._image_id:
                shared -= 1
        if memory.cache is None or not shared:
            memory.cache, shared = DynamicCache(), 0
        else:
            surplus = memory.cache.get_seq_length() - shared
            if surplus > 0:
                memory.cache.crop(-surplus)
        tokens_read = ids[:shared].count(self._image_id)
        read = sum(total <= tokens_read for total in accumulate(picture.tokens for picture in pictures))
        memory.ids, memory.pictures = list(ids), keys
        rest = torch.tensor([ids[shared:]], device=self.parts.model.device)
        return self._forward(embed(self.parts, rest, _gathered(pictures[read:])))

    def _step(self, token: int) -> torch.Tensor:
        import torch

        self._memory.ids.append(token)
        return self._forward(embed(self.parts, torch.tensor([[token]], device=self.parts.model.device), None))

    def _forward(self, hidden: torch.Tensor) -> torch.Tensor:
        try:
            out = self.parts.llm(inputs_embeds=hidden, past_key_values=self._memory.cache, use_cache=True)
        except BaseException:
            self._memory.cache, self._memory.ids = None, []  # a half-read conversation is not continued
            raise
        logits: torch.Tensor = self.parts.model.lm_head(out.last_hidden_state[0, -1]).float()
        return logits

    def _text(self, ids: list[int]) -> str:
        text: str = self.parts.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


class _Constrained:
    """A logits processor for `generate`: each row under its own constraint, if it has one."""

    def __init__(self, constraints: Sequence[Constraint | None], barred: Sequence[int]) -> None:
        self.constraints, self.barred, self.read = constraints, list(barred), 0

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """`ids`: rows × tokens written so far; `scores`: rows × vocabulary, changed in place."""
        scores[:, self.barred] = float("-inf")
        for row, constraint in enumerate(self.constraints):
            if constraint is None:
                continue
            for token in ids[row, self.read :].tolist():
                if not constraint.finished:
                    constraint.accept(token)
            if not constraint.finished:  # a finished row is padded by `generate`
                constraint.allow(scores[row])
        self.read = ids.shape[1]
        return scores


def _gathered(pictures: Sequence[_Picture]) -> PatchTokens | None:
    """Some pictures as the network takes them."""
    import torch

    if not pictures:
        return None
    return PatchTokens(torch.cat([p.tiles for p in pictures]), torch.tensor([p.size for p in pictures]))


def _common(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Length of the common beginning."""
    for n, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return n
    return min(len(first), len(second))
