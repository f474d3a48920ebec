"""The arguments that a person's words fix, by the types of a tool's JSON schema. Knows schemas and words; no tool, no model.

Places, scales, spelled values and numbers beside the name of their argument are read by pattern; what a trained router saw in
the words (`Reading`) decides the rest. What they do not fix is left out, and `unread` names what somebody else has to write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from pathasst.core.records import ToolSpec
from pathasst.router.slot_values import Place, Span, amounts, negated, number_in, numbers, places, scale, spelled, years

SCALE = "um_per_px"  # an argument of this name is a scale, whatever the tool
SINCE, UNTIL = "since", "until"  # years of publication, whatever the tool
TRUE = "true"
_SHORT = 3  # words of a description that is another name of its argument
_NEAR = 200  # characters around a number that are looked at
_LONE = 20.0  # distance of a decimal below one from an argument that is a share and not named
_BEFORE, _AFTER = 5, 4  # words between the name of an argument and its number
_SAME = {  # how else people say a name
    "score": "scor|thresh|cut|confid|certain|probab|limit",
    "confi": "scor|thresh|cut|confid|certain|probab",
    "thres": "scor|thresh|cut|confid|limit",
    "enlar": "enlarg|larg|bigg|times|fold|normal|usual",
}
_AMOUNT = re.compile(r"^\s*(?:[^\W\d_][\w-]*\s+){0,3}?[^\W\d_][\w-]*s\b", re.IGNORECASE)
_OTHERS = re.compile(  # what requests count in passing and no tool gives
    r"^[\s-]*(?:more\s+|other\s+)?(?:(?:second|minute|hour|day|week|month|year|rater|reader|reviewer|colleague|student|patient)s?\b|asks\b)",
    re.IGNORECASE,
)
_MOST = re.compile(r"\b(?:top|first|most|than|only|show|bring|limit\w*|up to)\s*(?:the\s+)?$", re.IGNORECASE)
_BREAK = re.compile(r"[,;.]\s+|\s+(?:and|then|plus|as well as|&|\+)\s+", re.IGNORECASE)

Option = tuple[Any, Span]  # a value, and where it stands; (0, 0) for what stands nowhere in particular


@dataclass(frozen=True, slots=True)
class Reading:
    """What a trained router saw in a request for one tool."""

    learned: frozenset[str] = frozenset()  # the arguments that it was trained on
    choices: Mapping[str, Sequence[str]] = field(
        default_factory=dict
    )  # argument → its values, the likeliest first; TRUE of a switch
    spans: Mapping[str, Sequence[Span]] = field(default_factory=dict)  # argument → where its values stand


def read(tool: ToolSpec, words: str, reading: Reading | None = None) -> list[dict[str, Any]]:
    """Arguments for each call that the words ask for: several where a thing is wanted of two classes, subjects or places."""
    reading, properties = reading or Reading(), tool.parameters.get("properties", {})
    objects = _objects(properties, words)
    options = {name: _options(name, _plain(schema), words, reading) for name, schema in properties.items()}
    dates = _years(properties, words)
    options |= dates
    used = [p.span for group in objects for p in group] + [span for some in options.values() for _, span in some]
    options |= _scalars({n: s for n, s in properties.items() if not options[n] and n not in dates}, words, reading, used)
    required = [options[n] for n in tool.parameters.get("required", []) if len(options.get(n, ())) > 1]
    calls = []
    for piece in _pieces(words, required, objects):
        call = {
            n: values[0] for n in options if (values := [v for v, span in options[n] if span == (0, 0) or _within(span, piece)])
        }
        for group in objects:
            if _within(group[0].span, piece):
                call |= _placed(properties, group)
        calls.append(call)
    return calls


def unread(tool: ToolSpec, call: Mapping[str, Any], reading: Reading | None = None) -> list[str]:
    """What `call` lacks and `read` cannot know to be unsaid: what is required, and text that no router learned to find."""
    properties, required = tool.parameters.get("properties", {}), tool.parameters.get("required", [])
    learned = reading.learned if reading else frozenset()
    return [n for n, s in properties.items() if n not in call and (n in required or (n not in learned and _is_free(_plain(s))))]


def _options(name: str, schema: Mapping[str, Any], words: str, reading: Reading) -> list[Option]:
    """What the words may mean for an argument that is a choice, a switch, a scale or a text."""
    if "enum" in schema:
        return _choice(name, [str(v) for v in schema["enum"]], words, reading)
    if schema.get("type") == "boolean":
        on = TRUE in reading.choices.get(name, ()) if name in reading.learned else _mentioned(name, schema, words)
        return [(True, (0, 0))] if on else []
    if name == SCALE and schema.get("type") == "number" and (option := scale(words)) and _fits(option[0], schema):
        return [option]
    if schema.get("type") == "string":
        texts = [(words[a:b].strip(" .,;:?!。，？"), (a, b)) for a, b in _wholes(reading.spans.get(name, ()), words)]
        return [option for option in texts if _says_something(option[0])]
    return []


def _years(properties: Mapping[str, Any], words: str) -> dict[str, list[Option]]:
    """The first and the last year, of a tool that has both; empty where the words say neither."""
    if not {SINCE, UNTIL} <= properties.keys() or (named := years(words)) is None:
        return {}
    since, until, span = named
    return {
        name: [(year, span)] if year and _fits(year, _plain(properties[name])) else []
        for name, year in ((SINCE, since), (UNTIL, until))
    }


def _says_something(text: str) -> bool:
    """Whether a text is more than an article or a sign: three letters, or two of a script without blanks."""
    return len(re.findall(r"[^\W_]", text)) >= (2 if re.search("[\u2e80-\u9fff]", text) else 3)


def _wholes(spans: Sequence[Span], words: str) -> list[Span]:
    """The spans of texts; those with nothing between them that parts two things are one."""
    wholes: list[Span] = []
    for span in spans:
        if wholes and not _BREAK.search(words, wholes[-1][1], span[0]):
            wholes[-1] = (wholes[-1][0], span[1])
        else:
            wholes.append(span)
    return wholes


def _choice(name: str, values: Sequence[str], words: str, reading: Reading) -> list[Option]:
    """The spelled values that the router thinks meant; else the first that is not denied; else what it thinks likeliest."""
    named, predicted = list(dict(spelled(values, words)).items()), reading.choices.get(name, ())
    sure = [n for n in named if n[0] in predicted] or _side_by_side([n for n in named if not negated(words, n[1][0])], words)
    return sure or [(value, (0, 0)) for value in predicted if value in values][:1] or named[:1]


def _side_by_side(named: Sequence[Option], words: str) -> list[Option]:
    """The first value, and those that follow it after "and" or the like; not those after "or"."""
    joined = list(named[:1])
    for option in named[1:]:
        if not re.search(r"\b(?:and|plus|then)\b|[&+]", words[joined[-1][1][1] : option[1][0]], re.IGNORECASE):
            break
        joined.append(option)
    return joined


def _scalars(properties: Mapping[str, Any], words: str, reading: Reading, used: Iterable[Span]) -> dict[str, list[Option]]:
    """Numbers: where the router saw one, else beside the name of the argument; each number serves one argument."""
    used = [t for t in used if t != (0, 0)]
    free = [n for n in numbers(words) if not any(a < n[1][1] and n[1][0] < b for a, b in used)]
    near: list[tuple[float, str, Option]] = []
    for name, schema in properties.items():
        schema = _plain(schema)
        if schema.get("type") not in ("number", "integer") or name == SCALE:
            continue
        near += [(distance, name, option) for distance, option in _numbers_for(name, schema, words, reading, free)]
    values: dict[str, list[Option]] = {}
    for _, name, option in sorted(near, key=lambda n: (n[0], n[2][1])):
        if name not in values and not any(_overlap(option[1], other[0][1]) for other in values.values()):
            values[name] = [option]
    return values


def _numbers_for(
    name: str, schema: Mapping[str, Any], words: str, reading: Reading, free: Sequence[Option]
) -> Iterator[tuple[float, Option]]:
    """Numbers that may be the argument's, with their distance: 0 where the router read one, else that from its name."""
    for start, end in reading.spans.get(name, ()):
        number = number_in(words[start:end])
        if number is not None and _fits(number := _share(number, schema, words, end), schema):
            yield 0.0, (number, (start, end))
    for value, span in free:
        value = _share(value, schema, words, span[1])
        far = _distance(name, words, span)
        if far is None and _how_many(schema) and _is_amount(words, span):
            far = _BEFORE + _AFTER  # any name that is near comes first
        if far is not None and _fits(value, schema):
            yield far, (value, span)
    if schema.get("maximum", 2) <= 1:  # a share: a decimal below one that is nothing else's; `above 14 %` asks of the result
        yield from ((_LONE, (v, s)) for v, s in free if 0 < v < 1 and words[s[1] :].lstrip()[:1] != "%" and _fits(v, schema))
    if _how_many(schema):
        yield from ((_BEFORE + _AFTER, option) for option in amounts(words) if _fits(option[0], schema))


def _share(value: float, schema: Mapping[str, Any], words: str, end: int) -> float:
    """A number of a share in percent (`80 %`, also where the sign is in the span) as a share of one."""
    percent = words[end : end + _NEAR].lstrip()[:1] == "%" or words[:end].rstrip().endswith("%")
    return value / 100 if percent and schema.get("maximum", 2) <= 1 else value


def _overlap(a: Span, b: Span) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def _objects(properties: Mapping[str, Any], words: str) -> list[list[Place]]:
    """The places in the words, those of one object together; none where no argument is a place."""
    sizes = {size for s in properties.values() if (size := _place_size(s))}
    groups: list[list[Place]] = []
    scaled = option[1] if SCALE in properties and (option := scale(words)) else (0, 0)  # `0,5 µm` is no point
    for place in places(words) if sizes else ():
        if len(place.values) not in sizes or _overlap(place.span, scaled):
            continue
        if groups and not (place.apart and not place.excluded):
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def _placed(properties: Mapping[str, Any], group: Sequence[Place]) -> dict[str, Any]:
    """One object's places, each in the first argument of its size; places that are not meant in one whose name says so."""
    call: dict[str, Any] = {}
    for place in group:
        for name, schema in properties.items():
            if _place_size(schema) != len(place.values) or _is_negative(name) != place.excluded:
                continue
            if _length(_plain(schema)):
                call.setdefault(name, list(place.values))
            else:
                call.setdefault(name, []).append(list(place.values))
            break
    return call


def _pieces(words: str, several: Sequence[Sequence[Option]], objects: Sequence[Sequence[Place]]) -> list[Span]:
    """The words, cut before each further value of an argument that one call has once."""
    spans = [span for _, span in several[0]] if several else [group[0].span for group in objects]
    cuts = [0]
    for before, after in pairwise(spans):
        breaks = [m.start() for m in _BREAK.finditer(words, before[1], max(before[1], after[0]))]
        cuts.append(breaks[-1] if breaks else after[0])
    return list(zip(cuts, [*cuts[1:], len(words)], strict=True))


def _within(span: Span, piece: Span) -> bool:
    return piece[0] <= span[0] < piece[1]


def _distance(name: str, words: str, span: Span) -> float | None:
    """Words between a number and the name of an argument, nearer where the name comes first; None where the name is not near."""
    parts = [_SAME.get(p, p) for p in _stems(name)]
    before = [w.lower() for w in re.findall(r"[^\W\d_]+", words[max(0, span[0] - _NEAR) : span[0]])][-_BEFORE:][::-1]
    after = [w.lower() for w in re.findall(r"[^\W\d_]+", words[span[1] : span[1] + _NEAR])][:_AFTER]
    far = [
        min(
            [n + 1.0 for n, w in enumerate(before) if re.match(p, w)] + [n + 1.5 for n, w in enumerate(after) if re.match(p, w)]
            or [99.0]
        )
        for p in parts
    ]
    return max(far) if far and max(far) < 99.0 else None


def _how_many(schema: Mapping[str, Any]) -> bool:
    """Whether an argument says how many of something are wanted."""
    return schema.get("type") == "integer" and bool(
        re.match(r"(?:how many|number of|count of)\b", str(schema.get("description", "")), re.IGNORECASE)
    )


def _is_amount(words: str, span: Span) -> bool:
    """Whether a number counts what a tool may give: a plural follows it soon (`4 pictures`), or it is a limit (`top 8`)."""
    after = words[span[1] : span[1] + _NEAR]
    return not _OTHERS.match(after) and bool(_AMOUNT.match(after) or _MOST.search(words[max(0, span[0] - _NEAR) : span[0]]))


def _mentioned(name: str, schema: Mapping[str, Any], words: str) -> bool:
    """Whether a switch is meant: its name, a short description or one of its examples (in brackets there) is reading."""
    description = str(schema.get("description", ""))
    _, _, examples = description.partition("(")
    ways = [_stems(name), *([p] for p in _stems(examples))]
    if not examples and len(_stems(description)) <= _SHORT:
        ways.append(_stems(description))
    return any(way and all(_named(stem, words) for stem in way) for way in ways)


def _named(stem: str, words: str) -> bool:
    match = re.search(rf"\b{re.escape(stem)}", words, re.IGNORECASE)
    return match is not None and not negated(words, match.start())


def _stems(name: str) -> list[str]:
    """The words of an argument's name, cut to five letters; short ones only where there are no others."""
    parts = [p.lower() for p in re.split(r"[\W_]+", name) if len(p) > 2]
    return [p[:5] for p in parts if len(p) > 3] or parts


def _is_negative(name: str) -> bool:
    return bool(set(name.lower().split("_")) & {"not", "negative", "exclude", "excluded", "outside", "background"})


def _plain(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """An optional argument's schema without its null."""
    return next((s for s in schema.get("anyOf", ()) if s.get("type") != "null"), schema)


def _length(schema: Mapping[str, Any]) -> int:
    """How many numbers an array of a fixed number of them has; 0 for anything else."""
    if schema.get("type") != "array" or schema.get("minItems") != schema.get("maxItems"):
        return 0
    items = schema.get("prefixItems") or [schema.get("items", {})]
    return int(schema.get("minItems") or 0) if all(i.get("type") in ("number", "integer") for i in items) else 0


def _place_size(schema: Mapping[str, Any]) -> int:
    """2 for a point or points, 4 for a box or boxes, 0 for what is no place."""
    schema = _plain(schema)
    size = _length(schema) or (_length(schema.get("items", {})) if schema.get("type") == "array" else 0)
    return size if size in (2, 4) else 0


def _fits(value: float, schema: Mapping[str, Any]) -> bool:
    if schema.get("type") == "integer" and not float(value).is_integer():
        return False
    low, high = schema.get("minimum", value), schema.get("maximum", value)
    return bool(
        low <= value <= high and schema.get("exclusiveMinimum", value - 1) < value < schema.get("exclusiveMaximum", value + 1)
    )


def _is_free(schema: Mapping[str, Any]) -> bool:
    """Whether `read` finds such an argument only where a router learned it."""
    return not ("enum" in schema or schema.get("type") in ("boolean", "number", "integer") or _place_size(schema))
