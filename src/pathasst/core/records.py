"""The nouns that walk through the rooms, and their Arrow schemas. This module knows no room.

```
Article ─▶ Figure ─▶ Panel ─▶ Pair ─▶ Conversation (Turn, ToolCall, ToolResult)
Abstract ─▶ Hit                       ToolSpec describes a tool wherever it is offered
```
Every record is a frozen dataclass. `to_row`/`from_row` carry it to and from plain Python rows, and `arrow_schema` gives the
Parquet schema. In Arrow an `ImageBytes` field is `struct<bytes, path>`, which Hugging Face `datasets` decodes by itself, and
a `dict` is a JSON string.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    import pyarrow as pa

IMAGE = "<image>"
"""Marks in a turn's content where a picture goes."""
NOTICE = "Research use only: not a medical device, not for diagnosis."
"""What every result of a specialist model and every answer carries. The one place of these words."""

FAILED = "Error: "
"""How the content of a tool's turn begins for the model when the tool failed; `Turn.error` is what went wrong."""
_PICTURE = "picture"
ImageBytes = Annotated[bytes, _PICTURE]
"""An encoded picture (PNG, JPEG …), not decoded; empty when the picture was not fetched."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One step's verdict on a row: who judged it, with which score. The list of marks is the row's provenance."""

    step: str  # the step's name: select, panels, captions, align, quality …
    by: str  # model or rule, with its version: "embedded-select@1a2b3c"
    score: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a figure comes from. Every Figure, Pair and Conversation keeps it to the end."""

    article_id: str  # "PMC4657150.1", "book:atlas", "lc25000"
    kind: str = "article"  # article | book | labels (captions composed from class labels) | import (`dataset import`)
    pmcid: str = ""
    pmid: str = ""
    doi: str = ""
    version: int = 1  # the PMC version of the article
    title: str = ""
    journal: str = ""
    date: str = ""  # ISO 8601, as precise as known: "2016", "2016-03", "2016-03-21"
    licence: str = "unknown"  # SPDX-like: CC-BY-4.0, CC-BY-NC-4.0, CC0-1.0, TDM, unknown
    licence_url: str = ""
    retracted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Article:
    """One article's metadata, its figures aside."""

    source: Source
    abstract: str = ""
    keywords: list[str] = field(default_factory=list)
    mesh: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One picture with its caption. A figure with several graphics gives several Figures that differ in `part`."""

    figure_id: str  # "<article_id>/<fig id>", with "#<part>" from the second graphic on
    source: Source
    label: str = ""  # "Figure 1"
    title: str = ""  # the caption's own title, if it has one
    caption: str = ""  # plain text, title included, Unicode super- and subscripts kept as text
    mentions: list[str] = field(default_factory=list)  # paragraphs that refer to the figure
    keywords: list[str] = field(default_factory=list)
    graphic: str = ""  # href or file name of the picture
    part: int = 0
    image: ImageBytes = b""
    md5: str = ""  # of the bytes as published
    width: int = 0
    height: int = 0
    page: int | None = None  # books: 1-based page
    trail: list[Mark] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One sub-figure inside a figure."""

    box: tuple[float, float, float, float]  # x1 y1 x2 y2 in px of the figure
    letter: str = ""  # the printed letter, upper case, or empty
    score: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One picture with the text that describes it: a row of PathCap."""

    pair_id: str  # "<figure_id>:<panel number>"
    source: Source
    figure_id: str = ""
    image: ImageBytes = b""
    md5: str = ""  # of `image`
    width: int = 0
    height: int = 0
    caption: str = ""  # what training reads: the refined caption
    original: str = ""  # the words of the source, before refinement
    panel: Panel | None = None
    panels: int = 1  # how many panels the figure has; 1 = "single image" (Training of PathAsst)
    label: str = ""  # class label, for pairs composed from labels
    concept: str = ""  # what a composed caption states of the label; empty for words of the source
    group: str = ""  # copies of one original share it; splits never cut through a group
    split: str = "train"  # train | val | test
    phash: str = ""  # perceptual hash of `image`, 64 bits as 16 hexadecimal digits; finds near-duplicates across shards
    trail: list[Mark] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """What a tool is, for whoever offers it: prompt, page, MCP, data generation. Made by the tool itself."""

    name: str  # [a-z0-9_]+
    description: str  # one or two sentences: what for, and when not
    parameters: dict[str, Any]  # JSON schema of the arguments
    needs_image: bool = True

    def as_function(self) -> dict[str, Any]:
        """As the `tools` field of OpenAI's messages, and so of chat templates and training sets, carries it."""
        about = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": about}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A request to run a tool, as OpenAI-style `tool_calls` carry it."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    id: str = ""

    def as_function(self, id: str | None = None) -> dict[str, Any]:
        """As OpenAI's messages carry a call of this id: arguments as JSON. Without an id as chat templates want it: as a dict."""
        if id is None:
            return {"type": "function", "function": {"name": self.name, "arguments": self.arguments}}
        text = json.dumps(self.arguments, ensure_ascii=False)
        return {"id": id, "type": "function", "function": {"name": self.name, "arguments": text}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """One thing a tool found in the picture. Coordinates are px of the input picture, pixel centres at +0.5."""

    kind: str  # point | box | mask
    label: str
    coordinates: list[float]  # point: x y; box and mask: x1 y1 x2 y2
    score: float = 1.0
    rle: str = ""  # masks: COCO run-length encoding (column-major counts, space-separated)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture that a tool made for the person (and for the next tool)."""

    name: str
    image: ImageBytes
    synthetic: bool = False  # generated, not photographed
    region: list[int] = field(default_factory=list)  # x1 y1 x2 y2, px, if it is a part of the picture that the tool ran on


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a tool gives back: text and numbers for the model, annotations and pictures for the person."""

    name: str
    call_id: str = ""
    version: str = ""
    text: str = ""  # for the LLM
    numbers: dict[str, Any] = field(default_factory=dict)
    annotations: list[Annotation] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)  # literature search alone
    seconds: float = 0.0
    error: str = ""  # why the call failed; the agent reports it to the model
    remedy: str = ""  # what its owner can do to run it all the same: not for the model, nor for a person who asks
    warnings: list[str] = field(default_factory=list)  # why the tool itself doubts this result, as whole sentences
    notice: str = ""  # how the result may be used (NOTICE, of every specialist model)

    @property
    def words(self) -> str:
        """What a reader must be told of the result: its text, its warnings, its notice."""
        return " ".join(filter(None, [self.text, *(f"Warning: {w}" for w in self.warnings), self.notice]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A picture that a turn speaks of, without its bytes."""

    handle: str  # image1, image2 …, as a tool call names it
    name: str = ""
    synthetic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of a conversation."""

    role: str  # system | user | assistant | tool
    content: str = ""  # IMAGE marks where a picture goes, of roles user and tool
    tool_calls: list[ToolCall] = field(default_factory=list)
    tool: str = ""  # role tool: the name of the tool that answers
    attachments: list[Attachment] = field(default_factory=list)  # user: all pictures so far; tool: those it made
    advice: str = ""  # role user: what the person's own program asks for (its system message); never the person's words
    warnings: list[str] = field(default_factory=list)  # role tool: as in ToolResult
    notice: str = ""  # role tool: as in ToolResult
    error: str = ""  # role tool: why the call failed; `content` says it, too, for the model
    thoughts: str = ""  # role assistant: a reasoning model's thinking; neither answer nor call


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One training sample of PathInstruct, or a dialogue in progress."""

    conversation_id: str
    kind: str  # describe | converse | invoke
    turns: list[Turn]
    scenario: str = ""  # kind invoke: single, several, chain, not_offered …, as `instruct` drew it
    tool: str = ""  # kind invoke: the tool that the scenario is about, called or not
    images: list[ImageBytes] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)  # names of the tools on offer
    source: Source | None = None
    pair_id: str = ""
    caption: str = ""
    panels: int = 1
    group: str = ""
    split: str = "train"
    trail: list[Mark] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Abstract:
    """One abstract of the literature."""

    pmid: str
    title: str = ""
    abstract: str = ""
    journal: str = ""
    date: str = ""  # ISO 8601, as precise as known
    mesh: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)  # publication types
    retracted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One abstract that a search found."""

    pmid: str
    title: str
    passage: str
    year: int | None = None
    journal: str = ""
    score: float = 0.0
    highlights: list[str] = field(default_factory=list)  # the best sentences
    retracted: bool = False


def to_row(record: Any) -> dict[str, Any]:
    """A record as plain Python values in the shape of its Arrow schema."""
    return {name: _plain(getattr(record, name), hint) for name, hint in _hints(type(record)).items()}


def from_row(kind: type[R], row: Mapping[str, Any]) -> R:
    """The record behind a row; fields the row lacks take their defaults, unknown columns are left out.

    Rows of before a field existed are read, too (`_EARLIER`). Raises TypeError when a field without a default is missing.
    """
    if upgrade := _EARLIER.get(kind):
        row = upgrade(row)
    return kind(**{name: _record(row[name], hint) for name, hint in _hints(kind).items() if name in row})


def arrow_schema(kind: type) -> pa.Schema:
    """The Arrow schema of a record type, with the metadata that lets Hugging Face `datasets` decode its pictures."""
    import pyarrow as pa

    hints = _hints(kind)
    schema = pa.schema([pa.field(name, _arrow(hint)) for name, hint in hints.items()])
    pictures = {name: {"_type": "Image"} for name, hint in hints.items() if _is_image(hint)}
    metadata = {"pathasst": kind.__name__}
    if pictures:
        features = {f.name: pictures.get(f.name) or _feature(f.type) for f in schema}
        metadata["huggingface"] = json.dumps({"info": {"features": features}})
    return schema.with_metadata(metadata)


def _earlier_pair(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Datasets of before `Pair.phash` and `Pair.concept` hold them in the note of a mark."""
    for name, step, words in (("phash", "quality", "phash "), ("concept", "labels", "composed; concept: ")):
        if name not in row and "trail" in row:
            notes = [m["note"] for m in row["trail"] or () if m["step"] == step and m["note"].startswith(words)]
            row = {**row, name: notes[-1].removeprefix(words)} if notes else row
    return row


def _earlier_turn(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Turns of before `Turn.error` tell a failed tool by how their content begins alone."""
    if "error" in row or row.get("role") != "tool" or not row.get("content", "").startswith(FAILED):
        return row
    return {**row, "error": row["content"].removeprefix(FAILED)}


def _earlier_conversation(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Datasets of before `Conversation.scenario` and `tool` hold both in their marks: `by="scenario:tool"`."""
    if "scenario" in row or "trail" not in row:
        return row
    trail = [dict(m) for m in row["trail"] or ()]
    named = [m for m in trail if m["step"] == "invoke"]
    if not named:
        return row
    scenario, _, tool = named[0]["by"].partition(":")
    for mark in named:
        mark["by"] = mark["by"].partition(":")[0]
    return {**row, "trail": trail, "scenario": scenario, "tool": "" if scenario == "plain" else tool}


_EARLIER: dict[type, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
    Pair: _earlier_pair,
    Turn: _earlier_turn,
    Conversation: _earlier_conversation,
}

_HINTS: dict[type, dict[str, Any]] = {}


def _hints(kind: type) -> dict[str, Any]:
    """Field name → type hint, in order; resolved once per record type, since every row asks for it."""
    if kind not in _HINTS:
        hints = get_type_hints(kind, include_extras=True)
        _HINTS[kind] = {f.name: hints[f.name] for f in fields(kind)}
    return _HINTS[kind]


def _is_image(hint: Any) -> bool:
    return get_origin(hint) is Annotated and _PICTURE in get_args(hint)[1:]


def _unwrap_optional(hint: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        return next(a for a in get_args(hint) if a is not type(None))
    return hint


def _plain(value: Any, hint: Any) -> Any:
    if value is None:
        return None
    hint = _unwrap_optional(hint)
    if _is_image(hint):
        return {"bytes": value, "path": None}
    if is_dataclass(hint):
        return to_row(value)
    if get_origin(hint) is dict:
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    if get_origin(hint) in (list, tuple):
        inner = get_args(hint)[0]
        return [_plain(v, inner) for v in value]
    return value


def _record(value: Any, hint: Any) -> Any:
    if value is None:
        return None
    hint = _unwrap_optional(hint)
    if _is_image(hint):
        return value if isinstance(value, bytes) else value["bytes"] or b""
    if is_dataclass(hint):
        return from_row(hint, value)  # type: ignore[arg-type]
    if get_origin(hint) is dict:
        return json.loads(value) if isinstance(value, str) else value
    if get_origin(hint) in (list, tuple):
        inner = get_args(hint)[0]
        values = [_record(v, inner) for v in value]
        return tuple(values) if get_origin(hint) is tuple else values
    return value


def _arrow(hint: Any) -> pa.DataType:
    import pyarrow as pa

    hint = _unwrap_optional(hint)
    if _is_image(hint):
        return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    if is_dataclass(hint):
        return pa.struct([(name, _arrow(h)) for name, h in _hints(hint).items()])  # type: ignore[arg-type]
    if get_origin(hint) is dict:
        return pa.string()
    if get_origin(hint) in (list, tuple):
        return pa.list_(_arrow(get_args(hint)[0]))
    return {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), bytes: pa.binary()}[hint]


def _feature(kind: pa.DataType) -> Any:
    """An Arrow type in the notation of Hugging Face `datasets` features."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return {f.name: _feature(f.type) for f in kind}
    if pa.types.is_list(kind):
        return {"_type": "List", "feature": _feature(kind.value_type)}
    names = {"double": "float64"}
    return {"_type": "Value", "dtype": names.get(str(kind), str(kind))}


__all__ = [
    "IMAGE",
    "NOTICE",
    "Abstract",
    "Annotation",
    "Article",
    "Attachment",
    "Conversation",
    "Figure",
    "Hit",
    "ImageBytes",
    "Mark",
    "Pair",
    "Panel",
    "Picture",
    "Source",
    "ToolCall",
    "ToolResult",
    "ToolSpec",
    "Turn",
    "arrow_schema",
    "from_row",
    "to_row",
]
