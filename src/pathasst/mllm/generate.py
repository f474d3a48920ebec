"""PathAsst as a person uses it: load, ask about pictures, get words or tool calls back.

Greedy. Keys, values and picture features of the last conversation are kept, so the next turn reads only what is new. A
tool call is written under a constraint (see `constrain`). Knows `Parts`; runs no tool.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from pathasst.core import weights
from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.hardware import has_fast_bfloat16
from pathasst.core.records import IMAGE, ToolCall, ToolSpec, Turn
from pathasst.mllm import adapter, model
from pathasst.mllm.chat import goes_round, render
from pathasst.mllm.constrain import allowed
from pathasst.mllm.model import Parts
from pathasst.mllm.packed_loss import embed
from pathasst.mllm.tool_text import CLOSE, OPEN, call_head, call_written

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)
ENGINES = ("auto", "llama.cpp", "transformers")
MAX_LENGTH = 2048
CANDIDATES = 4096  # likeliest tokens that are tried, in turn, while a call is written; the first few nearly always fit
REMEMBERED_PICTURES = 16


@dataclass(slots=True)
class _Memory:
    """What was read last: ids, the pictures among them, and the keys and values computed for them."""

    ids: list[int] = field(default_factory=list)
    pictures: tuple[str, ...] = ()
    cache: Any = None
    features: dict[str, torch.Tensor] = field(default_factory=dict)  # by MD5 of the picture


class PathAsst:
    """A trained PathAsst.

    >>> assistant = PathAsst.load("pathasst-embedded")
    >>> assistant.reply([Turn(role="user", content="<image>\\nWhat does this show?")], [png_bytes]).content
    """

    def __init__(self, parts: Parts, version: str = "") -> None:
        self.parts, self.version, self.template = parts, version, parts.template
        self._memory = _Memory()
        self._lock = RLock()

    @classmethod
    def load(cls, id: str | Path = "pathasst-embedded", *, vision: str = "", llm: str = "", engine: str = "auto") -> PathAsst:
        """By registry id or path: an adapter folder (`train`), or a whole LLaVA checkpoint with our chat template (`export`).

        `vision`, `llm`: other places of the parts an adapter was trained on. `engine`: `llama.cpp` (exported once, then kept in
        the cache), `transformers`, or `auto`: llama.cpp on a CPU for an adapter whose LLM is a GGUF file, else transformers.
        Raises MissingWeights, BadSettings or BadInput.
        """
        folder = Path(id) if Path(id).is_dir() else weights.path(str(id))
        small = (folder / adapter.FILE).is_file()
        if engine not in ENGINES:
            raise BadSettings(f"engine {engine!r} is unknown; choose {', '.join(ENGINES)}.")
        if engine != "transformers" and small and not (vision or llm):
            quick = cls._llama(folder, folder.name if Path(id).is_dir() else weights.version(str(id)), must=engine != "auto")
            if quick is not None:
                return quick
        import torch

        dtype = torch.bfloat16 if has_fast_bfloat16() else torch.float32  # with AMX, prompts are read 2.4 times as fast
        parts = adapter.load(folder, dtype, vision=vision, llm=llm) if small else model.load(folder, dtype)
        return cls(parts, folder.name if Path(id).is_dir() else weights.version(str(id)))

    @staticmethod
    def _llama(folder: Path, version: str, *, must: bool) -> PathAsst | None:
        """The adapter in llama.cpp; None where that cannot be had and need not be."""
        from pathasst.mllm import llamacpp
        from pathasst.mllm.export import engine_folder

        if not must and not llamacpp.available():
            return None
        try:
            return llamacpp.LlamaPathAsst(engine_folder(folder, version), version)
        except (BadSettings, OSError, RuntimeError) as error:  # RuntimeError: llama.cpp refuses a file
            if must:
                raise
            logger.warning("llama.cpp cannot run %s (%s); transformers does, more slowly.", folder.name, error)
            return None

    def reply(
        self,
        turns: Sequence[Turn],
        images: Sequence[bytes] = (),
        tools: Sequence[ToolSpec] = (),
        *,
        max_new_tokens: int = 256,
        calls: bool = True,
        on_text: Callable[[str], None] | None = None,
    ) -> Turn:
        """The assistant's next turn: words, tool calls, or both. Each `<image>` in a user turn stands for the next of `images`.

        Without `calls` the tools are listed, but the answer is words.

        Raises BadInput when marks and pictures differ in number, a picture cannot be read, or the conversation is too long.
        """
        turn = Turn(role="assistant")
        for piece in self.stream(turns, images, tools, max_new_tokens=max_new_tokens, calls=calls):
            if isinstance(piece, Turn):
                turn = piece
            elif on_text:
                on_text(piece)
        return turn

    def stream(
        self,
        turns: Sequence[Turn],
        images: Sequence[bytes] = (),
        tools: Sequence[ToolSpec] = (),
        *,
        max_new_tokens: int = 256,
        calls: bool = True,
    ) -> Iterator[str | Turn]:
        """As `reply`, but yields the text piece by piece as it is made, and the Turn last. Words that go round end there."""
        text, shown, looked = "", "", 0
        for text in self._written(turns, images, tools, max_new_tokens, calls):
            said = self.template.before_stop(text)
            if len(said) > len(shown) and not said.endswith("\ufffd") and OPEN[0] not in said[len(shown) :]:
                yield said[len(shown) :]  # whole characters, no half of a call
                shown = said
            if len(text) >= looked + 32:  # not at every token: looking costs a millisecond
                looked = len(text)
                if goes_round(text):
                    break
        text = self.template.before_stop(text, finished=True)
        if len(text) > len(shown) and (not tools or OPEN not in text):
            yield text[len(shown) :]
        yield self.template.parse(text) if tools else Turn(role="assistant", content=text.strip())

    def _written(
        self, turns: Sequence[Turn], images: Sequence[bytes], tools: Sequence[ToolSpec], most: int, calls: bool
    ) -> Iterator[str]:
        """All that is written so far, after each token."""
        with self._lock:
            ids, features = self._prompt(turns, images, tools)
            offered = {t.name: t.parameters for t in tools} if calls else {}
            made: list[int] = []
            for token in self._tokens(ids, features, offered, most, made, barred=[] if calls else self._openers()):
                made.append(token)
                yield self._text(made)

    def write_call(
        self, turns: Sequence[Turn], images: Sequence[bytes], tools: Sequence[ToolSpec], name: str, *, max_new_tokens: int = 128
    ) -> ToolCall:
        """A call of the tool `name`, one of `tools`: somebody else chose it, the model writes its arguments.

        A call that is not finished within `max_new_tokens` has no arguments. Raises what `reply` raises.
        """
        with self._lock:
            ids, features = self._prompt(turns, images, tools)
            made = self.parts.tokenizer(call_head(name), add_special_tokens=False).input_ids
            offered = {t.name: t.parameters for t in tools if t.name == name}
            for token in self._tokens([*ids, *made], features, offered, max_new_tokens, made):
                made.append(token)
                if CLOSE[-1] in self._text(made[-1:]) and self._text(made).rstrip().endswith(CLOSE):
                    break
            return call_written(self._text(made), name)

    def reply_many(
        self,
        requests: Sequence[tuple[Sequence[Turn], Sequence[bytes], Sequence[ToolSpec]]],
        *,
        max_new_tokens: int = 64,
        batch: int = 16,
        calls: bool = True,
    ) -> list[Turn]:
        """One reply to each of many (turns, images, tools), generated together, greedily, calls held to their schemas.

        Several times as fast as one by one on a CPU, where each token waits for the weights to pass by. Without `calls` they
        answer in words. Raises what `reply` raises.
        """
        prompts = [self._prompt(*request) for request in requests]
        order = sorted(range(len(prompts)), key=lambda n: len(prompts[n][0]))
        replies = [Turn(role="assistant")] * len(prompts)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            offered = [{t.name: t.parameters for t in requests[n][2]} if calls else {} for n in chosen]
            texts = self._together([prompts[n] for n in chosen], offered, max_new_tokens, [] if calls else self._openers())
            for n, text in zip(chosen, texts, strict=True):
                turn = self.parts.template.parse(text)
                replies[n] = turn if requests[n][2] else Turn(role="assistant", content=turn.content)
        return replies

    def _together(
        self,
        prompts: Sequence[tuple[list[int], list[tuple[str, torch.Tensor]]]],
        offered: Sequence[Mapping[str, Mapping[str, Any]]],
        most: int,
        barred: Sequence[int] = (),
    ) -> list[str]:
        """One padded batch through transformers' own generation."""
        import torch

        parts, longest = self.parts, max(len(ids) for ids, _ in prompts)
        pad = parts.tokenizer.pad_token_id or 0
        ids = torch.tensor([[pad] * (longest - len(i)) + i for i, _ in prompts])
        seen = torch.tensor([[0] * (longest - len(i)) + [1] * len(i) for i, _ in prompts])
        features = [f for _, pictures in prompts for _, f in pictures]
        with self._lock, torch.inference_mode():
            hidden = embed(parts, ids, torch.stack(features) if features else None)
            made = parts.model.generate(
                inputs_embeds=hidden,
                attention_mask=seen,
                max_new_tokens=most,
                do_sample=False,
                stop_strings=None if parts.template.special else [parts.template.stop.strip()],
                tokenizer=parts.tokenizer,
                logits_processor=[lambda ids, scores: self._held(ids, scores, offered, barred)],
            )
        return [self._text(row.tolist()) for row in made]

    def _held(
        self,
        made: torch.Tensor,
        scores: torch.Tensor,
        offered: Sequence[Mapping[str, Mapping[str, Any]]],
        barred: Sequence[int] = (),
    ) -> torch.Tensor:
        """The scores of a batch's next tokens; in a row that writes a call, of the one token that `_next` chooses."""
        scores[:, [self.parts.tokenizer.convert_tokens_to_ids(IMAGE), *barred]] = float("-inf")
        for row, tools in enumerate(offered):
            written = made[row].tolist()
            if tools and OPEN[0] in self._text([*written, int(scores[row].argmax())]):
                best = self._next(scores[row], written, tools)
                scores[row] = float("-inf")
                scores[row, best] = 0.0
        return scores

    def _prompt(
        self, turns: Sequence[Turn], images: Sequence[bytes], tools: Sequence[ToolSpec]
    ) -> tuple[list[int], list[tuple[str, torch.Tensor]]]:
        return self.prompt_ids(turns, len(images), tools), [self._features(image) for image in images]

    def prompt_ids(self, turns: Sequence[Turn], images: int, tools: Sequence[ToolSpec]) -> list[int]:
        """The ids that a reply to these turns begins from. Raises BadInput when they are too many, or the marks not `images`."""
        return render(
            turns,
            self.parts.tokenizer,
            self.parts.template,
            tools=tools,
            images=images,
            image_tokens=self.parts.image_tokens,
            prompt=True,
            max_length=MAX_LENGTH,
        ).ids

    def count_tokens(self, text: str) -> int:
        """Tokens of a text."""
        return len(self.parts.tokenizer(text, add_special_tokens=False).input_ids)

    def _openers(self) -> list[int]:
        """The token that a call begins with."""
        return list(self.parts.tokenizer(OPEN, add_special_tokens=False).input_ids[:1])

    def _features(self, image: bytes) -> tuple[str, torch.Tensor]:
        """The picture's key and its patch tokens; computed once as long as it is remembered."""
        key = hashlib.md5(image, usedforsecurity=False).hexdigest()
        known = self._memory.features
        if key not in known:
            while len(known) >= REMEMBERED_PICTURES:
                known.pop(next(iter(known)))
            known[key] = model.features(self.parts, [image])[0]
        return key, known[key]

    def _tokens(
        self,
        ids: list[int],
        features: list[tuple[str, torch.Tensor]],
        offered: Mapping[str, Mapping[str, Any]],
        most: int,
        made: list[int],
        barred: Sequence[int] = (),
    ) -> Iterator[int]:
        """Greedy tokens up to the stop, none of `barred`. `made` is what the caller has received, kept by the caller."""
        import torch

        stop = self.parts.template.stop_ids(self.parts.tokenizer)
        barred = [self.parts.tokenizer.convert_tokens_to_ids(IMAGE), *barred]
        with torch.inference_mode():
            logits = self._read(ids, features)
            for _ in range(most):
                logits[barred] = float("-inf")
                token = self._next(logits, made, offered)
                if token == stop[0] and (len(stop) == 1 or self.parts.template.special):
                    return
                yield token
                if self.parts.template.stop.strip() in self._text(made[-8:]):
                    return
                logits = self._step(token)

    def _next(self, logits: torch.Tensor, made: list[int], offered: Mapping[str, Mapping[str, Any]]) -> int:
        """The likeliest token; inside a call, the likeliest that keeps it a call of a tool on offer that fits its schema."""
        best = int(logits.argmax())
        text = self._text(made)
        if not offered or OPEN not in self._text([*made, best]):
            return best
        stops = {self.parts.tokenizer.eos_token_id, *self.parts.template.stop_ids(self.parts.tokenizer)}
        finished = text.rstrip().endswith("}</tool_call>") or OPEN not in text
        for token in logits.topk(min(CANDIDATES, len(logits))).indices.tolist():
            if token in stops:
                if finished:
                    return int(token)
            elif allowed(self._text([*made, token]), offered):
                return int(token)
        return best

    def _read(self, ids: list[int], features: list[tuple[str, torch.Tensor]]) -> torch.Tensor:
        """Logits after `ids`; what equals the last conversation's beginning is not read again."""
        import torch
        from transformers import DynamicCache

        memory, placeholder = self._memory, self.parts.tokenizer.convert_tokens_to_ids(IMAGE)
        pictures = tuple(key for key, _ in features)
        shared = _common(memory.ids, ids)
        same = _common(list(memory.pictures), list(pictures)) * self.parts.image_tokens
        if ids[:shared].count(placeholder) > same:  # another picture from here on
            shared = [n for n, i in enumerate(ids) if i == placeholder][same]
        shared = min(shared, len(ids) - 1)
        if shared and ids[shared] == placeholder and ids[shared - 1] == placeholder:  # never cut through a picture
            while shared and ids[shared - 1] == placeholder:
                shared -= 1
        if memory.cache is None or not shared:
            memory.cache, shared = DynamicCache(), 0
        else:
            surplus = memory.cache.get_seq_length() - shared
            if surplus > 0:
                memory.cache.crop(-surplus)
        seen = ids[:shared].count(placeholder) // max(1, self.parts.image_tokens)
        new = [f for _, f in features[seen:]]
        memory.ids, memory.pictures = list(ids), pictures
        rest = torch.tensor([ids[shared:]])
        return self._forward(embed(self.parts, rest, torch.stack(new) if new else None))

    def _step(self, token: int) -> torch.Tensor:
        import torch

        self._memory.ids.append(token)
        return self._forward(embed(self.parts, torch.tensor([[token]]), None))

    def _forward(self, hidden: torch.Tensor) -> torch.Tensor:
        try:
            out = self.parts.llm(inputs_embeds=hidden, past_key_values=self._memory.cache, use_cache=True)
        except BaseException:
            self._memory.cache, self._memory.ids = None, []  # a half-read conversation is not gone on with
            raise
        logits: torch.Tensor = self.parts.model.lm_head(out.last_hidden_state[0, -1]).float()
        return logits

    def _text(self, ids: list[int]) -> str:
        text: str = self.parts.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


def _common(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Length of the common beginning."""
    for n, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return n
    return min(len(first), len(second))


__all__ = ["BadInput", "PathAsst"]
