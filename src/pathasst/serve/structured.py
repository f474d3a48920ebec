"""Answers as JSON of a program's schema: filled from what is behind the answer, never invented, or written by the brain.

A property is filled where its name means one value of the answer: the text, its sources and notices, a number of a tool that ran,
the objects that it marked. What the answer does not hold is null or left out where the schema allows it; otherwise the schema is
refused, with the names of what could not be filled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pathasst.assistant.answer import Answer
from pathasst.assistant.brains.settings import Brain
from pathasst.core.errors import BadInput, BadSettings, Unreachable
from pathasst.core.records import ToolCall, ToolSpec, Turn
from pathasst.core.text import shortened
from pathasst.llm.tool_calls import loads_leniently
from pathasst.router.slot_filling import read
from pathasst.serve.schema_check import check_schema, fault

TEXT = frozenset({"answer", "text", "response", "content", "message", "reply", "output", "summary", "explanation"})
NOTICES = frozenset({"notice", "notices", "warning", "warnings", "limitation", "limitations", "caveat", "caveats"})
SOURCES = frozenset({"source", "sources", "citation", "citations", "reference", "references", "pmid", "pmids", "paper", "papers"})
OBJECTS = frozenset({"annotation", "annotations", "object", "objects", "cell", "cells", "detection", "detections"})
STATEMENTS = frozenset({"statement", "statements", "sentence", "sentences"})
UNITS = frozenset({"percent", "px", "um", "um2", "mm", "mm2", "per"})
"""Words of a number's name that a program may leave out."""
DEEPEST = 12  # levels of a schema that are followed
MOST_PROPERTIES = 2000  # that are looked at: references may make a small schema endless
MOST_OBJECTS = 5000
WRITE = "Write the answer that you just gave as JSON of the schema asked for, and nothing else."
_UNFILLED = object()


class NotFillable(BadInput):
    """A schema that an answer cannot fill."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an answer holds, by name: words of a name → value."""

    answer: Answer
    numbers: list[tuple[frozenset[str], frozenset[str], Any]] = field(default_factory=list)  # words of key, of tool; value
    looked_at: list[str] = field(default_factory=list)  # properties so far

    @classmethod
    def of(cls, answer: Answer) -> Facts:
        numbers = [
            (_words(key), _words(result.name), value)
            for result in answer.results
            if not result.error and not result.hits
            for key, value in _flat(result.numbers)
        ]
        return cls(answer, numbers)

    def named(self, name: str) -> Iterator[Any]:
        """The values that a name may mean, the likeliest first: of the answer itself, and the one number of the tools."""
        words, answer = _words(name), self.answer
        own: tuple[tuple[frozenset[str], Any], ...] = (
            (TEXT, answer.text),
            (NOTICES, [*answer.notices, answer.research_use]),
            (SOURCES, [_source(s.hit, s.passage) for s in answer.sources]),
            (OBJECTS, [_object(a) for r in answer.results for a in r.annotations[:MOST_OBJECTS]]),
            (STATEMENTS, [{"text": s.text, "kind": str(s.kind), "source": s.source} for s in answer.statements]),
            (frozenset({"question"}), answer.question),
            (frozenset({"tool", "tools"}), list(dict.fromkeys(r.name for r in answer.results))),
        )
        yield from (value for names, value in own if len(words) == 1 and words <= names)
        # all words of the name are of the number's key or its tool; those that it leaves out of the key are units alone
        matches = [
            (key, v) for key, tool, v in self.numbers if words & key and words <= key | tool and key - UNITS <= words | tool
        ]
        values = [v for key, v in matches if key <= words] or [v for _, v in matches]
        if values and all(value == values[0] for value in values):
            yield values[0]


def filled(schema: Mapping[str, Any], answer: Answer) -> Any:
    """A value of `schema` from what is behind the answer. Raises NotFillable, BadSettings for what is no JSON schema."""
    check_schema(schema)
    if not schema:
        return _plain_object(answer)
    missing: list[str] = []
    value = _fill(schema, schema, Facts.of(answer), "", missing, 0)
    if value is _UNFILLED or missing or (wrong := fault(value, schema)):
        reason = "its shape" if value is _UNFILLED else f"cannot fill {', '.join(missing[:20])}" if missing else wrong
        raise NotFillable(
            f"the answer does not hold what the schema requires ({reason}). It is composed from results and invents nothing: "
            f"it holds {', '.join(_names(answer))}. Make the others optional or nullable, or ask for what it holds. "
            f"The answer in words: {shortened(answer.text, 300)}"
        )
    return value


def brain_json(schema: Mapping[str, Any], answer: Answer, brain: Brain) -> tuple[Any, list[str]]:
    """The answer as `brain`, which has the schema, writes it; and notices on figures that nothing behind the answer holds.

    Raises Unreachable when what it writes does not fit, BadSettings for what is no JSON schema.
    """
    check_schema(schema)
    images = [p.image for p in answer.pictures] if brain.sees else []
    turn = brain.reply([*answer.turns, Turn(role="user", content=WRITE)], images, [])
    value = loads_leniently(turn.content)
    wrong = "no JSON object" if value is None else fault(value, schema) if schema else ""
    if wrong:
        raise Unreachable(f"{brain.name} wrote JSON that does not fit the schema: {wrong}")
    results = json.dumps([[r.words, r.numbers] for r in answer.results], default=str)
    sources = f"{answer.text} {answer.question} {results}"
    figures = {n for text in _leaves(value) for n in re.findall(r"\d+(?:\.\d+)?", text)}
    strange = sorted(figures - set(re.findall(r"\d+(?:\.\d+)?", sources)))
    return value, [f"figures in the JSON that stand in no source: {', '.join(strange[:20])}."] if strange else []


def call_from(answer: Answer, tools: Sequence[ToolSpec]) -> ToolCall:
    """A call of one of `tools`, the first whose arguments the person's words and the answer fill. Raises NotFillable."""
    refused: list[str] = []
    for tool in tools:
        schema = tool.parameters or {"type": "object"}
        check_schema(schema)
        spans = read(tool, answer.question)[0] if schema.get("properties") else {}
        missing: list[str] = []
        facts = Facts.of(answer)
        value = _fill({**schema, "type": "object"}, schema, facts, "", missing, 0, spans)
        wrong = f"cannot fill {', '.join(missing)}" if missing else fault(value, schema)
        if not wrong:
            return ToolCall(name=tool.name, arguments=value)
        refused.append(f"{tool.name}: {wrong}")
    raise NotFillable(
        f"tool_choice asks for a call whose arguments neither the words nor the results hold ({'; '.join(refused[:5])}). "
        f"Arguments are never invented. The results hold {', '.join(_names(answer))}. "
        f"The answer in words: {shortened(answer.text, 300)}"
    )


def _fill(
    schema: Any,
    root: Mapping[str, Any],
    facts: Facts,
    name: str,
    missing: list[str],
    depth: int,
    fixed: Mapping[str, Any] | None = None,
) -> Any:
    """A value of `schema` for the property `name`; what is required and not there is noted in `missing`."""
    schema, nullable = _resolved(schema, root)
    if "const" in schema:
        return schema["const"]
    if depth < DEEPEST and "properties" in schema:
        return _object_of(schema, root, facts, name, missing, depth, fixed or {})
    values = facts.named(name.rsplit(".", 1)[-1]) if name else ()
    match = next((v for value in values if (v := _fitted(value, schema, root)) is not _UNFILLED), _UNFILLED)
    if match is _UNFILLED and "enum" in schema:
        match = _one_of(schema["enum"], facts)
    return None if match is _UNFILLED and nullable else match


def _object_of(
    schema: Mapping[str, Any],
    root: Mapping[str, Any],
    facts: Facts,
    name: str,
    missing: list[str],
    depth: int,
    fixed: Mapping[str, Any],
) -> Any:
    required, values = set(schema.get("required", ())), {}
    for key, inner in schema["properties"].items():
        path = f"{name}.{key}".lstrip(".")
        facts.looked_at.append(path)
        if len(facts.looked_at) > MOST_PROPERTIES:
            raise BadSettings(f"the schema has more than {MOST_PROPERTIES} properties, counted through its references.")
        below: list[str] = []
        value = fixed[key] if key in fixed else _fill(inner, root, facts, path, below, depth + 1)
        if value is not _UNFILLED and not below:
            values[key] = value
        elif key in required:
            missing += below or [path]
    return values


def _resolved(schema: Any, root: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """The schema behind references and the one alternative that is not null, and whether null is allowed."""
    nullable = False
    for _ in range(DEEPEST):
        if not isinstance(schema, Mapping):
            return {}, nullable
        if ref := schema.get("$ref"):
            schema = _behind(ref, root)
        elif options := schema.get("anyOf") or schema.get("oneOf"):
            nullable |= any(isinstance(o, Mapping) and o.get("type") == "null" for o in options)
            schema = next((o for o in options if not isinstance(o, Mapping) or o.get("type") != "null"), {})
        elif len(schema.get("allOf", ())) == 1:
            schema = schema["allOf"][0]
        elif isinstance(schema.get("type"), list):
            nullable |= "null" in schema["type"]
            schema = {**schema, "type": next((t for t in schema["type"] if t != "null"), "null")}
        else:
            return schema, nullable
    return {}, nullable


def _behind(ref: Any, root: Mapping[str, Any]) -> Any:
    """What a reference within the schema names."""
    value: Any = root
    for part in str(ref).removeprefix("#").strip("/").split("/"):
        value = value.get(part.replace("~1", "/").replace("~0", "~"), {}) if part and isinstance(value, Mapping) else value
    return value if value is not root or ref == "#" else {}


def _fitted(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """The value in the type that the schema asks for, or `_UNFILLED`."""
    kind = schema.get("type")
    if value is _UNFILLED or value is None:
        return _UNFILLED
    if kind == "array" and isinstance(value, list):
        return _listed(value, _resolved(schema.get("items", {}), root)[0], root)
    if kind == "string" and isinstance(value, list):
        value = "\n".join(v if isinstance(v, str) else str(v.get("pmid") or v.get("text", "")) for v in value)
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if not fault(value, {**schema, "$defs": root.get("$defs", {})}) else _UNFILLED


def _listed(values: list[Any], inner: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """The values as items of a list: texts of records where texts are wanted, records with the properties that are asked for."""
    items = []
    for value in values:
        if isinstance(value, dict) and inner.get("type") == "string":
            item: Any = value.get("pmid") or value.get("text") or value.get("label")
        elif isinstance(value, dict) and "properties" in inner:
            by_name = {"".join(sorted(_words(k))): v for k, v in value.items()}
            named = {key: by_name.get("".join(sorted(_words(key)))) for key in inner["properties"]}
            item = {key: v for key, v in named.items() if v is not None or _resolved(inner["properties"][key], root)[1]}
        else:
            item = value
        items.append(item)
    faults = [item for item in items[:3] if fault(item, {**inner, "$defs": root.get("$defs", {})})]
    return _UNFILLED if faults else items


def _one_of(choices: Sequence[Any], facts: Facts) -> Any:
    """The one choice that is a value of a tool that ran."""
    values = {str(value).casefold() for _, _, value in facts.numbers if isinstance(value, str)}
    matches = [c for c in choices if isinstance(c, str) and c.casefold() in values]
    return matches[0] if len(matches) == 1 else _UNFILLED


def _plain_object(answer: Answer) -> dict[str, Any]:
    """The answer where any JSON object will do."""
    return {
        "answer": answer.text,
        "results": [{"tool": r.name, **r.numbers} for r in answer.results if not r.error and not r.hits],
        "sources": [_source(s.hit, s.passage) for s in answer.sources],
        "notices": [*answer.notices, answer.research_use],
    }


def _source(hit: Any, passage: str) -> dict[str, Any]:
    return {"pmid": hit.pmid, "title": hit.title, "journal": hit.journal, "year": hit.year, "passage": passage}


def _object(mark: Any) -> dict[str, Any]:
    values = mark.coordinates
    x, y = (values[0], values[1]) if mark.kind == "point" else ((values[0] + values[2]) / 2, (values[1] + values[3]) / 2)
    return {
        "kind": mark.kind,
        "label": mark.label,
        "class": mark.label,
        "x": x,
        "y": y,
        "score": mark.score,
        "coordinates": values,
    }


def _flat(numbers: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in numbers.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key} ")
        else:
            yield f"{before}{key}", value


def _names(answer: Answer) -> list[str]:
    """What an answer can fill, by name."""
    numbers = [key for r in answer.results if not r.error and not r.hits for key, _ in _flat(r.numbers)]
    marks = ["objects"] if any(r.annotations for r in answer.results) else []
    return list(dict.fromkeys(["answer", "notices", *(["sources"] if answer.sources else []), *marks, *numbers[:30]]))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _words(name: str) -> frozenset[str]:
    """The words of a name: `ki67Index`, `ki67_index`, `Ki67 index`."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return frozenset(w.lower() for w in re.findall(r"[A-Za-z0-9]+", parts))


def as_json(answer: Answer, schema: Mapping[str, Any], brain: Brain | None) -> Answer:
    """The answer with JSON of `schema` as its text: written by `brain`, or filled where there is none. Raises as they do."""
    if brain is None:
        return replace(answer, text=json.dumps(filled(schema, answer), ensure_ascii=False))
    value, notices = brain_json(schema, answer, brain)
    return replace(answer, text=json.dumps(value, ensure_ascii=False), notices=[*answer.notices, *notices])
