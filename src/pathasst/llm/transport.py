"""One HTTP request to an OpenAI-compatible server, tried again as long as that can help. Knows HTTP, no prompts.

Tried again: refused or broken connections, time-outs, 408, 409, 425, 429, 5xx, and bodies that are not the JSON promised.
Not tried again: other 4xx. `Retry-After` (seconds or a date) is obeyed up to `max_wait`.
"""

from __future__ import annotations

import email.utils
import json
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from pathasst.core.errors import Unreachable
from pathasst.llm.settings import LLMSettings
from pathasst.llm.thoughts import apart as thoughts_apart
from pathasst.llm.thoughts import parts as thoughts_and_words
from pathasst.llm.tool_calls import ARGUMENTS

MOST_BYTES = 16 * 2**20
"""Of one answer, however long the model talks."""
AGAIN = frozenset({408, 409, 425, 429})
P = TypeVar("P", bytes, str)
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Endless(Unreachable):
    """An answer that did not end within its time or size; asking again would cost as much."""


class Refused(Unreachable):
    """The server understood and refused (4xx): asking the same again does not help. `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Transport:
    """A pool of connections to one server, used by several threads."""

    def __init__(self, settings: LLMSettings, base_url: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self.settings, self.url, self.sleep = settings, base_url.rstrip("/") + "/chat/completions", sleep
        key = os.environ.get(settings.key_env, "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # llama.cpp's server closes connections that it said it would keep; on this machine a new one costs nothing.
        keepalive = 0 if urlsplit(base_url).hostname in LOOPBACK else None
        timeout = httpx.Timeout(settings.timeout, connect=min(10.0, settings.timeout))
        self.http = httpx.Client(headers=headers, timeout=timeout, limits=httpx.Limits(max_keepalive_connections=keepalive))

    def post(self, body: dict[str, Any], left: Callable[[], bool] = lambda: False) -> tuple[dict[str, Any], int]:
        """The answer's JSON and how many tries it took; its thoughts are in `reasoning_content` alone, its content is text.

        `left`: whether nobody waits for the answer any more; asked whenever something of it comes. Raises Refused for a 4xx,
        Unreachable after the last try, for an answer of more than MOST_BYTES, and when it was left.
        """
        reason, wait = "", 0.0
        for attempt in range(1, self.settings.attempts + 1):
            if attempt > 1:
                self.sleep(wait)
            try:
                answer = self._answer(body, left)
            except httpx.HTTPError as error:
                reason, wait = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, self._backoff(attempt)
                continue
            except UnicodeEncodeError as error:  # a lone surrogate in the question
                raise Refused(f"the request cannot be written as UTF-8: {error}", 400) from error
            if answer.status_code == 200 and (completion := _completion(answer.content)) is not None:
                return completion, attempt
            reason = f"HTTP {answer.status_code}: {_brief(answer)}"
            if 400 <= answer.status_code < 500 and answer.status_code not in AGAIN:
                raise Refused(f"{self.url} refused the request ({reason}).", answer.status_code)
            wait = self._backoff(attempt, answer.headers.get("retry-after", ""))
        raise Unreachable(
            f"{self.url} gave no answer in {self.settings.attempts} tries; the last: {reason}. Check that the server runs, "
            "then run the same command again: answers so far are kept."
        )

    def _answer(self, body: dict[str, Any], left: Callable[[], bool]) -> httpx.Response:
        """One whole answer within `timeout` seconds in all: a server that sends a byte now and then is not waited for.

        Raises httpx.HTTPError, Unreachable.
        """
        deadline = time.monotonic() + self.settings.timeout
        with self.http.stream("POST", self.url, json=body) as answer:
            parts = []
            for part in self._within_limits(answer.iter_bytes(), deadline):
                parts.append(part)
                if left():
                    raise Unreachable("nobody waits for this answer any more.")
            headers = {k: v for k, v in answer.headers.items() if k.lower() not in ("content-encoding", "content-length")}
            return httpx.Response(answer.status_code, headers=headers, content=b"".join(parts), request=answer.request)

    def stream(self, body: dict[str, Any]) -> Iterator[str | dict[str, Any]]:
        """The answer's text piece by piece, then the whole message, tool calls and thoughts included; in one try.

        Leaving early ends the generation. A server that does not stream is read all the same: its text comes in one piece. Raises
        Refused or Unreachable, also for an answer that is not whole within `timeout` seconds.
        """
        message, lines = _Message(), []
        for line in self._lines({**body, "stream": True}):
            if line.startswith("data:"):
                if piece := message.add(line.removeprefix("data:")):
                    yield piece
            elif not message.begun:
                lines.append(line)
        if message.fault:
            raise Unreachable(f"{self.url} broke off: {message.fault}")
        if message.begun:
            yield message.joined()
            return
        completion = _completion("\n".join(lines))
        if completion is None:
            raise Unreachable(f"{self.url} answered in no form of the chat API: {' '.join(lines)[:200]}")
        if text := completion["choices"][0]["message"]["content"]:
            yield text
        yield completion["choices"][0]["message"]

    def _lines(self, body: dict[str, Any]) -> Iterator[str]:
        """The lines of one answer as they come, within `timeout` seconds in all. Raises Refused or Unreachable."""
        deadline = time.monotonic() + self.settings.timeout
        try:
            with self.http.stream("POST", self.url, json=body) as answer:
                if answer.status_code != 200:
                    answer.read()
                    reason = f"{self.url} refused the request (HTTP {answer.status_code}: {_brief(answer)})."
                    raise Refused(reason, answer.status_code) if answer.status_code < 500 else Unreachable(reason)
                yield from self._within_limits(answer.iter_lines(), deadline)
        except httpx.HTTPError as error:
            raise Unreachable(f"{self.url} broke off: {type(error).__name__}: {error}") from error
        except UnicodeEncodeError as error:  # a lone surrogate in the question
            raise Refused(f"the request cannot be written as UTF-8: {error}", 400) from error

    def _within_limits(self, parts: Iterable[P], deadline: float) -> Iterator[P]:
        """The parts of one answer. Raises Endless beyond MOST_BYTES, and after the deadline."""
        size = 0
        for part in parts:
            size += len(part)
            if size > MOST_BYTES:
                raise Endless(f"{self.url} answered with more than {MOST_BYTES >> 20} MB; that is no answer.")
            if time.monotonic() > deadline:
                raise Endless(f"{self.url} gave no whole answer within {self.settings.timeout:g} s.")
            yield part

    def close(self) -> None:
        self.http.close()

    def _backoff(self, attempt: int, retry_after: str = "") -> float:
        retry_seconds = _seconds(retry_after)
        wait = (
            retry_seconds if retry_seconds is not None else self.settings.backoff * 2 ** (attempt - 1) * (1 + random.random() / 4)
        )
        return min(wait, self.settings.max_wait)


def _completion(answer: bytes | str) -> dict[str, Any] | None:
    """The body, if it is a chat completion with text, thoughts or tool calls; thoughts and text are taken apart in it."""
    try:
        body = json.loads(answer)
        message = body["choices"][0]["message"]
        thoughts, content = thoughts_apart(message)
        content = content.encode("utf-8", "replace").decode()  # a lone surrogate cannot be passed on
        thoughts = thoughts.encode("utf-8", "replace").decode()
        calls = calls_of(message)
        if not isinstance(message.get("content"), str | list) and not content and not thoughts and not calls:
            return None
        message |= {"content": content, "reasoning_content": thoughts, "tool_calls": calls}
        return body  # type: ignore[no-any-return]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None


def calls_of(message: Mapping[str, Any]) -> list[Any]:
    """The tool calls of a message, or of a stream's piece of one; also one alone, or in the older `function_call`."""
    calls = message.get("tool_calls") or message.get("function_call")
    if isinstance(calls, list):
        return calls
    if not isinstance(calls, dict):
        return []
    return [calls if "function" in calls else {"index": 0, "function": calls}]


class _Message:
    """A chat message put together from the chunks of a stream."""

    def __init__(self) -> None:
        self.begun, self.fault = False, ""
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}

    def add(self, chunk: str) -> str:
        """The text of one chunk, JSON; empty for what holds none and for what is no chunk."""
        try:
            values = json.loads(chunk)
            if values.get("error"):
                self.fault = str(values["error"])[:200]
            choice = values["choices"][0]
            delta = choice.get("delta") or choice["message"]  # some send the message whole
            reasoning, text = thoughts_and_words(delta)
            calls = calls_of(delta)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return ""
        self.begun = True
        self._thoughts.append(reasoning)
        for call in calls:
            self._add_call(call)
        self._text.append(text)
        return text

    def _add_call(self, delta: Any) -> None:
        """A part of a call: its name comes once, its arguments in pieces; servers that send it whole may leave out `index`."""
        if not isinstance(delta, dict):
            return
        function = delta.get("function")
        if not isinstance(function, dict):  # its name and arguments stand in the call itself
            function = {**delta, **({"name": function} if isinstance(function, str) else {})}
        number, id_ = delta.get("index"), str(delta.get("id") or "")
        if not isinstance(number, int) or (id_ and self._calls.get(number, {}).get("id", id_) not in ("", id_)):
            number = len(self._calls)  # some servers number every call 0
        call = self._calls.setdefault(number, {"id": "", "function": {"name": "", "arguments": ""}})
        call["id"] = call["id"] or id_
        call["function"]["name"] = call["function"]["name"] or function.get("name") or ""
        arguments = next((function[key] for key in ARGUMENTS if key in function), None)
        if isinstance(arguments, dict):  # some write them as JSON's own values
            call["function"]["arguments"] = arguments
        elif isinstance(arguments, str) and isinstance(call["function"]["arguments"], str):
            call["function"]["arguments"] += arguments

    def joined(self) -> dict[str, Any]:
        """As a server that does not stream sends it."""
        text, thoughts = ("".join(parts).encode("utf-8", "replace").decode() for parts in (self._text, self._thoughts))
        return {"content": text, "reasoning_content": thoughts, "tool_calls": [self._calls[n] for n in sorted(self._calls)]}


def _seconds(retry_after: str) -> float | None:
    if not retry_after:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        parsed = email.utils.parsedate_tz(retry_after)
        return max(0.0, email.utils.mktime_tz(parsed) - time.time()) if parsed else None


def _brief(answer: httpx.Response) -> str:
    return " ".join(answer.text.split())[:200] or "no text"
