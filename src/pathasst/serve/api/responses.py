"""`POST /v1/responses`: OpenAI's newer form of the same questions, read and answered as chat completions are.

A response is remembered for its user (as long as the server keeps conversations), so that `previous_response_id` goes on from it.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, ValidationError, model_validator
from starlette.concurrency import run_in_threadpool

from pathasst.assistant.answer import Answer
from pathasst.core.records import Turn
from pathasst.serve.api import chat as completions
from pathasst.serve.api import errors, helper_requests, messages
from pathasst.serve.api.decoding import check_model
from pathasst.serve.api.errors import NOT_FOUND, ApiError
from pathasst.serve.api.schemas import ChatRequest, Options, Seed, Shape, Share, Temperature, Text, Tokens, Usage
from pathasst.serve.jobs import Job
from pathasst.serve.service import Service

router = APIRouter(tags=["responses"])
PIECE = 400
"""Characters of one delta."""
FORM = r"^resp_[0-9a-f]{32}$"
Id = Annotated[str, Field(pattern=FORM)]
IdInPath = Annotated[str, Path(max_length=100, pattern=FORM)]


class TextSettings(Shape):
    """The form of the text: plain, any JSON object, or JSON of a schema."""

    format: dict[str, Any] | None = None


class ResponseRequest(Shape):
    """A question. `input`: words, or a list of items: messages, calls of functions and their outputs."""

    model: Annotated[str, Field(max_length=200)] = "pathasst"
    input: Text | Annotated[list[dict[str, Any]], Field(min_length=1, max_length=1000)]
    instructions: Text | None = None
    previous_response_id: Id | None = None
    stream: bool | None = False
    store: bool | None = True
    tools: Annotated[list[dict[str, Any]] | None, Field(max_length=128)] = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = True
    text: TextSettings | None = None
    max_output_tokens: Tokens = None
    temperature: Temperature = None
    top_p: Share = None
    seed: Seed = None
    background: Literal[False] | None = None
    conversation: None = None
    prompt: None = None
    truncation: Literal["auto", "disabled"] | None = None
    pathasst: Options = Field(default_factory=Options)

    @model_validator(mode="after")
    def _complete(self) -> ResponseRequest:
        strange = [t.get("type") for t in self.tools or [] if t.get("type") != "function"]
        if strange:
            raise ValueError(f"tools: {str(strange[0])[:60]} is not offered here; functions are.")
        return self


class ResponseObject(BaseModel):
    """The whole response. `pathasst`: what was run, sources, notices, as of a chat completion."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    model: str
    output: list[dict[str, Any]]
    error: dict[str, Any] | None = None
    incomplete_details: dict[str, Any] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    parallel_tool_calls: bool = True
    tool_choice: Any = "auto"
    tools: list[dict[str, Any]] = Field(default_factory=list)
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    text: dict[str, Any] = Field(default_factory=lambda: {"format": {"type": "text"}})
    metadata: dict[str, str] = Field(default_factory=dict)
    usage: dict[str, Any] | None = None
    pathasst: dict[str, Any] = Field(default_factory=dict)


@router.post("/v1/responses", response_model=ResponseObject, responses={200: {"content": {"text/event-stream": {}}}, **NOT_FOUND})
async def create(body: ResponseRequest, request: Request) -> Any:
    """Answer a question, as `POST /v1/chat/completions` does: with the server's tools, or with calls of the client's."""
    service: Service = request.app.state.service
    user: str = request.state.user
    check_model(service, body.model)
    items = _items(body, service, user)
    chat = as_chat(body, items)
    read = await run_in_threadpool(
        messages.read, chat.messages, lambda url: service.input_images.picture(url, user), service.settings.serve.pictures
    )
    run = _Run(service, user, body, chat, read, items)
    run.submit()
    if not body.stream:
        return await run.response(request)
    if run.job is not None:
        async with completions.watched(request, run.job):
            await run.job.wait_started()
    return StreamingResponse(run.events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


@router.get("/v1/responses/{id}", responses=NOT_FOUND)
def retrieve(id: IdInPath, request: Request) -> ResponseObject:
    """A response that the server still remembers."""
    return ResponseObject(**_stored(request.app.state.service, request.state.user, id)["response"])


@router.delete("/v1/responses/{id}", responses=NOT_FOUND)
def delete(id: IdInPath, request: Request) -> dict[str, Any]:
    """Forget it now."""
    _stored(request.app.state.service, request.state.user, id)
    request.app.state.service.responses.forget(request.state.user, id)
    return {"id": id, "object": "response", "deleted": True}


def as_chat(body: ResponseRequest, items: list[dict[str, Any]]) -> ChatRequest:
    """The request as one of chat completions. Raises ApiError for what has no such form."""
    instructions = [{"role": "system", "content": body.instructions}] if body.instructions else []
    form = (body.text.format if body.text else None) or {"type": "text"}
    if form.get("type") == "json_schema":
        form = {"type": "json_schema", "json_schema": {k: v for k, v in form.items() if k != "type"}}
    choice = body.tool_choice
    if isinstance(choice, dict) and choice.get("type") == "function":
        choice = {"type": "function", "function": {"name": choice.get("name", "")}}
    values = {
        "model": body.model,
        "messages": [*instructions, *_messages(items)],
        "tools": [{"type": "function", "function": {k: v for k, v in t.items() if v is not None}} for t in body.tools or []]
        or None,
        "tool_choice": choice,
        "parallel_tool_calls": body.parallel_tool_calls,
        "response_format": form,
        "max_completion_tokens": body.max_output_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "seed": body.seed,
        "pathasst": body.pathasst,
    }
    try:
        return ChatRequest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])).replace("messages", "input", 1)
        raise ApiError(f"{where}: {first['msg']}", param=where) from error


def _messages(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Items as messages; calls that follow each other are one message."""
    result: list[dict[str, Any]] = []
    for item in items:
        kind = item.get("type", "message")
        if kind == "message":
            result.append({"role": item.get("role"), "content": item.get("content")})
        elif kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments") or "{}"}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            if result and result[-1]["role"] == "assistant":
                result[-1].setdefault("tool_calls", []).append(call)
            else:
                result.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif kind == "function_call_output":
            output = item.get("output")
            words = output if isinstance(output, str | list) else json.dumps(output)
            result.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": words})
        elif kind != "reasoning":
            raise ApiError(f"input: items of type {str(kind)[:60]!r} are not offered here.", param="input")
    return result


def _items(body: ResponseRequest, service: Service, user: str) -> list[dict[str, Any]]:
    """The conversation so far and what is new."""
    new = [{"type": "message", "role": "user", "content": body.input}] if isinstance(body.input, str) else body.input
    if body.previous_response_id is None:
        return new
    return [*_stored(service, user, body.previous_response_id)["items"], *new]


def _stored(service: Service, user: str, id_: str) -> dict[str, Any]:
    entry = service.responses.get(user, id_)
    if entry is None:
        raise ApiError(f"there is no response {id_[:60]!r}; it may have expired.", 404, "response_not_found")
    return entry


class _Run:
    """One request under way."""

    def __init__(
        self,
        service: Service,
        user: str,
        body: ResponseRequest,
        chat: ChatRequest,
        read: list[messages.ChatMessage],
        items: list[dict[str, Any]],
    ) -> None:
        self.service, self.user, self.body, self.chat, self.read, self.items = service, user, body, chat, read, items
        self.job: Job[Any] | None = None
        self.turns: list[Turn] = []
        self.id, self.created, self.number = f"resp_{secrets.token_hex(16)}", int(time.time()), 0

    def submit(self) -> None:
        """Begin. Raises as chat completions do."""
        last = self.read[-1]
        if self.chat.tools:
            self.turns, self.job = completions.submit_reply(self.service, self.user, self.chat, self.read)
        elif helper_requests.answered(last.words) is None:
            completions.check_question(last)
            self.service.uploads.require_room(self.user)
            self.job = completions.submit(self.service, self.user, self.chat, self.read)

    async def response(self, request: Request) -> ResponseObject:
        """The response, when it is there."""
        outcome = await completions.outcome(request, self.job) if self.job is not None else None
        return await run_in_threadpool(self._finished, outcome)

    async def events(self) -> AsyncIterator[str]:
        """The response as events. Words are sent when the answer is checked; the steps of the work as they come."""
        begun = self._object("in_progress", [])
        yield self._event("response.created", response=begun)
        yield self._event("response.in_progress", response=begun)
        try:
            if self.job is not None:
                async for event in self.job.stream():
                    if getattr(event, "kind", "text") not in ("text", "answer"):
                        yield self._event("response.in_progress", response=begun, pathasst=completions.event_json(event))
            response = await run_in_threadpool(self._finished, self.job.result() if self.job is not None else None)
            for place, item in enumerate(response.output):
                for event in self._item_events(place, item):
                    yield event
            kind = "response.completed" if response.status == "completed" else "response.incomplete"
            yield self._event(kind, response=response.model_dump())
        except Exception as error:  # noqa: BLE001 - the status is sent already; the error goes into the stream
            fault = errors.of(error)[1]["error"]
            failed = self._object("failed", [], error={"code": fault["code"] or "server_error", "message": fault["message"]})
            yield self._event("response.failed", response=failed)

    def _item_events(self, place: int, item: dict[str, Any]) -> list[str]:
        at = {"output_index": place, "item_id": item["id"]}
        if item["type"] == "function_call":
            return [
                self._event(
                    "response.output_item.added", output_index=place, item={**item, "arguments": "", "status": "in_progress"}
                ),
                self._event("response.function_call_arguments.delta", **at, delta=item["arguments"]),
                self._event("response.function_call_arguments.done", **at, name=item["name"], arguments=item["arguments"]),
                self._event("response.output_item.done", output_index=place, item=item),
            ]
        at["content_index"] = 0
        (part,) = item["content"]
        words = part["text"]
        pieces = [words[n : n + PIECE] for n in range(0, len(words), PIECE)]
        return [
            self._event("response.output_item.added", output_index=place, item={**item, "content": [], "status": "in_progress"}),
            self._event("response.content_part.added", **at, part={**part, "text": ""}),
            *(self._event("response.output_text.delta", **at, delta=piece, logprobs=[]) for piece in pieces),
            self._event("response.output_text.done", **at, text=words, logprobs=[]),
            self._event("response.content_part.done", **at, part=part),
            self._event("response.output_item.done", output_index=place, item=item),
        ]

    def _finished(self, outcome: Answer | Turn | None) -> ResponseObject:
        """The response, remembered for its user."""
        service, details = self.service, {"brain": self.service.brain_name}
        reason, before = "stop", [Turn(role=m.role, content=m.words) for m in self.read]
        if outcome is None:
            text = helper_requests.answered(self.read[-1].words) or ""
            output = [_message(text)]
        elif isinstance(outcome, Answer):
            final = completions.finished(service, self.chat, outcome)
            text, reason, output = final.text, final.reason, [_message(final.content)]
            reply = messages.ChatMessage("assistant", final.content)
            service.conversations.remember(self.user, messages.key([*self.read, reply]), outcome)
            details, before = completions.details(service, self.user, outcome), outcome.turns[:-1]
        else:
            turn, reason = completions.cut_turn(service, self.chat, outcome)
            text, before = completions.turn_text(turn), self.turns
            output = [_call(c) for c in completions.message_of(turn).tool_calls or []] or [_message(turn.content)]
        status: Literal["completed", "incomplete"] = "incomplete" if reason == "length" else "completed"
        response = self._object(status, output, usage=completions.usage_of(service, before, text), details=details)
        if self.body.store is not False:
            entry = {"response": response, "items": [*self.items, *output]}
            service.responses.put(self.user, self.id, entry, len(json.dumps(entry, default=str)))
        return ResponseObject(**response)

    def _object(
        self,
        status: Literal["in_progress", "completed", "incomplete", "failed"],
        output: list[dict[str, Any]],
        usage: Usage | None = None,
        error: dict[str, Any] | None = None,
        details: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        body = self.body
        counts = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens} if usage else {}
        return ResponseObject(
            id=self.id,
            created_at=self.created,
            status=status,
            model=body.model,
            output=output,
            error=error,
            incomplete_details={"reason": "max_output_tokens"} if status == "incomplete" else None,
            instructions=body.instructions,
            previous_response_id=body.previous_response_id,
            parallel_tool_calls=body.parallel_tool_calls is not False,
            tool_choice=body.tool_choice or "auto",
            tools=body.tools or [],
            temperature=body.temperature,
            top_p=body.top_p,
            max_output_tokens=body.max_output_tokens,
            text={"format": (body.text.format if body.text else None) or {"type": "text"}},
            usage=usage
            and {
                **counts,
                "total_tokens": usage.total_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
            },
            pathasst=details or {},
        ).model_dump()

    def _event(self, kind: str, **values: Any) -> str:
        data = {"type": kind, "sequence_number": self.number, **values}
        self.number += 1
        return f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=False, default=str)}\n\n"


def _message(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {
        "id": f"msg_{secrets.token_hex(16)}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


def _call(call: Any) -> dict[str, Any]:
    return {
        "id": f"fc_{secrets.token_hex(16)}",
        "type": "function_call",
        "call_id": call.id,
        "name": call.function.name,
        "arguments": call.function.arguments,
        "status": "completed",
    }
