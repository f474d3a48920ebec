"""PathAsst as a person uses it: load, ask about pictures, get words or tool calls back.

An `Engine` writes the text (`transformers_engine`, `llamacpp`); this reads it: streams whole characters, ends words that repeat
themselves, parses calls. Runs no tool.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pathasst.core import weights
from pathasst.core.errors import BadSettings
from pathasst.core.records import ToolCall, ToolSpec, Turn
from pathasst.mllm import adapter
from pathasst.mllm.chat import goes_round
from pathasst.mllm.engine import Engine, Request
from pathasst.mllm.tool_text import OPEN, call_written

logger = logging.getLogger(__name__)
ENGINES = ("auto", "llama.cpp", "transformers")


class PathAsstModel:
    """A trained PathAsst, in one of the engines.

    >>> assistant = PathAsstModel.load("pathasst-embedded")
    >>> assistant.reply([Turn(role="user", content="<image>\\nWhat does this show?")], [png_bytes]).content
    """

    def __init__(self, engine: Engine, version: str = "") -> None:
        self.engine, self.version, self.template = engine, version, engine.template

    @classmethod
    def load(
        cls, id: str | Path = "pathasst-embedded", *, vision: str = "", llm: str = "", engine: str = "auto", device: str = "auto"
    ) -> PathAsstModel:
        """By registry id or path: an adapter folder (`train`), or a whole LLaVA checkpoint with our chat template (`export`).

        `vision`, `llm`: other places of the parts an adapter was trained on. `engine`: `llama.cpp` (exported once, then kept in
        the cache), `transformers`, or `auto`: llama.cpp for an adapter whose LLM is a GGUF file, else transformers. `device` of
        the transformers engine: `cpu`, `cuda`, `cuda:1` …, or `auto`: a GPU if there is one; naming one chooses that engine.
        Raises MissingWeights, BadSettings or BadInput.
        """
        if engine not in ENGINES:
            raise BadSettings(f"engine {engine!r} is unknown; choose {', '.join(ENGINES)}.")
        if engine == "llama.cpp" and device not in ("auto", "cpu"):
            raise BadSettings(f"engine llama.cpp runs on the CPU here; for device {device!r} choose engine transformers.")
        folder = Path(id) if Path(id).is_dir() else weights.path(str(id))
        version = folder.name if Path(id).is_dir() else weights.version(str(id))
        is_adapter = (folder / adapter.FILE).is_file()
        if engine == "llama.cpp" and not is_adapter:
            raise BadSettings(f"{folder} is a whole checkpoint; `pathasst export {folder} --to gguf` makes files for llama.cpp.")
        if engine != "transformers" and device in ("auto", "cpu") and is_adapter and not (vision or llm):
            llama = _llama_engine(folder, version, must=engine != "auto")
            if llama is not None:
                return cls(llama, version)
        from pathasst.mllm.transformers_engine import TransformersEngine

        return cls(TransformersEngine.load(folder, vision=vision, llm=llm, device=device), version)

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
        """As `reply`, but yields the text piece by piece as it is made, and the Turn last. Words that repeat end there."""
        text, sent, checked = "", "", 0
        for text in self.engine.generate((turns, images, tools), max_new_tokens=max_new_tokens, calls=calls):
            words = self.template.before_stop(text).lstrip()
            if len(words) > len(sent) and not words.endswith("\ufffd") and OPEN[0] not in words[len(sent) :]:
                yield words[len(sent) :]  # whole characters, no half of a call
                sent = words
            if len(text) >= checked + 32:  # not at every token: the check costs a millisecond
                checked = len(text)
                if goes_round(text):
                    break
        text = self.template.before_stop(text, finished=True).lstrip()
        if len(text) > len(sent) and (not tools or OPEN not in text):
            yield text[len(sent) :]
        yield self.template.parse(text) if tools else Turn(role="assistant", content=text.strip())

    def write_call(
        self, turns: Sequence[Turn], images: Sequence[bytes], tools: Sequence[ToolSpec], name: str, *, max_new_tokens: int = 128
    ) -> ToolCall:
        """A call of the tool `name`, one of `tools`: somebody else chose it, the model writes its arguments.

        A call that is not finished within `max_new_tokens` has no arguments. Raises what `reply` raises.
        """
        *_, text = "", *self.engine.generate((turns, images, tools), max_new_tokens=max_new_tokens, call=name)
        return call_written(text, name)

    def reply_many(
        self, requests: Sequence[Request], *, max_new_tokens: int = 64, batch: int = 16, calls: bool = True
    ) -> list[Turn]:
        """One reply to each of many (turns, images, tools), generated together if the engine can, calls held to their schemas.

        Without `calls` they answer in words. Raises what `reply` raises.
        """
        texts = self.engine.generate_many(requests, max_new_tokens=max_new_tokens, batch=batch, calls=calls)
        turns = [self.template.parse(text) for text in texts]
        return [
            t if tools else Turn(role="assistant", content=t.content) for t, (_, _, tools) in zip(turns, requests, strict=True)
        ]

    def prompt_ids(self, turns: Sequence[Turn], images: int, tools: Sequence[ToolSpec]) -> list[int]:
        """The ids that a reply to these turns begins from. Raises BadInput when they are too many, or the marks not `images`."""
        return self.engine.prompt_ids(turns, images, tools)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text."""
        return len(self.engine.tokenize(text))


def _llama_engine(folder: Path, version: str, *, must: bool) -> Engine | None:
    """The adapter in llama.cpp; None where that cannot be had and need not be."""
    from pathasst.mllm import llamacpp
    from pathasst.mllm.export import engine_folder

    if not must and not llamacpp.available():
        return None
    try:
        return llamacpp.LlamaEngine(engine_folder(folder, version))
    except (BadSettings, OSError, RuntimeError) as error:  # RuntimeError: llama.cpp refuses a file
        if must:
            raise
        logger.warning("llama.cpp cannot run %s (%s); transformers does, more slowly.", folder.name, error)
        return None


__all__ = ["ENGINES", "PathAsstModel"]
