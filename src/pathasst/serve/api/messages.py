"""A chat request read as a conversation of ours. Knows the request's shape and our records; runs nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pathasst.assistant import sanitize
from pathasst.assistant.answer import Answer
from pathasst.assistant.images import ChatPictures, PictureInput
from pathasst.core.errors import BadInput
from pathasst.core.records import IMAGE, ToolCall, ToolSpec, Turn
from pathasst.llm.tool_calls import call_of
from pathasst.serve.api.schemas import ChatRequest, FilePart, ImagePart, Message, TextPart

MOST_STEPS = 12
"""Calls that a footer names; a model that goes round makes many."""


@dataclass(slots=True)
class ChatMessage:
    """One message: its words, the pictures that came with it, and what stands beside the words."""

    role: str
    words: str
    pictures: list[PictureInput] = field(default_factory=list)  # as checked bytes
    advice: str = ""  # the system messages before it
    footer: str = ""  # of an answer that this server gave: the end of `words` that is not the model's own


def read(messages: Sequence[Message], picture: Callable[[str], PictureInput], most: int) -> list[ChatMessage]:
    """The messages' words and pictures; `picture` gives the checked picture behind a URL or file id.

    The words of system messages are the next user message's `advice`: a client advises, it does not replace our own system
    message. Raises BadInput for too many pictures, or one that is not let in.
    """
    chat: list[ChatMessage] = []
    advice: list[str] = []
    count = 0
    for message in messages:
        words, sources = _parts(message)
        count += len(sources)
        if count > most:
            raise BadInput(f"a conversation may hold {most} pictures.")
        if sources and message.role != "user":
            raise BadInput("pictures come with the user's messages alone.")
        if message.role in ("system", "developer"):
            advice.append(words)
            continue
        images = [replace(picture(url), um_per_px=scale) if scale else picture(url) for url, scale in sources]
        one = ChatMessage(message.role, words, images, footer=message.footer)
        if message.role == "user":
            one.advice, advice = "\n\n".join(advice), []
        chat.append(one)
    return chat


def key(chat: Sequence[ChatMessage]) -> list[str]:
    """What a conversation is remembered by: words, advice and pictures, in order."""
    return [
        " ".join([m.role, m.words.strip(), m.advice, *(hashlib.sha256(p.image).hexdigest() for p in m.pictures)]) for m in chat
    ]


def history(chat: Sequence[ChatMessage], sees: bool, decoded: Callable[[PictureInput], PictureInput]) -> Answer | None:
    """A conversation that this server does not remember, from its messages alone; None when there was none."""
    if not chat:
        return None
    chat_pictures, turns = ChatPictures(), []
    for one in chat:
        for picture in one.pictures:
            chat_pictures.add(decoded(picture))
        marks = f"{IMAGE}\n" * (len(one.pictures) if sees else 0)
        words = sanitize.as_data(one.words.removesuffix(one.footer))
        turns.append(Turn(role=one.role, content=marks + words, advice=sanitize.as_data(one.advice)))
    return Answer(question="", text="", turns=turns, pictures=chat_pictures.entries)


def turns(messages: Sequence[Message], chat: Sequence[ChatMessage], sees: bool) -> tuple[list[Turn], list[bytes]]:
    """The conversation of a client that runs its tools itself, and its pictures. Raises BadInput for a result without a call."""
    result: list[Turn] = []
    names: dict[str, str] = {}
    plain = [m for m in messages if m.role not in ("system", "developer")]
    for message, one in zip(plain, chat, strict=True):
        words = sanitize.as_data(one.words.removesuffix(one.footer))
        if message.role == "tool":
            if message.tool_call_id not in names:
                raise BadInput(f"a tool message answers {message.tool_call_id!r}, which no call before it has as its id.")
            words, _ = sanitize.for_brain(one.words)
            result.append(Turn(role="tool", tool=names[message.tool_call_id], content=words))
            continue
        # arguments that nobody can read are none: the client's own tool has answered the call
        calls = [call_of(c.model_dump()) or ToolCall(name=c.function.name, id=c.id) for c in message.tool_calls or []]
        names.update({c.id: c.name for c in calls})
        marks = f"{IMAGE}\n" * (len(one.pictures) if sees else 0)
        result.append(Turn(role=message.role, content=marks + words, tool_calls=calls, advice=sanitize.as_data(one.advice)))
    return result, [p.image for m in chat for p in m.pictures] if sees else []


def specs(request: ChatRequest) -> list[ToolSpec]:
    """The client's tools that the brain may call, as `tool_choice` says."""
    choice = request.tool_choice
    named = "" if choice is None or isinstance(choice, str) else choice.function.name
    offered = [
        ToolSpec(name=t.function.name, description=t.function.description, parameters=t.function.parameters, needs_image=False)
        for t in request.tools or []
        if choice != "none" and named in ("", t.function.name)
    ]
    if named and not offered:
        raise BadInput(f"tool_choice names {named!r}, which is not among the tools.")
    return offered


def footer(answer: Answer) -> str:
    """What an answer must carry also where a client shows its text alone: what ran, sources, notices, research use.

    Clients get it as a field, too, and send that back, so that the model's own words can be told from it.
    """
    ran = [
        f"{s.result.name or 'a call that could not be read'} ({s.result.version or 'no version'}, {s.result.seconds:.1f} s"
        f"{', failed' if s.result.error else ''})"
        for s in answer.steps[:MOST_STEPS]
    ]
    if more := answer.steps[MOST_STEPS:]:
        ran.append(f"and {len(more)} further calls")
    lines = [f"\n\n---\n*PathAsst ran:* {'; '.join(ran) or 'no tool'}. Answered by {answer.brain} in {answer.seconds:.1f} s."]
    lines += [
        f"- PMID {s.hit.pmid}: {sanitize.plain(s.hit.title)}{f' ({s.hit.year})' if s.hit.year else ''}" for s in answer.sources
    ]
    lines += [f"⚠ {notice}" for notice in answer.notices]
    return "\n\n".join([*lines, f"*{answer.research_use}*"])


def _parts(message: Message) -> tuple[str, list[tuple[str, float | None]]]:
    """The words, and each picture's address or id with the scale that the client gives."""
    content = message.content
    if content is None or isinstance(content, str):
        return content or "", []
    words = [p.text for p in content if isinstance(p, TextPart)]
    sources = [
        (p.image_url.url, p.image_url.um_per_px) if isinstance(p, ImagePart) else (p.file.file_id, p.file.um_per_px)
        for p in content
        if isinstance(p, ImagePart | FilePart)
    ]
    return "\n".join(words), sources
