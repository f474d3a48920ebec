"""The Answer: what the person gets, with everything behind it. Knows no brain, no tool and no printing (see `render`).

An Answer also is the conversation so far: give it back as `history` and the next question goes on from there, with the same
pictures and the same retrieved abstracts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pathasst.assistant.statements import Statement
from pathasst.core.records import NOTICE, Annotation, Hit, ImageBytes, ToolCall, ToolResult, Turn, to_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from pathasst.assistant.brains.settings import Brain, BrainSettings

PERSON = "person"
"""`ChatPicture.by` of a picture that the person gave."""
MARK_BYTES = 250
"""What one annotation takes in memory besides its mask, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPicture:
    """One picture of the conversation: given by the person, or made by a tool and usable by the next one."""

    number: int  # 1-based; the brain calls it "image<number>"
    name: str
    by: str  # PERSON, or the name of the tool that made it
    image: ImageBytes
    synthetic: bool = False
    um_per_px: float | None = None  # its scale, where known; tools that run on it get it
    visible: bool = False  # a tool's picture that a brain which sees looks at, as at the person's

    @property
    def handle(self) -> str:
        return f"image{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One tool call that the brain asked for, and what came of it."""

    asked: ToolCall  # as the brain wrote it
    call: ToolCall  # as it was run, after repair, without the choice of picture
    result: ToolResult
    image: str = ""  # handle of the picture it ran on
    repairs: list[str] = field(default_factory=list)  # what was changed in the call before it ran
    made: list[str] = field(default_factory=list)  # handles of the pictures it made
    repeated: bool = False  # the same call was run before: its result was given again
    withheld: int = 0  # sentences of the result that were kept from the brain (see `sanitize`)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievedAbstract:
    """One retrieved abstract, with the words an answer can be checked against."""

    hit: Hit
    cited: bool  # the model's own text cites it; otherwise it was only retrieved

    @property
    def passage(self) -> str:
        return " ".join(self.hit.highlights) or self.hit.passage


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answered question and the conversation up to it.

    `text` is the model's answer after the checks: PMIDs that were never retrieved are struck out as `~~[PMID n]~~`. `raw` is what
    the model wrote. `notices` say in plain words what went wrong or must be known; they are part of the answer.
    """

    question: str
    text: str
    statements: list[Statement] = field(default_factory=list)  # what `text` was made of, each with its source
    raw: str = ""
    brain: str = ""  # which brain answered, with its version
    steps: list[Step] = field(default_factory=list)  # tools run for this question
    sources: list[RetrievedAbstract] = field(default_factory=list)  # abstracts retrieved for this question or cited in the answer
    struck: list[str] = field(default_factory=list)  # references in `raw` that no search of this conversation retrieved
    notices: list[str] = field(default_factory=list)
    stopped: str = ""  # "": the brain finished | limit | time | cancelled | brain
    seconds: float = 0.0
    turns: list[Turn] = field(default_factory=list)  # the whole conversation, this answer last
    pictures: list[ChatPicture] = field(default_factory=list)  # all of the conversation
    library: dict[str, Hit] = field(default_factory=dict)  # PMID → abstract, all of the conversation
    research_use: str = NOTICE

    _ask: ClassVar[Callable[..., Answer]]
    """`assistant.ask`, put here by its module: that knows agents and brains, this one results alone."""

    @property
    def calls(self) -> list[ToolCall]:
        return [step.call for step in self.steps]

    @property
    def results(self) -> list[ToolResult]:
        return [step.result for step in self.steps]

    @property
    def cited(self) -> list[str]:
        """PMIDs in the text that were retrieved in this conversation."""
        return [source.hit.pmid for source in self.sources if source.cited]

    @property
    def size(self) -> int:
        """Bytes it holds, about: the conversation's pictures and words, and what this question's tools marked."""
        marked = [mark for result in self.results for mark in result.annotations]
        words = sum(len(turn.content) for turn in self.turns)
        return sum(len(p.image) for p in self.pictures) + words + sum(MARK_BYTES + len(mark.rle) for mark in marked)

    def follow_up(
        self,
        question: str,
        image: Any = None,
        *,
        um_per_px: float | None = None,
        brain: Brain | BrainSettings | str | None = None,
    ) -> Answer:
        """The answer to a further question in the same conversation; its pictures are still there.

        `image`, `um_per_px`: further pictures, as `assistant.ask` takes them. `brain`: None is the embedded one. Raises as
        `assistant.ask`.
        """
        return type(self)._ask(image, question, self, brain, um_per_px=um_per_px)

    def made(self) -> list[ChatPicture]:
        """Pictures that the tools made for this question."""
        handles = {handle for step in self.steps for handle in step.made}
        return [picture for picture in self.pictures if picture.handle in handles]

    def to_json(self) -> dict[str, Any]:
        """The answer as JSON values, pictures by their file names (see `file_name`); masks stay as run-length text."""
        return {
            "question": self.question,
            "answer": self.text,
            "statements": [to_row(s) | {"kind": str(s.kind)} for s in self.statements],
            "as_written_by_model": self.raw,
            "brain": self.brain,
            "ran": [_step_json(step) for step in self.steps],
            "sources": [{"cited": s.cited, **to_row(s.hit)} for s in self.sources],
            "struck_references": self.struck,
            "notices": [*self.notices, self.research_use],
            "stopped": self.stopped,
            "seconds": round(self.seconds, 3),
            "pictures": [
                {
                    "file": file_name(p),
                    "handle": p.handle,
                    "name": p.name,
                    "by": p.by,
                    "synthetic": p.synthetic,
                    "um_per_px": p.um_per_px,
                }
                for p in self.pictures
            ],
            "turns": [
                {
                    "role": t.role,
                    "content": t.content,
                    **({"tool": t.tool} if t.tool else {}),
                    **({"pictures": [a.handle for a in t.attachments]} if t.attachments else {}),
                    **({"warnings": t.warnings} if t.warnings else {}),
                    **({"tool_calls": [_call_json(c) for c in t.tool_calls]} if t.tool_calls else {}),
                }
                for t in self.turns
            ],
        }


def file_name(picture: ChatPicture) -> str:
    """The name under which a picture of the conversation is saved: `image2_ki67.png`."""
    endings = {
        b"\x89PNG": "png",
        b"\xff\xd8\xff": "jpg",
        b"GIF8": "gif",
        b"RIFF": "webp",
        b"BM": "bmp",
        b"II*": "tif",
        b"MM\x00": "tif",
    }
    ending = next((e for magic, e in endings.items() if picture.image.startswith(magic)), "bin")
    return f"{picture.handle}_{''.join(c if c.isalnum() else '_' for c in picture.by)}.{ending}"


def _call_json(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "name": call.name, "arguments": call.arguments}


def _step_json(step: Step) -> dict[str, Any]:
    result = step.result
    return {
        "tool": result.name,
        "version": result.version,
        "arguments": step.call.arguments,
        "image": step.image,
        "seconds": round(result.seconds, 3),
        "text": result.text,
        "warnings": result.warnings,
        "notice": result.notice,
        "numbers": result.numbers,
        "annotations": [annotation_json(a) for a in result.annotations],
        "pictures": step.made,
        "pmids": [hit.pmid for hit in result.hits],
        "error": result.error,
        "repairs": step.repairs,
        "repeated": step.repeated,
        "withheld_sentences": step.withheld,
        "asked": _call_json(step.asked),
    }


def annotation_json(annotation: Annotation) -> dict[str, Any]:
    """An annotation as JSON values; masks stay as run-length text."""
    row = to_row(annotation)
    return {key: value for key, value in row.items() if value != ""}
