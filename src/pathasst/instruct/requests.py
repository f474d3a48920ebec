"""Requests for a tool: a wording, its arguments, and what surrounds it (greeting, clinical context, tail, slips of the keyboard).

Knows the tools' wordings and arguments; every argument that a request names is in its words, so that a model can read it there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from pathasst.core.errors import BadSettings
from pathasst.core.records import ToolCall
from pathasst.core.templates import Template
from pathasst.instruct.literature import Case, Literature
from pathasst.instruct.typos import Typist
from pathasst.instruct.wordings import Wordings, choices, lowered, of_split, templates

CELL_TOOLS = ("ki67_cells", "her2_cells", "pdl1_cells")
SCORED = (*CELL_TOOLS, "lbc_detect", "blood_cells")


COUNTED = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
BOX_STYLES = ("{}, {}, {}, {}", "[{}, {}, {}, {}]", "({}, {}) and ({}, {})", "({}, {}, {}, {})", "x1={} y1={} x2={} y2={}")
POINT_STYLES = ("({}, {})", "{}, {}", "({},{})", "x={} y={}", "[{}, {}]", "x {}, y {}")


@dataclass(frozen=True, slots=True)
class Request:
    """One request with the call that serves it. `text` is the request alone, `framed` with what surrounds it."""

    text: str
    call: ToolCall
    intent: str
    template: str
    framed: str = ""
    case: Case | None = None


@dataclass(frozen=True, slots=True)
class _Details:
    """What one wording is filled with, and the arguments that follow from it."""

    slots: Mapping[str, str] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    case: Case | None = None


class Requests:
    """Draws requests of one split; a request is a function of the random state alone."""

    def __init__(
        self, wordings: Wordings, literature: Literature, *, slips: float = 0.25, framed: float = 0.45, general: float = 0.5
    ) -> None:
        self.wordings, self.literature = wordings, literature
        self.slips, self.framed, self.general = slips, framed, general

    def draw(self, tool: str, rng: Random, split: str, domain: str = "", intent: str = "") -> Request:
        """A request for a tool. `domain` chooses the clinical context; `intent` narrows what is asked."""
        node = self.wordings.load(f"tools/{tool}")
        intent, template = self._wording(node, rng, split, intent)
        details = self._details(tool, intent, template, rng, split)
        typist = Typist(rng, self.slips)
        slots = {**self.wordings.slots(rng, split), **details.slots}
        text = template.fill(rng, slots, typist)
        arguments = dict(details.arguments)
        text = self._extra(tool, text, arguments, rng, split)
        text = typist.sentence(text)
        framed = self._frame(text, rng, split, domain)
        return Request(text, ToolCall(name=tool, arguments=arguments), intent, template.text, framed, details.case)

    def together(self, tools: Sequence[str], rng: Random, split: str) -> tuple[str, list[Request]]:
        """Several tools asked for in one breath, "the Ki67 index and papers on it": the text, and a request a tool.

        Raises BadSettings where a tool has neither things nor acts to be asked for.
        """
        kind = rng.choice(("things", "acts"))
        name = "np" if kind == "things" else "vp"
        typist, texts, requests = Typist(rng, self.slips), [], []
        for tool in tools:
            node = self.wordings.load(f"tools/{tool}")
            if kind not in node:
                raise BadSettings(f"the wordings of {tool} have no {kind}; add some, or ask for it alone.")
            intent, template = _draw(node[kind], list(of_split(node[kind], split)), rng, split)
            details = self._details(tool, intent, template, rng, split)
            texts.append(template.fill(rng, {**self.wordings.slots(rng, split), **details.slots}, typist))
            call = ToolCall(name=tool, arguments=dict(details.arguments))
            requests.append(Request(texts[-1], call, intent, template.text, case=details.case))
        link = rng.choice(templates(self.wordings.load("frame")["link"], split))
        frame = rng.choice(templates(self.wordings.load("frames")[name], split))
        text = frame.fill(rng, {name: link.fill(rng, {"first": texts[0], "second": texts[1]}, typist)}, typist)
        return typist.sentence(text), requests

    def _wording(self, node: Mapping[str, Any], rng: Random, split: str, intent: str) -> tuple[str, Template]:
        """A whole wording of the tool, or one of its wanted things or acts inside a frame that fits any tool."""
        kind = rng.choice(("things", "acts")) if "things" in node and rng.random() < self.general else "requests"
        if intent and intent not in of_split(node[kind], split):
            kind = "requests"
        part = node[kind]
        intents = [intent] if intent else list(of_split(part, split))
        intent, template = _draw(part, intents, rng, split)
        return intent, self.in_frame(kind, template, rng, split)

    def in_frame(self, kind: str, template: Template, rng: Random, split: str) -> Template:
        """A thing or an act inside a general way of asking; a whole request as it is."""
        if kind == "requests":
            return template
        name, slot = ("np", "{np}") if kind == "things" else ("vp", "{vp}")
        frame = rng.choice(templates(self.wordings.load("frames")[name], split))
        return Template(frame.text.replace(slot, template.text))

    def frame(self, text: str, rng: Random, split: str, domain: str = "") -> str:
        """A text with what surrounds it."""
        return self._frame(text, rng, split, domain)

    def _details(self, tool: str, intent: str, template: Template, rng: Random, split: str) -> _Details:
        if tool == "papers_search":
            return self._papers(intent, rng, split)
        if tool == "segment":
            return _places(template, rng)
        if tool == "lbc_generate":
            return self._cell(intent, rng, split)
        if tool == "blood_cells" and intent == "types":
            return _Details(arguments={"white_cell_types": True})
        return _Details()

    def _papers(self, intent: str, rng: Random, split: str) -> _Details:
        case = self.literature.draw(rng, split)
        while bool(case.question) != (intent == "question"):
            case = self.literature.draw(rng, split)
        arguments: dict[str, Any] = {"query": case.query}
        slots = {"topic": case.topic, "question": case.question, "asked": lowered(case.question)}
        if intent == "many":
            arguments["k"] = rng.randint(2, 12)
            slots["k"] = _counted(arguments["k"], rng)
        return _Details(slots, arguments, case)

    def _cell(self, intent: str, rng: Random, split: str) -> _Details:
        node = self.wordings.load("cells")
        names = node["classes_many" if intent == "many" else "classes"]
        cls = rng.choice(list(names))
        arguments: dict[str, Any] = {"cell_class": cls}
        phrases = []
        features = ["nuclear_enlargement", "irregular_nucleus", "hyperchromasia", "koilocytic_cytoplasm"]
        for feature in rng.sample(features, rng.choice([0, 0, 1, 1, 2, 3])):
            x = rng.choice([1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0])
            arguments[feature] = x if feature == "nuclear_enlargement" else True
            phrases.append(rng.choice(of_split(node[feature], split)).format(x=f"{x:g}"))
        text = rng.choice(names[cls]) + (
            rng.choice((" with ", " with ", ", ", " that has ")) + _listed(phrases) if phrases else ""
        )
        slots = {"cell": text}
        if intent == "many":
            arguments["count"] = rng.randint(2, 8)
            slots["count"] = _counted(arguments["count"], rng)
        return _Details(slots, arguments)

    def _extra(self, tool: str, text: str, arguments: dict[str, Any], rng: Random, split: str) -> str:
        """Now and then a scale or a threshold is named, and becomes an argument."""
        frame = self.wordings.load("frame")
        if tool in SCORED and rng.random() < 0.15:
            scale_template, um = rng.choice(choices(frame["scale"], split))
            um = um or round(rng.uniform(0.1, 1.0), rng.choice([2, 3]))
            arguments["um_per_px"] = um
            text = _beside(text, Template(scale_template).fill(rng, {"um": f"{um:g}"}), rng)
        if tool in SCORED and rng.random() < 0.12:
            score = rng.choice([0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
            arguments["min_score"] = score
            text = _beside(text, rng.choice(templates(frame["min_score"], split)).fill(rng, {"score": f"{score:g}"}), rng)
        return text

    def _frame(self, text: str, rng: Random, split: str, domain: str) -> str:
        if rng.random() > self.framed:
            return text
        frame, slots = self.wordings.load("frame"), self.wordings.slots(rng, split)
        parts = [text]
        if rng.random() < 0.55:
            context = frame["context"][domain if domain in frame["context"] and rng.random() < 0.8 else "any"]
            parts.insert(0, rng.choice(templates(context, split)).fill(rng, slots))
        if rng.random() < 0.4:
            parts.insert(0, rng.choice(templates(frame["greeting"], split)).fill(rng, slots))
        if rng.random() < 0.4 or len(parts) == 1:
            parts[-1] = _closed(parts[-1])
            parts.append(rng.choice(templates(frame["tail"], split)).fill(rng, slots))
        return " ".join(lowered(p) if i and parts[i - 1].endswith(",") else p for i, p in enumerate(parts))


def join(first: str, second: str, template: Template, rng: Random) -> str:
    """Two requests in one message."""
    return template.fill(rng, {"first": _closed(first), "second": lowered(second)})


def _places(template: Template, rng: Random) -> _Details:
    """Points and boxes, written in one of the ways people write them."""
    names, side = template.slots(), rng.choice([224, 512, 640, 1024])
    if "box" in names:
        x1, y1 = rng.randrange(side // 2), rng.randrange(side // 2)
        x2, y2 = x1 + rng.randint(12, side // 2), y1 + rng.randint(12, side // 2)
        style = rng.choice(BOX_STYLES)
        return _Details({"box": style.format(x1, y1, x2, y2)}, {"box": [x1, y1, x2, y2]})
    points = [[rng.randrange(side), rng.randrange(side)] for name in ("point", "point2") if name in names]
    style = rng.choice(POINT_STYLES)
    slots = {name: style.format(*p) for name, p in zip(("point", "point2"), points, strict=False)}
    return _Details(slots, {"points": points} if points else {})


def _draw(part: Mapping[str, Any], intents: Sequence[str], rng: Random, split: str) -> tuple[str, Template]:
    """One of the wordings of some intents, with its intent."""
    return rng.choice([(i, t) for i in intents for t in templates(_node(part, i), split)])


def _node(node: Mapping[str, Any], intent: str) -> dict[str, Any]:
    return {part: node[part].get(intent) or node["train"].get(intent, []) for part in ("train", "test")}


def _closed(text: str) -> str:
    return text if text[-1:] in ".?!" else text + "."


def _beside(text: str, more: str, rng: Random) -> str:
    """A request with a further sentence after it, before it, or joined to it by a comma."""
    way = rng.random()
    if way < 0.5:
        return f"{_closed(text)} {more}"
    return f"{more} {text}" if way < 0.65 else f"{text.rstrip('.?!')}, {lowered(more)}"


def _counted(number: int, rng: Random) -> str:
    """A number in digits, or as a word."""
    return COUNTED[number - 2] if rng.random() < 0.4 else str(number)


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
