"""Conversations in the words of a finished vision–language model: its own chat template, its own pictures, and a loss mask.

What is supervised is what the template adds when an assistant's turn is there: the tokens of the conversation up to that turn,
less those of the prompt before it. A template that rewrites earlier turns (it drops thoughts, say) has no such prefix; then each
assistant's turn becomes a sample of its own. Knows records and a processor of transformers; knows no training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.records import IMAGE, Conversation, ToolSpec, Turn
from pathasst.mllm.tool_text import list_tools, write_calls

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

IGNORED = -100  # label of a token without loss, as transformers has it
PROBE = "probe_of_the_template"


@dataclass(frozen=True, slots=True)
class VlmSample:
    """Messages up to an assistant's turn, and which of the assistant's turns are learnt from."""

    conversation: Conversation
    last: int  # number of messages
    learnt: tuple[int, ...]  # places of the messages whose tokens are supervised
    spans: tuple[tuple[int, int], ...] = ()  # begin and end of these tokens
    tokens: int = 0  # of all

    @property
    def supervised(self) -> int:
        """Tokens with a loss."""
        return sum(end - start for start, end in self.spans)


class VlmTemplate:
    """A processor's chat template (`AutoProcessor`), with tools in its own form or, where it knows none, in our words."""

    def __init__(self, processor: Any, specs: Mapping[str, ToolSpec]) -> None:
        if not getattr(processor, "chat_template", None):
            raise BadSettings("the model's processor has no chat template; choose an instruction-tuned model.")
        self.processor, self.specs = processor, specs
        self.native_tools = self._knows_tools()

    def samples(self, conversation: Conversation, max_length: int) -> list[VlmSample]:
        """One sample where the template keeps earlier turns as they were, else one for each assistant's turn.

        Raises BadInput for a conversation without an assistant's turn, with a picture that is missing, or in which no assistant's
        turn ends within `max_length` tokens.
        """
        messages = self.messages(conversation)
        spoken = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
        if not spoken:
            raise BadInput(f"{conversation.conversation_id}: no turn of the assistant")
        whole = VlmSample(conversation, len(messages), tuple(spoken))
        try:
            located = self.located(whole)
            if located.tokens <= max_length:
                return [located]
        except NoPrefix:
            pass
        each = (self.located(VlmSample(conversation, n + 1, (n,))) for n in spoken)
        single = [sample for sample in each if sample.tokens <= max_length]
        if not single:
            raise BadInput(f"{conversation.conversation_id}: longer than {max_length} tokens up to its first answer")
        return single

    def located(self, sample: VlmSample) -> VlmSample:
        """The sample with the places of its supervised tokens: what each learnt turn adds to the conversation before it.

        Raises NoPrefix where the template rewrites what stands before such a turn.
        """
        messages, tools = self.messages(sample.conversation)[: sample.last], self.tools(sample.conversation)
        pictures = self._pictures(sample.conversation)
        ids = self._inputs(messages, tools, pictures, prompt=False)["input_ids"][0]
        spans = []
        for place in sample.learnt:
            prompt = self._inputs(messages[:place], tools, pictures, prompt=True)["input_ids"][0]
            last = place + 1 == len(messages)
            end = ids if last else self._inputs(messages[: place + 1], tools, pictures, prompt=False)["input_ids"][0]
            if len(prompt) >= len(end) or not (_begins(ids, prompt) and _begins(ids, end)):
                raise NoPrefix(sample.conversation.conversation_id)
            spans.append((len(prompt), len(end)))
        return replace(sample, spans=tuple(spans), tokens=len(ids))

    def encode(self, sample: VlmSample) -> dict[str, torch.Tensor]:
        """The model's inputs for a batch of one, with `labels` (1 × tokens int64, `IGNORED` where nothing is learnt) of a sample
        that `located` or `samples` made."""
        import torch

        messages, tools = self.messages(sample.conversation)[: sample.last], self.tools(sample.conversation)
        inputs = dict(self._inputs(messages, tools, self._pictures(sample.conversation), prompt=False))
        labels = torch.full_like(inputs["input_ids"], IGNORED)
        for start, end in sample.spans:
            labels[:, start:end] = inputs["input_ids"][:, start:end]
        return {**inputs, "labels": labels}

    def messages(self, conversation: Conversation) -> list[dict[str, Any]]:
        """Turns as messages with content in parts; pictures stand where IMAGE stands."""
        own = "" if self.native_tools else list_tools(self._offered(conversation))
        return _messages(conversation.turns, native_tools=self.native_tools, system=own)

    def tools(self, conversation: Conversation) -> list[dict[str, Any]] | None:
        """The tools on offer as the template takes them; None where it takes none."""
        offered = self._offered(conversation) if self.native_tools else []
        return [spec.as_function() for spec in offered] or None

    def _offered(self, conversation: Conversation) -> list[ToolSpec]:
        return [self.specs[name] for name in conversation.tools if name in self.specs]

    def _inputs(
        self, messages: Sequence[Mapping[str, Any]], tools: Any, pictures: Sequence[Image], *, prompt: bool
    ) -> Mapping[str, torch.Tensor]:
        text = self.processor.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=prompt)
        count = sum(part["type"] == "image" for m in messages for part in m["content"] if isinstance(m["content"], list))
        used = list(pictures[:count])
        if len(used) < count:
            raise BadInput(f"{count} pictures are named and {len(pictures)} are there")
        result: Mapping[str, torch.Tensor] = self.processor(
            text=[text], images=[used] if used else None, return_tensors="pt", add_special_tokens=self._adds_bos(text)
        )
        return result

    def _adds_bos(self, text: str) -> bool:
        """Whether the tokenizer has to add its first token: the template may have written it already."""
        bos = getattr(self.processor.tokenizer, "bos_token", None)
        return bool(bos) and not text.startswith(str(bos))

    def _pictures(self, conversation: Conversation) -> list[Image]:
        from PIL import Image

        from pathasst.imaging.pictures import read

        return [Image.fromarray(read(data, name=conversation.conversation_id).pixels) for data in conversation.images]

    def _knows_tools(self) -> bool:
        """Whether the template writes tools and calls: a call of a made-up tool must come out of it."""
        call = {"type": "function", "function": {"name": PROBE, "arguments": {}}}
        messages = [
            {"role": "user", "content": [{"type": "text", "text": "?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": ""}], "tool_calls": [call]},
        ]
        tool = ToolSpec(name=PROBE, description="", parameters={"type": "object", "properties": {}})
        try:
            text = self.processor.apply_chat_template(messages, tools=[tool.as_function()], tokenize=False)
        except Exception:  # noqa: BLE001 - a template is a program of others; whatever it raises, it knows no tools
            return False
        return str(text).count(PROBE) >= 2


def _begins(ids: torch.Tensor, first: torch.Tensor) -> bool:
    return bool(ids[: len(first)].equal(first))


class NoPrefix(Exception):
    """The template does not keep earlier turns as they were."""


def _messages(turns: Sequence[Turn], *, native_tools: bool, system: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for turn in turns:
        message: dict[str, Any] = {"role": turn.role, "content": _parts(turn.content)}
        if turn.tool_calls and native_tools:
            message["tool_calls"] = [c.as_function() for c in turn.tool_calls]
        elif turn.tool_calls:
            words = "\n".join(filter(None, [turn.content, write_calls(turn.tool_calls)]))
            message["content"] = [{"type": "text", "text": words}]
        if turn.role == "tool" and native_tools:
            message["name"] = turn.tool
        elif turn.role == "tool":
            message = {"role": "user", "content": _parts(f"Result of {turn.tool}: {turn.content}")}
        messages.append(message)
    if system and messages and messages[0]["role"] == "system":
        messages[0]["content"].append({"type": "text", "text": f"\n{system}"})
    elif system:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    return messages


def _parts(content: str) -> list[dict[str, str]]:
    """Text and pictures in their order."""
    parts: list[dict[str, str]] = []
    for n, text in enumerate(content.split(IMAGE)):
        if n:
            parts.append({"type": "image"})
        if words := text.strip("\n"):
            parts.append({"type": "text", "text": words})
    return parts or [{"type": "text", "text": ""}]
