"""`POST /v1/chat/completions`: a question answered by the loop, or one reply of the brain for a client with tools of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from pathasst.assistant.agent import Event
from pathasst.assistant.answer import Answer
from pathasst.core.errors import BadInput
from pathasst.core.records import Turn
from pathasst.serve.api import errors, helper_requests, messages
from pathasst.serve.api.decoding import check_model, limited, options_of
from pathasst.serve.api.errors import ApiError
from pathasst.serve.api.schemas import ChatCompletion, ChatRequest, Choice, FunctionCall, MessageToolCall, ReplyMessage, Usage
from pathasst.serve.jobs import Job
from pathasst.serve.service import Service

T = TypeVar("T")
router = APIRouter(tags=["chat"])
FINISH = {"": "stop", "cancelled": "stop", "brain": "stop", "limit": "length", "time": "length"}


@router.post("/v1/chat/completions", response_model=ChatCompletion, responses={200: {"content": {"text/event-stream": {}}}})
async def complete(body: ChatRequest, request: Request) -> Any:
    """Answer a question about pictures, or without one.

    Without `tools` the server runs its own (all of them, or those named in `pathasst.tools`) and gives the finished answer. With
    `tools` the client's own are offered, and the model's calls are handed back.
    """
    service: Service = request.app.state.service
    user: str = request.state.user
    check_model(service, body.model)
    chat = await run_in_threadpool(
        messages.read, body.messages, lambda url: service.input_images.picture(url, user), service.settings.serve.pictures
    )
    if not body.tools and (plain := helper_requests.answered(chat[-1].words)) is not None:
        return _plain(service, body, chat, plain)
    if body.tools:
        return await _reply(service, user, body, chat, request)
    check_question(chat[-1])
    service.uploads.require_room(user)
    job = submit(service, user, body, chat)
    if body.stream:
        return await _streamed(request, job, _answer_chunks(service, user, body, chat, job))
    answer = await outcome(request, job)
    final = finished(service, body, answer)
    service.conversations.remember(user, messages.key([*chat, messages.ChatMessage("assistant", final.content)]), answer)
    return ChatCompletion(
        id=_id(),
        created=int(time.time()),
        model=body.model,
        choices=[Choice(message=ReplyMessage(content=final.content, footer=final.footer), finish_reason=final.reason)],
        usage=usage_of(service, answer.turns[:-1], final.text),
        pathasst=await run_in_threadpool(details, service, user, answer),
    )


@dataclass(frozen=True, slots=True)
class Finished:
    """An answer as a client gets it."""

    text: str
    footer: str
    reason: Literal["stop", "length", "tool_calls"]

    @property
    def content(self) -> str:
        """Its words, with the footer."""
        return self.text + self.footer


def finished(service: Service, body: ChatRequest, answer: Answer) -> Finished:
    """The answer cut as the client asks, with the footer unless it is JSON or the client wants none."""
    text, reason = limited(answer.text, body.stops, body.most_tokens, lambda words: service.count_tokens(words)[0])
    footer = messages.footer(answer) if body.pathasst.footer and _schema(body) is None else ""
    return Finished(text, footer, reason if reason == "length" else FINISH[answer.stopped])  # type: ignore[arg-type]


def _schema(body: ChatRequest) -> dict[str, Any] | None:
    return body.response_format.wanted_schema if body.response_format else None


def _plain(service: Service, body: ChatRequest, chat: list[messages.ChatMessage], words: str) -> Any:
    """An answer that needs no work, as a completion or as a stream."""
    usage = usage_of(service, [Turn(role=m.role, content=m.words) for m in chat], words)
    if not body.stream:
        choice = Choice(message=ReplyMessage(content=words))
        return ChatCompletion(id=_id(), created=int(time.time()), model=body.model, choices=[choice], usage=usage)
    chunks = _Chunks(body)
    parts = [chunks.delta(role="assistant", content=words), chunks.delta("stop")]
    parts += [chunks.usage(usage)] if body.stream_options and body.stream_options.include_usage else []
    return StreamingResponse(iter([*parts, "data: [DONE]\n\n"]), media_type="text/event-stream")


def check_question(message: messages.ChatMessage) -> None:
    """Raises BadInput for a message that asks nothing."""
    if message.role != "user" or not message.words.strip():
        raise BadInput("the last message holds no question.")


async def outcome(request: Request, job: Job[T]) -> T:
    """The job's result; a client that leaves cancels it."""
    async with watched(request, job):
        async for _ in job.stream():
            pass
        return job.result()


@contextlib.asynccontextmanager
async def watched(request: Request, job: Job[T]) -> AsyncIterator[None]:
    """Within it, a client that leaves cancels the job."""

    async def cancel_when_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        job.cancel()

    watcher = asyncio.create_task(cancel_when_gone())
    try:
        yield
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher


def details(service: Service, user: str, answer: Answer) -> dict[str, Any]:
    """What stands behind an answer; the pictures that tools made are stored as files of this user's."""
    stored = {p.handle: service.store_picture(user, f"{p.handle}_{p.by}.png", p.image, p.um_per_px) for p in answer.made()}
    fields = answer.to_json()
    pictures = [{**p, "file_id": stored.get(p["handle"])} for p in fields["pictures"]]
    names = ("brain", "statements", "ran", "sources", "struck_references", "notices", "stopped", "seconds")
    composed = {"decoding": "composed from results: nothing is sampled, at any temperature"} if service.composes else {}
    return {**{k: fields[k] for k in names}, "pictures": pictures, **composed}


def submit(service: Service, user: str, body: ChatRequest, chat: list[messages.ChatMessage]) -> Job[Answer]:
    """The job that answers the last message."""
    before = chat[:-1]
    previous = service.conversations.recall(user, messages.key(before))
    sees, decoded = service.brain.brain.sees, service.input_images.opened
    return service.submit(
        chat[-1].words,
        chat[-1].pictures,
        previous or (lambda: messages.history(before, sees, decoded)),
        user,
        tools=body.pathasst.tools,
        advice=chat[-1].advice,
        options=replace(options_of(body), max_tokens=None),  # the answer is cut, not the calls before it
        json_schema=_schema(body),
    )


def submit_reply(
    service: Service, user: str, body: ChatRequest, chat: list[messages.ChatMessage]
) -> tuple[list[Turn], Job[Turn]]:
    """The conversation, and the job of one reply to it whose calls are the client's to run. Raises BadInput, ApiError."""
    options = options_of(body)
    if (schema := _schema(body)) is not None and options.tool is None:  # a call has its own schema
        if service.composes:
            raise ApiError(
                "response_format is not offered together with tools here; send one of the two.", param="response_format"
            )
        options = replace(options, json_schema=schema)
    turns, pictures = messages.turns(body.messages, chat, service.brain.brain.sees or service.composes)
    return turns, service.submit_reply(turns, pictures, messages.specs(body), user, options)


async def _reply(service: Service, user: str, body: ChatRequest, chat: list[messages.ChatMessage], request: Request) -> Any:
    """One reply of the brain; the calls in it are the client's to run."""
    turns, job = submit_reply(service, user, body, chat)
    if body.stream:
        return await _streamed(request, job, _reply_chunks(service, body, turns, job))
    turn, reason = cut_turn(service, body, await outcome(request, job))
    return ChatCompletion(
        id=_id(),
        created=int(time.time()),
        model=body.model,
        choices=[Choice(message=message_of(turn), finish_reason=reason)],
        usage=usage_of(service, turns, turn_text(turn)),
        pathasst={"brain": service.brain_name},
    )


def cut_turn(service: Service, body: ChatRequest, turn: Turn) -> tuple[Turn, Literal["stop", "length", "tool_calls"]]:
    """A reply as the client asks for it: its words cut, one call where it wants no more; and why it ends."""
    if turn.tool_calls:
        return (turn if body.parallel_tool_calls is not False else replace(turn, tool_calls=turn.tool_calls[:1])), "tool_calls"
    text, reason = limited(turn.content, body.stops, body.most_tokens, lambda words: service.count_tokens(words)[0])
    return replace(turn, content=text), "length" if reason == "length" else "stop"


def message_of(turn: Turn) -> ReplyMessage:
    """A reply with its calls, each with an id."""
    calls = [
        MessageToolCall(
            id=c.id or f"call_{secrets.token_hex(8)}",
            function=FunctionCall(name=c.name, arguments=json.dumps(c.arguments, ensure_ascii=False)),
        )
        for c in turn.tool_calls
    ]
    return ReplyMessage(content=turn.content or (None if calls else ""), tool_calls=calls or None)


async def _streamed(request: Request, job: Job[Any], chunks: AsyncIterator[str]) -> StreamingResponse:
    """The chunks, once the job has begun: a request that finds no room gets its 429, not a stream that ends with it."""
    async with watched(request, job):
        await job.wait_started()
    return StreamingResponse(chunks, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


class _Chunks:
    """The chunks of one streamed completion."""

    def __init__(self, body: ChatRequest) -> None:
        self.head = {"id": _id(), "object": "chat.completion.chunk", "created": int(time.time()), "model": body.model}

    def delta(self, finish: str | None = None, extra: Any = None, **delta: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _event({**self.head, "choices": [choice], **({"pathasst": extra} if extra else {})})

    def usage(self, usage: Usage) -> str:
        return _event({**self.head, "choices": [], "usage": usage.model_dump()})


async def _answer_chunks(
    service: Service, user: str, body: ChatRequest, chat: list[messages.ChatMessage], job: Job[Answer]
) -> AsyncIterator[str]:
    chunks, text_so_far, piece = _Chunks(body), "", ""
    as_it_comes = not body.stops and body.most_tokens is None and _schema(body) is None  # what may be cut is sent at the end
    yield chunks.delta(role="assistant", content="")
    try:
        async for event in job.stream():
            if event.kind == "text" and as_it_comes:
                words = event.text if piece or not text_so_far else f"\n\n{event.text}"
                piece, text_so_far = piece + event.text, text_so_far + words
                yield chunks.delta(content=words)
            elif event.kind not in ("answer", "text"):
                piece = "" if event.kind == "call" else piece
                yield chunks.delta(extra=event_json(event))
        answer = job.result()
        final = finished(service, body, answer)
        if rest := _rest(final.text, piece, text_so_far):
            text_so_far += rest
            yield chunks.delta(content=rest)
        if final.footer:
            text_so_far += final.footer
            yield chunks.delta(content=final.footer, footer=final.footer)
        service.conversations.remember(user, messages.key([*chat, messages.ChatMessage("assistant", text_so_far)]), answer)
        yield chunks.delta(final.reason, await run_in_threadpool(details, service, user, answer))
        if body.stream_options and body.stream_options.include_usage:
            yield chunks.usage(usage_of(service, answer.turns[:-1], final.text))
    except Exception as error:  # noqa: BLE001 - the status is sent already; the error goes into the stream
        yield _event(errors.of(error)[1])
    yield "data: [DONE]\n\n"


async def _reply_chunks(service: Service, body: ChatRequest, turns: list[Turn], job: Job[Turn]) -> AsyncIterator[str]:
    chunks = _Chunks(body)
    yield chunks.delta(role="assistant", content="")
    try:
        async for _ in job.stream():
            pass
        turn, reason = cut_turn(service, body, job.result())
        message = message_of(turn).model_dump(exclude_none=True)
        for n, call in enumerate(message.get("tool_calls", [])):
            call["index"] = n
        yield chunks.delta(**{k: v for k, v in message.items() if k != "role"})
        yield chunks.delta(reason)
        if body.stream_options and body.stream_options.include_usage:
            yield chunks.usage(usage_of(service, turns, turn_text(turn)))
    except Exception as error:  # noqa: BLE001 - as above
        yield _event(errors.of(error)[1])
    yield "data: [DONE]\n\n"


def _rest(text: str, piece: str, text_so_far: str) -> str:
    """What of the answer has not been sent; the whole of it again, said to be so, when what was sent turned out otherwise."""
    if text.startswith(piece.strip()):
        rest = text[len(piece.lstrip()) :]
        return rest if piece or not text_so_far else f"\n\n{rest}"
    return f"\n\n(Corrected after the check of references:)\n\n{text}"


def event_json(event: Event) -> dict[str, Any]:
    """A step of the work, for clients that show it."""
    if event.call:
        return {"event": "call", "tool": event.call.name, "arguments": event.call.arguments}
    if event.step:
        result = event.step.result
        return {"event": "step", "tool": result.name, "text": result.words, "error": result.error, "seconds": result.seconds}
    return {"event": event.kind}


def turn_text(turn: Turn) -> str:
    """What of a turn counts as tokens."""
    return turn.content + "".join(f"{c.name}{json.dumps(c.arguments)}" for c in turn.tool_calls)


def usage_of(service: Service, before: list[Turn], reply: str) -> Usage:
    """Tokens of a conversation and of the reply to it."""
    prompt, counted = service.count_tokens(*(turn_text(t) for t in before))
    reply_tokens, _ = service.count_tokens(reply)
    return Usage(prompt_tokens=prompt, completion_tokens=reply_tokens, total_tokens=prompt + reply_tokens, estimated=not counted)


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False, default=str)}\n\n"


def _id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"
