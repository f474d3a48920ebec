"""The engine on llama.cpp (`xllamacpp`): the quick one on a CPU.

The adapter is exported to GGUF once and kept in the cache (`engine_folder`); after that neither torch nor transformers is needed.
llama.cpp keeps keys, values and pictures of the last conversation, and holds tool calls to a grammar. It is reached over its own
port on this machine alone, behind a key that only this process knows.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.records import IMAGE, ToolSpec, Turn
from pathasst.llm import local
from pathasst.mllm.chat_template import ChatTemplate
from pathasst.mllm.engine import MAX_LENGTH, Request
from pathasst.mllm.export import ABOUT, LANGUAGE, VISION
from pathasst.mllm.tool_grammar import arguments_grammar, calls_grammar
from pathasst.mllm.tool_text import OPEN, call_head, list_tools, write_calls

ANSWER_ROOM = 512  # tokens beside the longest prompt
_CONTROL = re.compile(r"<\|(?=\w+\|>)")


def available() -> bool:
    """Whether llama.cpp's engine is installed."""
    return find_spec("xllamacpp") is not None


class LlamaEngine:
    """A PathAsst exported to GGUF, as an `Engine`: opens a folder that `export(…, "gguf")` wrote.

    `threads`: see `llm.local.thread_count`. Raises MissingPackage without llama.cpp, BadSettings for one without llguidance.
    """

    def __init__(self, folder: Path, threads: int = 0) -> None:
        self.template = ChatTemplate.load(folder)
        self._about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        key = secrets.token_hex(16)
        self._server, url = local.start(
            str(folder / LANGUAGE), vision=folder / VISION, context=MAX_LENGTH + ANSWER_ROOM, threads=threads, key=key
        )
        if not local.reads_lark():
            raise BadSettings("this llama.cpp was built without llguidance; install xllamacpp from the package index.")
        # llama.cpp's server closes connections that it said it would keep
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(
            base_url=url.removesuffix("/v1"),
            headers={"Authorization": f"Bearer {key}"},
            timeout=600,
            limits=limits,
            trust_env=False,
        )
        self._marker = str(_checked(self._http.get("/props"))["media_marker"])
        stop = self._http.post("/tokenize", json={"content": self.template.stop, "add_special": False, "parse_special": True})
        self._stop = int(_checked(stop)["tokens"][0]) if self.template.special else None

    def generate(self, request: Request, *, max_new_tokens: int, calls: bool = True, call: str = "") -> Iterator[str]:
        """As `Engine.generate`, after each piece that the server sends."""
        turns, images, tools = request
        text = call_head(call) if call else ""
        body = self._body(turns, images, tools, max_new_tokens) | {"stream": True}
        if call:
            body |= self._prompt(prompt_text(turns, self.template, tools, self._marker, len(images)) + text, images)
            body["grammar"] = arguments_grammar(next(t for t in tools if t.name == call))
        elif tools and calls:
            body["grammar"] = calls_grammar(tools, self._stop)
        elif not calls:
            body["logit_bias"] = [[self.tokenize(OPEN)[0], False]]
        with self._http.stream("POST", "/completion", json=body) as answer:
            if answer.status_code != 200:
                answer.read()
                _checked(answer)
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    message = json.loads(line[6:])
                    if "error" in message:
                        raise BadInput(str(message["error"].get("message", message["error"])))
                    text += str(message.get("content", ""))
                    yield text

    def generate_many(self, requests: Sequence[Request], *, max_new_tokens: int, batch: int, calls: bool = True) -> list[str]:
        """As `Engine.generate_many`, one after the other: `batch` makes nothing faster here."""
        texts = []
        for request in requests:
            *_, text = "", *self.generate(request, max_new_tokens=max_new_tokens, calls=calls)
            texts.append(text)
        return texts

    def prompt_ids(self, turns: Sequence[Turn], images: int, tools: Sequence[ToolSpec]) -> list[int]:
        """As `Engine.prompt_ids`, by the engine's own tokenizer."""
        words = prompt_text(turns, self.template, tools, self._marker, images)
        ids = self.tokenize(words) + [0] * (images * int(self._about.get("image_tokens", 49)))
        if len(ids) > MAX_LENGTH:
            raise BadInput(f"the conversation has {len(ids)} tokens; {MAX_LENGTH} are read.")
        return ids

    def tokenize(self, text: str) -> list[int]:
        """As `Engine.tokenize`."""
        answer = _checked(self._http.post("/tokenize", json={"content": text, "add_special": False}))
        return [int(token) for token in answer["tokens"]]

    def _body(self, turns: Sequence[Turn], images: Sequence[bytes], tools: Sequence[ToolSpec], most: int) -> dict[str, Any]:
        """What the server is asked for a greedy reply, without a grammar."""
        return {
            **self._prompt(prompt_text(turns, self.template, tools, self._marker, len(images)), images),
            "temperature": 0.0,
            "n_predict": most,
            "stop": [] if self.template.special else [self.template.stop.strip()],
            "cache_prompt": True,
        }

    def _prompt(self, words: str, images: Sequence[bytes]) -> dict[str, Any]:
        pictures = [base64.b64encode(square(i, self._about["image_size"])).decode() for i in images]
        return {"prompt": {"prompt_string": words, "multimodal_data": pictures} if pictures else words}


def _checked(answer: httpx.Response) -> dict[str, Any]:
    """The body of a successful answer. Raises BadInput with the server's reason."""
    if answer.status_code != 200:
        error = answer.json().get("error", {})
        too_long = "context" in str(error.get("type", ""))
        raise BadInput(f"the prompt is too long: {MAX_LENGTH} tokens are allowed." if too_long else str(error.get("message")))
    body: dict[str, Any] = answer.json()
    return body


def prompt_text(turns: Sequence[Turn], template: ChatTemplate, tools: Sequence[ToolSpec], marker: str, images: int) -> str:
    """The prompt that `chat.render` tokenises, as text, with `marker` where a picture stands (tested against `render`).

    Control tokens in a person's or a paper's words are broken up, so that they stay words. Raises BadInput when marks and
    pictures differ in number.
    """
    turns = list(turns)
    system = turns.pop(0).content if turns and turns[0].role == "system" else template.system
    marks = sum(t.content.count(IMAGE) for t in turns if t.role in ("user", "tool"))
    if marks != images:
        raise BadInput(f"conversation: {marks} {IMAGE} marks for {images} pictures.")
    parts = [template.bos + template.openers["system"], _words("\n".join(filter(None, [system, list_tools(tools)])), template)]
    parts.append(template.closers["system"])
    for n, turn in enumerate(turns):
        words = f"{turn.tool}: {turn.content}" if turn.role == "tool" and turn.tool else turn.content
        if turn.role == "assistant":
            words = "\n".join(filter(None, [words, write_calls(turn.tool_calls)]))
        words = _words(words, template)
        words = words.replace(IMAGE, marker) if turn.role in ("user", "tool") else words
        words = template.lead + words if turn.role == "assistant" else words
        opened = n == 0 and template.joined and turn.role == "user"
        parts += ["" if opened else template.openers[turn.role], words, template.closers[turn.role]]
    return "".join([*parts, template.openers["assistant"]])


def _words(text: str, template: ChatTemplate) -> str:
    return _CONTROL.sub("< |", text) if template.special else text.replace(template.stop.strip(), "# # #")


def square(image: bytes, side: int) -> bytes:
    """A picture as the tower reads it, as PNG: shorter side to `side` px (bicubic), centre square. Raises BadInput."""
    import io

    from PIL import Image

    from pathasst.imaging.pictures import load

    opened = Image.fromarray(load(image))
    scale = side / min(opened.size)
    width, height = (max(side, int(s * scale)) for s in opened.size)
    left, top = (width - side) // 2, (height - side) // 2
    resized = opened.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
    out = io.BytesIO()
    resized.save(out, "PNG", compress_level=1)
    return out.getvalue()
