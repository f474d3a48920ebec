"""PathAsst run by llama.cpp (`xllamacpp`): the quick engine on a CPU. Same questions, same answers' form as `generate.PathAsst`.

The adapter is exported to GGUF once and kept in the cache (`engine_folder`); after that neither torch nor transformers is needed.
llama.cpp keeps keys, values and pictures of the last conversation, and holds tool calls to a grammar. It is reached over its own
port on this machine alone, behind a key that only this process knows.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pathasst.core.errors import BadInput
from pathasst.core.records import IMAGE, ToolCall, ToolSpec, Turn
from pathasst.mllm.chat import ChatTemplate
from pathasst.mllm.export import ABOUT, LANGUAGE, VISION
from pathasst.mllm.generate import MAX_LENGTH, PathAsst
from pathasst.mllm.grammar import arguments_grammar, calls_grammar
from pathasst.mllm.tool_text import OPEN, call_head, call_written, list_tools, write_calls

ANSWER_ROOM = 512  # tokens beside the longest prompt
_CONTROL = re.compile(r"<\|(?=\w+\|>)")


def available() -> bool:
    """Whether llama.cpp's engine is installed and no GPU is there, on which transformers would be the quicker one."""
    return find_spec("xllamacpp") is not None and not Path("/dev/nvidia0").exists()


class LlamaPathAsst(PathAsst):
    """A PathAsst exported to GGUF. Use `PathAsst.load`; this class opens a folder that `export(…, "gguf")` wrote.

    >>> LlamaPathAsst(Path("out/gguf")).reply([Turn(role="user", content="<image>\\nWhat is this?")], [png_bytes])
    """

    def __init__(self, folder: Path, version: str = "", threads: int = 0) -> None:
        import xllamacpp

        self.version = version
        self.template = ChatTemplate.load(folder)
        self._about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        self._key = secrets.token_hex(16)
        params = xllamacpp.CommonParams()
        params.model.path, params.mmproj.path = str(folder / LANGUAGE), str(folder / VISION)
        params.n_ctx, params.n_parallel = MAX_LENGTH + ANSWER_ROOM, 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads or len(os.sched_getaffinity(0))
        params.mmproj_use_gpu, params.warmup, params.verbosity = False, False, 0
        params.hostnames, params.port, params.api_keys = ["127.0.0.1"], 0, [self._key]
        self._server = xllamacpp.Server(params)
        self._address = urlparse(self._server.listening_address).netloc
        self._marker = str(self._ask("GET", "/props")["media_marker"])

    def _written(
        self, turns: Sequence[Turn], images: Sequence[bytes], tools: Sequence[ToolSpec], most: int, calls: bool
    ) -> Iterator[str]:
        """All that is written so far, after each piece that the server sends."""
        text, request = "", self._request(turns, images, tools, most)
        if not calls:
            request = {k: v for k, v in request.items() if not k.startswith("grammar")}
            request["logit_bias"] = [[self._tokenize(OPEN)[0], False]]
        for piece in self._pieces(request):
            text += piece
            yield text

    def write_call(
        self, turns: Sequence[Turn], images: Sequence[bytes], tools: Sequence[ToolSpec], name: str, *, max_new_tokens: int = 128
    ) -> ToolCall:
        """As `PathAsst.write_call`."""
        grammar = arguments_grammar(next(t for t in tools if t.name == name))
        request = self._request(turns, images, tools, max_new_tokens, begun=call_head(name))
        request |= {"grammar": grammar, "grammar_lazy": False, "grammar_triggers": []}
        return call_written(call_head(name) + "".join(self._pieces(request)), name)

    def reply_many(
        self,
        requests: Sequence[tuple[Sequence[Turn], Sequence[bytes], Sequence[ToolSpec]]],
        *,
        max_new_tokens: int = 64,
        batch: int = 16,
        calls: bool = True,
    ) -> list[Turn]:
        """One reply to each of many (turns, images, tools), one after the other: `batch` makes nothing faster here."""
        return [self.reply(*request, max_new_tokens=max_new_tokens, calls=calls) for request in requests]

    def prompt_ids(self, turns: Sequence[Turn], images: int, tools: Sequence[ToolSpec]) -> list[int]:
        """As `PathAsst.prompt_ids`, by the engine's own tokenizer; a picture's mark counts as its patches."""
        words = prompt_text(turns, self.template, tools, self._marker, images)
        ids = self._tokenize(words) + [0] * (images * int(self._about.get("image_tokens", 49)))
        if len(ids) > MAX_LENGTH:
            raise BadInput(f"the conversation has {len(ids)} tokens; {MAX_LENGTH} are read.")
        return ids

    def count_tokens(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._tokenize(text))

    def _tokenize(self, text: str) -> list[int]:
        answer = self._ask("POST", "/tokenize", {"content": text, "add_special": False})
        return [int(token) for token in answer["tokens"]]

    def _request(
        self, turns: Sequence[Turn], images: Sequence[bytes], tools: Sequence[ToolSpec], most: int, begun: str = ""
    ) -> dict[str, Any]:
        """What the server is asked; the reply goes on from `begun`."""
        words = prompt_text(turns, self.template, tools, self._marker, len(images)) + begun
        pictures = [base64.b64encode(square(i, self._about["image_size"])).decode() for i in images]
        request: dict[str, Any] = {
            "prompt": {"prompt_string": words, "multimodal_data": pictures} if pictures else words,
            "temperature": 0.0,
            "n_predict": most,
            "stop": [] if self.template.special else [self.template.stop.strip()],
            "cache_prompt": True,
            "stream": True,
        }
        if tools:
            trigger = {"type": 1, "value": OPEN}  # 1: a word, from which on the grammar holds
            request |= {"grammar": calls_grammar(tools), "grammar_lazy": True, "grammar_triggers": [trigger]}
        return request

    def _pieces(self, request: dict[str, Any]) -> Iterator[str]:
        connection = http.client.HTTPConnection(self._address, timeout=600)
        try:
            response = self._send(connection, "POST", "/completion", request)
            for line in response:
                if line.startswith(b"data: {"):
                    said = json.loads(line[6:])
                    if "error" in said:
                        raise BadInput(str(said["error"].get("message", said["error"])))
                    yield str(said.get("content", ""))
        finally:
            connection.close()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._address, timeout=600)
        try:
            answer: dict[str, Any] = json.loads(self._send(connection, method, path, body).read())
        finally:
            connection.close()
        return answer

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: dict[str, Any] | None
    ) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        if response.status != 200:
            error = json.loads(response.read()).get("error", {})
            long = "context" in str(error.get("type", ""))
            raise BadInput(f"the prompt is too long: {MAX_LENGTH} tokens are allowed." if long else str(error.get("message")))
        return response


def prompt_text(turns: Sequence[Turn], template: ChatTemplate, tools: Sequence[ToolSpec], marker: str, images: int) -> str:
    """The prompt that `chat.render` tokenises, as text, with `marker` where a picture stands (tested against `render`).

    Control tokens in a person's or a paper's words are broken up, so that they stay words. Raises BadInput when marks and
    pictures differ in number.
    """
    turns = list(turns)
    system = turns.pop(0).content if turns and turns[0].role == "system" else template.system
    marks = sum(t.content.count(IMAGE) for t in turns if t.role == "user")
    if marks != images:
        raise BadInput(f"conversation: {marks} {IMAGE} marks for {images} pictures.")
    parts = [template.openers["system"], _words("\n".join(filter(None, [system, list_tools(tools)])), template)]
    parts.append(template.closers["system"])
    for turn in turns:
        said = f"{turn.tool}: {turn.content}" if turn.role == "tool" and turn.tool else turn.content
        if turn.role == "assistant":
            said = "\n".join(filter(None, [said, write_calls(turn.tool_calls)]))
        said = _words(said, template)
        said = said.replace(IMAGE, marker) if turn.role == "user" else said
        parts += [template.openers[turn.role], said, template.closers[turn.role]]
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
    made = opened.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
    out = io.BytesIO()
    made.save(out, "PNG", compress_level=1)
    return out.getvalue()
