"""A chat request read as a conversation of ours. Knows the request's shape and our records; runs nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pathasst.assistant import sanitize
from pathasst.assistant.answer import Answer
from pathasst.assistant.images import Album
from pathasst.assistant.repair import loads_leniently
from pathasst.core.errors import BadInput
from pathasst.core.records import IMAGE, ToolCall, ToolSpec, Turn
from pathasst.serve.api.schemas import ChatRequest, FilePart, ImagePart, Message, TextPart

FOOTER = "\n\n---\n*PathAsst ran:*"
"""How the part of an answer's text begins that is not the model's own (see `footer`)."""


@dataclass(slots=True)
class Said:
    """One message: its words, and the pictures that came with it, as checked bytes."""

    role: str
    words: str
    pictures: list[bytes] = field(default_factory=list)


def read(messages: Sequence[Message], picture: Callable[[str], bytes], most: int) -> list[Said]:
    """The messages' words and pictures; `picture` gives the checked bytes behind a URL or file id.

    The words of system messages stand before those of the next user message, marked: a client advises, it does not replace our
    own system message. Raises BadInput for too many pictures, or one that is not let in.
    """
    said: list[Said] = []
    advice: list[str] = []
    count = 0
    for message in messages:
        words, urls = _parts(message)
        count += len(urls)
        if count > most:
            raise BadInput(f"a conversation may hold {most} pictures.")
        if urls and message.role != "user":
            raise BadInput("pictures come with the user's messages alone.")
        if message.role in ("system", "developer"):
            advice.append(words)
            continue
        if message.role == "user" and advice:
            words, advice = sanitize.advised("\n\n".join(advice), words), []
        said.append(Said(message.role, words, [picture(url) for url in urls]))
    return said


def key(said: Sequence[Said]) -> list[str]:
    """What a conversation is remembered by: words and pictures, in order."""
    return [" ".join([s.role, s.words.strip(), *(hashlib.sha256(p).hexdigest() for p in s.pictures)]) for s in said]


def history(said: Sequence[Said], sees: bool, decoded: Callable[[bytes], object]) -> Answer | None:
    """A conversation that this server does not remember, from its messages alone; None when there was none."""
    if not said:
        return None
    album, turns = Album(), []
    for one in said:
        words = sanitize.as_data(one.words)
        for picture in one.pictures:
            album.give(decoded(picture))
        marks = f"{IMAGE}\n" * (len(one.pictures) if sees else 0)
        turns.append(Turn(role=one.role, content=marks + words.partition(FOOTER)[0]))
    return Answer(question="", text="", turns=turns, pictures=album.shown)


def turns(messages: Sequence[Message], said: Sequence[Said], sees: bool) -> tuple[list[Turn], list[bytes]]:
    """The conversation of a client that runs its tools itself, and its pictures. Raises BadInput for a result without a call."""
    made: list[Turn] = []
    names: dict[str, str] = {}
    plain = [m for m in messages if m.role not in ("system", "developer")]
    for message, one in zip(plain, said, strict=True):
        words = sanitize.as_data(one.words)
        if message.role == "tool":
            if message.tool_call_id not in names:
                raise BadInput(f"a tool message answers {message.tool_call_id!r}, which no call before it has as its id.")
            words, _ = sanitize.for_brain(one.words)
            made.append(Turn(role="tool", tool=names[message.tool_call_id], content=words))
            continue
        calls = [_call(c.id, c.function.name, c.function.arguments) for c in message.tool_calls or []]
        names.update({c.id: c.name for c in calls})
        marks = f"{IMAGE}\n" * (len(one.pictures) if sees else 0)
        made.append(Turn(role=message.role, content=marks + words, tool_calls=calls))
    return made, [p for s in said for p in s.pictures] if sees else []


def specs(request: ChatRequest) -> list[ToolSpec]:
    """The client's tools that the brain may call, as `tool_choice` says."""
    choice = request.tool_choice
    named = "" if choice is None or isinstance(choice, str) else choice.function.name
    found = [
        ToolSpec(name=t.function.name, description=t.function.description, parameters=t.function.parameters, needs_image=False)
        for t in request.tools or []
        if choice != "none" and named in ("", t.function.name)
    ]
    if named and not found:
        raise BadInput(f"tool_choice names {named!r}, which is not among the tools.")
    return found


def footer(answer: Answer) -> str:
    """What an answer must carry also where a client shows its text alone: what ran, sources, notices, research use."""
    ran = [
        f"{s.result.name or 'a call that could not be read'} ({s.result.version or 'no version'}, {s.result.seconds:.1f} s"
        f"{', failed' if s.result.error else ''})"
        for s in answer.steps
    ]
    lines = [f"{FOOTER} {'; '.join(ran) or 'no tool'}. Answered by {answer.brain} in {answer.seconds:.1f} s."]
    lines += [
        f"- PMID {s.hit.pmid}: {sanitize.plain(s.hit.title)}{f' ({s.hit.year})' if s.hit.year else ''}" for s in answer.sources
    ]
    lines += [f"⚠ {notice}" for notice in answer.notices]
    return "\n\n".join([*lines, f"*{answer.research_use}*"])


def _parts(message: Message) -> tuple[str, list[str]]:
    content = message.content
    if content is None or isinstance(content, str):
        return content or "", []
    words = [p.text for p in content if isinstance(p, TextPart)]
    urls = [
        p.image_url.url if isinstance(p, ImagePart) else p.file.file_id for p in content if isinstance(p, ImagePart | FilePart)
    ]
    return "\n".join(words), urls


def _call(id_: str, name: str, given: str) -> ToolCall:
    value = loads_leniently(given)
    return ToolCall(name=name, arguments=value if isinstance(value, dict) else {}, id=id_)
